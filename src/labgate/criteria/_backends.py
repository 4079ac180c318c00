"""What each build backend wants to find before it builds a project, learnt by trying them.

`uv run` builds a project that has a `[build-system]` before Python starts, so a backend that finds nothing
to ship ends every command. Tried with uv 0.13 and the newest backends of 2026-11: setuptools, hatchling,
poetry-core, flit-core, pdm-backend and uv_build.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labgate.bundle import Bundle

FLAT_EXCLUDED = re.compile(
    "ci|bin|debian|doc|docs|documentation|manpages|news|newsfragments|changelog|tests?|unit_tests?|examples?"
    "|scripts|tools|utils?|python|build|benchmarks?|exercises?|htmlcov"
)
"""Folders that setuptools passes over when it looks for packages beside `pyproject.toml`."""


@dataclass(frozen=True)
class Obstacle:
    """Why a backend would stop: a sentence, the key of `pyproject.toml` to show, and what would mend it."""

    says: str
    keys: tuple[str, ...]
    do: str


def backend_of(document: Mapping[str, Any]) -> str | None:
    """The backend that `uv` would build the project with; None when it would build nothing."""
    system = document.get("build-system")
    package = table(document, "tool", "uv").get("package")
    if package is False or "project" not in document:
        return None
    if not isinstance(system, Mapping):
        return "setuptools.build_meta" if package is True else None
    backend = system.get("build-backend", "setuptools.build_meta")
    return backend if isinstance(backend, str) else "setuptools.build_meta"


def obstacles(bundle: Bundle, document: Mapping[str, Any], backend: str) -> Iterator[Obstacle] | None:
    """What would stop `backend`; None when its ways are not known."""
    rules = {
        "setuptools.build_meta": _setuptools,
        "setuptools.build_meta:__legacy__": _setuptools,
        "hatchling.build": _hatchling,
        "poetry.core.masonry.api": _poetry,
        "flit_core.buildapi": _flit,
        "uv_build": _uv_build,
    }
    return rules[backend](bundle, document) if backend in rules else None


PROVIDERS = {
    "setuptools": ("setuptools",),
    "hatchling": ("hatchling",),
    "poetry": ("poetry-core", "poetry"),
    "flit_core": ("flit-core", "flit"),
    "uv_build": ("uv-build",),
    "pdm": ("pdm-backend",),
}
"""The distributions that hold a backend, by its top-level module."""


def table(document: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """The table under `keys`; an empty one when there is none."""
    found: Any = document
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _folders(bundle: Bundle) -> set[str]:
    """Every folder that holds a file, at any depth."""
    return {path.rsplit("/", n)[0] for path in bundle.files for n in range(1, path.count("/") + 1)}


def _setuptools(bundle: Bundle, document: Mapping[str, Any]) -> Iterator[Obstacle]:
    own = table(document, "tool", "setuptools")
    folders = _folders(bundle)
    roots = table(own, "package-dir")
    packages = own.get("packages")
    find = table(own, "packages", "find")
    if isinstance(packages, list):
        home = str(roots.get("", "")).strip("./")
        for name in packages:
            place = "/".join(filter(None, (home, str(name).replace(".", "/"))))
            if str(name) not in roots and place not in folders:
                yield Obstacle(
                    f"setuptools is told to ship the package {name!r}, and there is no folder {place}/",
                    ("tool", "setuptools", "packages"),
                    "name the folders that exist, or leave `packages` out",
                )
    elif find:
        for place in find.get("where", ()):
            if str(place).strip("./") and str(place).strip("./") not in folders:
                yield Obstacle(
                    f"setuptools is told to look for packages in {place}/, which does not exist",
                    ("tool", "setuptools", "packages", "find", "where"),
                    "name a folder that exists",
                )
    elif not own.keys() & {"packages", "py-modules", "package-dir", "ext-modules"} and "src" not in folders:
        if bundle.files.keys() & {"setup.py", "setup.cfg"}:
            return
        top = sorted(
            f for f in folders if "/" not in f and f.isidentifier() and not FLAT_EXCLUDED.fullmatch(f)
        )
        if len(top) > 1:
            yield Obstacle(
                f"setuptools finds several top-level folders, {', '.join(top)}, and refuses to guess",
                ("build-system",),
                "list them under [tool.setuptools] packages, or drop [build-system]: nothing has to be built",
            )


def _hatchling(bundle: Bundle, document: Mapping[str, Any]) -> Iterator[Obstacle]:
    project = table(document, "project")
    yield from _missing_readme(bundle, project)
    build = table(document, "tool", "hatch", "build")
    wheel = table(build, "targets", "wheel")
    choices = {"packages", "include", "only-include", "force-include", "bypass-selection", "artifacts"}
    if (wheel.keys() | build.keys()) & (choices | {"dev-mode-dirs"}):
        return
    raw = str(project.get("name", ""))
    for name in dict.fromkeys((_module_name(raw), raw)):
        if (
            any(f"{home}{name}/__init__.py" in bundle.files for home in ("", "src/"))
            or f"{name}.py" in bundle.files
        ):
            return
    yield Obstacle(
        f"hatchling cannot tell which files to ship: no folder is called {_module_name(raw)!r}",
        ("build-system",),
        'add [tool.hatch.build.targets.wheel] packages = ["src"], or drop [build-system]',
    )


def _poetry(bundle: Bundle, document: Mapping[str, Any]) -> Iterator[Obstacle]:
    poetry = table(document, "tool", "poetry")
    project = table(document, "project")
    yield from _missing_readme(bundle, project)
    if poetry.get("package-mode") is False:
        yield Obstacle(
            "poetry-core refuses to build a project with package-mode = false",
            ("tool", "poetry", "package-mode"),
            "drop [build-system]: uv installs the dependencies without it",
        )
    elif not poetry.get("packages"):
        name = _module_name(str(project.get("name") or poetry.get("name", "")))
        places = (f"{name}/", f"src/{name}/", f"{name}.py", f"src/{name}.py")
        if not any(path.startswith(place) for path in bundle.files for place in places):
            yield Obstacle(
                f"poetry-core finds no file or folder for the package {name!r}",
                ("build-system",),
                'add [tool.poetry] packages = [{ include = "src" }], or drop [build-system]',
            )


def _flit(bundle: Bundle, document: Mapping[str, Any]) -> Iterator[Obstacle]:
    project = table(document, "project")
    given = table(document, "tool", "flit", "module").get("name")
    name = str(given or _module_name(str(project.get("name", "")))).replace(".", "/")
    homes = (f"{name}/__init__.py", f"src/{name}/__init__.py", f"{name}.py", f"src/{name}.py")
    if not any(home in bundle.files for home in homes):
        yield Obstacle(
            f"flit finds no module {name!r}",
            ("build-system",),
            "drop [build-system]: uv installs the dependencies without it",
        )


def _uv_build(bundle: Bundle, document: Mapping[str, Any]) -> Iterator[Obstacle]:
    own = table(document, "tool", "uv", "build-backend")
    name = own.get("module-name") or _module_name(str(table(document, "project").get("name", "")))
    if not isinstance(name, str) or own.get("namespace") is True:
        return
    place = "/".join(filter(None, (str(own.get("module-root", "src")).strip("./"), name.replace(".", "/"))))
    if f"{place}/__init__.py" not in bundle.files:
        yield Obstacle(
            f"uv_build expects a module at {place}/__init__.py",
            ("build-system",),
            "drop [build-system]: uv installs the dependencies without it",
        )


def _missing_readme(bundle: Bundle, project: Mapping[str, Any]) -> Iterator[Obstacle]:
    """setuptools only warns of it; the others stop. Without any file beside `pyproject.toml`, the bundle is a
    part of a repository, and what else lies there cannot be known."""
    if not any("/" not in path and path != "pyproject.toml" for path in bundle.files):
        return
    readme = project.get("readme")
    path = readme.get("file") if isinstance(readme, Mapping) else readme
    if isinstance(path, str) and path not in bundle.files:
        yield Obstacle(
            f"the readme {path} that the project names does not exist",
            ("project", "readme"),
            "drop the `readme` key",
        )


def _module_name(project: str) -> str:
    return re.sub(r"[-_.]+", "_", project).lower()
