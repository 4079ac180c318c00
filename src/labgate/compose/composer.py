"""Configs composed by the real Hydra, in a child process that sees YAML files and none of the code."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal

from labgate.bundle import Bundle
from labgate.compose.process import Child, ComposerError, GaveUpError

_DEEP = ("a", "b", "c", "d", "bundle")
"""The bundle lies deep in the temporary folder, so that `../../config` leads nowhere."""


@dataclass(frozen=True)
class Request:
    """What one start of a Hydra program asks for.

    `config_dir` is a folder relative to the bundle, or None where Hydra is given no folder. `version_base` is
    "unset" where the code leaves it out. `via` tells `@hydra.main` from `hydra.compose`.
    """

    config_dir: str | None
    config_name: str | None
    overrides: tuple[str, ...] = ()
    version_base: str | None = "unset"
    job: str = "main"
    via: Literal["main", "api"] = "main"


@dataclass(frozen=True)
class Interpolated:
    """An interpolation of the config: its text, and its value or why it has none."""

    expression: str
    value: object = None
    error: str | None = None


@dataclass(frozen=True)
class ComposeError:
    """`kind` is the class of Hydra's exception, or "Timeout", "Memory" or "Crash"; `message` its words."""

    kind: str
    message: str

    @property
    def first_line(self) -> str:
        return self.message.partition("\n")[0]


@dataclass(frozen=True)
class Job:
    """What Hydra does around the task: `chdir` is what it really does, `says_chdir` what the config sets."""

    name: str = ""
    run_dir: str = ""
    run_dir_expression: str = ""
    chdir: bool = False
    says_chdir: bool | None = None
    mode: str | None = None


@dataclass(frozen=True)
class Composition:
    """The config that the task would get, unresolved (interpolations and "???" stay strings), or the error.

    `interpolations` is keyed by dotted path, list positions as numbers. `sources` are the config files read.
    """

    request: Request
    tree: dict[Any, Any] | None = None
    interpolations: Mapping[str, Interpolated] = field(default_factory=dict)
    error: ComposeError | None = None
    job: Job = field(default_factory=Job)
    sources: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash(self.request)


class Composer:
    """Composes configs of one bundle; a context manager that owns the folder in which the child finds them.

    `child` is one shared with other bundles; by default this composer has one of its own. `compose` raises
    ComposerError when the child cannot be started or its answer cannot be read.
    """

    def __init__(self, bundle: Bundle, child: Child | None = None) -> None:
        self._files = {
            path: file.data
            for path, file in bundle.files.items()
            if path.endswith((".yaml", ".yml")) and (file.data or file.text is not None)
        }
        self._job_matters = any(b"job" in data for data in self._files.values())
        self._folders = {str(PurePosixPath(path).parent) for path in bundle.files}
        self._known: dict[Request, Composition] = {}
        self._lock = threading.RLock()
        self._place: tempfile.TemporaryDirectory[str] | None = None
        self._own = child is None
        self._aside: threading.Thread | None = None
        self._stop = threading.Event()
        self.child = child or Child()

    def __enter__(self) -> Composer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder and end the child, unless it is shared; a later request would start afresh."""
        if self._aside is not None:
            self._stop.set()
            if self._own:
                self.child.kill()  # nobody waits any more for what is composed ahead
            self._aside.join()
            self._aside = None
            self._stop.clear()
        with self._lock:
            if self._own:
                self.child.close()
            if self._place is not None:
                self._place.cleanup()
                self._place = None

    def warm(self) -> None:
        """Start the child without waiting for it."""
        self.child.start()

    def ahead(self, requests: Iterable[Request]) -> None:
        """Compose these in the background: who asks for one of them then waits less, or not at all."""
        asked = list(requests)

        def each() -> None:
            for request in asked:
                if self._stop.is_set():
                    return
                with suppress(ComposerError):  # whoever asks will be told
                    self.compose(request)

        if self._aside is None and asked:
            self._aside = threading.Thread(target=each, daemon=True)
            self._aside.start()

    def compose(self, request: Request) -> Composition:
        """The config of `request`, from memory when it was asked for before."""
        # `src.main` and the `src.train` that it starts ask for the same, but for a name that few configs use.
        asked = request if self._job_matters else replace(request, job="main")
        with self._lock:
            known = self._known.get(asked) or self._ask(asked)
            if not self._stop.is_set():  # else the child may have been killed over it
                self._known[asked] = known
        return known if asked == request else replace(known, request=request)

    def _ask(self, request: Request) -> Composition:
        self._unpack()
        try:
            answer = self.child.ask({"root": str(self._root), **asdict(request)})
        except GaveUpError as error:
            return Composition(request, error=ComposeError(error.kind, str(error)))
        return _composition(request, answer)

    @property
    def _root(self) -> Path:
        assert self._place is not None
        return Path(os.path.realpath(self._place.name)).joinpath(*_DEEP)

    def _unpack(self) -> None:
        if self._place is not None:
            return
        self._place = tempfile.TemporaryDirectory(prefix="labgate-compose-")
        root = self._root
        root.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._folders | self._files.keys()):
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                continue
            # A name that this file system refuses cannot be a config that Hydra would find.
            with suppress(OSError, ValueError):
                if path in self._files:
                    root.joinpath(path).write_bytes(self._files[path])
                else:
                    root.joinpath(path).mkdir(parents=True, exist_ok=True)


def _composition(request: Request, reply: dict[str, Any]) -> Composition:
    sources = tuple(reply["sources"])
    if "error" in reply:
        return Composition(request, error=ComposeError(**reply["error"]), sources=sources)
    interpolations = {
        path: Interpolated(entry["expression"], _mapped(entry.get("value")), entry.get("error"))
        for path, entry in reply["interpolations"].items()
    }
    return Composition(
        request,
        tree=_mapped(reply["tree"]),
        interpolations=MappingProxyType(interpolations),
        job=Job(**reply["job"]),
        sources=sources,
    )


def _mapped(value: Any) -> Any:
    """Undo the pairs in which a mapping with other keys than strings travels."""
    if isinstance(value, dict):
        if "\0pairs" in value:
            return {key: _mapped(inner) for key, inner in value["\0pairs"]}
        return {key: _mapped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mapped(item) for item in value]
    return value
