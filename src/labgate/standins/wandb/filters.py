"""Which runs a client wants, and in which order: the part of MongoDB's language that W&B takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from labgate.standins.wandb.errors import UnansweredError
from labgate.standins.wandb.values import MISSING, at_path

Run = TypeVar("Run")
Document = Mapping[str, Any]
"""A run as filters see it, with the keys that are FIELDS' values; times as `datetime`."""
Test = Callable[[Any], bool]
"""Of what a run holds at some place, or MISSING."""

FIELDS = {
    "name": "name",
    "display_name": "display_name",
    "displayName": "display_name",
    "state": "state",
    "group": "group",
    "job_type": "job_type",
    "jobType": "job_type",
    "tags": "tags",
    "notes": "notes",
    "description": "description",
    "host": "host",
    "commit": "commit",
    "sweep": "sweep",
    "username": "username",
    "user": "username",
    "created_at": "created_at",
    "createdAt": "created_at",
    "heartbeat_at": "heartbeat_at",
    "heartbeatAt": "heartbeat_at",
    "updated_at": "heartbeat_at",
    "updatedAt": "heartbeat_at",
    "config": "config",
    "summary_metrics": "summary",
    "summaryMetrics": "summary",
    "keys_info": "keys_info",
}
"""What clients call a property of a run, and the key under which it stands in a Document."""


class UnsupportedFilterError(UnansweredError):
    """A filter or an order that cannot be followed; whoever asked must not get an empty list for it."""


def predicate(condition: Any) -> Callable[[Document], bool]:
    """The test that a filter puts to runs. Raises UnsupportedFilterError."""
    if not isinstance(condition, dict):
        raise UnsupportedFilterError(f"a filter is an object, not {condition!r:.80}")
    clauses = [_clause(key, value) for key, value in condition.items()]
    return lambda run: all(clause(run) for clause in clauses)


def ordered(runs: Iterable[tuple[Document, Run]], order: str | None) -> list[Run]:
    """The second of each pair, in this order: `+created_at`, `-summary_metrics.loss`, several with commas.

    Runs without a value come last. Raises UnsupportedFilterError.
    """
    found = list(runs)
    for part in reversed([part.strip() for part in (order or "+created_at").split(",") if part.strip()]):
        name, ranked, last = part.lstrip("+-"), [], []
        _field(name)
        for pair in found:
            rank = _rank(_value(name, pair[0]))
            if rank is None:
                last.append(pair)
            else:
                ranked.append((rank, pair))
        ranked.sort(key=lambda each: each[0], reverse=part.startswith("-"))
        found = [pair for _, pair in ranked] + last
    return [run for _, run in found]


def _clause(key: str, value: Any) -> Callable[[Document], bool]:
    if key in _GROUPS:
        if not isinstance(value, list):
            raise UnsupportedFilterError(f"{key} takes a list, not {value!r:.80}")
        group, tests = _GROUPS[key], [predicate(each) for each in value]
        return lambda run: group(test(run) for test in tests)
    if key.startswith("$"):
        raise UnsupportedFilterError(f"the operator {key} is not supported")
    _field(key)
    if isinstance(value, dict) and any(name.startswith("$") for name in value):
        holds = _operators(value)
    else:
        holds = _operator("$eq", value)
    return lambda run: holds(_value(key, run))


def _operators(operands: dict[str, Any]) -> Test:
    """Whether a value stands all of `{"$gt": 1, "$lt": 2}`."""
    options = operands.get("$options", "") if "$regex" in operands else None
    tests = []
    for name, operand in operands.items():
        if name == "$regex":
            tests.append(_regex(operand, options))
        elif name == "$not":
            if not isinstance(operand, dict):
                raise UnsupportedFilterError(f"$not takes operators, not {operand!r:.80}")
            tests.append(_negated(_operators(operand)))
        elif name != "$options" or options is None:
            tests.append(_operator(name, operand))
    return lambda found: all(test(found) for test in tests)


def _operator(name: str, operand: Any) -> Test:
    if name not in _OPERATORS:
        raise UnsupportedFilterError(f"the operator {name} is not supported")
    if name in ("$in", "$nin") and not isinstance(operand, list):
        raise UnsupportedFilterError(f"{name} takes a list, not {operand!r:.80}")
    compare = _OPERATORS[name]
    return lambda found: compare(found, operand)


def _negated(test: Test) -> Test:
    return lambda found: not test(found)


def _regex(pattern: Any, options: Any) -> Test:
    flags = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
    try:
        compiled = re.compile(pattern, sum(flags[letter] for letter in set(options)))
    except (TypeError, KeyError, re.error, OverflowError, RecursionError) as error:
        raise UnsupportedFilterError(f"no pattern that can be used: {pattern!r:.80}: {error}") from error

    def fits(found: Any) -> bool:
        values = found if isinstance(found, list) else [found]
        return any(isinstance(value, str) and compiled.search(value) is not None for value in values)

    return fits


def _field(path: str) -> str:
    head = path.partition(".")[0]
    if head not in FIELDS:
        raise UnsupportedFilterError(f"runs have no property {path!r}")
    return FIELDS[head]


def _value(path: str, run: Document) -> Any:
    """What a run holds there; in a config with or without the `value` that W&B puts around each entry."""
    head, _, rest = path.partition(".")
    field = FIELDS[head]
    if not rest:
        return MISSING if run[field] is None else run[field]
    if field == "tags":
        return True if rest in run["tags"] else MISSING
    if field != "config":
        return at_path(run[field], rest)
    for key, entry in sorted(run["config"].items(), key=lambda item: -len(item[0])):
        inner = entry["value"] if isinstance(entry, dict) and "value" in entry else entry
        if rest in (key, f"{key}.value"):
            return inner
        if rest.startswith(f"{key}."):
            below = rest[len(key) + 1 :]
            found = at_path(inner, below.removeprefix("value."))
            return found if found is not MISSING else at_path(inner, below)
    return MISSING


def _equal(found: Any, wanted: Any) -> bool:
    if wanted is None:
        return found is None or found is MISSING
    if isinstance(found, list) and not isinstance(wanted, list):
        return any(_same(item, wanted) for item in found)
    return _same(found, wanted)


def _same(one: Any, other: Any) -> bool:
    """Whether values are equal; unlike Python, true is not 1."""
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, datetime) or isinstance(other, datetime):
        one, other = _date(one), _date(other)
    return bool(one == other) and one is not MISSING


def _compared(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def holds(found: Any, wanted: Any) -> bool:
        if isinstance(found, list):
            return any(holds(item, wanted) for item in found)
        if isinstance(found, datetime):
            wanted = _date(wanted)
        one, other = _rank(found), _rank(wanted)
        return one is not None and other is not None and one[0] == other[0] and test(one[1], other[1])

    return holds


def _rank(value: Any) -> tuple[int, Any] | None:
    """What values are sorted by: those of one kind among themselves; None for what has no order."""
    if isinstance(value, bool):
        return 2, value
    if isinstance(value, int | float):
        return 0, value
    if isinstance(value, str):
        return 1, value
    if isinstance(value, datetime):
        return 3, value
    return None


def _date(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        date = datetime.fromisoformat(value)
    except ValueError:
        raise UnsupportedFilterError(f"{value!r:.80} is no date") from None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


_GROUPS: dict[str, Callable[[Iterable[bool]], bool]] = {
    "$and": all,
    "$or": any,
    "$nor": lambda results: not any(results),
}
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$ne": lambda found, wanted: not _equal(found, wanted),
    "$in": lambda found, wanted: any(_equal(found, each) for each in wanted),
    "$nin": lambda found, wanted: not any(_equal(found, each) for each in wanted),
    "$gt": _compared(lambda one, other: one > other),
    "$gte": _compared(lambda one, other: one >= other),
    "$lt": _compared(lambda one, other: one < other),
    "$lte": _compared(lambda one, other: one <= other),
    "$exists": lambda found, wanted: (found is not MISSING) == bool(wanted),
}
