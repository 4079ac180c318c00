"""Imports point one way."""

import ast
from pathlib import Path

SOURCES = Path(__file__).parent.parent / "src" / "labgate"

BELOW = {
    "finding": (),
    "contract": ("finding",),
    "checks": ("finding",),
    "verdict": ("finding", "contract"),
}
"""What each module may import of labgate."""


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("labgate."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("labgate.")}
    return found


def test_imports_point_one_way():
    for name, below in BELOW.items():
        above = imported(SOURCES / f"{name}.py") - set(below)
        assert not above, f"{name}.py imports {sorted(above)}, which stand above it"
