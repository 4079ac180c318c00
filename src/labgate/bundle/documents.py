"""YAML, TOML and JSON from strangers, bounded in size, in depth and in what aliases expand to."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import yaml

DEEPEST = 100
"""Levels of nesting; the deepest real config of the corpus has seven."""

LARGEST_EXPANSION = 100_000
"""Nodes that a YAML document may amount to once every alias is followed."""

LARGEST_YAML = 1024 * 1024
LARGEST_TOML = 2 * 1024 * 1024
"""Characters."""

LARGEST_NUMBER = 10_000
"""Bits of a whole number; Python refuses to print one of more than some 14,000."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class MalformedError(Exception):
    """The text does not parse, or is too large, too deep or a bomb. `line` is 1-based, or 0."""

    def __init__(self, says: str, line: int = 0) -> None:
        super().__init__(says)
        self.says = says
        self.line = line


class _ConfigLoader(_Loader):  # type: ignore[misc]
    """Reads scalars as OmegaConf does: `1e-4` is a number, a date is text, and a key stands once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                first = seen[key.value]
                raise MalformedError(
                    f"has the key {key.value!r} twice, first on line {first}", key.start_mark.line + 1
                )
            if isinstance(key, yaml.ScalarNode):
                seen[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)

    def construct_number(self, node: Any) -> int:
        # Slow long before it is large: `1:1:1…` is a number to base 60.
        number: int | None = None
        if len(node.value) <= LARGEST_NUMBER // 4:
            number = self.construct_yaml_int(node)
        if number is None or number.bit_length() > LARGEST_NUMBER:
            raise MalformedError("holds a number too large to be read", node.start_mark.line + 1)
        return number


_ConfigLoader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_ConfigLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)"
        r"|\.[0-9_]+(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


_ConfigLoader.add_constructor("tag:yaml.org,2002:int", _ConfigLoader.construct_number)


def parse_yaml(text: str) -> object:
    """The value of the one document in `text`, as OmegaConf would read its scalars. Raises MalformedError."""
    _refuse_bombs(text)
    return _guarded(lambda: yaml.load(text, _ConfigLoader))


def yaml_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line on which each key stands, by the keys that lead to it; the items of lists count from "0"."""
    _refuse_bombs(text)
    root = _guarded(lambda: yaml.compose(text, _Loader))
    found: dict[tuple[str, ...], int] = {}
    todo: list[tuple[tuple[str, ...], Any]] = [((), root)] if root is not None else []
    while todo:
        path, node = todo.pop()
        if isinstance(node, yaml.MappingNode):
            pairs = [(key.value, key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]
        elif isinstance(node, yaml.SequenceNode):
            pairs = [(str(index), item, item) for index, item in enumerate(node.value)]
        else:
            continue
        for name, place, value in pairs:
            found[(*path, name)] = place.start_mark.line + 1
            todo.append(((*path, name), value))
    return found


def _refuse_bombs(text: str) -> None:
    """Walk the events, which expand nothing: bound the depth and what following every alias would make."""
    if len(text) > LARGEST_YAML:
        raise MalformedError(f"is larger than {LARGEST_YAML // 1024} KiB, too large to be read as YAML")
    _guarded(lambda: _walk_events(text))


def _walk_events(text: str) -> None:
    sizes: dict[str | None, int] = {}
    open_nodes: list[tuple[str | None, int]] = []  # anchor and expanded size so far, from the root inwards
    total = documents = 0
    for event in yaml.parse(text, _Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise MalformedError("holds more than one document", line)
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_nodes) >= DEEPEST:
                raise MalformedError(f"is nested more than {DEEPEST} levels deep", line)
            open_nodes.append((event.anchor, 1))
            continue
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise MalformedError(f"has the alias *{event.anchor} inside its own anchor", line)
            size, anchor = sizes.get(event.anchor, 1), None
        elif isinstance(event, yaml.ScalarEvent):
            size, anchor = 1, event.anchor
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
        else:
            continue
        if anchor:
            sizes[anchor] = size
        if open_nodes:
            outer, so_far = open_nodes[-1]
            open_nodes[-1] = (outer, so_far + size)
            total = so_far + size
        if max(total, size) > LARGEST_EXPANSION:
            raise MalformedError(
                f"amounts to more than {LARGEST_EXPANSION:,} nodes, its aliases followed", line
            )


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of `text`. Raises MalformedError."""
    if len(text) > LARGEST_TOML:
        raise MalformedError(f"is larger than {LARGEST_TOML // 1024} KiB, too large to be read as TOML")
    # The parser's time is quadratic in the parts of a dotted key.
    dots = (line.count(".") for line in text.split("\n"))
    if sum(count * count for count in dots if count > 50) > 4_000_000:
        raise MalformedError("has keys of too many parts to be read")
    value: dict[str, Any] = _guarded(lambda: tomllib.loads(text))
    _refuse_extremes(value)
    return value


def parse_json(text: str) -> object:
    """The value of `text`. Raises MalformedError."""
    value: object = _guarded(lambda: json.loads(text))
    _refuse_extremes(value)
    return value


def _refuse_extremes(value: object) -> None:
    layer = [value]
    for _ in range(DEEPEST):
        layer = [
            item
            for outer in layer
            if isinstance(outer, (dict, list))
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return
        if any(isinstance(item, int) and item.bit_length() > LARGEST_NUMBER for item in layer):
            raise MalformedError("holds a number too large to be read")
    raise MalformedError(f"is nested more than {DEEPEST} levels deep")


def _guarded(parse: Any) -> Any:
    """Parsers meet malformed scalars with any of a dozen exceptions; each becomes one clause and a line."""
    try:
        return parse()
    except MalformedError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        says = error.problem or error.context or "is malformed"
        if "nesting depth" in says:  # libyaml from 0.2.6 counts brackets itself, before the first event
            raise MalformedError(
                f"is nested more than {DEEPEST} levels deep", mark.line + 1 if mark else 0
            ) from None
        raise MalformedError(f"does not parse: {says}", mark.line + 1 if mark else 0) from None
    except yaml.reader.ReaderError as error:
        raise MalformedError(f"does not parse: character U+{_code(error):04X} is not allowed") from None
    except json.JSONDecodeError as error:
        raise MalformedError(f"does not parse: {error.msg}", error.lineno) from None
    except tomllib.TOMLDecodeError as error:
        says, _, place = str(error).partition(" (at ")
        at = re.match(r"line (\d+)", place)
        raise MalformedError(f"does not parse: {says}", int(at[1]) if at else 0) from None
    except RecursionError:
        raise MalformedError("is nested too deep to be read") from None
    except ValueError as error:
        first = str(error).partition("\n")[0].partition(";")[0]
        raise MalformedError(f"does not parse: {first}") from None
    except Exception:
        raise MalformedError("does not parse: a value does not fit its tag") from None


def _code(error: Any) -> int:
    character = error.character
    return character if isinstance(character, int) else ord(str(character)[:1] or "\0")


_TOML_KEY = re.compile(r"""\s*(?:"([^"\n]*)"|'([^'\n]*)'|([A-Za-z0-9_-]+))\s*([.=\]])""")


def toml_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line on which each table header and each `key =` stands, by the keys that lead to it.

    Headers of arrays of tables count from "0". Text inside a multi-line string or array may be taken for a
    key; a real key of the same name keeps its own line, as the first one seen wins.
    """
    found: dict[tuple[str, ...], int] = {}
    counts: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(re.split(r"\r\n|\n", text), 1):
        header = re.match(r"\s*(\[\[?)", line)
        names, end = _dotted(line[header.end() :] if header else line)
        if not names:
            continue
        if header and end == "]":
            table = names
            if header[1] == "[[":
                index = counts.get(names, 0)
                counts[names] = index + 1
                found.setdefault(names, number)
                table = (*names, str(index))
            found.setdefault(table, number)
        elif not header and end == "=":
            found.setdefault((*table, *names), number)
    return found


def _dotted(text: str) -> tuple[tuple[str, ...], str]:
    names: list[str] = []
    position = 0
    while found := _TOML_KEY.match(text, position):
        names.append(found[1] or found[2] or found[3] or "")
        position = found.end()
        if found[4] != ".":
            return tuple(names), found[4]
    return (), ""
