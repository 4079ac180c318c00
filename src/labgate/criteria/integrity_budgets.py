"""Integrity: every method is searched as much, and run as often."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from labgate.bundle import BrokenFileError, Bundle
from labgate.bundle.promise import role_of
from labgate.checks import Answers, check
from labgate.compose import Compositions
from labgate.contract import Contract
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed, remarked

_ALIKE = re.compile(
    r"(identical|same|equal|matched)\s+(?:[\w-]+\s+){0,3}?(hyper-?parameters?|search budget|tuning budget|"
    r"search space|number of trials|optimi[sz]ation settings)",
    re.IGNORECASE,
)
_AMONG = re.compile(
    r"baselines?\b|\b(all|both|every|each) (methods?|runs?|models?|variants?)|across|compar", re.IGNORECASE
)
_ELSEWHERE = re.compile(r"\W*(to|as|from|of)\b[^.]{0,30}(paper|original|prior|previous)", re.IGNORECASE)


@check("integrity.budgets-alike", impact=Impact.REMARKS)
def every_method_searches_as_much(bundle: Bundle, contract: Contract, compositions: Compositions) -> Answers:
    """Proposed and baseline get as many trials, and the same ranges for what they share.

    The method with more trials, or a range that fits it better, wins by the search. Where the design promises
    equal hyper-parameters, that is no longer the experiment that was promised.

    Bad:
        trials = {"proposed": 30, "baseline": 20}
    Good:
        trials = {"proposed": 30, "baseline": 30}
    """
    runs = {run: path for run, path in compositions.run_paths.items() if path}
    values = {
        run: value for run, path in runs.items() if (value := _mapping(compositions.bundle, path)) is not None
    }
    roles = {run: _role(bundle, run, value) for run, value in values.items()}
    pairs = [
        (ours, theirs)
        for ours in values
        for theirs in values
        if roles[ours] == "proposed" and roles[theirs] == "baseline" and _comparable(values, ours, theirs)
    ]
    if not pairs:
        yield cannot_tell("no proposed run and baseline with the same model and data set are known")
        return
    promised = _promise(bundle)
    equal = True
    met: set[tuple[str, ...]] = set()
    for ours, theirs in pairs:
        differences = list(_differences(values[ours], values[theirs]))
        kind = tuple(says for says, _ in differences)
        if not differences or kind in met:
            continue
        met.add(kind)
        equal = False
        places = [
            compositions.bundle.place(
                runs[run], compositions.bundle.key_line(runs[run], *keys), f"of {run[:40]}"
            )
            for _, keys in differences
            for run in (ours, theirs)
        ]
        yield (failed if promised else remarked)(
            f"the search is not alike: {'; '.join(kind)}",
            *dict.fromkeys(places),
            *promised,
            do="give every run the same n_trials, and the same range for a hyper-parameter that they share",
            **({"impact": Impact.MISLEADS} if promised else {}),
        )
    if equal:
        ours, theirs = pairs[0]
        yield passed(
            "proposed and baseline search alike",
            *(
                compositions.bundle.place(runs[run], compositions.bundle.key_line(runs[run], "optuna"))
                for run in pairs[0]
            ),
        )


def _role(bundle: Bundle, run: str, value: Mapping[str, Any]) -> str | None:
    promised = bundle.promise.run(run) if bundle.promise is not None else None
    return (promised.role if promised else None) or role_of(run, str(value.get("method", "")))


def _comparable(values: Mapping[str, Mapping[str, Any]], one: str, other: str) -> bool:
    def about(run: str, key: str) -> Any:
        part = values[run].get(key)
        return part.get("name") if isinstance(part, Mapping) else part

    return all(about(one, key) == about(other, key) for key in ("model", "dataset"))


def _promise(bundle: Bundle) -> list[Evidence]:
    """Where the design promises equal settings."""
    promise = bundle.promise
    if promise is None:
        return []
    for text in (promise.design, promise.method, promise.hypothesis):
        for found in _ALIKE.finditer(text):
            around = text[max(0, found.start() - 80) : found.end() + 60]
            if _AMONG.search(around) and not _ELSEWHERE.match(text, found.end()):
                quote = " ".join(text[max(0, found.start() - 40) : found.end() + 40].split())
                return [Evidence(promise.origin or "promise", 0, quote, "promises them equal")]
    return []


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What the searches of two runs do not share, each with the key."""
    one, other = _optuna(ours), _optuna(theirs)
    if one is None or other is None:
        return
    mine, others = one.get("n_trials"), other.get("n_trials")
    if isinstance(mine, int) and isinstance(others, int) and mine != others:
        yield f"{mine} against {others} trials", ("optuna", "n_trials")
    for space in ("search_space", "search_spaces"):
        left, right = one.get(space), other.get(space)
        if not isinstance(left, Mapping) or not isinstance(right, Mapping):
            continue
        for key in {**left, **right}:
            where = ("optuna", space, str(key))
            if key in left and key in right:
                if left[key] != right[key]:
                    yield f"{key} from {_range(left[key])} against {_range(right[key])}", where
            elif _shared(ours, str(key)) and _shared(theirs, str(key)):
                yield f"{key} is searched for the {'proposed' if key in left else 'baseline'} alone", where


def _optuna(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found = value.get("optuna")
    return found if isinstance(found, Mapping) else None


def _range(space: object) -> str:
    if isinstance(space, Mapping):
        if "choices" in space:
            return str(space["choices"])
        return f"{space.get('low')}…{space.get('high')}"
    return str(space)


def _shared(value: Mapping[str, Any], key: str) -> bool:
    """Whether a run has that hyper-parameter at all, by its path or in its training section."""
    part: object = value
    for step in key.split("."):
        part = part.get(step) if isinstance(part, Mapping) else None
    training = value.get("training")
    return part is not None or (isinstance(training, Mapping) and key in training)


def _mapping(bundle: Bundle, path: str) -> Mapping[str, Any] | None:
    try:
        value = bundle.yaml(path)
    except BrokenFileError:
        return None
    return value if isinstance(value, Mapping) else None


@check("integrity.budgets-alike", impact=Impact.REMARKS)
def more_than_one_seed_is_run(bundle: Bundle, contract: Contract, compositions: Compositions) -> Answers:
    """A comparison rests on more than one seed.

    Two runs of the same method differ by the seed alone, often by more than two methods do.

    Bad:
        seeds = [42]
    Good:
        seeds = [0, 1, 2]
    """
    runs = {run: path for run, path in compositions.run_paths.items() if path}
    seeds: dict[str, tuple[object, str, tuple[str, ...]]] = {}
    for run, path in runs.items():
        value = _mapping(compositions.bundle, path) or {}
        for keys, found in _leaves(value):
            if keys[-1] in ("seeds", "seed_list", "num_seeds", "n_seeds", "repeats", "num_runs"):
                yield passed(
                    "several seeds are run",
                    compositions.bundle.place(path, compositions.bundle.key_line(path, *keys)),
                )
                return
            if keys[-1] == "seed":
                seeds[run] = (found, path, keys)
    if not seeds:
        yield cannot_tell("no run config names a seed")
    elif len({str(seed) for seed, _, _ in seeds.values()}) == 1:
        places = [
            compositions.bundle.place(p, compositions.bundle.key_line(p, *keys))
            for _, p, keys in seeds.values()
        ]
        seed = next(iter(seeds.values()))[0]
        yield remarked(
            f"every run has one seed, {seed}", *places[:2], do="run several seeds, and report their spread"
        )
    else:
        yield passed("the runs differ in their seeds")


def _leaves(
    value: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], object]]:
    for key, part in value.items():
        if isinstance(part, Mapping):
            yield from _leaves(part, (*above, str(key)))
        else:
            yield (*above, str(key)), part
