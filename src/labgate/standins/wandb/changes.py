"""Who answers the mutations of `schema.graphql`: what changes runs, projects and files."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labgate.standins.wandb import files
from labgate.standins.wandb.answers import ENTITY, PROJECT, SETTINGS, ProjectAnswer, Query, RunAnswer
from labgate.standins.wandb.errors import RefusedError
from labgate.standins.wandb.store import Run, Store
from labgate.standins.wandb.values import NotJsonError, dump, parse_object

Input = Mapping[str, Any]

COLUMNS = {
    "displayName": "display_name",
    "groupName": "group_name",
    "jobType": "job_type",
    "description": "description",
    "notes": "notes",
    "commit": "git_commit",
    "host": "host",
    "jobProgram": "program",
    "jobRepo": "repo",
    "sweep": "sweep",
}
"""Input fields of `upsertBucket` that are kept as they come."""

_NOT_IN_NAMES = set("/\\#?%:\n\r\t")
_SUCCESS = {"success": True}


@dataclass(frozen=True)
class Mutation:
    """The root of what is changed."""

    store: Store
    query: Query

    def upsert_bucket(self, input: Input) -> dict[str, Any]:
        """A run made, or changed; a client that names it by its project begins or goes on to write it."""
        changes = _changes(input)
        if input.get("id"):
            run, new = self._run(input["id"]), False
        else:
            project, _ = self.store.make_project(
                _name(input.get("entityName") or ENTITY, "entity"),
                _name(input.get("modelName") or PROJECT, "project"),
            )
            run, new = self.store.make_run(project.id, _name(input.get("name") or None, "run"))
            changes.setdefault("state", "running")
            changes |= {"heartbeat": time.time(), "exit_code": None, "stopped": 0}
        self.store.update_run(run.id, **changes)
        return {"bucket": self._answer(run.id), "inserted": new, "serverSettings": SETTINGS}

    def upsert_model(self, input: Input) -> dict[str, Any]:
        entity = _name(input.get("entityName") or ENTITY, "entity")
        name = _name(input.get("name") or PROJECT, "project")
        project, new = self.store.make_project(entity, name, input.get("description"))
        answer = ProjectAnswer(self.query, project)
        return {"project": answer, "model": answer, "inserted": new}

    def create_run_files(self, input: Input) -> dict[str, Any]:
        """Where the files may be uploaded to."""
        run = self._written(input)
        uploads = [{"name": name, "uploadUrl": run.file_url(name)} for name in input.get("files") or ()]
        return {"runID": run.id, "uploadHeaders": [], "files": uploads}

    def mark_run_files_uploaded(self, input: Input) -> dict[str, Any]:
        """A file counts as uploaded as soon as it is, so that nothing is left to do."""
        self._written(input)
        return _SUCCESS

    def delete_run(self, input: Input) -> dict[str, Any]:
        return {"success": self.store.delete_run(self._run(input.get("id")).id)}

    def delete_files(self, input: Input) -> dict[str, Any]:
        return {"success": bool(files.delete(self.store, _numbers("File", input.get("files") or ())))}

    def stop_run(self, input: Input) -> dict[str, Any]:
        """Leaves a sign that the client finds when it asks whether it shall stop."""
        self.store.update_run(self._run(input.get("id")).id, stopped=1)
        return _SUCCESS

    def update_run_state(self, input: Input) -> dict[str, Any]:
        """To `pending` from one that goes on or came to harm, to `failed` from one that goes on or waits."""
        run, wanted = self._run(input.get("id")), input.get("state")
        allowed = {
            "pending": ("running", "failed", "crashed", "preempted"),
            "failed": ("pending", "running"),
        }.get(str(wanted), ())
        state = self.store.state(run)
        if state not in allowed:
            raise RefusedError(f"a run that is {state} cannot be set to {wanted!r:.40}")
        self.store.update_run(run.id, state=wanted)
        return _SUCCESS

    def notify_scriptable_run_alert(self, input: Input) -> dict[str, Any]:
        """Nobody is told: the alert stands in the ledger."""
        self._written(input)
        return _SUCCESS

    def _run(self, id: Any) -> Run:
        run = next((self.store.run_by_id(number) for number in _numbers("Run", [id])), None)
        if run is None:
            raise RefusedError(f"there is no run {id!r:.80}")
        return run

    def _answer(self, id: int) -> RunAnswer:
        run = self.store.run_by_id(id)
        assert run is not None
        project = self.store.project_by_id(run.project)
        assert project is not None
        return RunAnswer(self.query, ProjectAnswer(self.query, project), run)

    def _written(self, input: Input) -> RunAnswer:
        """The run that an input speaks of by its names."""
        project = self.query.project(input.get("projectName"), input.get("entityName"))
        run = project.run(input.get("runName")) if project else None
        if run is None:
            raise RefusedError(f"there is no run {input.get('runName')!r:.80}")
        return run


def _changes(input: Input) -> dict[str, Any]:
    """The columns to set; what is not given stays."""
    changes = {column: input[key] for key, column in COLUMNS.items() if input.get(key) is not None}
    if input.get("state") is not None:
        changes["state"] = input["state"]
    if input.get("tags") is not None:
        changes["tags"] = dump(input["tags"])
    for key, column in (("config", "config"), ("summaryMetrics", "summary")):
        if input.get(key) is not None:
            try:
                changes[column] = dump(parse_object(input[key]))
            except NotJsonError as error:
                raise RefusedError(f"the {column} of a run is {error}") from None
    return changes


def _name(name: str | None, what: str) -> Any:
    """A name that can stand in an address, or None. Raises RefusedError."""
    if name is not None and (_NOT_IN_NAMES & set(name) or not name.strip() or len(name) > 256):
        raise RefusedError(f"not a name for a {what}: {name!r:.80}")
    return name


def _numbers(kind: str, ids: Sequence[Any]) -> list[int]:
    """The numbers in ids such as `Run:12`. Raises RefusedError for others."""
    numbers = []
    for id in ids:
        head, _, number = str(id).partition(":")
        if head != kind or not number.isascii() or not number.isdigit() or len(number) > 18:
            raise RefusedError(f"{id!r:.80} is no id of a {kind.lower()}")
        numbers.append(int(number))
    return numbers
