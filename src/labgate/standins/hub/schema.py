"""Columns of a data set, written briefly in the catalogue: what they are to parquet, README and row.

| written | is |
|---|---|
| `["no", "yes"]` | a ClassLabel with these names |
| `"text"`, `"text {words:40} {number:4}"` | a string; `{words:N}`, `{number:N}`, `{id:N}` are filled in |
| `"choice A B C D"` | a string, one of these; a label |
| `"bool"`, `"float32 0..5"` | a truth, or a grade between bounds; labels |
| `"int32"`, `"int64 row"` | a number; the row's own number |
| `"image 32x32"`, `"image 28x28 gray"` | an image |
| `"span context"`, `"span? context"` | an answer that stands in that column; with `?` at times none |
| `"translation de en"` | a text in each of these languages |
| `{ sequence = …, length = 4 }` | so many of these; of a table of columns, a list for each |
| `{ struct = { … } }` | these columns in one |
| `{ each = ["A", "B"] }` | always these strings |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Written = Any
"""A column as the catalogue has it: a string, a list or a table."""


class SchemaError(ValueError):
    """A column that cannot be understood."""


@dataclass(frozen=True)
class Column:
    """One column, in the three forms in which it is needed."""

    row: Mapping[str, Any]
    """For whoever makes rows and parquet: `making/tables.py`."""
    card: Mapping[str, Any]
    """As `dataset_info.features` of a README has it, the name left out."""
    feature: Any
    """As the datasets library writes features in JSON."""


def columns(written: Mapping[str, Written]) -> dict[str, Column]:
    """Each column of a configuration. Raises SchemaError."""
    read = {name: column(value) for name, value in written.items()}
    for name, one in read.items():
        of = one.row.get("of")
        if of is not None and (of not in read or read[of].row["is"] != "text"):
            raise SchemaError(f"{name} stands in {of}, which is no text")
    return read


def column(written: Written) -> Column:
    """What one column is. Raises SchemaError."""
    if isinstance(written, list):
        return _label([str(name) for name in written])
    if isinstance(written, dict):
        return _table(written)
    kind, _, rest = str(written).partition(" ")
    if kind == "text":
        return _text(rest or "{words}")
    if kind == "choice" and rest:
        return _value("string", {"is": "choice", "among": rest.split(), "hidden": ""})
    if kind == "bool" and not rest:
        return _value("bool", {"is": "flag", "hidden": False})
    if kind == "image":
        return _image(rest)
    if kind in ("span", "span?") and rest:
        return _span(rest, always=kind == "span")
    if kind == "translation" and rest:
        return _translation(rest.split())
    if re.fullmatch(r"u?int(8|16|32|64)", kind) and rest in ("", "row"):
        return _value(kind, {"is": "row" if rest else "number"})
    if bounds := re.fullmatch(r"(float(?:32|64)) (\d+)\.\.(\d+)", str(written)):
        between = [int(bounds[2]), int(bounds[3])]
        return _value(bounds[1], {"is": "grade", "between": between, "hidden": -1.0})
    raise SchemaError(f"no such column: {written!r}")


def _value(kind: str, row: Mapping[str, Any]) -> Column:
    return Column({**row, "type": kind}, {"dtype": kind}, {"dtype": kind, "_type": "Value"})


def _text(says: str) -> Column:
    if re.search(r"[{}]", re.sub(r"\{(words|number|id)(:\d+)?\}", "", says)):
        raise SchemaError(f"a text with an unknown place: {says!r}")
    return _value("string", {"is": "text", "says": says})


def _label(names: list[str]) -> Column:
    card = {"dtype": {"class_label": {"names": {str(number): name for number, name in enumerate(names)}}}}
    row = {"is": "label", "names": names, "type": "int64", "hidden": -1}
    return Column(row, card, {"names": names, "_type": "ClassLabel"})


def _image(size: str) -> Column:
    shape = re.fullmatch(r"(\d+)x(\d+)( gray)?", size)
    if not shape:
        raise SchemaError(f"no such image: {size!r}")
    row = {"is": "image", "width": int(shape[1]), "height": int(shape[2]), "channels": 1 if shape[3] else 3}
    return Column(row, {"dtype": "image"}, {"_type": "Image"})


def _span(of: str, always: bool) -> Column:
    answer = columns({"text": "text", "answer_start": "int32"})
    row = {"is": "span", "of": of, "always": always}
    return Column(row, {"sequence": cards(answer)}, {"feature": features(answer), "_type": "Sequence"})


def _translation(languages: list[str]) -> Column:
    row = {"is": "struct", "fields": {language: _text("{words:12}").row for language in languages}}
    card = {"dtype": {"translation": {"languages": languages}}}
    return Column(row, card, {"languages": languages, "_type": "Translation"})


def _table(written: Mapping[str, Any]) -> Column:
    if set(written) == {"each"}:
        string = _value("string", {})
        always = {"is": "each", "values": [str(value) for value in written["each"]]}
        return Column(always, {"sequence": "string"}, {"feature": string.feature, "_type": "Sequence"})
    if set(written) == {"struct"}:
        fields = columns(written["struct"])
        struct = {"is": "struct", "fields": {name: field.row for name, field in fields.items()}}
        return Column(struct, {"struct": cards(fields)}, features(fields))
    if set(written) != {"sequence", "length"}:
        raise SchemaError(f"no such column: {written!r}")
    length, item = written["length"], written["sequence"]
    if isinstance(item, dict) and not set(item) & {"sequence", "struct", "each"}:
        return _columns_of_lists(item, length)
    one = column(item)
    inner = one.card["dtype"] if set(one.card) == {"dtype"} else one.card
    row = {"is": "list", "item": one.row, "length": length}
    return Column(row, {"sequence": inner}, {"feature": one.feature, "_type": "Sequence"})


def _columns_of_lists(written: Mapping[str, Written], length: int) -> Column:
    """A sequence of several columns, which parquet has as a list of each."""
    items: dict[str, Column] = {}
    lists: dict[str, Mapping[str, Any]] = {}
    for name, value in written.items():
        if isinstance(value, dict) and set(value) == {"each"}:
            items[name], lists[name] = _value("string", {}), column(value).row
        else:
            items[name] = column(value)
            lists[name] = {"is": "list", "item": items[name].row, "length": length}
    row = {"is": "struct", "fields": lists}
    return Column(row, {"sequence": cards(items)}, {"feature": features(items), "_type": "Sequence"})


def cards(read: Mapping[str, Column]) -> list[dict[str, Any]]:
    """`features` of a README's `dataset_info`."""
    return [{"name": name, **one.card} for name, one in read.items()]


def features(read: Mapping[str, Column]) -> dict[str, Any]:
    """Features in the datasets library's JSON."""
    return {name: one.feature for name, one in read.items()}
