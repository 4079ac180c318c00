"""Which versions resolve: `uv` is asked as `uv lock` would ask, for a date, and nothing is built to find out.

Building a source distribution runs its code, so resolution reads wheels only. A release that comes as source
only would then be passed over for an older one; for the few that matter, what they need is known
(`known.toml`), and a wheel made of metadata alone stands for each.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from labgate.bundle import Bundle
from labgate.packages import uv
from labgate.packages.requirements import Requirements

LOCK = "uv.lock"
LONGEST_S = 120.0
"""Seconds that a resolution may take; the corpus's largest takes about ten with an empty cache."""

OUTAGES = (
    "failed to fetch",
    "request failed",
    "error sending request",
    "client error",
    "dns error",
    "connection refused",
    "connection reset",
    "timed out",
    "network was disabled",
    "not found in the cache",
    "http status",
    "failed to download",
    "forbidden",
    "unauthorized",
    "certificate",
    "no space left",
    "permission denied",
)
"""Words of uv's that tell of our side, not of the requirements."""

SOURCE_ONLY = re.compile(r"Wheels are required for `([^`]+)`|all versions of ([\w.-]+) have no usable wheels")


@dataclass(frozen=True)
class Resolution:
    """Versions by normalised name, and by whom each is needed.

    Exactly one of three holds: `versions` is what resolved; `conflict` says, in uv's words, why nothing can;
    `problem` says why it is not known. `settled_by` names what decided: `uv.lock`, or a date.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    needed_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    conflict: str = ""
    problem: str = ""
    settled_by: str = ""
    python: str = "3.11"


def python_for(requires_python: str) -> tuple[str, str]:
    """The lowest Python that is admitted, and the one to read packages for: 3.11 where it may be."""
    admitted = [f"3.{minor}" for minor in range(8, 15)]
    try:
        demands = SpecifierSet(requires_python)
    except InvalidSpecifier:
        demands = SpecifierSet()
    if not requires_python.strip() or not demands:
        return "3.11", "3.11"
    admitted = [p for p in admitted if any(demands.contains(f"{p}.{micro}") for micro in range(20))] or [
        "3.11"
    ]
    chosen = "3.11" if "3.11" in admitted else min(admitted, key=lambda p: abs(Version(p).minor - 11))
    return admitted[0], chosen


def locked(bundle: Bundle) -> Resolution | None:
    """What the bundle's own `uv.lock` settles; None when there is none that can be read."""
    text = bundle.text(LOCK)
    if text is None:
        return None
    try:
        packages = tomllib.loads(text).get("package", [])
    except tomllib.TOMLDecodeError:
        return None
    versions: dict[str, str] = {}
    needed_by: dict[str, list[str]] = {}
    for package in packages:
        if not isinstance(package, dict) or "version" not in package or "name" not in package:
            continue
        name: str = canonicalize_name(str(package["name"]))
        version = str(package["version"])
        if set(package.get("source", {})) & {"editable", "virtual"}:
            name = ""
        elif name not in versions or _newer(version, versions[name]):
            versions[name] = version
        for need in package.get("dependencies", ()):
            needed_by.setdefault(canonicalize_name(str(need.get("name", ""))), []).append(name)
    return Resolution(versions, {k: tuple(v) for k, v in needed_by.items()}, settled_by=LOCK)


def resolve(requirements: Requirements, as_of: date | None = None, timeout: float = LONGEST_S) -> Resolution:
    """Ask `uv`, or the cache where the same question was answered before. Raises UvMissingError."""
    lowest, python = python_for(requirements.requires_python)
    day = as_of or datetime.now(UTC).date()
    decoys = {decoy["name"] for decoy in uv.known()["decoy"]}
    lines = sorted({str(entry) for entry in requirements.registered if entry.name not in decoys})
    if not lines:
        return Resolution(settled_by=day.isoformat(), python=python)
    question = json.dumps([lines, day.isoformat(), lowest, python, 1])
    kept = uv.cache_folder() / "resolved" / f"{hashlib.sha256(question.encode()).hexdigest()[:32]}.json"
    if (answer := _kept(kept)) is not None:
        return answer
    words = ["pip", "compile", "-", "--universal", "--python-version", lowest, "--no-build", "--no-header"]
    words += ["--no-sources", "--find-links", str(_stand_ins())]
    if as_of is not None:
        words += ["--exclude-newer", as_of.isoformat()]
    said = uv.ask(words, stdin="\n".join(lines) + "\n", timeout=timeout)
    resolution = _understood(said, day, python)
    if not resolution.problem:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(resolution)), encoding="utf-8")
        partial.replace(kept)
    return resolution


def _understood(said: uv.Said, day: date, python: str) -> Resolution:
    settled_by = day.isoformat()
    if said.code == 0:
        versions, needed_by = _compiled(said.out, python)
        return Resolution(versions, needed_by, settled_by=settled_by, python=python)
    words = said.err.strip() or said.out.strip()
    unbuilt = SOURCE_ONLY.search(words)
    if unbuilt and "uilding from source is disabled" in words:
        name = unbuilt[1] or unbuilt[2]
        problem = f"{name} comes as source only, and nothing is built while reading"
    elif said.code == 1 and "No solution found" in words and not _outage(words):
        return Resolution(conflict=_shortened(words), settled_by=settled_by, python=python)
    elif said.code is None or _outage(words):
        problem = f"the package registry could not be asked: {_first(words)}"
    else:
        problem = f"uv answered {said.code}: {_first(words)}"
    return Resolution(problem=problem, settled_by=settled_by, python=python)


def _outage(words: str) -> bool:
    return any(sign in words.lower() for sign in OUTAGES)


def _first(words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return " ".join(line.removeprefix("error: ").removeprefix("cause: ") for line in lines[:3])[:300]


def _shortened(words: str) -> str:
    """uv's explanation on one line, without its frame."""
    text = " ".join(words.split()).removeprefix("error: ")
    text = re.sub(
        r"^No solution found when resolving dependencies(?: for split \(([^)]*)\))?:?\s*(?:cause: |╰─▶ )?",
        r"\1 ",
        text,
    )
    return text.strip()[:1500]


def _compiled(text: str, python: str) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """The lines of `name==version ; marker` that hold on Linux for `python`, and their `# via` notes."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "implementation_version": f"{python}.9",
        "platform_release": "",
        "platform_version": "",
        "extra": "",
    }
    versions: dict[str, str] = {}
    needed_by: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if pinned := re.match(r"([A-Za-z0-9][\w.-]*)==([^\s;]+)\s*(?:;\s*(.*))?$", line):
            name = canonicalize_name(pinned[1]) if _holds(pinned[3], environment) else ""
            if name:
                versions[name] = pinned[2]
        elif name and (need := re.match(r"\s+#\s+(?:via )?(\S.*)$", line)) and need[1] not in ("via", "-r -"):
            needed_by.setdefault(name, []).append(canonicalize_name(need[1]))
    return versions, {k: tuple(v) for k, v in needed_by.items()}


def _holds(marker: str | None, environment: dict[str, str]) -> bool:
    if not marker:
        return True
    try:
        return Marker(marker).evaluate(environment)
    except (ValueError, UndefinedComparison, UndefinedEnvironmentName):
        return True


def _newer(one: str, other: str) -> bool:
    try:
        return Version(one) > Version(other)
    except InvalidVersion:
        return False


def _kept(path: Path) -> Resolution | None:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        data["needed_by"] = {k: tuple(v) for k, v in data["needed_by"].items()}
        return Resolution(**data)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _stand_ins() -> Path:
    """A folder with a wheel of metadata alone for each release that comes as source only."""
    folder = uv.cache_folder() / "metadata"
    folder.mkdir(parents=True, exist_ok=True)
    for release in uv.known()["source_only"]:
        stem = f"{release['name'].replace('-', '_')}-{release['version']}"
        path = folder / f"{stem}-py3-none-any.whl"
        if path.exists():
            continue
        head = f"Metadata-Version: 2.1\nName: {release['name']}\nVersion: {release['version']}\n"
        needs = "".join(f"Requires-Dist: {need}\n" for need in release["requires"])
        partial = path.with_suffix(".partial")
        with zipfile.ZipFile(partial, "w") as wheel:
            wheel.writestr(f"{stem}.dist-info/METADATA", head + needs)
            wheel.writestr(
                f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(f"{stem}.dist-info/RECORD", "")
        partial.replace(path)
    return folder
