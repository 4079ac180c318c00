"""A run taken out of the store, as CSV and JSON."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from labgate.standins.wandb import files, lines
from labgate.standins.wandb.answers import date
from labgate.standins.wandb.store import Project, Run, Store
from labgate.standins.wandb.values import parse, parse_object


class NoSuchRunError(LookupError):
    """No run of that name, or several."""


def find(store: Store, name: str) -> tuple[Project, Run]:
    """The run called `entity/project/run`, `project/run` or `run`. Raises NoSuchRunError."""
    wanted = name.strip("/").split("/")
    pairs = [(project, run) for project in store.projects() for run in store.runs(project.id)]
    found = [
        (project, run)
        for project, run in pairs
        if [project.entity, project.name, run.name][-len(wanted) :] == wanted
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise NoSuchRunError(f"several runs are called {name!r}: {_names(found)}")
    raise NoSuchRunError(f"there is no run {name!r} in {store.path}; there are {_names(pairs) or 'none'}")


def _names(pairs: list[tuple[Project, Run]]) -> str:
    names = [f"{project.entity}/{project.name}/{run.name}" for project, run in pairs]
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def document(store: Store, project: Project, run: Run) -> dict[str, Any]:
    """All that is known of a run; its config without the `value` that W&B puts around each entry."""
    config = {
        key: entry["value"] if isinstance(entry, dict) and "value" in entry else entry
        for key, entry in parse_object(run.config).items()
        if key != "_wandb"
    }
    return {
        "entity": project.entity,
        "project": project.name,
        "run": run.name,
        "name": run.display_name,
        "state": store.state(run),
        "created": date(run.created),
        "heartbeat": date(run.heartbeat),
        "group": run.group_name,
        "tags": parse(run.tags),
        "notes": run.notes,
        "config": config,
        "summary": parse_object(run.summary),
        "history": [parse_object(row) for row in lines.rows(store, run.id)],
        "files": [{"name": file.name, "bytes": file.size} for file in files.of_run(store, run.id)],
    }


def write(store: Store, name: str, folder: Path) -> list[Path]:
    """Write a run to `RUN.json`, and its history to `RUN.csv`, a row for each row and a column for each key.

    Returns the files. Raises NoSuchRunError, and OSError when they cannot be written.
    """
    project, run = find(store, name)
    said = document(store, project, run)
    folder.mkdir(parents=True, exist_ok=True)
    whole, table = folder / f"{run.name}.json", folder / f"{run.name}.csv"
    whole.write_text(
        json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="replace"
    )
    columns = list(dict.fromkeys(["_step", *(key for row in said["history"] for key in row)]))
    with table.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_cell(row.get(key)) for key in columns] for row in said["history"])
    return [whole, table]


def _cell(value: Any) -> Any:
    """A value in a table: numbers and text as they are, nothing for null, JSON for what has parts."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value
