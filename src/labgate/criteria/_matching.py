"""Keys that the evaluation asks for against keys that the training gave to W&B."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from labgate.bundle import Bundle
from labgate.bundle.syntax import every
from labgate.criteria._asked import Asked, Manner, Part, questions
from labgate.criteria._tracing import chain_of, cut, unit_of
from labgate.criteria._wandb import AUTOMATIC, Told, is_init, names_of, told, whole
from labgate.finding import Answer, Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Flow
from labgate.flow.events import Call, Event, Place, Walk, evidence


@dataclass(frozen=True)
class Met:
    """A key that is asked for: where it was given, or which runs never give it."""

    asked: Asked
    given: Event | None
    lacking: tuple[Walk, ...]
    unsure: bool


def answers(bundle: Bundle, flow: Flow, part: Part) -> Iterator[Answer]:
    """What came of matching, for the history or for the summary."""
    walks = [walk for walk in whole(flow) if any(map(is_init, walk.events))]
    if not flow.evaluation:
        yield cannot_tell("there is no evaluation to ask for anything")
        return
    if not walks:
        yield cannot_tell("no W&B run of the training was seen")
        return
    evaluation = flow.evaluation[0]
    if not any(
        call.path.endswith(("run().history", "runs()[].history", "scan_history"))
        for call in evaluation.of(Call)
    ):
        yield cannot_tell("the evaluation was not seen to fetch a run's history")
        return
    known = {id(walk): told(walk) for walk in walks}
    asked = questions(bundle, evaluation)
    found = [_met(item, walks, known, part) for item in asked.of(part)]
    unnamed = [event for of, event in asked.unnamed if of is part]
    if part is Part.HISTORY:
        apart = list(_never_together(bundle, asked.together, list(known.values())))
        if apart:
            yield from apart
            return
    yield from _judge(bundle, found, part, unnamed, evaluation, known)


def _never_together(
    bundle: Bundle, selected: list[tuple[Call, frozenset[str]]], tolds: Sequence[Told]
) -> Iterator[Answer]:
    """Selections that give no row: each key is logged, and no call logs them all."""
    said = set()
    for call, keys in selected:
        wanted = keys - AUTOMATIC
        for told_ in tolds:
            dated = any("step" in log.kwargs or "commit" in log.kwargs for log, _ in told_.rows)
            if dated or told_.unnamed or told_.patterns or not wanted <= set(told_.history):
                continue
            if any(wanted <= row for _, row in told_.rows) or call.place in said:
                continue
            said.add(call.place)
            logs = {told_.history[key].place: key for key in sorted(wanted)}
            yield failed(
                f"the evaluation selects {_listed(wanted)} at once, which are never logged in one call",
                evidence(bundle, call.place, "only rows that have them all come back: none"),
                *(
                    evidence(bundle, place, f"logs {key!r} and not all")
                    for place, key in list(logs.items())[:3]
                ),
                do="take run.history() whole and drop what is missing column by column",
                impact=Impact.MISLEADS,
            )


def _listed(keys: frozenset[str]) -> str:
    return ", ".join(map(repr, sorted(keys)[:5]))


def _met(asked: Asked, walks: Sequence[Walk], known: dict[int, Told], part: Part) -> Met:
    if asked.loose:
        return Met(
            asked, next((e for t in known.values() if (e := t.knows(asked.key, True))), None), (), False
        )
    concerned = [walk for walk in walks if asked.run_id in (None, walk.run_id)] or list(walks)
    given, lacking, unsure = None, [], False
    for walk in concerned:
        if asked.key in AUTOMATIC:
            continue
        event = known[id(walk)].knows(asked.key, part is Part.SUMMARY)
        if event is not None:
            given = given or event
        elif known[id(walk)].may_know(asked.key) or cut(walk):
            unsure = True
        else:
            lacking.append(walk)
    return Met(asked, given, tuple(lacking), unsure)


def _judge(
    bundle: Bundle, found: list[Met], part: Part, unnamed: list[Event], walk: Walk, known: dict[int, Told]
) -> Iterator[Answer]:
    beside = _beside(bundle, found)
    spelt = _spelt(bundle, walk)
    told_of: set[str] = set()
    hits = [met for met in found if met.given is not None and not met.lacking and not met.unsure]
    missing: dict[str, list[Met]] = {}
    alternatives: dict[Place, list[Met]] = {}
    for met in found:
        if not met.lacking:
            continue
        if met.asked.manner is not Manner.NEEDED and met.asked.key in spelt:
            continue  # the code has it for another task or method
        if met.asked.manner in _STRICT or all(other.lacking for other in beside[id(met)]):
            missing.setdefault(met.asked.key, []).append(met)
        else:
            alternatives.setdefault(met.asked.event.place, []).append(met)
    for key, mets in missing.items():
        told_of.add(key)
        yield _missing(bundle, key, mets, part, known)
    for group in alternatives.values():
        keys = [met.asked.key for met in group if met.asked.key not in told_of]
        if keys:
            told_of.update(keys)
            listed = ", ".join(dict.fromkeys(map(repr, keys)))
            shown = evidence(bundle, group[0].asked.event.place, "looked for, beside others that are there")
            yield remarked(f"the evaluation looks for {listed}, which no run gives to W&B", shown)
    doubtful = [met for met in found if met.unsure and not met.lacking]
    if doubtful:
        names = ", ".join(sorted({repr(met.asked.key) for met in doubtful})[:5])
        shown = evidence(bundle, doubtful[0].asked.event.place, "asked for here")
        yield cannot_tell(f"whether {names} is logged depends on names that reading cannot know", shown)
    if cut(walk):
        yield cannot_tell(f"the evaluation was not followed to its end: {cut(walk)}")
    if missing or doubtful or cut(walk):
        return
    yield _matched(bundle, hits, unnamed, part, walk)


def _beside(bundle: Bundle, found: list[Met]) -> dict[int, list[Met]]:
    """For each key, those asked for in its place: in one expression, or in the tests of one statement."""
    groups: dict[tuple[bool, Place], list[Met]] = {}
    names: dict[int, list[tuple[bool, Place]]] = {}
    for met in found:
        place = met.asked.event.place
        names[id(met)] = [(False, chain_of(bundle, place))]
        if met.asked.manner is Manner.TESTED:
            names[id(met)].append((True, unit_of(bundle, place)))
        for name in names[id(met)]:
            groups.setdefault(name, []).append(met)
    return {key: [met for name in listed for met in groups[name]] for key, listed in names.items()}


def _spelt(bundle: Bundle, evaluation: Walk) -> set[str]:
    """Every string in the code of the training."""
    own = bundle.module(evaluation.module)
    trees = [
        source.tree for source in bundle.sources.values() if source is not own and source.tree is not None
    ]
    constants = (node.value for tree in trees for node in every(tree, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


def _missing(bundle: Bundle, key: str, mets: list[Met], part: Part, known: dict[int, Told]) -> Answer:
    worst = next((m for m in mets if m.asked.manner is Manner.NEEDED), mets[0])
    walks = [walk for met in mets for walk in met.lacking]
    manner = worst.asked.manner
    places = [evidence(bundle, worst.asked.event.place, _SAYS[manner])]
    elsewhere = [told.knows(key, part is Part.SUMMARY) for told in known.values()]
    given = next((event for event in elsewhere if event is not None), None)
    who = "the training never gives to W&B" if given is None else f"{names_of(walks)} never gives to W&B"
    if given is not None:
        places.append(evidence(bundle, given.place, "other runs give it here"))
    else:
        places += _instead(bundle, key, known[id(walks[0])], part)
    thing = "history" if part is Part.HISTORY else "summary"
    impact = {
        Manner.NEEDED: Impact.BLOCKS,
        Manner.SELECTED: Impact.MISLEADS,
        Manner.DEFAULTED: Impact.MISLEADS,
        Manner.TESTED: Impact.BREACHES,
    }[manner]
    return failed(
        f"the evaluation asks a run's {thing} for {key!r}, which {who}",
        *places,
        do=f"log {key!r} under that name in training, or ask for the name that is logged",
        impact=impact,
    )


_STRICT = (Manner.NEEDED, Manner.SELECTED)
"""Without this very key there is an error, or nothing at all."""

_SAYS = {
    Manner.NEEDED: "asked for here: a KeyError",
    Manner.DEFAULTED: "asked for here, and never found: the default stands in its place",
    Manner.TESTED: "looked for here, and never found: what depends on it never happens",
    Manner.SELECTED: "selected here: no row has it, so none comes back",
}


def _instead(bundle: Bundle, key: str, told: Told, part: Part) -> list[Evidence]:
    """What the training gives to W&B in place of `key`: a name like it, else its first call."""
    given = {**told.summary, **told.history} if part is Part.SUMMARY else told.history
    for name in difflib.get_close_matches(key, given, 1, 0.6):
        return [evidence(bundle, given[name].place, f"gives {name!r}")]
    for event in given.values():
        names = [name for name, other in given.items() if other is event]
        listed = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
        return [evidence(bundle, event.place, f"gives {listed}")]
    return []


def _matched(bundle: Bundle, hits: list[Met], unnamed: list[Event], part: Part, walk: Walk) -> Answer:
    thing = "history" if part is Part.HISTORY else "summary"
    if hits:
        keys = list(dict.fromkeys(met.asked.key for met in hits))
        first = hits[0]
        places = [evidence(bundle, first.asked.event.place, "asked for here")]
        if first.given is not None:
            places.append(evidence(bundle, first.given.place, "given here"))
        return passed(f"what the evaluation asks of the {thing} is given: {', '.join(keys[:8])}", *places)
    if unnamed:
        place = evidence(bundle, unnamed[0].place, "takes whatever is there")
        return passed(f"the evaluation asks the {thing} for no key by name", place)
    source = bundle.module(walk.module)
    return passed(
        f"the evaluation asks the {thing} for no key by name",
        *([bundle.place(source.path, 0, "names no key")] if source is not None else []),
    )
