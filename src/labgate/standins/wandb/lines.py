"""The lines that a run streams: history, system metrics, console. Appended so that a retry changes nothing.

A line is known by its stream, its writer (empty but for runs that several processes write) and its number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from labgate.standins.wandb.store import Store
from labgate.standins.wandb.values import MISSING, NotJsonError, at_path, dump, parse_object

Item = TypeVar("Item")

HISTORY, EVENTS, OUTPUT = "history", "events", "output"
SAMPLES = 500
"""Rows of a sampled history when the client does not say how many."""


_KINDS = {float: "number", int: "number", bool: "boolean", list: "list", type(None): "nil"}
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity")


@dataclass(frozen=True)
class _Line:
    number: int
    step: int | None
    text: str
    row: dict[str, Any] | None


def append(store: Store, run: int, stream: str, writer: str, offset: int, texts: Sequence[str]) -> list[str]:
    """Keep `texts` as the lines from number `offset` on, each in the place of what stood there.

    Rows that begin at 0 again and are others than those that stand there begin a new history: the run was
    started anew under the same name. Returns what was wrong with them, in words.
    """
    wrong: list[str] = []
    lines = [_read(stream, offset + at, text, wrong) for at, text in enumerate(texts)]
    if not lines:
        return wrong
    end = offset + len(lines)
    with store.transaction():
        before = {
            row["number"]: row["text"]
            for row in store.all(
                "SELECT number, text FROM line"
                " WHERE run = ? AND stream = ? AND writer = ? AND number >= ? AND number < ?",
                (run, stream, writer, offset, end),
            )
        }
        new = [line for line in lines if before.get(line.number) != line.text]
        others = any(line.number in before for line in new)
        if others and offset == 0 and stream != OUTPUT:
            store.execute(
                "DELETE FROM line WHERE run = ? AND stream = ? AND writer = ?", (run, stream, writer)
            )
            new = lines
        store.execute_many(
            "INSERT OR REPLACE INTO line (run, stream, writer, number, step, text) VALUES (?, ?, ?, ?, ?, ?)",
            [(run, stream, writer, line.number, line.step, line.text) for line in new],
        )
        if stream == HISTORY:
            if others:
                store.execute("DELETE FROM history_key WHERE run = ?", (run,))
                _count(store, run, (parse_object(text) for text in rows(store, run)))
            else:
                _count(store, run, (line.row for line in new if line.row is not None))
    return wrong


def _read(stream: str, number: int, text: str, wrong: list[str]) -> _Line:
    if stream == OUTPUT:
        return _Line(number, None, text, None)
    try:
        row = parse_object(text)
    except NotJsonError as error:
        wrong.append(f"line {number} of {stream} is {error}")
        return _Line(number, None, text, None)
    step = row.get("_step", number)
    if isinstance(step, float) and step.is_integer():
        step = int(step)
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < 1 << 63:
        wrong.append(f"line {number} of {stream} has no step, but {step!r:.50}")
        step = number
    return _Line(number, step, dump(row), row)


def _count(store: Store, run: int, rows: Iterable[dict[str, Any]]) -> None:
    """Add rows to the statistics of keys, which clients ask for with every run."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        counts.update(_flat(row))
    store.execute_many(
        "INSERT INTO history_key (run, key, type, count) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET count = count + excluded.count",
        [(run, key, kind, count) for (key, kind), count in counts.items()],
    )


def _flat(row: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The keys of a row with the types of their values; those of nested objects with dots."""
    found = []
    for key, value in row.items():
        kind = _KINDS.get(type(value))
        if kind is not None:
            found.append((prefix + key, kind))
        elif isinstance(value, str):
            found.append((prefix + key, "number" if value in _NO_NUMBERS else "string"))
        elif "_type" in value:
            found.append((prefix + key, str(value["_type"])))
        else:
            found += _flat(value, f"{prefix}{key}.")
    return found


def key_statistics(store: Store, run: int) -> dict[str, Any] | None:
    """Which keys a run's history holds and how often, and its last step; None without a history."""
    last = store.one("SELECT max(step) FROM line WHERE run = ? AND stream = ?", (run, HISTORY))
    if last is None or last[0] is None:
        return None
    keys: dict[str, dict[str, Any]] = {}
    for row in store.all("SELECT key, type, count FROM history_key WHERE run = ? ORDER BY key", (run,)):
        entry = keys.setdefault(row["key"], {"typeCounts": [], "monotonic": row["key"] == "_step"})
        entry["typeCounts"].append({"type": row["type"], "count": row["count"]})
    return {"keys": keys, "sets": [], "lastStep": last[0]}


def count(store: Store, run: int, stream: str) -> int:
    """How many lines there are: where a writer that goes on begins."""
    row = store.one("SELECT count(*) FROM line WHERE run = ? AND stream = ?", (run, stream))
    return int(row[0]) if row else 0


def rows(
    store: Store,
    run: int,
    stream: str = HISTORY,
    min_step: int | None = None,
    max_step: int | None = None,
) -> list[str]:
    """The rows of a stream as JSON, in the order of their steps, from `min_step` to before `max_step`."""
    where, values = "run = ? AND stream = ? AND step IS NOT NULL", [run, stream]
    if min_step is not None:
        where, values = f"{where} AND step >= ?", [*values, min_step]
    if max_step is not None:
        where, values = f"{where} AND step < ?", [*values, max_step]
    query = f"SELECT text FROM line WHERE {where} ORDER BY step, writer, number"
    return [row["text"] for row in store.all(query, values)]


def tail(store: Store, run: int, stream: str, count: int = 1) -> list[str]:
    """The last rows of a stream, the very last at the end."""
    query = (
        "SELECT text FROM line WHERE run = ? AND stream = ? AND step IS NOT NULL"
        " ORDER BY step DESC, writer DESC, number DESC LIMIT ?"
    )
    return [row["text"] for row in reversed(store.all(query, (run, stream, count)))]


def output(store: Store, run: int) -> list[tuple[int, str]]:
    """The lines of the console with their numbers."""
    query = "SELECT number, text FROM line WHERE run = ? AND stream = ? ORDER BY writer, number"
    return [(row["number"], row["text"]) for row in store.all(query, (run, OUTPUT))]


def sampled(
    store: Store,
    run: int,
    keys: Sequence[str],
    samples: int | None = None,
    min_step: int | None = None,
    max_step: int | None = None,
) -> list[dict[str, Any]]:
    """The rows that hold all `keys`, cut down to them.

    Thinned to `samples` only where no steps are asked for: a page of steps must hold every row, and a run
    with several writers has several rows a step.
    """
    found = []
    for text in rows(store, run, HISTORY, min_step, max_step):
        row = parse_object(text)
        picked = {key: at_path(row, key) for key in keys}
        if MISSING not in picked.values():
            found.append(picked if keys else row)
    if min_step is None and max_step is None:
        return thinned(found, SAMPLES if samples is None else samples)
    return found


def thinned(items: Sequence[Item], samples: int) -> list[Item]:
    """At most `samples` items at even distances, the first and the last among them."""
    if samples >= len(items):
        return list(items)
    if samples <= 1:
        return list(items[: max(samples, 0)])
    return [items[at * (len(items) - 1) // (samples - 1)] for at in range(samples)]
