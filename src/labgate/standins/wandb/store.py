"""What was logged, in one SQLite file: projects and runs. History and files are in the modules beside this.

Whatever a client was told is done is committed: a server that is killed loses nothing that it acknowledged.
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import string
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

SILENT = 120.0
"""Seconds without a sign of life after which a run counts as crashed; clients give one every 30."""

_VERSION = 1
_TABLES = """
CREATE TABLE project (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    entity TEXT NOT NULL, name TEXT NOT NULL, description TEXT, created REAL NOT NULL,
    UNIQUE (entity, name)
);
CREATE TABLE run (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    name TEXT NOT NULL, display_name TEXT, group_name TEXT, job_type TEXT, description TEXT, notes TEXT,
    git_commit TEXT, host TEXT, program TEXT, repo TEXT, sweep TEXT,
    tags TEXT NOT NULL DEFAULT '[]', config TEXT NOT NULL DEFAULT '{}', summary TEXT NOT NULL DEFAULT '{}',
    state TEXT NOT NULL DEFAULT 'running', exit_code INTEGER, stopped INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL, heartbeat REAL NOT NULL,
    UNIQUE (project, name)
);
CREATE TABLE line (
    run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    stream TEXT NOT NULL, writer TEXT NOT NULL, number INTEGER NOT NULL, step INTEGER, text TEXT NOT NULL,
    PRIMARY KEY (run, stream, writer, number)
) WITHOUT ROWID;
CREATE INDEX line_by_step ON line (run, stream, step);
CREATE TABLE history_key (
    run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    key TEXT NOT NULL, type TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (run, key, type)
) WITHOUT ROWID;
CREATE TABLE file (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    name TEXT NOT NULL, size INTEGER NOT NULL, md5 TEXT NOT NULL, content TEXT NOT NULL,
    mimetype TEXT NOT NULL, updated REAL NOT NULL,
    UNIQUE (run, name)
);
"""


class StoreError(OSError):
    """A file that is no store of ours, or one that a later labgate wrote."""


@dataclass(frozen=True)
class Project:
    """A project. `created` is in seconds since 1970."""

    id: int
    entity: str
    name: str
    description: str | None
    created: float


@dataclass(frozen=True)
class Run:
    """A run.

    `name` is what users call its id; `tags` is a JSON list, `config` and `summary` are JSON objects, the
    config as W&B keeps it (`{"lr": {"value": 0.1}}`); times are in seconds since 1970.
    """

    id: int
    project: int
    name: str
    display_name: str | None
    group_name: str | None
    job_type: str | None
    description: str | None
    notes: str | None
    git_commit: str | None
    host: str | None
    program: str | None
    repo: str | None
    sweep: str | None
    tags: str
    config: str
    summary: str
    state: str
    exit_code: int | None
    stopped: int
    created: float
    heartbeat: float


SETTABLE = frozenset(field.name for field in fields(Run)) - {"id", "project", "name", "created"}
"""Columns of a run that `update_run` takes."""


class Store:
    """An SQLite file and, beside it, a folder with the uploaded files; safe among threads and processes."""

    def __init__(self, path: Path, silent: float = SILENT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.folder = path.with_name(path.name + ".files")
        self.silent = silent
        self._lock = threading.RLock()
        self._depth = 0
        self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            with self.transaction():
                (version,) = self.one("PRAGMA user_version") or (0,)
                if version == 0:
                    for statement in _TABLES.split(";"):
                        self.execute(statement)
                    self.execute(f"PRAGMA user_version = {_VERSION}")
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{self.path} is no store of runs: {error}") from error
        if version > _VERSION:
            raise StoreError(f"{self.path} was written by a later labgate")

    def close(self) -> None:
        """Write everything into the one file, and close it."""
        with self._lock:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what is done within; one inside another joins it."""
        with self._lock:
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                if self._depth == 1:
                    self._connection.execute("ROLLBACK")
                raise
            else:
                if self._depth == 1:
                    self._connection.execute("COMMIT")
            finally:
                self._depth -= 1

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement. Returns how many rows it changed."""
        with self._lock:
            return self._connection.execute(statement, values).rowcount

    def execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row of values."""
        with self._lock:
            self._connection.executemany(statement, rows)

    def all(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """The rows of a query."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def one(self, query: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row of a query."""
        with self._lock:
            row: sqlite3.Row | None = self._connection.execute(query, values).fetchone()
            return row

    def projects(self, entity: str | None = None) -> list[Project]:
        """The projects of an entity, or all, the newest first."""
        where, values = ("WHERE entity = ?", [entity]) if entity else ("", [])
        rows = self.all(f"SELECT * FROM project {where} ORDER BY id DESC", values)
        return [Project(*row) for row in rows]

    def project(self, entity: str, name: str) -> Project | None:
        """The project of that name."""
        row = self.one("SELECT * FROM project WHERE entity = ? AND name = ?", (entity, name))
        return Project(*row) if row else None

    def project_by_id(self, id: int) -> Project | None:
        """The project with that number."""
        row = self.one("SELECT * FROM project WHERE id = ?", (id,))
        return Project(*row) if row else None

    def make_project(self, entity: str, name: str, description: str | None = None) -> tuple[Project, bool]:
        """The project of that name, and whether it is new."""
        with self.transaction():
            new = bool(
                self.execute(
                    "INSERT OR IGNORE INTO project (entity, name, description, created) VALUES (?, ?, ?, ?)",
                    (entity, name, description, time.time()),
                )
            )
            if description is not None and not new:
                self.execute(
                    "UPDATE project SET description = ? WHERE entity = ? AND name = ?",
                    (description, entity, name),
                )
            project = self.project(entity, name)
            assert project is not None
            return project, new

    def runs(self, project: int | None = None) -> list[Run]:
        """The runs of a project, or all, the oldest first."""
        where, values = ("WHERE project = ?", [project]) if project is not None else ("", [])
        return [Run(*row) for row in self.all(f"SELECT * FROM run {where} ORDER BY id", values)]

    def run(self, project: int, name: str) -> Run | None:
        """The run of that name."""
        row = self.one("SELECT * FROM run WHERE project = ? AND name = ?", (project, name))
        return Run(*row) if row else None

    def run_by_id(self, id: int) -> Run | None:
        """The run with that number."""
        row = self.one("SELECT * FROM run WHERE id = ?", (id,))
        return Run(*row) if row else None

    def make_run(self, project: int, name: str | None) -> tuple[Run, bool]:
        """The run of that name, or one with a new name, and whether it is new."""
        with self.transaction():
            name = name or "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
            now = time.time()
            new = bool(
                self.execute(
                    "INSERT OR IGNORE INTO run (project, name, display_name, created, heartbeat)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (project, name, name, now, now),
                )
            )
            run = self.run(project, name)
            assert run is not None
            return run, new

    def update_run(self, id: int, **changes: Any) -> None:
        """Set columns of a run, each one of SETTABLE."""
        unknown = changes.keys() - SETTABLE
        assert not unknown, unknown
        if changes:
            columns = ", ".join(f"{name} = ?" for name in changes)
            self.execute(f"UPDATE run SET {columns} WHERE id = ?", (*changes.values(), id))

    def delete_run(self, id: int) -> bool:
        """Forget a run with its history; whether there was one."""
        return bool(self.execute("DELETE FROM run WHERE id = ?", (id,)))

    def state(self, run: Run) -> str:
        """What has become of a run by now: one that says it is running and is silent has crashed."""
        if run.state == "running" and time.time() - run.heartbeat > self.silent:
            return "crashed"
        return run.state


def remove(path: Path) -> None:
    """Delete a store that nobody has open."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    shutil.rmtree(path.with_name(path.name + ".files"), ignore_errors=True)
