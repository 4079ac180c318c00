"""Integrity: the proposed method takes effect: its run does something else than the baseline's."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from labgate.bundle import BrokenFileError, Bundle
from labgate.bundle.promise import role_of
from labgate.bundle.syntax import walked
from labgate.checks import Answers, check
from labgate.compose import Compositions
from labgate.contract import Contract
from labgate.criteria._samples import reached
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed
from labgate.flow import Flow
from labgate.flow.config import ListNode, Node
from labgate.flow.events import Call, ConfigRead, Event, Fault, How, Started, Test, Walk, evidence
from labgate.flow.values import Known, Value, options

_NAMES = frozenset(
    ["run", "run_id", "name", "id", "tags", "group", "notes", "description", "display_name", "results_dir"]
)
"""Keys whose values only tell runs apart."""
_WORK = frozenset(("backward", "step", "fit", "train", "generate", "optimize", "create"))
"""Last words of calls without which nothing is trained or asked."""


@check("integrity.method-takes-effect", impact=Impact.MISLEADS)
def the_proposed_run_differs(
    bundle: Bundle, contract: Contract, flow: Flow, compositions: Compositions
) -> Answers:
    """What sets the proposed run apart from the baseline is read, and changes what is computed.

    Where the code never asks for the method's settings, or compares `cfg.method` with a word that no config
    has, both runs train the same model. Their difference is noise, and is reported as the method's gain.

    Bad:
        cfg = OmegaConf.create({"method": "proposed_sam"})
        rho = 0.05 if cfg.method == "sam" else 0.0
    Good:
        cfg = OmegaConf.create({"method": "proposed_sam"})
        rho = 0.05 if cfg.method == "proposed_sam" else 0.0
    """
    walks = {walk.run_id: walk for walk in flow.training if walk.mode == contract.full.name and walk.run_id}
    values = {run: value for run in walks if (value := _config(compositions, run)) is not None}
    pairs = list(_pairs(bundle, values))
    if not pairs:
        yield cannot_tell("no proposed run with a baseline on the same model and data set is known")
        return
    met = False
    for ours, theirs in pairs:
        one, other = walks[ours], walks[theirs]
        if not _works(one):
            yield cannot_tell(f"no training is seen in {ours}")
            met = True
            continue
        if one.truncated or other.truncated:
            yield cannot_tell(f"the training of {ours} could not be followed to its end")
            met = True
            continue
        own = sorted(_own_keys(values[ours], values[theirs]))
        parted = _parting(one, other, own, contract.run_key)
        if parted is not None:
            if not met:
                met = True
                yield passed(
                    "the proposed run and its baseline part ways", evidence(bundle, parted.place, "here")
                )
            continue
        if not own:
            yield cannot_tell(f"the configs of {ours} and {theirs} differ in nothing that names a method")
            met = True
            continue
        vague = _vague(one) or _valued(one, other)
        places = [_line(bundle, compositions, ours, key) for key in own[:4]]
        tests = list(_method_tests(bundle, one, values))
        if vague is not None:
            yield cannot_tell(
                "whether the method takes effect depends on what reading cannot settle",
                evidence(bundle, vague.place, "what comes of this is not followed"),
                *places,
            )
        else:
            yield failed(
                f"the method takes no effect: the code does the same for {ours} as for {theirs}",
                *places,
                *tests,
                do="read the method's settings where model or loss are made; compare with its very name",
            )
        met = True


def _config(compositions: Compositions, run: str) -> Mapping[str, Any] | None:
    path = compositions.run_paths.get(run)
    if not path:
        return None
    try:
        value = compositions.bundle.yaml(path)
    except BrokenFileError:
        return None
    return value if isinstance(value, Mapping) else None


def _pairs(bundle: Bundle, values: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Proposed runs, each with a baseline that differs in the method alone."""

    def role(run: str) -> str | None:
        promised = bundle.promise.run(run) if bundle.promise is not None else None
        return (promised.role if promised else None) or role_of(run, str(values[run].get("method", "")))

    def about(run: str, key: str) -> object:
        part = values[run].get(key)
        return part.get("name") if isinstance(part, Mapping) else part

    for ours in values:
        for theirs in values:
            rivals = role(ours) == "proposed" and role(theirs) == "baseline"
            if rivals and all(about(ours, key) == about(theirs, key) for key in ("model", "dataset")):
                yield ours, theirs
                break


def _leaves(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    for key, part in value.items():
        dotted = f"{above}.{key}" if above else str(key)
        if isinstance(part, Mapping) and part:
            yield from _leaves(part, dotted)
        else:
            yield dotted, part


def _own_keys(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> set[str]:
    """Keys that the baseline lacks, or sets otherwise where that is no matter of how it is trained."""
    other = dict(_leaves(theirs))
    found = set()
    for key, value in _leaves(ours):
        section = key.partition(".")[0]
        if key.rpartition(".")[2] in _NAMES or section in ("optuna", "wandb"):
            continue
        if key not in other or (other[key] != value and section not in ("training", "dataset")):
            found.add(key)
    return found


def _line(bundle: Bundle, compositions: Compositions, run: str, key: str) -> Evidence:
    path = compositions.run_paths[run] or ""
    line = compositions.bundle.key_line(path, *key.split("."))
    return compositions.bundle.place(path, line, "takes no effect")


def _parting(one: Walk, other: Walk, own: Collection[str], run_key: str) -> Event | None:
    """The first thing that the proposed run does and its baseline does not, or a read of what is its own."""
    reads: Iterator[ConfigRead] = one.of(ConfigRead)
    for read in reads:
        key = read.key.removeprefix(f"{run_key}.")
        whole = read.how in (How.WHOLE, How.LOOP) and key and any(name.startswith(f"{key}.") for name in own)
        if whole or (key in own and key not in ("method", "method.name")):
            return read
    for mine, others in ((one, other), (other, one)):
        seen = {_trace(event) for event in others.events if reached(event)}
        for event in mine.events:
            if reached(event) and _trace(event) not in seen:
                return event
    return None


def _trace(event: Event) -> tuple[object, ...]:
    """What happens, less the values that it happens with, and less what is only read."""
    spot = (type(event).__name__, event.place.path, event.place.line, event.place.column)
    if isinstance(event, ConfigRead):
        return ()
    if isinstance(event, Test):
        return (*spot, event.came)
    return (*spot, event.path) if isinstance(event, Call) else spot


def _valued(one: Walk, other: Walk) -> Event | None:
    """A call that the two runs make with different values."""
    seen: set[tuple[object, ...]] = {_with_values(call, other.run_id) for call in other.of(Call)}
    calls: Iterator[Call] = one.of(Call)
    return next((c for c in calls if not _tells(c) and _with_values(c, one.run_id) not in seen), None)


def _with_values(call: Call, run_id: str) -> tuple[object, ...]:
    given = (*call.args, *call.kwargs.values())
    return (*_trace(call), *(_plain(value, run_id) for value in given))


def _plain(value: Value, run_id: str) -> str:
    return repr(value.value).replace(run_id, "<run>") if isinstance(value, Known) else type(value).__name__


def _tells(call: Call) -> bool:
    """Whether a call only prints, records or names things: it may say the run's id."""
    name = call.path.rpartition(".")[2]
    quiet = ("wandb.", "builtins.print", "logging.", "os.", "pathlib.", "json.", "subprocess.")
    return call.path.startswith(quiet) or name in (
        "info",
        "debug",
        "warning",
        "log",
        "mkdir",
        "create_study",
        "write",
    )


def _works(walk: Walk) -> bool:
    calls: Iterator[Call] = walk.of(Call)
    return any(call.path.rpartition(".")[2] in _WORK and call.certain and reached(call) for call in calls)


def _vague(walk: Walk) -> Event | None:
    """Where the walk loses sight of the config or of its method, or does not get as far as the training."""
    started = {place for start in walk.of(Started) for place in start.stack[-1:]}
    faults: Iterator[Fault] = walk.of(Fault)
    for fault in faults:
        if fault.certain and not fault.guarded:
            return fault
    calls: Iterator[Call] = walk.of(Call)
    told = {(call.place.path, call.place.line) for call in walk.of(Call) if _tells(call)}
    reads: Iterator[ConfigRead] = walk.of(ConfigRead)
    for event in calls:
        if event.path.startswith("subprocess.") and event.place not in started:
            return event
        if _tells(event) or event.path.startswith(("omegaconf.", "hydra.", "builtins.", "copy.", "optuna.")):
            continue
        for value in (*event.args, *event.kwargs.values()):
            if any(isinstance(option, Node | ListNode) for option in options(value)):
                return event
    tested = {(test.place.path, test.place.line) for test in walk.of(Test)}
    for read in reads:
        if _is_method(read.key) and read.how is not How.WHOLE:
            spot = (read.place.path, read.place.line)
            if spot not in tested and spot not in told:
                return read
    return None


def _is_method(key: str) -> bool:
    return key == "method" or key.endswith((".method", "method.name", "method.type"))


def _method_tests(bundle: Bundle, walk: Walk, values: Mapping[str, Mapping[str, Any]]) -> Iterator[Evidence]:
    """Comparisons of the method's name that come out false for every run."""
    names = {str(value.get("method")) for value in values.values()}
    reads = {(read.place.path, read.place.line) for read in walk.of(ConfigRead) if _is_method(read.key)}
    met: set[tuple[str, int]] = set()
    for test in walk.of(Test):
        spot = (test.place.path, test.place.line)
        if spot not in reads or spot in met or test.came is not False:
            continue
        words = [
            n.value for n in walked(test.node) if isinstance(n, ast.Constant) and isinstance(n.value, str)
        ]
        if words and not names & set(words):
            met.add(spot)
            yield evidence(bundle, test.place, "no run's method is called this")
