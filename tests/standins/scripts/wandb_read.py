"""Says as JSON what `wandb.Api()` knows of a run: `wandb_read.py ENTITY/PROJECT/RUN FILTERS FILE`."""

import json
import sys
from pathlib import Path

import wandb

path, filters, out = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
project = path.rpartition("/")[0]
api = wandb.Api()
run = api.run(path)


def outcome(question):
    """An answer, or in one line what was raised."""
    try:
        return question()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def whole(run):
    """A listed run with its config: some clients (0.25.1) show an empty one until they are told to load."""
    if hasattr(run, "load_full_data"):
        run.load_full_data(force=True)
    return run


answers = {
    "state": run.state,
    "url": run.url,
    "name": run.name,
    "id": run.id,
    "tags": list(run.tags),
    "group": run.group,
    "config": dict(run.config),
    "summary": run.summary._json_dict,
    "best": run.summary.get("best"),
    "history": run.history(pandas=False, samples=100_000),
    "history of 10": run.history(pandas=False, samples=10),
    "history of keys": run.history(keys=["loss", "deep.er"], pandas=False, samples=100_000),
    "scan": list(run.scan_history()),
    "scan of keys": list(run.scan_history(keys=["_step", "loss"])),
    "scan of steps": list(run.scan_history(min_step=10, max_step=40, page_size=7)),
    "scan of steps and keys": list(
        run.scan_history(keys=["_step", "loss"], min_step=10, max_step=40, page_size=7)
    ),
    "last step": run.lastHistoryStep,
    "keys": sorted((run.history_keys or {}).get("keys", {})),
    "files": sorted(file.name for file in run.files()),
    "metadata": run.metadata,
    "runs": [[each.id for each in api.runs(project, filters=each)] for each in filters],
    "ordered": [[each.id for each in api.runs(project, order=order)] for order in ("+config.n", "-config.n")],
    "config in runs": [dict(whole(each).config) for each in api.runs(project, order="+config.n")],
    "projects": [each.name for each in api.projects(path.partition("/")[0])],
    "unsupported": outcome(lambda: [each.id for each in api.runs(project, filters={"name": {"$near": 1}})]),
    "missing": outcome(lambda: api.run(f"{project}/missing").id),
    "artifact": outcome(lambda: api.artifact(f"{project}/model:latest").name),
}
out.write_text(json.dumps(answers), encoding="utf-8")
