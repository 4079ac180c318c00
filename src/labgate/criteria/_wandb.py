"""What the code tells W&B and asks of it, as the events of a walk show it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from labgate.bundle import Bundle
from labgate.bundle.kept import kept
from labgate.criteria._tracing import reached, search_spans
from labgate.flow import Flow
from labgate.flow.events import Call, Event, Put, Use, Walk
from labgate.flow.values import Known, Map, Seq, Text, Value, options, text_of

AUTOMATIC = frozenset(("_step", "_runtime", "_timestamp", "_wandb"))
"""Keys that W&B writes by itself."""

RUNS = ("wandb", "wandb.run", "wandb.init()")
"""Paths by which the code holds the run it is in."""

FOREIGN = (
    "transformers.Trainer",
    "transformers.Seq2SeqTrainer",
    "trl.",
    "pytorch_lightning.",
    "lightning.",
    "accelerate.Accelerator().log",
    "accelerate.Accelerator().init_trackers",
    "wandb.integration",
    "wandb.keras",
    "ultralytics.",
)
"""What logs to W&B without a call in the bundle that names the keys."""


class State(StrEnum):
    """Whether there is a run to talk to."""

    NONE = "none"
    LIVE = "live"
    OFF = "off"
    UNSURE = "unsure"


@dataclass
class Told:
    """Keys that one walk hands to W&B. `patterns` are known in part, `unnamed` are calls that hide theirs."""

    history: dict[str, Event] = field(default_factory=dict)
    summary: dict[str, Event] = field(default_factory=dict)
    patterns: list[Text] = field(default_factory=list)
    unnamed: list[Event] = field(default_factory=list)
    rows: list[tuple[Call, frozenset[str]]] = field(default_factory=list)
    """The keys of each call that logs. Calls that say which step they mean may share a row of the history."""

    def knows(self, key: str, summary: bool) -> Event | None:
        """Where `key` is given. What is logged lands in the summary, too."""
        found = self.history.get(key)
        return found or (self.summary.get(key) if summary else None)

    def may_know(self, key: str) -> bool:
        """Whether some call that hides its keys may give this one."""
        return bool(self.unnamed) or any(pattern.matches(key) for pattern in self.patterns)


def is_log(event: Event) -> bool:
    return isinstance(event, Call) and event.path in {f"{run}.log" for run in RUNS}


def is_summary(event: Event) -> bool:
    """Whether the event sets something in the run's summary."""
    if isinstance(event, Call):
        return event.path in {f"{run}.summary.update" for run in RUNS}
    if not isinstance(event, Put):
        return False
    owners = {f"{run}.summary" for run in RUNS}
    return event.path in owners or (event.attribute and event.path.rpartition(".")[0] in owners)


def is_init(event: Event) -> bool:
    return isinstance(event, Call) and event.path == "wandb.init"


@kept
def told(walk: Walk) -> Told:
    """All keys that the walk hands to W&B, whether it must or only may."""
    found = Told()
    for event in walk.events:
        if is_log(event):
            assert isinstance(event, Call)
            row: dict[str, Event] = {}
            _add_keys(event.argument(0, "data"), event, row, found)
            found.rows.append((event, frozenset(row)))
            for key in row:
                found.history.setdefault(key, event)
        elif is_summary(event):
            if isinstance(event, Call):
                _add_keys(event.argument(0), event, found.summary, found)
                _add_keys(Map(dict(event.kwargs)), event, found.summary, found)
            elif isinstance(event, Put):
                _add_name(event.key, event, found.summary, found)
        elif isinstance(event, Use | Call) and event.path.startswith(FOREIGN):
            found.unnamed.append(event)
    if _trainer_is_silent(walk):
        found.unnamed = [e for e in found.unnamed if not (isinstance(e, Use | Call) and _of_trainer(e.path))]
    return found


def _of_trainer(path: str) -> bool:
    return path.startswith("transformers.") and "Trainer" in path


def _trainer_is_silent(walk: Walk) -> bool:
    """Whether the Hugging Face Trainer is told to report to nobody."""
    for call in walk.of(Call):
        if call.path.endswith("TrainingArguments"):
            given = call.kwargs.get("report_to")
            if isinstance(given, Known) and given.value == "none":
                return True
            if isinstance(given, Seq) and not given.open and not given.items:
                return True
    return False


def _add_keys(
    value: Value | None, event: Event, into: dict[str, Event], found: Told, before: str = ""
) -> None:
    if value is None:
        return
    for option in options(value):
        if isinstance(option, Known) and option.value is None:
            continue
        if not isinstance(option, Map):
            found.unnamed.append(event)
            continue
        if option.open:
            found.unnamed.append(event)
        for name, item in option.items.items():
            key = name if isinstance(name, Value) else Known(name)
            _add_name(key, event, into, found, before)
            text = text_of(key)
            if isinstance(item, Map) and isinstance(text, Known):
                _add_keys(item, event, into, found, f"{before}{text.value}.")


def _add_name(key: Value, event: Event, into: dict[str, Event], found: Told, before: str = "") -> None:
    for option in options(key):
        text = text_of(option)
        if isinstance(text, Known):
            into.setdefault(f"{before}{text.value}", event)
        elif any(isinstance(part, str) for part in text.parts):
            found.patterns.append(text if not before else Text((before, *text.parts)))
        else:
            found.unnamed.append(event)


@dataclass(frozen=True)
class Moment:
    """An event that concerns W&B, the state it meets, and whether it lies inside a search."""

    event: Event
    index: int
    state: State
    searching: bool


def moments(bundle: Bundle, walk: Walk) -> tuple[Moment, ...]:
    """Every use of W&B on the walk, in order, in code that the command comes by."""
    return _moments(walk, bundle)


@kept
def _moments(walk: Walk, bundle: Bundle) -> tuple[Moment, ...]:
    return tuple(_met(bundle, walk))


def _met(bundle: Bundle, walk: Walk) -> Iterator[Moment]:
    spans = search_spans(walk)
    state, default = State.NONE, "online"
    for index, event in enumerate(walk.events):
        default = _default_after(event, default)
        if not _about(event) or event.place.path.endswith("/evaluate.py") or not reached(bundle, event):
            continue
        searching = any(first <= index < end for _, first, end in spans)
        yield Moment(event, index, state, searching)
        if not isinstance(event, Call):
            continue
        if event.path == "wandb.init":
            begun = begins(event, default)
            state = begun if event.certain or state is begun else State.UNSURE
        elif event.path in {f"{run}.finish" for run in RUNS}:
            state = State.NONE if event.certain else State.UNSURE


def default_mode(walk: Walk, index: int) -> str:
    """What WANDB_MODE says when the event at `index` comes: the mode of a `wandb.init` that names none."""
    default = "online"
    for event in walk.events[:index]:
        default = _default_after(event, default)
    return default


def _default_after(event: Event, default: str) -> str:
    if isinstance(event, Put) and event.path == "os.environ" and _says(event.key) == "WANDB_MODE":
        return (_says(event.value) or "") if event.certain else ""
    if isinstance(event, Call) and event.path == "os.environ.pop" and event.args:
        return "online" if _says(event.args[0]) == "WANDB_MODE" else default
    return default


def begins(init: Call, default: str = "online") -> State:
    """What state `wandb.init(mode=…)` leads to."""
    given = init.kwargs.get("mode")
    if given is None and (init.spread or "settings" in init.kwargs):
        return State.UNSURE
    mode = default if given is None or (isinstance(given, Known) and given.value is None) else _says(given)
    if mode == "disabled":
        return State.OFF
    return State.LIVE if mode in ("online", "offline", "shared", "run") else State.UNSURE


def mode_of(init: Call) -> str | None:
    """The mode that the call names, None when it names none or it is not known."""
    given = init.kwargs.get("mode")
    return _says(given) if given is not None else None


def _says(value: Value) -> str | None:
    return value.value if isinstance(value, Known) and isinstance(value.value, str) else None


def _about(event: Event) -> bool:
    if isinstance(event, Call):
        return event.path in _CALLS
    return isinstance(event, Put) and is_summary(event)


_CALLS = {"wandb.init"} | {
    f"{run}.{name}"
    for run in RUNS
    for name in ("log", "finish", "summary.update", "config.update", "log_artifact", "watch", "define_metric")
}


def tracked(flow: Flow) -> list[Walk]:
    """The walks of the modes that W&B hears of."""
    names = {mode.name for mode in flow.contract.modes if mode.tracked}
    return [walk for walk in flow.training if walk.mode in names]


def untracked(flow: Flow) -> list[Walk]:
    """The walks of the modes that W&B must not hear of."""
    names = {mode.name for mode in flow.contract.modes if not mode.tracked}
    return [walk for walk in flow.training if walk.mode in names]


def whole(flow: Flow) -> list[Walk]:
    """The walks of the mode that does the whole experiment."""
    return [walk for walk in flow.training if walk.mode == flow.contract.full.name]


def names_of(walks: Iterable[Walk]) -> str:
    """The runs, for a person."""
    found = list(dict.fromkeys(walk.run_id or walk.module for walk in walks))
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
