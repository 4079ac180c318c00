"""What the evaluation asks of the runs it fetched: keys of their history and of their summary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from labgate.bundle import Bundle
from labgate.criteria._tracing import holder, reached
from labgate.flow.events import Ask, Call, Event, How, Put, Walk
from labgate.flow.values import External, Instance, Known, OneOf, Seq, Text, Unknown, Value, options, text_of

RUN = "wandb.Api().run()"
RUNS = ("wandb.Api().runs()[]", "wandb.Api().runs()[:][]")

FRAME_KEEPS = frozenset(
    [
        "copy",
        "dropna",
        "fillna",
        "ffill",
        "bfill",
        "interpolate",
        "sort_values",
        "sort_index",
        "reset_index",
        "head",
        "tail",
        "sample",
        "query",
        "drop_duplicates",
        "infer_objects",
        "convert_dtypes",
        "astype",
        "where",
        "mask",
        "round",
        "replace",
        "tail",
        "truncate",
        "to_dict",
        "rename",
    ]
)
"""Methods of a frame whose result has its columns, or no fewer than one can tell."""
NEEDS_COLUMN = {"dropna": "subset", "sort_values": "by", "set_index": "keys", "groupby": "by"}
COPIES = (
    "builtins.dict",
    "copy.copy",
    "copy.deepcopy",
    "pandas.DataFrame",
    "builtins.list",
    "builtins.sorted",
)


class Part(StrEnum):
    """What of a run is asked."""

    HISTORY = "history"
    SUMMARY = "summary"
    CONFIG = "config"


class Manner(StrEnum):
    """How a key is asked for, and so what becomes of one that is not there."""

    NEEDED = "needed"
    """A KeyError."""
    DEFAULTED = "defaulted"
    """None, or the default, in its place."""
    TESTED = "tested"
    """What depends on it is left out."""
    SELECTED = "selected"
    """No row comes back."""


@dataclass(frozen=True)
class Asked:
    """A key that the evaluation asks for; `run_id` is the run that it is asked of, None when that varies."""

    part: Part
    key: str
    manner: Manner
    event: Event
    run_id: str | None
    loose: bool = False
    """Whether the key is only one of several that it may be."""


@dataclass
class Questions:
    """All that one walk asks. `unnamed` are keys that are not known, and loops over whatever is there."""

    asked: list[Asked]
    unnamed: list[tuple[Part, Event]]
    together: list[tuple[Call, frozenset[str]]] = field(default_factory=list)
    """Keys of the history that are selected at once: a row comes back only when it has them all."""

    def of(self, part: Part) -> list[Asked]:
        return [asked for asked in self.asked if asked.part is part]


def questions(bundle: Bundle, walk: Walk) -> Questions:
    """The keys that the evaluation asks for, in code that it comes by."""
    found = Questions([], [])
    made = _made(walk)
    for event in walk.events:
        if isinstance(event, Ask | Call) and reached(bundle, event):
            for part, key, manner, of in _keys(event):
                _note(found, part, key, manner, event, run_of(of), made)
                if (
                    manner is Manner.SELECTED
                    and isinstance(event, Call)
                    and isinstance(key, Seq)
                    and not key.open
                ):
                    found.together.append((event, frozenset(_strings_of(key))))
    tested = {(asked.part, asked.key) for asked in found.asked if asked.manner is Manner.TESTED}
    found.unnamed = [item for item in found.unnamed if not _filtered(*item, tested)]
    return found


def _filtered(part: Part, event: Event, tested: set[tuple[Part, str]]) -> bool:
    """Whether the key comes from a list of names that was filtered by what is there."""
    if not isinstance(event, Ask) or not isinstance(event.key, OneOf):
        return False
    names = [option.value for option in event.key.options if isinstance(option, Known)]
    return bool(names) and all((part, name) in tested for name in names)


def _note(
    found: Questions, part: Part, key: Value, manner: Manner, event: Event, run: str | None, made: set[str]
) -> None:
    for option in options(key):
        if isinstance(option, Seq):
            for item in option.items:
                _note(found, part, item, manner, event, run, made)
        elif isinstance(option, Known) and isinstance(option.value, str):
            if option.value not in made:
                found.asked.append(Asked(part, option.value, manner, event, run, option is not key))
        elif isinstance(option, Text | Unknown | External):
            found.unnamed.append((part, event))


def _keys(event: Ask | Call) -> Iterator[tuple[Part, Value, Manner, Value]]:
    if isinstance(event, Ask):
        part = part_of(event.of)
        if part is not None and not (isinstance(event.of, External) and event.of.path.endswith("loc")):
            yield part, event.key, _manner(event), event.of
        return
    tail = event.path.rpartition(".")[2]
    of = holder(event)
    if of is not None and tail in ("history", "scan_history") and _is_run(of):
        keys = event.argument(None, "keys")
        if keys is not None and not (isinstance(keys, Known) and keys.value is None):
            yield Part.HISTORY, keys, Manner.SELECTED, External(f"{event.path}()", of, event)
        return
    part = part_of(of) if of is not None else None
    if part is None or of is None:
        return
    if tail == "get" and event.args:
        yield part, event.args[0], Manner.DEFAULTED, of
    elif tail in NEEDS_COLUMN and part is Part.HISTORY:
        named = event.argument(None if tail == "dropna" else 0, NEEDS_COLUMN[tail])
        if named is not None:
            yield part, named, Manner.NEEDED if event.certain and not event.guarded else Manner.TESTED, of
    elif tail in ("items", "keys", "values") and not of.path.endswith("columns"):
        yield part, Unknown("whatever is there"), Manner.TESTED, of


def _manner(ask: Ask) -> Manner:
    if ask.how is How.ITEM:
        return Manner.NEEDED if ask.certain and not ask.guarded else Manner.TESTED
    return Manner.DEFAULTED if ask.how is How.GET else Manner.TESTED


def part_of(value: Value | None, depth: int = 24) -> Part | None:
    """Which part of a run `value` is, keyed as that part is; None for anything else, a single column too."""
    if depth <= 0 or value is None:
        return None
    if isinstance(value, OneOf):
        found = {part_of(option, depth - 1) for option in value.options} - {None}
        return found.pop() if len(found) == 1 else None
    if not isinstance(value, External):
        return None
    base, path = value.base, value.path
    if _is_run(base):
        step = path.rpartition(".")[2]
        known = {
            "history()": "history",
            "scan_history()": "history",
            "summary": "summary",
            "config": "config",
        }
        return Part(known[step]) if step in known else None
    if path.endswith("[]"):
        return _item_part(value, depth)
    if path.endswith("()"):
        name = path[:-2]
        if name in COPIES and value.call is not None and value.call.args:
            return part_of(value.call.args[0], depth - 1)
        tail = name.rpartition(".")[2]
        return part_of(base, depth - 1) if tail in FRAME_KEEPS or tail == "keys" else None
    tail = path.rpartition(".")[2]
    return part_of(base, depth - 1) if tail in ("columns", "loc", "iloc", "_json_dict") else None


def _item_part(value: External, depth: int) -> Part | None:
    """An item: a row or a piece of the frame is keyed as before, a column is not."""
    base = value.base
    part = part_of(base, depth - 1)
    if part is not Part.HISTORY or not isinstance(base, External):
        return None
    if base.path.endswith(("loc", "scan_history()")):
        return part
    if base.path.endswith("columns") or value.key is None:
        return None
    return part if isinstance(value.key, Seq) else None


def _is_run(value: Value | None) -> bool:
    return isinstance(value, External) and (value.path == RUN or value.path in RUNS)


def run_of(value: Value | None, depth: int = 24) -> str | None:
    """The id of the run that `value` came from, when it was looked up by an address that is known."""
    while isinstance(value, External) and depth:
        depth -= 1
        if value.path == RUN and value.call is not None:
            address = value.call.argument(0, "path")
            if isinstance(address, Known) and isinstance(address.value, str):
                return address.value.rpartition("/")[2]
            return None
        if value.base is None and value.call is not None and value.call.args:
            value = value.call.args[0]
        else:
            value = value.base
    return None


def _made(walk: Walk) -> set[str]:
    """Columns that the evaluation adds to a frame itself, or names anew."""
    found: set[str] = {"index", "level_0"}
    for event in walk.events:
        if isinstance(event, Put):
            found.update(_strings(event.key))
        elif isinstance(event, Call):
            tail = event.path.rpartition(".")[2]
            if tail == "assign":
                found.update(event.kwargs)
            elif tail in ("rename", "melt", "pivot", "agg", "merge", "join", "insert", "set_axis"):
                for value in (*event.args, *event.kwargs.values()):
                    found.update(_inner(value))
    return found


def _inner(value: Value) -> Iterator[str]:
    from labgate.flow.values import Map

    if isinstance(value, Map):
        for item in value.items.values():
            yield from _strings(item)
    elif isinstance(value, Seq):
        for item in value.items:
            yield from _strings(item)
    else:
        yield from _strings(value)


def _strings_of(seq: Seq) -> Iterator[str]:
    for item in seq.items:
        yield from _strings(item)


def _strings(value: Value) -> Iterator[str]:
    for option in options(value):
        text = text_of(option)
        if isinstance(text, Known) and isinstance(text.value, str):
            yield text.value


__all__ = ["Asked", "Instance", "Manner", "Part", "Questions", "part_of", "questions", "run_of"]
