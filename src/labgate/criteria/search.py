"""Criterion 7, the search: what Optuna samples, and whether the run heeds it."""

from __future__ import annotations

from collections.abc import Iterator

from labgate.checks import Answers, check
from labgate.compose import Compositions
from labgate.contract import Contract
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed
from labgate.flow import (
    Call,
    ConfigRead,
    ConfigWrite,
    Fault,
    Flow,
    How,
    Known,
    Value,
    Walk,
    sources,
)

_KEYWORDS: dict[str, frozenset[str]] = {
    "suggest_float": frozenset(("name", "low", "high", "step", "log")),
    "suggest_int": frozenset(("name", "low", "high", "step", "log")),
    "suggest_categorical": frozenset(("name", "choices")),
    "suggest_loguniform": frozenset(("name", "low", "high")),
    "suggest_uniform": frozenset(("name", "low", "high")),
    "suggest_discrete_uniform": frozenset(("name", "low", "high", "q")),
}
"""What each method of `optuna.Trial` takes, as documented since Optuna 3.0."""


def _suggestions(walk: Walk) -> Iterator[Call]:
    for call in walk.of(Call):
        if call.path.rpartition(".")[2] in _KEYWORDS and "trial" in call.path:
            yield call


@check("configs.search-space", impact=Impact.BLOCKS)
def suggestions_are_what_optuna_takes(flow: Flow, contract: Contract) -> Answers:
    """Each value of the search space reaches Optuna in a call that Optuna accepts.

    A search space written as a mapping is often splatted into `suggest_float`, its `type` with it; a log
    scale that begins at 0 is refused; so is a range whose low end lies above its high end. No trial run gets
    there, since it searches nothing.

    Bad:
        trial.suggest_float(name, **cfg.optuna.search_space[name])
    Good:
        space = cfg.optuna.search_space[name]
        trial.suggest_float(name, space.low, space.high, log=space.type == "loguniform")
    """
    failures, seen = 0, 0
    met: set[tuple[str, int, str]] = set()
    for walk in flow.training:
        for call in _suggestions(walk):
            seen += 1
            for says in _refused(call):
                key = (call.place.path, call.place.line, says)
                if key in met:
                    continue
                met.add(key)
                place = flow.bundle.place(call.place.path, call.place.line, "suggested here")
                if call.certain and not call.guarded:
                    failures += 1
                    yield failed(
                        f"{says} ({walk.name})",
                        place,
                        do="hand over name, low, high (or choices) and log alone",
                    )
                else:
                    yield cannot_tell(f"on some path {says}", place)
    if not failures:
        yield passed(
            f"{seen} suggestions followed, each of a form that Optuna takes" if seen else "Optuna is not used"
        )


def _refused(call: Call) -> Iterator[str]:
    method = call.path.rpartition(".")[2]
    unknown = sorted(set(call.kwargs) - _KEYWORDS[method])
    if unknown:
        yield f"TypeError: {method}() got an unexpected keyword argument '{unknown[0]}'"
    if method == "suggest_categorical":
        return
    low, high = _number(call.argument(1, "low")), _number(call.argument(2, "high"))
    log = call.argument(None, "log")
    logarithmic = method == "suggest_loguniform" or (isinstance(log, Known) and log.value is True)
    if low is not None and high is not None and low > high:
        yield f"ValueError: low ({low}) is above high ({high})"
    if logarithmic and low is not None and low <= 0:
        yield f"ValueError: low must be above 0 on a log scale, and is {low}"
    for name in ("low", "high"):
        value = call.argument({"low": 1, "high": 2}[name], name)
        if isinstance(value, Known) and isinstance(value.value, str):
            yield f"TypeError: {name} is the string {value.value!r}, where Optuna takes a number"
        if isinstance(value, Known) and value.value is None:
            yield f"TypeError: {name} is None, where Optuna takes a number"


def _number(value: Value | None) -> float | None:
    if (
        isinstance(value, Known)
        and isinstance(value.value, int | float)
        and not isinstance(value.value, bool)
    ):
        return value.value
    return None


def _from_trial(value: Value) -> bool:
    return any(".suggest_" in source.path for source in sources(value))


@check("configs.search-space", impact=Impact.MISLEADS)
def what_is_searched_takes_effect(flow: Flow, contract: Contract, compositions: Compositions) -> Answers:
    """A sampled value is written to a config key that the training then reads.

    A search key that fits no section falls through to the root of the config, where nothing looks: the search
    varies a number that changes nothing and reports a best value for it.

    Bad:
        cfg[name] = trial.suggest_float(name, low, high)
    Good:
        OmegaConf.update(cfg, path_of[name], trial.suggest_float(name, low, high))
    """
    written = 0
    lost: dict[Evidence, dict[str, list[Evidence]]] = {}
    everywhere = {
        event.key
        for walk in flow.training
        for event in walk.of(ConfigRead)
        if event.how not in (How.WHOLE, How.IN, How.HASATTR)
    }
    for walk in flow.training:
        if not contract.mode(walk.mode).whole:
            continue
        if walk.truncated or walk.mended.startswith("unknown"):
            yield cannot_tell(f"{walk.name}: not all of the code could be followed")
            continue
        refused = {(fault.place.path, fault.place.line) for fault in walk.of(Fault)}
        for write in walk.of(ConfigWrite):
            if not _from_trial(write.value) or write.key.endswith("*"):
                continue
            written += 1
            if (
                not (write.new or any(write.key in keys for keys in lost.values()))
                or not write.certain
                or (write.place.path, write.place.line) in refused
            ):
                continue
            if any(key == write.key or key.startswith(f"{write.key}.") for key in everywhere):
                continue
            place = flow.bundle.place(write.place.path, write.place.line, "the sampled value goes here")
            lost.setdefault(place, {}).setdefault(write.key, []).extend(
                _space(compositions, walk.run_id, write.key)
            )
    alike: dict[tuple[str, ...], list[Evidence]] = {}
    for place, keys in lost.items():
        alike.setdefault(tuple(sorted(keys)), []).append(place)
    for names, places in alike.items():
        are = "is" if len(names) == 1 else "are"
        spaces = [evidence for name in names for evidence in lost[places[0]][name]]
        yield failed(
            f"the search sets {', '.join(names)}, which {are} read by nothing: no run has such a key",
            *places,
            *dict.fromkeys(spaces),
            do=f"map each search key to the config path that it is meant for{_meant(names, everywhere)}",
        )
    if not lost:
        yield passed(
            f"{written} writes of sampled values, each to a key that is read"
            if written
            else "nothing is searched"
        )


def _meant(names: tuple[str, ...], read: set[str]) -> str:
    """Keys that are read and end alike, as a hint."""
    found = [
        key for name in names for key in sorted(read) if key.rpartition(".")[2] == name.rpartition(".")[2]
    ]
    return f", such as {', '.join(found[:3])}" if found else ""


def _space(compositions: Compositions, run_id: str, key: str) -> list[Evidence]:
    path = compositions.run_paths.get(run_id)
    if path is None:
        return []
    bundle = compositions.bundle
    above = bundle.key_line(path, "optuna", "search_space")
    lines = [bundle.key_line(path, "optuna", "search_space", name) for name in (key, key.rpartition(".")[2])]
    line = next((line for line in lines if line != above), above)
    return [compositions.bundle.place(path, line, "searched")]
