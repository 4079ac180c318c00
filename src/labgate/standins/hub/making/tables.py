"""Rows of a data set's twin, as parquet: the real columns and types, made-up content that can be learned.

A row has a group, the value of its first label-like column; its texts carry cue words of that group and its
images the group's pattern. All else is chance, from a seed of id, configuration and split.
"""

from __future__ import annotations

import random
import re
import struct
import zlib
from typing import Any, Callable, Dict, List

from worker import AbsentError

POOL = 4_000
"""Distinct rows of a split; a longer one repeats them, numbered columns apart."""

Row = Dict[str, Any]

GAP = 1 / 200
"""Share of rows without a label, where the real set has some."""


def make(job: dict[str, Any]) -> dict[str, object]:
    """Write `path`; returns how many rows it has.

    `columns` is name to a column's description (see `labgate.standins.hub.schema`), `rows` how many, `hidden`
    whether all labels are withheld and `gaps` whether a few are; `words` and `cues` are the language,
    `features` the schema as the datasets library leaves it in a file.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise AbsentError(f"the experiment's environment has no {error.name}") from error

    rows = Rows(job)
    count = job["rows"]
    distinct = [rows.row() for _ in range(min(count, POOL))]
    arrays = []
    for name, column in job["columns"].items():
        kind = _arrow(pyarrow, column)
        if column["is"] == "row":
            arrays.append(pyarrow.array(range(count), kind))
            continue
        few = pyarrow.array([row[name] for row in distinct], kind)
        whole, rest = divmod(count, max(len(few), 1))
        arrays.append(pyarrow.chunked_array([few] * whole + [few.slice(0, rest)], kind))
    table = pyarrow.table(arrays, names=list(job["columns"]))
    table = table.replace_schema_metadata({"huggingface": job["features"]})
    # One dictionary holds all distinct values, so that repeated rows cost next to nothing.
    parquet.write_table(table, job["path"], dictionary_pagesize_limit=1 << 27)
    return {"rows": table.num_rows}


class Rows:
    """The rows of one split, one after the other."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._columns: dict[str, dict[str, Any]] = job["columns"]
        self._words: list[str] = job["words"]
        self._cues: list[list[str]] = job["cues"]
        self._hidden: bool = job["hidden"]
        self._gaps: bool = job["gaps"]
        self._chance = random.Random(job["seed"])
        self._look = job["look"]
        self._group = self._groups = 0

    def row(self) -> Row:
        """The next one, name to value; columns that number the rows are left to the table."""
        self._group = self._groups = 0
        made: Row = {}
        labels = [(name, column) for name, column in self._columns.items() if column["is"] in LABELS]
        for name, column in labels:
            made[name] = LABELS[column["is"]](self, column)
        for name, column in self._columns.items():
            if column["is"] not in LABELS and column["is"] not in ("row", "span"):
                made[name] = self._value(column)
        for name, column in self._columns.items():
            if column["is"] == "span":
                made[name] = self._span(made[column["of"]], column["always"])
        if self._hidden or (self._gaps and self._chance.random() < GAP):
            made.update((name, column["hidden"]) for name, column in labels)
        return made

    def _below(self, bound: int) -> int:
        return int(self._chance.random() * bound)

    def _one(self, things: Any) -> Any:
        return things[self._below(len(things))]

    def _settle(self, values: int) -> int:
        """A label among so many: the row's group, or what follows from it if that is settled already."""
        if not self._groups:
            self._groups, self._group = values, self._below(values)
            return self._group
        return self._group * values // self._groups

    def _label(self, column: dict[str, Any]) -> int:
        return self._settle(len(column["names"]))

    def _choice(self, column: dict[str, Any]) -> str:
        choice: str = column["among"][self._settle(len(column["among"]))]
        return choice

    def _flag(self, _column: dict[str, Any]) -> bool:
        return bool(self._settle(2))

    def _grade(self, column: dict[str, Any]) -> float:
        """A number between two bounds, in steps of a fifth; its whole part is the group."""
        low, high = column["between"]
        whole: int = low + self._settle(high - low)
        return whole + self._below(5) / 5

    def _value(self, column: dict[str, Any]) -> Any:
        kind = column["is"]
        if kind == "text":
            return self._text(column["says"])
        if kind == "number":
            return self._below(10)
        if kind == "image":
            return {"bytes": self._image(column["width"], column["height"], column["channels"]), "path": None}
        if kind == "list":
            return [self._value(column["item"]) for _ in range(column["length"])]
        if kind == "struct":
            return {name: self._value(field) for name, field in column["fields"].items()}
        if kind == "each":
            return list(column["values"])
        if kind in LABELS:  # inside a list, where it settles nothing
            return self._below(len(column["names"]))
        raise ValueError(f"no such column: {kind}")

    def _text(self, says: str) -> str:
        return re.sub(r"\{(\w+):?(\d*)\}", self._filled, says)

    def _filled(self, place: Any) -> str:
        what, size = place.group(1), int(place.group(2) or 0)
        if what == "number":
            return str(self._below(10 ** (size or 2)))
        if what == "id":
            return "".join(self._one("0123456789abcdef") for _ in range(size or 24))
        if what == "words":
            return " ".join(self._sentence(size or 10))
        raise ValueError(f"nothing is called {what}")

    def _sentence(self, length: int) -> List[str]:
        """About so many words, with cues of the row's group among them: one in eight, two at least."""
        length = max(1, length + self._below(length // 2 + 1) - length // 4)
        said = [self._one(self._words) for _ in range(length)]
        if self._groups:
            for _ in range(max(min(2, length), length // 8)):
                said[self._below(length)] = self._one(self._cues[self._group % len(self._cues)])
        return said

    def _span(self, context: str, always: bool) -> dict[str, list[Any]]:
        """An answer that stands in `context`, or none."""
        if not always and self._chance.random() < 1 / 3:
            return {"text": [], "answer_start": []}
        words = context.split(" ")
        first = self._below(len(words))
        said = " ".join(words[first : first + 1 + self._below(3)])
        start = len(" ".join(words[:first])) + bool(first)
        return {"text": [said], "answer_start": [start]}

    def _image(self, width: int, height: int, channels: int) -> bytes:
        """A PNG of 4 × 4 blocks: the group's own pattern, one block in four by chance another."""
        pattern = random.Random(f"{self._look} {self._group}")
        lines = []
        for line in range(4):
            scan = b"\0"
            for block in range(4):
                own = bytes(int(pattern.random() * 256) for _ in range(channels))
                if self._chance.random() < 0.25:
                    own = bytes(self._below(256) for _ in range(channels))
                scan += own * ((block + 1) * width // 4 - block * width // 4)
            lines.append(scan * ((line + 1) * height // 4 - line * height // 4))
        return _png(width, height, channels, b"".join(lines))


LABELS: dict[str, Callable[[Rows, Dict[str, Any]], Any]] = {
    "label": Rows._label,
    "choice": Rows._choice,
    "flag": Rows._flag,
    "grade": Rows._grade,
}
"""Columns that say what a row is about."""


def _png(width: int, height: int, channels: int, scans: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(scans, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _arrow(pyarrow: Any, column: dict[str, Any]) -> Any:
    """The arrow type of a column."""
    kind = column["is"]
    if kind == "image":
        return pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    if kind == "list":
        return pyarrow.list_(_arrow(pyarrow, column["item"]))
    if kind == "struct":
        return pyarrow.struct([(name, _arrow(pyarrow, field)) for name, field in column["fields"].items()])
    if kind == "span":
        texts, starts = pyarrow.list_(pyarrow.string()), pyarrow.list_(pyarrow.int32())
        return pyarrow.struct([("text", texts), ("answer_start", starts)])
    if kind == "each":
        return pyarrow.list_(pyarrow.string())
    return {"bool": pyarrow.bool_()}.get(column["type"]) or pyarrow.type_for_alias(column["type"])
