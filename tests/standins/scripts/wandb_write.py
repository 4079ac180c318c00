"""Logs what it is given: `wandb_write.py FILE`, JSON with `init`, `rows`, `summary`, `pause`, `end`."""

import json
import sys
import time
from pathlib import Path

import wandb

given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
settings = given["init"].pop("settings", None)
run = wandb.init(**given["init"], settings=wandb.Settings(**settings) if settings else None)
seen = {"resumed": run.resumed, "url": run.url, "entity": run.entity, "project": run.project, "id": run.id}
print("a line on the console")
log = Path(sys.argv[1]).with_suffix(".times").open("w", encoding="utf-8", buffering=1)
for number, row in enumerate(given["rows"]):
    wandb.log(row)
    log.write(f"{number} {time.time()}\n")
    time.sleep(given.get("pause", 0))
for key, value in given.get("summary", {}).items():
    run.summary[key] = value
Path(sys.argv[1]).with_suffix(".seen").write_text(json.dumps(seen), encoding="utf-8")
if given.get("end") == "raised":
    raise RuntimeError("as asked")
if "end" in given:
    sys.exit(given["end"])
wandb.finish()
