"""Wheels, unpacked and never imported: their Python sources, their stubs, and the names of what was compiled.

The sources of a package are the same on every platform, so the smallest wheel serves: macOS's, which carries
no CUDA. What was compiled is deleted after its module names are noted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from labgate.packages import uv

AT_ONCE = 4
LONGEST_S = 300.0
"""Seconds that fetching all of an experiment's wheels may take."""

COMPILED = (".so", ".pyd", ".dylib")
NOTE = "wheel.json"


@dataclass(frozen=True)
class Wheel:
    """One release, unpacked at `folder`. `compiled` are dotted names of modules that cannot be read.

    `problem` says why there is nothing to read; then `folder` does not exist.
    """

    name: str
    version: str
    folder: Path
    compiled: frozenset[str] = frozenset()
    roots: frozenset[str] = field(default=frozenset())
    """The names that can be imported from it."""
    problem: str = ""


def fetch(
    releases: Mapping[str, str], *, python: str = "3.11", budget: float = LONGEST_S
) -> dict[str, Wheel]:
    """The wheels of these releases (version by name), some at a time, from the cache where they lie there.

    Never raises for want of a wheel: each that could not be had says why.
    """
    try:
        uv.program()  # found once, before there are threads: looking twice at a time breaks sysconfig
    except uv.UvMissingError as error:
        return {name: Wheel(name, version, Path(), problem=str(error)) for name, version in releases.items()}
    deadline = time.monotonic() + budget
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="wheel") as pool:
        found = pool.map(lambda item: _one(item[0], item[1], python, deadline), releases.items())
        return {wheel.name: wheel for wheel in found}


def _one(name: str, version: str, python: str, deadline: float) -> Wheel:
    name = canonicalize_name(name)
    folder = uv.cache_folder() / "wheels" / f"{name}-{version.replace('+', '_')}"
    wheel = _opened(name, version, folder)
    if wheel is not None:
        return wheel
    folder.parent.mkdir(parents=True, exist_ok=True)
    problem = ""
    for release, platform in _choices(version):
        left = deadline - time.monotonic()
        if left <= 0:
            return Wheel(name, version, folder, problem=f"{name} {version}: no time left to fetch it")
        partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        try:
            words = ["pip", "install", "--no-deps", "--only-binary", ":all:", "--target", str(partial)]
            words += ["--python-version", python, *platform, f"{name}=={release}"]
            # A torch wheel for macOS asks for 14; uv would assume an older one.
            said = uv.ask(words, timeout=left, MACOSX_DEPLOYMENT_TARGET="15.0")
            if said.code == 0:
                _strip(partial)
                with contextlib.suppress(OSError):  # another process may have been quicker
                    partial.rename(folder)
                if (wheel := _opened(name, version, folder)) is not None:
                    return wheel
            problem = problem or _why(said, name, version)
        except OSError as error:
            return Wheel(name, version, folder, problem=f"{name} {version}: {error}")
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return Wheel(name, version, folder, problem=problem)


def _choices(version: str) -> Iterator[tuple[str, list[str]]]:
    yield version, ["--python-platform", "aarch64-apple-darwin"]
    with contextlib.suppress(InvalidVersion):
        if (parsed := Version(version)).local:
            yield parsed.public, ["--python-platform", "aarch64-apple-darwin"]
    yield version, []


def _why(said: uv.Said, name: str, version: str) -> str:
    words = " ".join(said.err.split())
    if said.code is None:
        return f"{name} {version}: fetching it took too long"
    if "no wheels" in words or "no usable wheels" in words:
        return f"{name} {version} comes as source only, which is not unpacked"
    return f"{name} {version}: {words.removeprefix('error: ')[:200]}"


def _strip(folder: Path) -> None:
    """Keep sources, stubs and metadata; write down what was compiled and what can be imported."""
    compiled: set[str] = set()
    for parent, folders, files in os.walk(folder, topdown=False):
        inside = Path(parent).relative_to(folder).parts
        metadata = bool(inside) and inside[0].endswith(".dist-info")
        for file in files:
            if file.endswith(COMPILED) and not metadata:
                compiled.add(".".join((*inside, file.partition(".")[0])))
            if not (metadata or file.endswith((".py", ".pyi")) or file == "py.typed"):
                (Path(parent) / file).unlink()
        for child in folders:
            with contextlib.suppress(OSError):  # not empty, or a link
                (Path(parent) / child).rmdir()
    note = {"compiled": sorted(compiled), "roots": sorted(_roots(folder, compiled))}
    (folder / NOTE).write_text(json.dumps(note), encoding="utf-8")


def _roots(folder: Path, compiled: Iterable[str]) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name.isidentifier():
            yield entry.name
        elif entry.suffix in (".py", ".pyi") and entry.stem.isidentifier():
            yield entry.stem
    yield from {name for name in compiled if "." not in name}


def _opened(name: str, version: str, folder: Path) -> Wheel | None:
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        return Wheel(name, version, folder, frozenset(note["compiled"]), frozenset(note["roots"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
