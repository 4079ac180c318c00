"""What was seen of a mode's settings on each walk, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from labgate.bundle import Bundle
from labgate.checks import Answers
from labgate.contract import Contract, Mode
from labgate.criteria._training import course_of, is_reached
from labgate.finding import Evidence, cannot_tell, failed, passed
from labgate.flow import ConfigRead, ConfigWrite, Flow, Known, Walk
from labgate.flow.events import Event, evidence


def light(contract: Contract) -> list[Mode]:
    """The modes that are there to try the code out."""
    return [mode for mode in contract.modes if mode.sets.get("training.epochs") is not None]


def walks_of(flow: Flow, modes: list[Mode]) -> list[Walk]:
    names = {mode.name for mode in modes}
    return [walk for walk in flow.training if walk.mode in names]


@dataclass(frozen=True)
class Seen:
    """What was seen of one setting on one walk: `good` is None when it cannot be told."""

    good: bool | None
    says: str
    places: tuple[Evidence, ...]
    walk: Walk


def told(seen: list[Seen], good: str, do: str) -> Answers:
    """One failure for each place that is wrong; else a doubt; else a pass."""
    wrong: dict[tuple[str, Evidence | None], list[Seen]] = {}
    seen = [replace(one, good=None) if one.good is False and one.walk.mended else one for one in seen]
    for one in seen:
        if one.good is False:
            wrong.setdefault((one.says, next(iter(one.places), None)), []).append(one)
    for (says, _), same in wrong.items():
        places: dict[str, Evidence] = {}
        for place in (place for one in same for place in one.places):
            places.setdefault(str(place), place)
        yield failed(f"{says} ({names([one.walk for one in same])})", *list(places.values())[:6], do=do)
    doubts = [one for one in seen if one.good is None]
    if doubts and not wrong:
        yield cannot_tell(f"{doubts[0].says} ({names([one.walk for one in doubts])})", *doubts[0].places)
    elif not wrong and seen:
        found = {str(place): place for one in seen for place in one.places}
        yield passed(good, *list(found.values())[:5])
    elif not seen:
        yield cannot_tell("there is no walk of such a mode")


def names(walks: list[Walk]) -> str:
    names = list(dict.fromkeys(walk.name for walk in walks))
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def written(bundle: Bundle, held: Event | None) -> list[Evidence]:
    if held is None:
        return []
    key = getattr(held, "key", "")
    label = f"sets {key}" if isinstance(held, ConfigWrite) else f"reads {key}"
    return [evidence(bundle, held.place, label)]


def held_by(bundle: Bundle, walk: Walk, key: str) -> Event | None:
    """The last event that shows what a setting holds for the final training: a write, else a read."""
    last: Event | None = None
    course = course_of(walk, bundle)
    for event in walk.of(ConfigWrite, ConfigRead):
        same = event.key == key or event.key.endswith(f".{key}")
        if not same or not is_reached(event) or course.in_search(event):
            continue
        if isinstance(event, ConfigWrite) or not isinstance(last, ConfigWrite):
            last = event
    return last


def value_of(event: Event) -> object:
    value = getattr(event, "value", None)
    return value.value if isinstance(value, Known) else None


def plain(value: object) -> object:
    return value.value if isinstance(value, Known) else None


def trains_at(bundle: Bundle, walk: Walk) -> tuple[Evidence, ...]:
    steps = course_of(walk, bundle).final.steps
    return tuple(evidence(bundle, call.place, "trains without a search before") for call in steps[:1])
