"""Text columns of a data set, followed from the tokenizer that reads them to the loader that batches rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from labgate.flow import Ask, Call, External, Known, Seq, Value, Walk, plain
from labgate.flow.config import ListNode
from labgate.flow.events import Place

PADDING = {
    "DataCollatorWithPadding",
    "DataCollatorForTokenClassification",
    "DataCollatorForSeq2Seq",
    "DataCollatorForLanguageModeling",
    "DataCollatorForWholeWordMask",
}
"""Collators that make a tensor of every column they are given; transformers' default one leaves text out."""

_TOKENIZER = re.compile(r"transformers\.\w*Tokenizer\w*\.from_pretrained\(\)")
_LEAVES_COLUMNS = frozenset(
    [
        "filter",
        "shuffle",
        "select",
        "shard",
        "take",
        "skip",
        "train_test_split",
        "sort",
        "cast_column",
        "cast",
        "class_encode_column",
        "flatten_indices",
        "add_column",
    ]
)


@dataclass(frozen=True)
class Batching:
    """A loader that pads rows of a data set whose column `text` holds strings.

    `state` is "kept" where that column is sure to reach the collator, "gone" where it is sure not to, else
    "unknown". `mapped` is the call that tokenizes, `read` where the text is read, `settled` what decides.
    """

    loader: Call
    collator: External
    text: str
    mapped: Call
    read: Place
    state: str
    settled: Call


def batchings(walk: Walk) -> Iterator[Batching]:
    """Every loader on the walk that is sure to be made, with a padding collator and a tokenized data set."""
    texts = list(_texts(walk))
    for loader in walk.of(Call):
        if not loader.certain or loader.path not in (
            "torch.utils.data.DataLoader",
            "torch.utils.data.dataloader.DataLoader",
        ):
            continue
        collator = loader.argument(None, "collate_fn")
        data = loader.argument(0, "dataset")
        if not isinstance(collator, External) or not _pads(collator) or not isinstance(data, External):
            continue
        steps = list(_steps(data))
        for mapped, text, read in texts:
            at = next((n for n, step in enumerate(steps) if _same(step, mapped)), None)
            if at is None:
                continue
            state, settled = _followed(text, steps[at:])
            if state == "kept":
                state, settled = _formatted(walk, data, text, settled)
            yield Batching(loader, collator, text, mapped, read, state, settled)


def padding_collators(walk: Walk) -> Iterator[Call]:
    """The loaders that are handed a padding collator, whatever their data are."""
    for loader in walk.of(Call):
        collator = loader.argument(None, "collate_fn")
        if loader.path.endswith("DataLoader") and isinstance(collator, External) and _pads(collator):
            yield loader


def _pads(collator: External) -> bool:
    name = collator.path.removesuffix("()").rpartition(".")[2]
    return collator.path.startswith("transformers.") and name in PADDING


def _texts(walk: Walk) -> Iterator[tuple[Call, str, Place]]:
    """Columns that a mapped function hands to a tokenizer as they are: (map, column, where it is read)."""
    maps = {(c.place, c.path): c for c in walk.of(Call) if c.path.endswith(".map") and c.certain}
    reads = {ask.value: ask for ask in walk.of(Ask) if isinstance(ask.value, External)}
    met = set()
    for call in walk.of(Call):
        if not _TOKENIZER.fullmatch(call.path):
            continue
        for given in (call.argument(0, "text"), call.argument(1, "text_pair")):
            if not isinstance(given, External) or not isinstance(given.key, Known):
                continue
            rows = given.base
            if not isinstance(rows, External) or not rows.path.endswith(".map().rows") or rows.call is None:
                continue
            mapped = maps.get((rows.call.place, rows.call.path))
            ask = reads.get(given)
            if mapped is None or not isinstance(given.key.value, str):
                continue
            if (mapped.place, given.key.value) not in met:
                met.add((mapped.place, given.key.value))
                yield mapped, given.key.value, ask.place if ask is not None else call.place


def _steps(value: Value) -> Iterator[Call]:
    """The calls that made a data set, the first one first."""
    calls: list[Call] = []
    while isinstance(value, External):
        if value.path.endswith("()") and value.call is not None:
            calls.append(value.call)
        if value.base is None:
            break
        value = value.base
    yield from reversed(calls)


def _same(one: Call, other: Call) -> bool:
    return one.place == other.place and one.path == other.path


def _followed(text: str, steps: list[Call]) -> tuple[str, Call]:
    """What becomes of a text column through these steps, and at which of them."""
    settled = steps[0]
    for step in steps:
        name = step.path.rpartition(".")[2]
        if name == "map":
            state = _removed(step.argument(None, "remove_columns"), text)
            if state == "kept" and step is not steps[0] and step.argument(None, "remove_columns") is None:
                continue
            settled = step if state != "kept" or step is steps[0] else settled
            if state != "kept":
                return state, step
        elif name == "remove_columns":
            state = _removed(step.argument(0, "column_names"), text)
            if state != "kept":
                return state, step
        elif name == "select_columns":
            state = _chosen(step.argument(0, "column_names"), text)
            if state != "kept":
                return state, step
        elif name == "rename_column" and step.args and step.args[0] == Known(text):
            return "unknown", step
        elif name == "with_format":
            columns = step.argument(1, "columns")
            state = "kept" if columns is None else _chosen(columns, text)
            if state != "kept":
                return state, step
        elif name not in _LEAVES_COLUMNS and name != "rename_column":
            return "unknown", step
    return "kept", settled


def _removed(columns: Value | None, text: str) -> str:
    """Whether `remove_columns=columns` takes the column away."""
    if columns is None or columns == Known(None):
        return "kept"
    if isinstance(columns, External) and columns.path.endswith(".column_names"):
        return "gone"
    if isinstance(columns, Seq) and columns.open:
        if Known(text) in columns.excludes:
            return "kept"
        drawn = [item for item in (*columns.items, columns.of) if isinstance(item, External)]
        return "gone" if any(".column_names" in item.path for item in drawn) else "unknown"
    names = _names(columns)
    if names is None:
        return "unknown"
    return "gone" if text in names else "kept"


def _chosen(columns: Value | None, text: str) -> str:
    """Whether a choice of columns has the column among them."""
    names = _names(columns)
    if names is None:
        return "unknown"
    return "kept" if text in names else "gone"


def _names(columns: Value | None) -> list[object] | None:
    if isinstance(columns, Seq | ListNode | Known):
        try:
            found = plain(columns)
        except ValueError:
            return None
        return [found] if isinstance(found, str) else list(found) if isinstance(found, list | tuple) else None
    return None


def _formatted(walk: Walk, data: External, text: str, settled: Call) -> tuple[str, Call]:
    """`set_format` works in place, on the data set itself or on the splits that it is one of."""
    chain: list[Value] = []
    value: Value | None = data
    while isinstance(value, External):
        chain.append(value)
        value = value.base
    for call in walk.of(Call):
        name = call.path.rpartition(".")[2]
        if name not in ("set_format", "set_transform") or not any(call.of == held for held in chain):
            continue
        columns = call.argument(1, "columns")
        if name == "set_transform":
            return "unknown", call
        if columns is not None:
            state = _chosen(columns, text)
            if state != "kept":
                return (state if call.certain else "unknown"), call
    return "kept", settled
