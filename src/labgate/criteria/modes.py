"""Criterion 9 and the modes of criterion 2: the mode decides, and full leaves nothing out."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from labgate.bundle import BrokenFileError, Bundle
from labgate.checks import Answers, check
from labgate.contract import Contract, Mode
from labgate.criteria._modes import Seen, held_by, light, names, plain, told, value_of, walks_of, written
from labgate.criteria._training import Limit, course_of, is_reached
from labgate.finding import Answer, Evidence, Impact, cannot_tell, failed, passed
from labgate.flow import Call, ConfigRead, ConfigWrite, Flow, Known, Test, Walk, options
from labgate.flow.events import Event, Put, evidence

_OFF = {"disabled", "offline", "dryrun"}


@check("modes.required-parameter", impact=Impact.BREACHES)
def the_mode_steers_the_run(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """The mode that the command names is read, and decides what the run does.

    Whoever starts a trial to see whether the code runs would otherwise start the whole experiment.

    Bad:
        def main(cfg):
            train(cfg, epochs=cfg.training.epochs)
    Good:
        def main(cfg):
            if cfg.mode == "trial":
                cfg.training.epochs = 1
            train(cfg, epochs=cfg.training.epochs)
    """
    key = next((key for mode in contract.modes for key in mode.overrides), "mode")
    reads: dict[str, Evidence] = {}
    lines: dict[tuple[str, int], bool] = {}
    for walk in flow.training:
        for event in walk.of(ConfigRead):
            if event.key.rpartition(".")[2] == key and "wandb" not in event.key and is_reached(event):
                lines[event.place.path, event.place.line] = True
        for test in walk.of(Test):
            if (test.place.path, test.place.line) in lines and is_reached(test):
                place = evidence(bundle, test.place, "decides by it")
                reads.setdefault(str(place), place)
    if reads:
        yield passed(f"{key} is read and tested", *list(reads.values())[:4])
    elif (
        not flow.training
        or any(walk.truncated for walk in flow.training)
        or not any(isinstance(event, ConfigRead) for walk in flow.training for event in walk.events)
    ):
        yield cannot_tell("the training was not followed to its end")
    elif lines or any(re.search(rf"[\"'.]{key}\b", source.text) for source in bundle.sources.values()):
        places = [bundle.place(path, line, "read here") for path, line in lines]
        yield cannot_tell(f"{key} is named, and no test of it was met", *places[:3])
    else:
        main = contract.main_module.replace(".", "/") + ".py"
        yield failed(
            f"nothing reads {key}: every mode does the same", bundle.place(main), do=f"test cfg.{key}"
        )


@check("modes.trial-untracked", "hydra.trial-sets", "hydra.sanity-sets", impact=Impact.BREACHES)
def a_trial_keeps_to_its_tracking(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """The mode alone puts W&B into the state that the contract gives it in a trial.

    Under the contract of 2025 a trial is untracked: its two batches would otherwise stand among the results.

    Bad:
        wandb.init(project=cfg.wandb.project)
    Good:
        if cfg.mode == "trial":
            cfg.wandb.mode = "disabled"
        wandb.init(project=cfg.wandb.project, mode=cfg.wandb.mode)
    """
    yield from _tracking(bundle, contract, flow, light(contract), "a trial")


@check("modes.full-online", "hydra.full-sets", impact=Impact.BREACHES)
def the_whole_experiment_is_tracked(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """The mode alone puts W&B online for the whole experiment.

    The evaluation reads from W&B alone: hours of training that went nowhere have to be repeated.

    Bad:
        wandb.init(project=cfg.wandb.project, mode="offline")
    Good:
        if cfg.mode == "full":
            cfg.wandb.mode = "online"
        wandb.init(project=cfg.wandb.project, mode=cfg.wandb.mode)
    """
    yield from _tracking(bundle, contract, flow, [contract.full], "the whole experiment")


def _tracking(bundle: Bundle, contract: Contract, flow: Flow, modes: list[Mode], what: str) -> Answers:
    seen = []
    for walk in walks_of(flow, modes):
        wanted = str(contract.mode(walk.mode).sets.get("wandb.mode", "online"))
        seen.append(_tracked(bundle, walk, wanted, what))
    do = "set cfg.wandb.mode where the mode is tested, and hand it to wandb.init"
    yield from told(seen, f"W&B is in the state that {what} asks for", do)


def _tracked(bundle: Bundle, walk: Walk, wanted: str, what: str) -> Seen:
    held = held_by(bundle, walk, "wandb.mode")
    course = course_of(walk, bundle)
    variable: Put | None = None
    doubts: list[Evidence] = []
    good: list[Evidence] = []
    for event in walk.events:
        if (
            isinstance(event, Put)
            and event.path == "os.environ"
            and event.key == Known("WANDB_MODE")
            and event.certain
        ):
            variable = event
        if not isinstance(event, Call) or event.path != "wandb.init" or not is_reached(event):
            continue
        if course.in_search(event):
            continue
        state = _state(event, variable)
        place = evidence(bundle, event.place, f"starts W&B {state or 'in a mode that is not known'}")
        if state is None or event.spread:
            doubts.append(place)
        elif (state in _OFF) != (wanted in _OFF):
            # that it fails is said once, under Tracking
            says = f"W&B is {state} in {what}, not {wanted}"
            return Seen(None, says, (place, *written(bundle, held)), walk)
        else:
            good.append(place)
    if doubts:
        return Seen(None, "in which mode W&B starts cannot be told", tuple(doubts[:2]), walk)
    places = (*good[:2], *written(bundle, held))
    if good:
        return Seen(True, "", places, walk)
    if wanted in _OFF and not walk.truncated and any(_trains(event) for event in walk.events):
        return Seen(True, "", places or _untracked(bundle, walk), walk)
    return Seen(None, "no certain start of W&B was met", places, walk)


def _trains(event: Event) -> bool:
    return isinstance(event, Call) and is_reached(event)


def _untracked(bundle: Bundle, walk: Walk) -> tuple[Evidence, ...]:
    steps = course_of(walk, bundle).final.steps
    return tuple(evidence(bundle, call.place, "trains, and W&B is never started") for call in steps[:1])


def _state(call: Call, variable: Put | None) -> str | None:
    """The mode that W&B starts in; None when it is not known."""
    given = call.argument(None, "mode")
    if given is None or given == Known(None):
        if variable is None:
            return "online"
        given = variable.value
    found = {str(option.value) if isinstance(option, Known) else None for option in options(given)}
    return found.pop() if len(found) == 1 else None


@check("modes.full-config", "hydra.full-sets", impact=Impact.BREACHES)
def the_whole_experiment_is_whole(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """In full, every epoch, batch and trial of the search that the config asks for is done.

    A limit that was meant for trying the code out, and stays in force, gives results of a fraction of the
    training under the name of all of it.

    Bad:
        for epoch in range(min(cfg.training.epochs, 2)):
            train_one_epoch()
    Good:
        for epoch in range(cfg.training.epochs):
            train_one_epoch()
    """
    seen = []
    for walk in walks_of(flow, [contract.full]):
        seen.append(_whole(bundle, contract, walk))
    yield from told(seen, "the whole experiment does what its config asks for", "take the limit out of full")


def _whole(bundle: Bundle, contract: Contract, walk: Walk) -> Seen:
    path = f"{contract.run_folder}/{walk.run_id}.yaml"
    asked = _asked(bundle, path)
    training = course_of(walk, bundle).final
    good: list[Evidence] = []
    counted = training.epochs()
    epochs = asked.get("training.epochs")
    if counted is not None and isinstance(epochs, int):
        line = bundle.key_line(path, "training", "epochs")
        places = (
            evidence(bundle, counted[1], f"{counted[0]} epochs"),
            bundle.place(path, line, "asks for these"),
        )
        if counted[0] < epochs:
            return Seen(False, f"full trains for {counted[0]} of {epochs} epochs", places, walk)
        good += places
    trials = asked.get("optuna.n_trials")
    for call in course_of(walk, bundle).searches:
        number = plain(call.argument(1, "n_trials"))
        if isinstance(number, int) and isinstance(trials, int) and call.certain:
            line = bundle.key_line(path, "optuna", "n_trials")
            places = (
                evidence(bundle, call.place, f"{number} trials"),
                bundle.place(path, line, "asks for these"),
            )
            if number < trials:
                return Seen(False, f"full searches {number} of {trials} trials", places, walk)
            good += places
    for limit in training.limits():
        if limit.batches is not None and _is_literal(limit) and limit.test.certain:
            place = evidence(bundle, limit.test.place, "in every mode")
            return Seen(False, f"full stops after {limit.batches} rounds of its loop", (place,), walk)
    if good:
        return Seen(True, "", tuple(good), walk)
    steps = tuple(evidence(bundle, step.place, "a training step") for step in training.steps[:1])
    if walk.truncated or not training.steps:
        return Seen(None, "the training was not followed to its end", steps, walk)
    bound = training.bounded()
    if bound is not None and bound[0] in asked.values():
        return Seen(True, "", (evidence(bundle, bound[1], f"{bound[0]} rounds, as the config asks"),), walk)
    return Seen(None, "how long the whole experiment trains cannot be told", steps, walk)


def _is_literal(limit: Limit) -> bool:
    """Whether the limit is a number in the code, tested by itself."""
    node = limit.test.node
    if not isinstance(node, ast.Compare) or not isinstance(node.comparators[0], ast.Constant):
        return False
    name = ast.unparse(node.left).lower()
    return any(word in name for word in ("batch", "step", "idx", "index", "iter")) or name in ("i", "b", "bi")


def _asked(bundle: Bundle, path: str) -> Mapping[str, Any]:
    """The numbers of a run config by their dotted keys."""
    try:
        data = bundle.yaml(path)
    except BrokenFileError:
        return {}
    found: dict[str, Any] = {}

    def below(value: object, above: str) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                below(item, f"{above}.{key}" if above else str(key))
        elif isinstance(value, int) and not isinstance(value, bool):
            found[above] = value

    below(data, "")
    return found


@check("modes.full-config", "configs.search-space", impact=Impact.MISLEADS)
def the_search_trains_what_it_judges(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """A trial of the search trains before it is judged, on more than the few batches of a mode.

    After two batches no hyper-parameter has had an effect. What the search then finds is noise, and the whole
    experiment is trained with it.

    Bad:
        def objective(trial):
            cfg.mode = "trial"
            return train(cfg)
    Good:
        def objective(trial):
            cfg.training.epochs = 3
            return train(cfg)
    """
    light = {mode.name for mode in contract.modes if not mode.whole}
    keys = {key for mode in contract.modes for key in mode.overrides}
    wrong: dict[tuple[str, int], tuple[list[Evidence], list[Walk]]] = {}
    sound: list[Evidence] = []
    searched = 0
    for walk in walks_of(flow, [contract.full]):
        course = course_of(walk, bundle)
        started = course.searches
        if not started:
            continue
        searched += 1
        search, final = course.search, course.final
        short = [limit for limit in search.limits() if not limit.loop.of_epochs]
        places = [
            evidence(bundle, limit.test.place, f"ends after {limit.batches} batches") for limit in short
        ]
        switched = [
            write
            for write in walk.of(ConfigWrite)
            if write.key.rpartition(".")[2] in keys
            and value_of(write) in light | {True}
            and course.in_search(write)
            and write.certain
        ]
        free = {(limit.test.place, limit.batches) for limit in final.limits()}
        cut = [limit for limit in short if limit.batches is not None and limit.batches <= 8]
        cut = [limit for limit in cut if (limit.test.place, limit.batches) not in free]
        if switched:
            place = evidence(bundle, switched[0].place, f"puts the search into mode {value_of(switched[0])}")
        elif cut and cut[0].test.certain:
            place = evidence(
                bundle, cut[0].test.place, f"ends the search's training after {cut[0].batches} batches"
            )
        else:
            sound.append(evidence(bundle, started[0].place, "searches"))
            continue
        asked = evidence(bundle, started[0].place, "the search, in full")
        found, walks = wrong.setdefault((place.where, place.line), ([place, *places, asked], []))
        walks.append(walk)
        del found
    for places, walks in wrong.values():
        unique = list(dict.fromkeys(places))
        yield failed(
            f"each trial of the search is cut down to a few batches: it judges noise ({names(walks)})",
            *unique[:5],
            do="let a trial of the search train: fewer epochs, not fewer batches",
        )
    if not wrong and sound:
        yield passed("the search is not cut down to a trial's batches", *sound[:2])
    elif not wrong:
        yield _no_search(bundle, flow)


def _no_search(bundle: Bundle, flow: Flow) -> Answer:
    for walk in flow.training:
        steps = course_of(walk, bundle).final.steps
        if steps and not walk.truncated:
            return passed("no search is started", evidence(bundle, steps[0].place, "trains as configured"))
    return cannot_tell("no search and no training was met")
