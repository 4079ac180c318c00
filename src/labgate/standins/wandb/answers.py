"""Who answers the fields of `schema.graphql`: one class for each type that has more to it than its items.

A method or attribute has the name of its field, as Python writes it; its arguments likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from labgate.standins.wandb import console, files, filters, lines
from labgate.standins.wandb.errors import RefusedError
from labgate.standins.wandb.files import File
from labgate.standins.wandb.store import Project, Run, Store
from labgate.standins.wandb.values import NotJsonError, decoded, dump, parse, parse_object

ENTITY = "labgate"
"""Whose the runs are when the code names nobody."""
PROJECT = "uncategorized"
PAGE = 50

VIEWER: Mapping[str, Any] = {
    "id": "User:1",
    "name": ENTITY,
    "username": ENTITY,
    "email": "nobody@localhost",
    "admin": False,
    "flags": "{}",
    "entity": ENTITY,
    "apiKeys": {"edges": []},
    "teams": {"edges": [{"node": {"id": f"Entity:{ENTITY}", "name": ENTITY}}]},
    "organizations": [],
}
SETTINGS: Mapping[str, Any] = {"serverMessages": []}
SERVER = {"cliVersionInfo": {"max_cli_version": "99.0.0"}, "features": [], "serverSettings": SETTINGS}


def date(seconds: float) -> str:
    """A time as W&B writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def page(
    items: Sequence[Any], wrap: Callable[[Any], Any], after: str | None, first: int | None
) -> dict[str, Any]:
    """A connection: the `first` items behind the cursor `after`. Raises RefusedError for another cursor."""
    try:
        start = int(after) if after else 0
    except ValueError:
        raise RefusedError(f"{after!r:.80} is no cursor") from None
    end = start + (PAGE if first is None else max(first, 0))
    edges = [{"node": wrap(item), "cursor": str(at)} for at, item in enumerate(items[start:end], start + 1)]
    return {
        "edges": edges,
        "pageInfo": {"endCursor": edges[-1]["cursor"] if edges else after, "hasNextPage": end < len(items)},
        "totalCount": len(items),
        "uploadHeaders": [],
    }


def entity_named(name: str) -> dict[str, Any]:
    """An entity: any name is one, for a real account may belong to any team."""
    return {
        "id": f"Entity:{name}",
        "name": name,
        "available": False,
        "readOnly": False,
        "readOnlyAdmin": False,
        "isTeam": False,
        "entityType": "user",
        "privateOnly": False,
        "storageBytes": 0,
        "codeSavingEnabled": True,
        "isPaid": False,
        "members": [],
        "user": VIEWER,
        "xxhashDigestsEnabled": False,
    }


@dataclass(frozen=True)
class Query:
    """The root of what is asked. `url` is where the stand-in is found."""

    store: Store
    url: str
    viewer = VIEWER
    server_info = SERVER

    def entity(self, name: str | None = None) -> dict[str, Any]:
        return entity_named(name or ENTITY)

    def organization(self, name: str | None = None) -> dict[str, Any]:
        name = name or ENTITY
        return {
            "id": f"Organization:{name}",
            "name": name,
            "orgEntity": entity_named(name),
            "featureFlags": [],
        }

    def project(self, name: str | None = None, entity_name: str | None = None) -> ProjectAnswer | None:
        project = self.store.project(entity_name or ENTITY, name or PROJECT)
        return ProjectAnswer(self, project) if project else None

    def model(self, name: str | None = None, entity_name: str | None = None) -> ProjectAnswer | None:
        return self.project(name, entity_name)

    def models(
        self, entity_name: str | None = None, after: str | None = None, first: int | None = None
    ) -> dict[str, Any]:
        projects = self.store.projects(entity_name or ENTITY)
        return page(projects, lambda project: ProjectAnswer(self, project), after, first)

    def users(self, query: str | None = None) -> dict[str, Any]:
        known = [VIEWER] if query in (None, "", VIEWER["username"], VIEWER["email"]) else []
        return page(known, dict, None, None)


class ProjectAnswer:
    """The fields of a project."""

    access, views, repo, docker_image = "PRIVATE", "{}", None, None
    is_benchmark = read_only = False
    user = VIEWER

    def __init__(self, query: Query, project: Project) -> None:
        self._query, self._project, self._store = query, project, query.store
        self.id = f"Project:{project.id}"
        self.internal_id = str(project.id)
        self.name, self.entity_name, self.description = project.name, project.entity, project.description
        self.entity = entity_named(project.entity)
        self.created_at = self.updated_at = date(project.created)

    def run(self, name: str | None = None, desc: str | None = None) -> RunAnswer | None:
        run = self._store.run(self._project.id, name or "")
        return RunAnswer(self._query, self, run) if run else None

    def bucket(
        self, name: str | None = None, desc: str | None = None, missing_ok: bool | None = None
    ) -> RunAnswer | None:
        return self.run(name)

    def runs(
        self,
        filters: str | None = None,
        order: str | None = None,
        after: str | None = None,
        first: int | None = None,
    ) -> dict[str, Any]:
        found = self._found(filters, order)
        return page(found, lambda run: RunAnswer(self._query, self, run), after, first)

    buckets = runs

    def run_count(self, filters: str | None = None) -> int:
        return len(self._found(filters, None))

    def _found(self, condition: str | None, order: str | None) -> list[Any]:
        try:
            parsed = parse(condition) if condition else {}
        except NotJsonError as error:
            raise RefusedError(f"the filter is {error}") from None
        runs = [(self._document(run), run) for run in self._store.runs(self._project.id)]
        fits = filters.predicate(parsed or {})
        return filters.ordered([pair for pair in runs if fits(pair[0])], order)

    def _document(self, run: Run) -> dict[str, Any]:
        """A run as filters see it."""
        statistics = lines.key_statistics(self._store, run.id) or {}
        return {
            "name": run.name,
            "display_name": run.display_name,
            "state": self._store.state(run),
            "group": run.group_name,
            "job_type": run.job_type,
            "tags": parse(run.tags),
            "notes": run.notes,
            "description": run.description,
            "host": run.host,
            "commit": run.git_commit,
            "sweep": run.sweep,
            "username": VIEWER["username"],
            "created_at": datetime.fromtimestamp(int(run.created), UTC),
            "heartbeat_at": datetime.fromtimestamp(int(run.heartbeat), UTC),
            "config": parse_object(run.config),
            "summary": parse_object(run.summary),
            "keys_info": statistics,
        }


class RunAnswer:
    """The fields of a run."""

    read_only = False
    user = VIEWER

    def __init__(self, query: Query, project: ProjectAnswer, run: Run) -> None:
        self._store, self._url, self._run = query.store, query.url, run
        self.project = project
        self.id = f"Run:{run.id}"
        self.internal_id, self.project_id = str(run.id), project.internal_id
        self.name, self.display_name = run.name, run.display_name
        self.description, self.notes, self.host = run.description, run.notes, run.host
        self.group, self.job_type, self.commit = run.group_name, run.job_type, run.git_commit
        self.sweep_name, self.stopped = run.sweep, bool(run.stopped)
        self.config = run.config
        self.created_at = date(run.created)
        self.updated_at = self.heartbeat_at = date(run.heartbeat)

    def tags(self) -> Any:
        return parse(self._run.tags)

    def state(self) -> str:
        return self._store.state(self._run)

    def wandb_config(self, keys: Sequence[str] | None = None) -> str:
        """The part of the config that the client keeps for itself: "t" in it says that the run has begun."""
        own = parse_object(self._run.config).get("_wandb", {})
        value = own.get("value", {}) if isinstance(own, dict) else {}
        if not isinstance(value, dict):
            value = {}
        return dump({key: value[key] for key in (value if keys is None else keys) if key in value})

    def summary_metrics(self, keys: Sequence[str] | None = None) -> str:
        if keys is None:
            return self._run.summary
        summary = parse_object(self._run.summary)
        return dump({key: summary[key] for key in keys if key in summary})

    def system_metrics(self) -> str:
        """The last that was measured of each."""
        latest: dict[str, Any] = {}
        for row in lines.tail(self._store, self._run.id, lines.EVENTS, 20):
            latest.update(parse_object(row))
        return dump(latest)

    def history_keys(self) -> dict[str, Any] | None:
        return lines.key_statistics(self._store, self._run.id)

    def history_line_count(self) -> int:
        return lines.count(self._store, self._run.id, lines.HISTORY)

    def events_line_count(self) -> int:
        return lines.count(self._store, self._run.id, lines.EVENTS)

    def log_line_count(self) -> int:
        return lines.count(self._store, self._run.id, lines.OUTPUT)

    def history_tail(self) -> str:
        return dump(lines.tail(self._store, self._run.id, lines.HISTORY))

    def events_tail(self) -> str:
        return dump(lines.tail(self._store, self._run.id, lines.EVENTS))

    def history(
        self, samples: int | None = None, min_step: int | None = None, max_step: int | None = None
    ) -> list[str]:
        """All rows of these steps, thinned only where no steps are given."""
        rows = lines.rows(self._store, self._run.id, lines.HISTORY, min_step, max_step)
        if min_step is None and max_step is None:
            return lines.thinned(rows, lines.SAMPLES if samples is None else samples)
        return rows

    def events(self, samples: int | None = None) -> list[str]:
        rows = lines.rows(self._store, self._run.id, lines.EVENTS)
        return lines.thinned(rows, lines.SAMPLES if samples is None else samples)

    def sampled_history(self, specs: Sequence[str]) -> list[list[dict[str, Any]]]:
        return [lines.sampled(self._store, self._run.id, **_spec(spec)) for spec in specs]

    def parquet_history(self, live_keys: Sequence[str] | None = None) -> dict[str, Any]:
        """None, after which a client asks for the history by pages."""
        return {"parquetUrls": [], "liveData": None}

    def log_lines(
        self,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        use_improved_pagination: bool | None = None,
    ) -> dict[str, Any]:
        found = lines.output(self._store, self._run.id)
        if last is not None:
            found, first = found[max(len(found) - last, 0) :], last
        return page(found, lambda line: console.parsed(*line), after, first)

    def file_count(self) -> int:
        return len(files.of_run(self._store, self._run.id))

    def files(
        self,
        names: Sequence[str] | None = None,
        pattern: str | None = None,
        after: str | None = None,
        first: int | None = None,
    ) -> dict[str, Any]:
        found: list[Any] = files.of_run(self._store, self._run.id, names or (), pattern)
        known = {file.name for file in found}
        found += [name for name in names or () if name not in known]  # to be uploaded
        return page(found, self._file, after, first)

    def _file(self, file: File | str) -> FileAnswer:
        return FileAnswer(self.file_url(file if isinstance(file, str) else file.name), file)

    def file_url(self, name: str) -> str:
        """Where a file of this run is uploaded to and downloaded from."""
        names = (self.project.entity_name, self.project.name, self.name)
        return f"{self._url}/files/{'/'.join(quote(each, safe='') for each in names)}/{quote(name)}"

    def run_info(self) -> dict[str, Any] | None:
        """What the client found out about the machine and the program, as far as it said so."""
        found = files.of_run(self._store, self._run.id, ["wandb-metadata.json"])
        if not found:
            return None
        try:
            said = parse_object(decoded(files.path_of(self._store, found[0]).read_bytes()))
        except (OSError, NotJsonError):
            return None
        said.update(
            codeSaved="codePath" in said, cpuCount=said.get("cpu_count"), gpuCount=said.get("gpu_count")
        )
        return said


class FileAnswer:
    """The fields of a file, of which only the name is known before it is uploaded."""

    def __init__(self, url: str, file: File | str) -> None:
        self.direct_url = url
        known = None if isinstance(file, str) else file
        self.id = f"File:{known.id if known else 0}"
        self.name = known.name if known else file
        self.size_bytes = known.size if known else 0
        self.mimetype = known.mimetype if known else None
        self.md5 = known.md5 if known else None
        self.updated_at = date(known.updated) if known else None

    def url(self, upload: bool | None = None) -> str:
        return self.direct_url


def _spec(text: str) -> dict[str, Any]:
    """What a sampled history is asked by. Raises RefusedError.

    The service takes the row at `maxStep` in, unlike that of a plain history. Clients know that since 2026,
    and are told by asking for one sample more than lie between; the pages of older ones would overlap, and
    are taken as they are meant.
    """
    try:
        spec = parse_object(text)
    except NotJsonError as error:
        raise RefusedError(f"the spec of a sampled history is {error}") from None
    keys = spec.get("keys") or []
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise RefusedError("the keys of a sampled history are no list of strings")
    samples, first, last = (spec.get(name) for name in ("samples", "minStep", "maxStep"))
    if not all(each is None or isinstance(each, int) for each in (samples, first, last)):
        raise RefusedError("the numbers of a sampled history are no integers")
    if last is not None and samples == last - (first or 0) + 1:
        last += 1
    return {"keys": list(dict.fromkeys(keys)), "samples": samples, "min_step": first, "max_step": last}
