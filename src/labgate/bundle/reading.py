"""From what a user names to a bundle: a folder, `repo@rev`, AIRAS's JSON or a logged reviewer call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labgate.bundle import airas, documents
from labgate.bundle.bundle import Bundle
from labgate.bundle.files import LARGEST_HISTORY, File, UnreadableError, decode
from labgate.bundle.folder import read_folder
from labgate.bundle.promise import Promise, promise_from
from labgate.bundle.revision import read_revision, split_spec

_MARKS = ("src/", "config/", "pyproject.toml")


def read(spec: str | Path, promise: Promise | str | Path | None = None) -> Bundle:
    """The bundle that `spec` names.

    `spec` is a folder, a git revision `repo@rev`, a JSON file of AIRAS's or a logged reviewer call. `promise`
    is one, or a JSON, YAML or TOML file of one, and wins over what the bundle itself brings.
    Raises UnreadableError with one line when there is no experiment to read.
    """
    told = read_promise(promise) if isinstance(promise, (str, Path)) else promise
    bundle = _bundle(str(spec))
    return bundle if told is None else bundle.with_promise(told)


def _bundle(spec: str) -> Bundle:
    if not spec:
        raise UnreadableError("no path was given")
    path = Path(spec)
    try:
        if path.is_dir():
            return _folder(path, spec)
        if path.exists():
            return _document(path, spec)
    except OSError as error:
        raise UnreadableError(f"{spec!r}: {error.strerror or error}") from None
    if (revision := split_spec(spec)) is not None:
        files, cut, day = read_revision(*revision)
        _refuse_emptiness(files, spec)
        name = f"{revision[0].resolve().name}@{revision[1]}"
        return Bundle(files, name=name, origin=spec, date=day, cut=cut)
    raise UnreadableError(f"{spec!r} is neither a folder nor a file, nor a revision of a repository")


def _folder(path: Path, spec: str) -> Bundle:
    files, cut = read_folder(path)
    _refuse_emptiness(files, spec)
    return Bundle(files, name=path.resolve().name, origin=spec, cut=cut)


def _refuse_emptiness(files: Mapping[str, File], spec: str) -> None:
    if not files:
        raise UnreadableError(f"{spec!r} is empty")
    if not any(path.endswith(".py") or path.startswith(_MARKS) for path in files):
        raise UnreadableError(f"{spec!r} holds no experiment: neither src/, config/ nor pyproject.toml")


def _document(path: Path, spec: str) -> Bundle:
    text = _text(path)
    if text.lstrip()[:1] in ("{", "["):
        try:
            return airas.from_json(documents.parse_json(text), path.stem, spec)
        except documents.MalformedError as error:
            line = f":{error.line}" if error.line else ""
            raise UnreadableError(f"{spec}{line}: {error.says}") from None
    if airas.looks_logged(text):
        return airas.from_call(text, path.stem, spec)
    raise UnreadableError(f"{spec!r} is neither AIRAS's JSON nor a logged reviewer call")


def read_promise(path: str | Path) -> Promise:
    """The promise in a JSON, YAML or TOML file, or in a logged reviewer call. Raises UnreadableError."""
    try:
        text = _text(Path(path))
    except OSError as error:
        raise UnreadableError(f"{str(path)!r}: {error.strerror or error}") from None
    except ValueError as error:
        raise UnreadableError(f"{str(path)!r} is no path: {error}") from None
    if airas.looks_logged(text):
        return airas.promise_in_call(text, str(path))
    try:
        if str(path).endswith(".toml"):
            record: object = documents.parse_toml(text)
        elif text.lstrip()[:1] == "{":
            record = documents.parse_json(text)
        else:
            record = documents.parse_yaml(text)
    except documents.MalformedError as error:
        line = f":{error.line}" if error.line else ""
        raise UnreadableError(f"{path}{line}: {error.says}") from None
    promise = promise_from(record, str(path))
    if promise is None:
        raise UnreadableError(f"{path}: no promise in it: hypothesis, method, design, metrics or runs")
    return promise


def _text(path: Path) -> str:
    """The text of a regular file of bounded size. Raises OSError and UnreadableError."""
    if not path.is_file():
        path.stat()
        raise UnreadableError(f"{str(path)!r} is no regular file")
    if path.stat().st_size > LARGEST_HISTORY:
        raise UnreadableError(f"{str(path)!r} is larger than {LARGEST_HISTORY // 1024 // 1024} MiB")
    text = decode(path.name, path.read_bytes())
    if text is None:
        raise UnreadableError(f"{str(path)!r} is not UTF-8 text")
    return text


def is_bundle(folder: str | Path) -> bool:
    """Whether `folder` looks like one experiment: it has `src/` or `config/`, or a `pyproject.toml`."""
    path = Path(folder)
    try:
        return (path / "src").is_dir() or (path / "config").is_dir() or (path / "pyproject.toml").is_file()
    except (OSError, ValueError):
        return False


def find_bundles(folder: str | Path) -> tuple[Path, ...]:
    """The experiments that lie in `folder` itself. Raises UnreadableError when it cannot be listed."""
    try:
        inner = sorted(Path(folder).iterdir())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreadableError(f"{str(folder)!r}: {reason}") from None
    return tuple(path for path in inner if not path.name.startswith(".") and is_bundle(path))
