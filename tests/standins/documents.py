"""Every GraphQL document that an installed `wandb` holds: in its Python sources and in its Go binary."""

import ast
import re
from pathlib import Path

from graphql import GraphQLSyntaxError, OperationDefinitionNode, parse

_DOCUMENT = re.compile(r"(?:\s|#[^\n]*\n)*(?:query|mutation|subscription|fragment)\s+\w[^{]*\{")
_OPENING = re.compile(rb"(?:query|mutation|subscription) [A-Za-z_]\w* ?[({@]|fragment [A-Za-z_]\w* on ")
_FRAGMENT = re.compile(rb"\s*fragment [A-Za-z_]\w* on ")


def in_package(package: Path):
    """All of them, each as text. Templates are filled as far as they can be: see `_filled`."""
    found = in_python(package)
    binary = package / "bin" / "wandb-core"
    if binary.exists():
        found += in_binary(binary.read_bytes())
    return found


def in_python(package: Path):
    """The documents among the string constants below a folder."""
    found = []
    for path in sorted(package.rglob("*.py")):
        source = path.read_text(encoding="utf-8", errors="replace")
        if "vendor" in path.parts or not any(word in source for word in ("query", "mutation", "fragment")):
            continue
        tree = ast.parse(source)
        constants = {
            node.targets[0].id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        parts = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
        }
        for node in ast.walk(tree):
            text = _text(node, constants) if id(node) not in parts else None
            if text and _DOCUMENT.match(text):
                found.append(_filled(text, constants))
    return found


def _text(node, constants):
    """A string; of an f-string its constant parts, with the module's constants in their places."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        pieces = []
        for part in node.values:
            if isinstance(part, ast.Constant):
                pieces.append(part.value)
            elif isinstance(part.value, ast.Name):
                name = part.value.id
                known = {"fragment_name": "RunFragment", "fragment": constants.get("RUN_FRAGMENT", "")}
                pieces.append(str(constants.get(name, known.get(name, ""))))
        return "".join(pieces)
    return None


def _filled(text, constants):
    """A template of `str.format` with the fragments that it spreads at its end, and other holes empty."""
    if "{{" not in text:
        return text
    text = text.replace("{{", "{").replace("}}", "}").replace("{}(", "history(").replace("{}", "")
    fragments = [each for each in constants.values() if isinstance(each, str) and "fragment " in each]
    wanted = [each for each in fragments if f"...{each.split()[1]}" in text]
    return "\n".join([text, *wanted])


def in_binary(binary: bytes):
    """The documents in a program's data: each from its keyword to where its braces close again, together with
    the fragments that follow without a gap."""
    found, end = [], 0
    for match in _OPENING.finditer(binary):
        if match.start() < end:
            continue
        stop = _closing(binary, match.start())
        while stop and (more := _FRAGMENT.match(binary, stop)):
            stop = _closing(binary, more.start())
        if stop:
            found.append(binary[match.start() : stop].decode("utf-8", "replace"))
            end = stop
    return found


def _closing(binary, start):
    """Where the braces that open after `start` are closed again; 0 if that is no document."""
    depth = 0
    for at in range(start, min(start + 60_000, len(binary))):
        byte = binary[at]
        if byte == ord("{"):
            depth += 1
        elif byte == ord("}"):
            depth -= 1
            if depth <= 0:
                return at + 1 if depth == 0 else 0
        elif byte < 9 or byte > ord("~"):
            return 0
    return 0


def name_of(document: str):
    """The name of its first operation, or else fragment; of text that does not parse, its first words."""
    try:
        definitions = parse(document).definitions
    except GraphQLSyntaxError:
        return " ".join(document.split()[:2]).partition("(")[0]
    operations = [each for each in definitions if isinstance(each, OperationDefinitionNode)]
    first = (operations or definitions)[0]
    return first.name.value if first.name else "(anonymous)"
