"""Faults that the flow met, as answers: one for each place and key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from labgate.finding import Answer, Evidence, cannot_tell, failed
from labgate.flow import Fault, Flow, Place, Sighting, Walk

Wanted = Callable[[Fault, Walk], bool]

FROM_CONFIG = frozenset(
    [
        "ConfigAttributeError",
        "ConfigKeyError",
        "ConfigTypeError",
        "MissingMandatoryValue",
        "InterpolationKeyError",
        "ReadonlyConfigError",
    ]
)
"""Exceptions of OmegaConf's containers."""


def sure_faults(flow: Flow, wanted: Wanted) -> list[Sighting]:
    """Certain faults that nothing catches, merged over the walks on which they are met."""
    return [s for s in _all(flow, wanted) if s.certain and not s.event.guarded]


def possible_faults(flow: Flow, wanted: Wanted) -> list[Sighting]:
    """Faults that may be met, where none is sure at the same place."""
    sure = {(s.place.path, s.place.line) for s in sure_faults(flow, wanted)}
    return [
        s
        for s in _all(flow, wanted)
        if not s.certain and not s.event.guarded and (s.place.path, s.place.line) not in sure
    ]


def _all(flow: Flow, wanted: Wanted) -> Iterator[Sighting]:
    for walk in flow.walks:
        yield from (Sighting(event, (walk,)) for event in walk.of(Fault) if wanted(event, walk))


@dataclass(frozen=True)
class Group:
    """Sightings that are one defect: the places, what is said at each, and the walks on which it is met."""

    met: tuple[Sighting, ...]

    @property
    def first(self) -> Sighting:
        return self.met[0]

    @property
    def places(self) -> list[Sighting]:
        """One sighting for each line."""
        return list({(s.place.path, s.place.line): s for s in reversed(self.met)}.values())[::-1]

    @property
    def says(self) -> str:
        words = list(dict.fromkeys(_words(s) for s in self.met))
        return "; ".join(words[:4]) + (f"; and {len(words) - 4} more" if len(words) > 4 else "")

    @property
    def where(self) -> str:
        names = list(dict.fromkeys(walk.name for s in self.met for walk in s.walks))
        return "; ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    @property
    def walks(self) -> tuple[Walk, ...]:
        return tuple({id(walk): walk for s in self.met for walk in s.walks}.values())


def _words(sighting: Sighting) -> str:
    first: str = sighting.event.says.partition("\n")[0]
    stands_at = sighting.event.stands_at
    return f"{first}: it stands at {stands_at}" if stands_at else first


def by_line(sighting: Sighting) -> tuple[object, ...]:
    """What is met on one line is one defect."""
    return (sighting.place.path, sighting.place.line, sighting.event.kind)


def by_key(sighting: Sighting) -> tuple[object, ...]:
    """What is met for one key is one defect, wherever; so are all keys that stand in one wrong section."""
    stands_at = sighting.event.stands_at
    if stands_at:
        return ("elsewhere", stands_at.partition(".")[0])
    return (sighting.event.kind, sighting.event.key)


Alike = Callable[[Sighting], tuple[object, ...]]


def together(sightings: Iterable[Sighting], alike: Alike) -> Iterator[Group]:
    """Sightings that are `alike`, as groups, in the order in which they were first met."""
    groups: dict[tuple[object, ...], list[Sighting]] = {}
    for sighting in sightings:
        groups.setdefault(alike(sighting), []).append(sighting)
    for met in groups.values():
        yield Group(tuple(sorted(met, key=lambda s: (s.place.path, s.place.line))))


def fault_evidence(flow: Flow, sighting: Sighting, label: str) -> list[Evidence]:
    """Where it happens, how the code got there from another file, and other places that have a part."""
    place: Place = sighting.place
    found = [flow.bundle.place(place.path, place.line, label)]
    callers = [step for step in sighting.event.stack if step.line and step.path != place.path]
    if callers:
        found.append(flow.bundle.place(callers[-1].path, callers[-1].line, "reached from here"))
    for other, words in sighting.event.about:
        found.append(flow.bundle.place(other.path, other.line, words))
    return found


def fault_answers(
    flow: Flow,
    wanted: Wanted,
    label: str,
    do: str,
    more: Callable[[Group], list[Evidence]] | None = None,
    alike: Alike = by_line,
) -> Iterator[Answer]:
    """A failure for each sure fault, and one doubt for each that only may be met."""
    for group in together(sure_faults(flow, wanted), alike):
        shown = [e for s in group.places[:6] for e in fault_evidence(flow, s, label)]
        evidence = [*dict.fromkeys(shown), *(more(group) if more else [])]
        yield failed(f"{group.first.event.kind}: {group.says} ({group.where})", *evidence, do=do)
    for group in together(possible_faults(flow, wanted), alike):
        shown = [e for s in group.places[:3] for e in fault_evidence(flow, s, "if reached")]
        yield cannot_tell(f"on some path {group.first.event.kind}: {group.says} ({group.where})", *shown)
    for walk in flow.walks:
        if walk.truncated:
            yield cannot_tell(f"{walk.name}: {walk.truncated}")
