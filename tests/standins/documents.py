"""Every GraphQL document that an installed `wandb` holds: in its Python sources and in its Go binary."""

import ast
import re
from pathlib import Path

from graphql import GraphQLSyntaxError, OperationDefinitionNode, parse

_START = re.compile(rb"\s*(?:query|mutation|subscription|fragment)\s+[A-Za-z_]\w*[^\0]{0,20}?[({@ o]")
_OPENING = re.compile(rb"(?:query|mutation|subscription) [A-Za-z_]\w* ?[({@]|fragment [A-Za-z_]\w* on ")


def in_python(package: Path) -> list[str]:
    """The documents among the string constants below `package`; templates count with their holes as names."""
    found = []
    for path in sorted(package.rglob("*.py")):
        source = path.read_text(encoding="utf-8", errors="replace")
        if "{" not in source or not any(word in source for word in ("query", "mutation", "fragment")):
            continue
        for node in ast.walk(ast.parse(source)):
            text = None
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            elif isinstance(node, ast.JoinedStr):
                text = "".join(
                    part.value if isinstance(part, ast.Constant) else "hole" for part in node.values
                ).replace("{hole}", "hole")
            if text and re.match(r"\s*(query|mutation|subscription|fragment)\b[^{]*\{", text):
                found.append(text)
    return found


def in_binary(binary: bytes) -> list[str]:
    """The documents in a program's data: each from its keyword to where its outermost braces close, together
    with the fragments that follow it without a gap."""
    found, end = [], 0
    for match in _OPENING.finditer(binary):
        if match.start() < end:
            continue
        stop = _closing(binary, match.start())
        while stop and (more := re.compile(rb"\s*fragment [A-Za-z_]\w* on ").match(binary, stop)):
            stop = _closing(binary, more.start())
        if stop:
            found.append(binary[match.start() : stop].decode("utf-8", "replace"))
            end = stop
    return found


def _closing(binary: bytes, start: int) -> int:
    """Where the braces that open after `start` are closed again; 0 if that is no document."""
    depth, begun = 0, False
    for at in range(start, min(start + 60_000, len(binary))):
        byte = binary[at]
        if byte == 0x7B:
            depth, begun = depth + 1, True
        elif byte == 0x7D:
            depth -= 1
            if begun and depth == 0:
                return at + 1
            if depth < 0:
                return 0
        elif byte < 9 or byte > 0x7E:
            return 0
    return 0


def name_of(document: str) -> str:
    """The name of its first operation, of its first fragment without one; empty if it does not parse."""
    try:
        definitions = parse(document).definitions
    except GraphQLSyntaxError:
        return ""
    operations = [each for each in definitions if isinstance(each, OperationDefinitionNode)]
    first = (operations or definitions)[0]
    return first.name.value if first.name else "(anonymous)"
