"""Imports point one way: what stands below never learns of what stands above."""

import ast
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent.parent / "src" / "labgate"

BELOW = {
    "finding": (),
    "bundle": ("finding",),
    "contract": ("finding", "bundle"),
    "compose": ("finding", "bundle", "contract"),
    "packages": ("finding", "bundle", "contract"),
    "flow": ("finding", "bundle", "contract", "compose", "packages"),
    "checks": ("finding",),
    "criteria": ("finding", "bundle", "contract", "compose", "packages", "flow", "checks"),
    "verdict": ("finding", "contract"),
    "report": ("finding", "contract", "verdict"),
    "standins": (),
    "explain": ("finding", "contract", "checks"),
    "facts": ("bundle", "contract", "compose", "packages", "flow"),
    "examine": ("finding", "bundle", "contract", "checks", "facts", "verdict"),
    "demo": ("finding", "bundle"),
    "serve": ("standins",),
    "cli": ("bundle", "contract", "verdict", "explain", "examine", "report", "demo", "serve"),
    "__main__": ("cli",),
}
"""What each module, or each file of a package, may import of labgate besides itself."""

ALSO = {"criteria/__main__.py": ("explain",)}
"""The generator of the page on criteria stands above them."""

ONLY_IN = {
    "pydantic": {"report/json.py"},
    "rich": {"report/__init__.py", "report/text.py"},
    "griffe": {"packages"},
    "hydra": {"compose/child.py"},
    "omegaconf": {"compose", "bundle"},
    "graphql": {"standins"},
    "starlette": {"standins"},
    "uvicorn": {"standins"},
}
"""Libraries that are slow to load, or that one place is to know."""


def files():
    demo = SOURCES / "demo" / "experiment"
    return sorted(path for path in SOURCES.rglob("*.py") if demo not in path.parents)


def name_of(path):
    return path.relative_to(SOURCES).as_posix()


def imported(path):
    """The dotted names that a file imports anywhere in it, `from x import y` as `x.y`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name_of(path)}:{node.lineno} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_imports_point_one_way(path):
    top = name_of(path).split("/")[0].removesuffix(".py")
    own = {dotted.split(".")[1] for dotted in imported(path) if dotted.startswith("labgate.")}
    if top == "__init__":
        assert not own, "the package itself imports nothing"
        return
    above = own - {*BELOW[top], *ALSO.get(name_of(path), ()), top, "__version__"}
    assert not above, f"{name_of(path)} imports {sorted(above)}, which it stands below"


def test_nothing_imports_in_a_circle():
    order = list(BELOW)
    seen: set[str] = set()
    while left := [name for name in order if name not in seen]:
        free = [name for name in left if seen.issuperset(BELOW[name])]
        assert free, f"a circle among {left}"
        seen.update(free)


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_known_to_one_place(library):
    users = {
        name_of(path) for path in files() if library in {dotted.split(".")[0] for dotted in imported(path)}
    }
    strangers = {user for user in users if not {user, user.split("/")[0]} & ONLY_IN[library]}
    assert not strangers
