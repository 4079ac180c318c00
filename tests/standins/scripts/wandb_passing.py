"""Does what experiments do beside logging numbers: tables, media, files, code, an alert, an artifact."""

import json
import sys
from pathlib import Path

import numpy as np
import wandb

Path("data.txt").write_text("hello", encoding="utf-8")
run = wandb.init(project="demo", entity="team", id="r1", settings=wandb.Settings(save_code=True))
run.define_metric("loss", summary="min")
table = wandb.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]])
wandb.log({"loss": 0.5, "table": table, "histogram": wandb.Histogram([1, 2, 3])})
wandb.log({"loss": 0.7, "html": wandb.Html("<b>x</b>"), "half": np.float32(0.25), "two": np.int64(2)})
wandb.log({"plot": wandb.plot.line(table, "a", "a", title="t")})
wandb.save("data.txt")
run.alert("title", "text")
artifact = wandb.Artifact("model", type="model")
artifact.add_file("data.txt")
run.log_artifact(artifact)
wandb.finish()

run = wandb.Api().run("team/demo/r1")
run.config["new"] = 1
run.tags.append("late")
run.update()
run.summary["late"] = 3
run.summary.update()
again = wandb.Api().run("team/demo/r1")
seen = {
    "state": again.state,
    "files": sorted(file.name for file in again.files()),
    "downloaded": again.file("data.txt").download(root="downloaded", replace=True).read(),
    "losses": [row["loss"] for row in again.scan_history(keys=["loss"])],
    "half": next(iter(again.scan_history(keys=["half", "two"]))),
    "config": dict(again.config),
    "tags": list(again.tags),
    "summary": {key: again.summary._json_dict[key] for key in ("late", "loss")},
}
again.file("data.txt").delete()
seen["files left"] = sorted(file.name for file in wandb.Api().run("team/demo/r1").files())
again.delete()
try:
    seen["deleted"] = wandb.Api().run("team/demo/r1").id
except Exception as error:
    seen["deleted"] = type(error).__name__
Path(sys.argv[1]).write_text(json.dumps(seen), encoding="utf-8")
