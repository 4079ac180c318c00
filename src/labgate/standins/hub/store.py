"""Where made twins are kept: a folder for each id, recipe and set of library versions."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from labgate.standins.hub.builder import AbsentError
from labgate.standins.hub.twin import MARK, Twin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labgate.standins.hub.builder import Builder

Kind = Literal["models", "datasets"]
MISSING = "missing.json"
"""Stands beside a twin's files: which of them could not be had, and why."""


@dataclass(frozen=True)
class File:
    """A file of a repository: its size in bytes and a digest of its content."""

    path: Path
    size: int
    digest: str


class Repository:
    """A folder that is served under an id, as one revision."""

    def __init__(
        self,
        kind: Kind,
        id: str,
        folder: Path,
        revision: str,
        missing: Iterable[str] = (),
        gated: bool = False,
    ) -> None:
        self.kind, self.id, self.folder, self.revision = kind, id, folder, revision
        self.missing, self.gated = tuple(missing), gated
        self._digests: dict[tuple[str, int, int], str] = {}

    def names(self) -> list[str]:
        """All its files, as paths with slashes, in order."""
        return sorted(
            path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()
        )

    def file(self, name: str) -> File | None:
        """One of its files, or None; nothing outside the folder is ever found."""
        try:
            path = (self.folder / name).resolve(strict=True)
            inside = path.is_relative_to(self.folder.resolve()) and path.is_file()
        except (OSError, ValueError):  # ValueError: a null byte
            return None
        if not inside:
            return None
        status = path.stat()
        seen = (str(path), status.st_size, status.st_mtime_ns)
        if seen not in self._digests:
            with path.open("rb") as content:
                self._digests[seen] = hashlib.file_digest(content, "sha256").hexdigest()[:40]
        return File(path, status.st_size, self._digests[seen])


def mapped(kind: Kind, id: str, folder: Path) -> Repository:
    """A real folder under a real id; its revision follows from names, sizes and times of its files."""
    seen = hashlib.sha256(f"{kind} {id}".encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            status = path.stat()
            seen.update(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}".encode())
    return Repository(kind, id, folder, seen.hexdigest()[:40])


class Store:
    """Twins in `folder`, made by `builder` when they are first asked for; safe among threads and processes.

    Without a builder only what needs none is made: configs, tokenizers, READMEs.
    """

    def __init__(self, folder: Path, builder: Builder | None) -> None:
        self._folder, self._builder = folder, builder
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._found: dict[str, Repository] = {}

    def repository(self, twin: Twin) -> Repository:
        """The twin, made now if it is not there. Raises BuilderError."""
        versions = dict(self._builder.versions()) if self._builder is not None else {}
        key = hashlib.sha256(f"{twin.recipe} {json.dumps(versions, sort_keys=True)}".encode()).hexdigest()
        with self._lock:
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:
            if key not in self._found:
                folder = self._folder / twin.kind / twin.id.replace("/", "--") / key[:32]
                if not (folder / MISSING).exists():
                    self._make(twin, folder)
                missing = json.loads((folder / MISSING).read_text(encoding="utf-8"))
                self._found[key] = Repository(
                    twin.kind,
                    twin.id,
                    folder / "files",
                    MARK + key[: 40 - len(MARK)],
                    missing,
                    twin.gated,
                )
        return self._found[key]

    def _make(self, twin: Twin, folder: Path) -> None:
        """Make it beside its place and move it there whole; whoever comes second keeps the first one's."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _beside(folder) as fresh:
            files = fresh / "files"
            files.mkdir()
            if self._builder is not None:
                missing = twin.make(files, self._builder.make)
            else:
                missing = twin.make(files, _nobody)
            (fresh / MISSING).write_text(json.dumps(missing), encoding="utf-8")
            with suppress(OSError):  # another process was quicker
                fresh.rename(folder)


def _nobody(_job: object) -> dict[str, object]:
    raise AbsentError("no interpreter was given to make it with")


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    fresh = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
