"""Where the examples behind a value come from: which split of which data set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from labgate.flow.events import Call, Event, Place
from labgate.flow.values import (
    External,
    Instance,
    Known,
    OneOf,
    Seq,
    Text,
    Unknown,
    Value,
    made_from,
    options,
)

_ABOUT_DATA = frozenset(
    [
        "features",
        "column_names",
        "num_rows",
        "num_columns",
        "shape",
        "classes",
        "class_to_idx",
        "info",
        "num_classes",
        "names",
        "num_examples",
        "description",
        "config_name",
        "builder_name",
        "feature_names",
        "target_names",
    ]
)
"""Attributes that tell about a data set and hold none of its examples."""

_COUNTING = frozenset(("len", "range", "isinstance", "type", "hasattr", "id", "size", "numel", "dim"))
"""Calls that count or ask, and hand on no example."""

_PARTS = frozenset(
    ("random_split", "Subset", "select", "train_test_split", "filter", "take", "skip", "shard")
)
"""Calls that give a part of what they are given."""

_KINDS = (
    ("train", re.compile(r"train|fit\b", re.IGNORECASE)),
    ("validation", re.compile(r"val|dev|eval", re.IGNORECASE)),
    ("test", re.compile(r"test", re.IGNORECASE)),
)


@dataclass(frozen=True)
class Split:
    """Examples of `data`: its split `name`, asked for at `place`.

    `part` when something was split off it on the way, `picked` when code chose among its examples by index,
    as it may to split it; `sure` when no other split could stand in its place.
    """

    data: str
    name: str
    place: Place
    part: bool = False
    picked: bool = False
    sure: bool = True

    @property
    def kind(self) -> str:
        """`train`, `validation`, `test`, or "" when the name says nothing."""
        return next((kind for kind, pattern in _KINDS if pattern.match(self.name)), "")

    def __str__(self) -> str:
        return f"{self.name!r} of {self.data}" if self.name else self.data


def splits(value: Value) -> frozenset[Split]:
    """The splits whose examples `value` was computed from; what only tells about a data set is left out."""
    return Trace()(value)


class Trace:
    """Traces values to splits, and remembers what it found: values have much of their past in common."""

    def __init__(self) -> None:
        self._found: dict[int, frozenset[Split]] = {}
        self._kept: list[Value] = []
        self._open: set[int] = set()
        self._rounds = 0

    def __call__(self, value: Value) -> frozenset[Split]:
        """The splits whose examples `value` was computed from; what only tells about data is left out."""
        return self.of(value)

    def of(self, value: Value) -> frozenset[Split]:
        known = self._found.get(id(value))
        if known is not None:
            return known
        if id(value) in self._open:  # a value that is made from itself
            self._rounds += 1
            return frozenset()
        self._open.add(id(value))
        before = self._rounds
        found = self._of(value)
        self._open.discard(id(value))
        if self._rounds == before or not self._open:
            self._found[id(value)] = found
            self._kept.append(value)
        return found

    def _all(self, values: Iterable[Value]) -> frozenset[Split]:
        found: frozenset[Split] = frozenset()
        for value in values:
            found |= self.of(value)
        return found

    def _of(self, value: Value) -> frozenset[Split]:
        if isinstance(value, OneOf):
            return _either([self.of(option) for option in value.options])
        if isinstance(value, Instance):
            return self._held(value)
        if isinstance(value, External):
            return self._outside(value)
        if isinstance(value, Unknown) and value.why.removeprefix(".") in _ABOUT_DATA:
            return frozenset()
        return self._all(made_from(value))

    def _held(self, value: Instance) -> frozenset[Split]:
        """An object of the bundle's own that holds data: what it was made with."""
        base = value.cls.outside_base()
        path = base.path if base is not None else ""
        holds = value.cls.dataclass or "NamedTuple" in path
        data = (
            "Dataset" in path or "torchvision.datasets" in path or value.cls.find("__getitem__") is not None
        )
        if not holds and not data:
            return frozenset()
        found = self._all(value.attrs.values())
        return found if holds else frozenset(replace(split, picked=True) for split in found)

    def _outside(self, value: External) -> frozenset[Split]:
        name = value.path.removesuffix("()").rpartition(".")[2]
        if value.path.endswith("[]"):
            return self._item(value)
        if value.path.endswith("[:]"):
            found = self._all(made_from(value))
            whole = value.base is not None and _is_data_set(value.base)
            return frozenset(replace(split, part=whole or split.part, picked=True) for split in found)
        if not value.path.endswith(")"):
            return frozenset() if name in _ABOUT_DATA else self._all(made_from(value))
        call = value.call
        if call is None:
            return self._all(made_from(value))
        made = _loaded(call)
        if made is not None:
            return made
        if name in _COUNTING:
            return frozenset()
        if name in ("evaluate", "predict") and "Trainer" in value.path:
            return self._trainer(value, call)
        found = self._all(made_from(value))
        sampled = name in _PARTS or any(key in call.kwargs for key in ("sampler", "batch_sampler"))
        return frozenset(replace(split, part=True) for split in found) if sampled else found

    def _item(self, value: External) -> frozenset[Split]:
        base, key = value.base, value.key
        if base is None:
            return frozenset()
        whole = _whole(base)
        if whole is not None and key is not None:
            names = [option.value for option in options(key) if isinstance(option, Known)]
            named = [name for name in names if isinstance(name, str)]
            if named:
                sure = len(named) == 1 and isinstance(key, Known)
                return frozenset(_named(whole, name, sure) for name in named)
            return frozenset({replace(_named(whole, "", False), part=True)})
        found = self.of(base)
        chosen = key is not None and not isinstance(key, Known)
        return frozenset(replace(split, picked=True) for split in found) if chosen else found

    def _trainer(self, value: External, call: Call) -> frozenset[Split]:
        """`Trainer(…, eval_dataset=data).evaluate()` looks at what it is given, else at `eval_dataset`."""
        given = call.argument(0, "eval_dataset", "test_dataset")
        trainer = value.base
        if given is None and isinstance(trainer, External) and trainer.call is not None:
            given = trainer.call.kwargs.get("eval_dataset")
        return self.of(given) if given is not None else frozenset()


def _either(found: list[frozenset[Split]]) -> frozenset[Split]:
    """One of several: sure only when all that hold examples at all hold those of the same splits."""
    holding = [splits for splits in found if splits]
    whole = frozenset(split for splits in holding for split in splits)
    if len({frozenset((s.data, s.kind, s.name) for s in splits) for splits in holding}) <= 1:
        return whole
    return frozenset(replace(split, sure=False) for split in whole)


def _loaded(call: Call) -> frozenset[Split] | None:
    """What a call loads, when it is known to load a data set; None when it does not load."""
    tail = call.path.rpartition(".")[2]
    if call.path == "datasets.load_dataset":
        wanted = call.argument(5, "split")
        data = _data_name(call)
        if wanted is None or (isinstance(wanted, Known) and wanted.value is None):
            return frozenset({Split(data, "", call.place, sure=False)})
        return frozenset(_split_names(wanted, data, call.place))
    if call.path.startswith("torchvision.datasets.") and tail[:1].isupper():
        if tail == "FakeData" or tail.endswith("Folder"):
            return frozenset(_folders(call, tail))
        wanted = call.argument(1, "train", "split")
        if wanted is None:
            return frozenset({Split(f"torchvision's {tail}", "train", call.place)})
        words: list[Value] = [
            Known("train" if option.value else "test")
            if isinstance(option, Known) and isinstance(option.value, bool)
            else option
            for option in options(wanted)
        ]
        one = words[0] if len(words) == 1 else OneOf(tuple(words))
        return frozenset(_split_names(one, f"torchvision's {tail}", call.place))
    return None


def _folders(call: Call, tail: str) -> Iterator[Split]:
    root = call.argument(0, "root")
    parts = root.parts if isinstance(root, Text) else (str(getattr(root, "value", "")),)
    name = (parts[-1] or "").rstrip("/").rpartition("/")[2] if parts else ""
    yield Split(f"torchvision's {tail}", name, call.place)


def _data_name(call: Call) -> str:
    found = call.argument(0, "path")
    return str(found.value) if isinstance(found, Known) else "the data set"


def _split_names(wanted: Value, data: str, place: Place) -> Iterator[Split]:
    found = list(options(wanted))
    for option in found:
        if isinstance(option, Known) and isinstance(option.value, str):
            yield Split(data, option.value, place, "[" in option.value, sure=len(found) == 1)
        elif isinstance(option, Seq):
            yield from (
                replace(s, sure=False) for item in option.items for s in _split_names(item, data, place)
            )
        elif isinstance(option, Text) and option.parts and isinstance(option.parts[0], str):
            yield Split(data, option.parts[0], place, "[" in option.parts[0], sure=len(found) == 1)
        elif isinstance(option, Text | Unknown | External):
            yield Split(data, "", place, sure=False)


def _whole(value: Value) -> Call | None:
    """The `load_dataset` call without a split that `value`, a dict of splits, comes from."""
    seen = 0
    while isinstance(value, External) and seen < 24:
        seen += 1
        if value.path == "datasets.load_dataset()" and value.call is not None:
            wanted = value.call.argument(5, "split")
            none = wanted is None or (isinstance(wanted, Known) and wanted.value is None)
            return value.call if none else None
        name = value.path.removesuffix("()").rpartition(".")[2]
        if value.path.endswith("[]") or name in ("train_test_split", "from_list", "DatasetDict"):
            return None
        if value.base is None:
            return None
        value = value.base
    return None


def _is_data_set(value: Value) -> bool:
    """Whether a value is a data set itself, and nothing that was drawn from one."""
    while isinstance(value, External):
        if value.call is not None and _loaded(value.call) is not None:
            return True
        if value.path.endswith("[]") and (value.base is None or _whole(value.base) is None):
            return False
        if value.base is None:
            return False
        value = value.base
    return False


def _named(call: Call, name: str, sure: bool) -> Split:
    return Split(_data_name(call), name, call.place, sure=sure)


def reached(event: Event) -> bool:
    """Whether a command gets there at all: functions that nothing calls are followed too."""
    return not event.stack or event.stack[0].line > 0
