"""The experiment in memory: files read once, parsed on first use, and the promise when there is one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date as Date
from functools import cached_property
from types import MappingProxyType
from typing import Any

from labgate.bundle import documents
from labgate.bundle.files import BrokenFileError, File, Source, file_from
from labgate.bundle.promise import HISTORY, Promise, promise_from
from labgate.finding import Evidence


class Bundle:
    """An experiment's files by their paths, in order. Immutable: `edit` and its kin give a new one."""

    def __init__(
        self,
        files: Mapping[str, File],
        *,
        name: str = "bundle",
        origin: str = "",
        date: Date | None = None,
        promise: Promise | None = None,
        cut: bool = False,
    ) -> None:
        self.files: Mapping[str, File] = MappingProxyType(dict(sorted(files.items())))
        self.name = name
        self.origin = origin or name
        self.date = date
        self.cut = cut
        """Whether there were more files than a bundle may list."""
        self._promise = promise
        self._values: dict[tuple[str, str], object | documents.MalformedError] = {}
        self._lines: dict[str, dict[tuple[str, ...], int]] = {}

    def __repr__(self) -> str:
        return f"Bundle({self.origin!r}, {len(self.files)} files)"

    @classmethod
    def from_files(
        cls,
        files: Mapping[str, str | bytes],
        *,
        name: str = "bundle",
        origin: str = "",
        date: Date | None = None,
        promise: Promise | None = None,
    ) -> Bundle:
        """A bundle of these texts, by path."""
        made = {path: file_from(path, _encoded(content)) for path, content in files.items()}
        return cls(made, name=name, origin=origin, date=date, promise=promise)

    def with_file(self, path: str, content: str | bytes) -> Bundle:
        """The same bundle with `path` added or replaced."""
        return self._with({**self.files, path: file_from(path, _encoded(content))})

    def without(self, path: str) -> Bundle:
        """The same bundle less `path`. Raises KeyError when there is none."""
        files = dict(self.files)
        del files[path]
        return self._with(files)

    def edit(self, path: str, old: str, new: str) -> Bundle:
        """The same bundle with `old`, which must stand in `path` exactly once, replaced by `new`."""
        text = self.text(path)
        if text is None or text.count(old) != 1:
            times = 0 if text is None else text.count(old)
            raise ValueError(f"{path} holds {old!r} {times} times")
        return self.with_file(path, text.replace(old, new))

    def with_promise(self, promise: Promise | None) -> Bundle:
        return Bundle(
            self.files, name=self.name, origin=self.origin, date=self.date, promise=promise, cut=self.cut
        )

    def _with(self, files: Mapping[str, File]) -> Bundle:
        return Bundle(
            files, name=self.name, origin=self.origin, date=self.date, promise=self._promise, cut=self.cut
        )

    @cached_property
    def sources(self) -> Mapping[str, Source]:
        """Every Python file, by path."""
        found = {path: Source(file) for path, file in self.files.items() if path.endswith(".py")}
        return MappingProxyType({path: source for path, source in found.items() if not source.file.listed})

    @cached_property
    def promise(self) -> Promise | None:
        """The promise given with the bundle, else the one in its research history, else None."""
        return self._promise or self._recorded[0]

    @property
    def promise_problem(self) -> str | None:
        """Why the research history could not be read; None when it was, or when there is none."""
        return None if self._promise else self._recorded[1]

    @cached_property
    def _recorded(self) -> tuple[Promise | None, str | None]:
        file = self.files.get(HISTORY)
        if file is None or not (file.data.strip() or file.problem):
            return None, None
        if file.text is None:
            return None, file.problem
        try:
            record = documents.parse_json(file.text)
        except documents.MalformedError as error:
            return None, error.says
        run_ids = {**self.run_configs("config/runs"), **self.run_configs("config/run")}
        return promise_from(record, HISTORY, run_ids), None

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, over paths and contents and the promise: what a report depends on."""
        whole = hashlib.sha256()
        for path, file in self.files.items():
            whole.update(f"{len(path.encode('utf-8', 'replace'))} {len(file.data)} {file.problem}\n".encode())
            whole.update(path.encode("utf-8", "replace"))
            whole.update(file.data)
        whole.update(repr(self._promise).encode("utf-8", "replace"))
        return whole.hexdigest()

    def text(self, path: str) -> str | None:
        """The text of `path`; None when there is no such file, or it is no text."""
        file = self.files.get(path)
        return None if file is None else file.text

    def yaml(self, path: str) -> object:
        """The value of a YAML file, its scalars read as OmegaConf reads them. Raises BrokenFileError."""
        return self._value(path, documents.parse_yaml)

    def toml(self, path: str) -> dict[str, Any]:
        """The tables of a TOML file. Raises BrokenFileError."""
        value = self._value(path, documents.parse_toml)
        assert isinstance(value, dict)
        return value

    def key_line(self, path: str, *keys: str | int) -> int:
        """The line, 1-based, on which a key of a YAML or TOML file stands, or its nearest parent that does.

        `keys` lead to it: `key_line("config/config.yaml", "training", "epochs")`. 0 when none stands there.
        """
        if path not in self._lines:
            parse = documents.toml_lines if path.endswith(".toml") else documents.yaml_lines
            try:
                self._lines[path] = parse(self.text(path) or "")
            except documents.MalformedError:
                self._lines[path] = {}
        wanted = tuple(str(key) for key in keys)
        lines = self._lines[path]
        return next((lines[wanted[:n]] for n in range(len(wanted), 0, -1) if wanted[:n] in lines), 0)

    def place(self, path: str, line: int = 0, label: str = "", shows: str | None = None) -> Evidence:
        """Evidence at `path`, quoting the words of `line` when `shows` is None."""
        if shows is None:
            file = self.files.get(path)
            shows = file.line(line) if file and line else ""
        return Evidence(path, line, shows, label)

    def module(self, dotted: str) -> Source | None:
        """The source that `import dotted` would find in the bundle's root."""
        stem = dotted.replace(".", "/")
        return self.sources.get(f"{stem}.py") or self.sources.get(f"{stem}/__init__.py")

    def run_configs(self, folder: str = "config/runs") -> Mapping[str, str]:
        """The paths of the YAML files that lie directly in `folder`, by run id, which is the file's stem."""
        found: dict[str, str] = {}
        for path in self.files:
            parent, _, name = path.rpartition("/")
            stem, dot, suffix = name.rpartition(".")
            if parent == folder.rstrip("/") and stem and dot and suffix in ("yaml", "yml"):
                found[stem] = path
        return found

    def _value(self, path: str, parse: Any) -> object:
        """Parsed once; a file that does not parse keeps its reason."""
        key = (path, parse.__name__)
        if key not in self._values:
            file = self.files.get(path)
            if file is None:
                raise BrokenFileError(path, "does not exist")
            if file.problem or file.text is None:
                raise BrokenFileError(path, file.problem or "is not read")
            try:
                self._values[key] = parse(file.text)
            except documents.MalformedError as error:
                self._values[key] = error
        value = self._values[key]
        if isinstance(value, documents.MalformedError):
            raise BrokenFileError(path, value.says, value.line)
        return value


def _encoded(content: str | bytes) -> bytes:
    """Lone surrogates, which JSON can carry, survive as the bytes that no decoder accepts."""
    return content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
