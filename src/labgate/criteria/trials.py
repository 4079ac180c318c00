"""Criterion 9, the trial: one epoch, two batches, no search, and every line that it vouches for."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from labgate.bundle import Bundle
from labgate.bundle.syntax import walked
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._differences import differences, spans, tail
from labgate.criteria._modes import Seen, held_by, light, plain, told, trains_at, value_of, walks_of, written
from labgate.criteria._training import Training, course_of
from labgate.finding import Answer, Evidence, Impact, cannot_tell, passed, remarked
from labgate.flow import ConfigRead, Flow, Known, Test, Walk
from labgate.flow.events import Event, evidence

LIGHT = ("modes.trial-light", "modes.sanity-light", "hydra.trial-sets", "hydra.sanity-sets")


@check(*LIGHT, impact=Impact.BREACHES)
def a_trial_trains_one_epoch(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """A trial trains for one epoch.

    A trial shows that the code runs. One that trains for all epochs costs what the experiment costs.

    Bad:
        for epoch in range(cfg.training.epochs):
            train_one_epoch()
    Good:
        if cfg.mode == "trial":
            cfg.training.epochs = 1
        for epoch in range(cfg.training.epochs):
            train_one_epoch()
    """
    seen = []
    for walk in walks_of(flow, light(contract)):
        wanted = contract.mode(walk.mode).sets["training.epochs"]
        training = course_of(walk, bundle).final
        held = held_by(bundle, walk, "training.epochs")
        counted = training.epochs()
        if counted is not None:
            epochs, place = counted
            places = (
                evidence(bundle, place, f"{epochs} epoch{'s' if epochs != 1 else ''}"),
                *written(bundle, held),
            )
            ended = [limit for limit in training.limits() if limit.loop.of_epochs]
            if epochs == wanted:
                seen.append(Seen(True, "", places, walk))
            elif ended:
                places = (*places, evidence(bundle, ended[0].test.place, "may end it"))
                good = True if ended[0].batches == wanted else None
                seen.append(Seen(good, "how many epochs the trial does cannot be told", places, walk))
            else:
                seen.append(Seen(False, f"the trial trains for {epochs} epochs, not {wanted}", places, walk))
        else:
            seen.append(_by_setting(bundle, walk, training, held, wanted))
    yield from told(
        seen, "a trial trains for one epoch", "set cfg.training.epochs = 1 where the mode is trial"
    )


def _by_setting(bundle: Bundle, walk: Walk, training: Training, held: Event | None, wanted: object) -> Seen:
    """No loop over epochs was met with a number: what the setting holds, or a bound on steps, must do."""
    bound = training.bounded()
    most = 0 if bound is None else bound[0]
    if bound is not None and most <= 10:
        place = evidence(bundle, bound[1], f"{most} rounds in all")
        return Seen(True, "", (place,), walk)
    if held is not None and held.certain and value_of(held) == wanted:
        return Seen(True, "", tuple(written(bundle, held)), walk)
    steps = [evidence(bundle, step.place, "a training step") for step in training.steps[:1]]
    return Seen(None, "how many epochs the trial does cannot be told", tuple(steps), walk)


@check(*LIGHT, impact=Impact.BREACHES)
def a_trial_stops_after_two_batches(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """A trial trains on one or two batches and then stops.

    One epoch of a large data set is hours; two batches have run the same lines.

    Bad:
        for batch in loader:
            step(batch)
    Good:
        for index, batch in enumerate(loader):
            if cfg.mode == "trial" and index >= 2:
                break
            step(batch)
    """
    seen = []
    for mode in contract.modes:
        if mode.max_batches is None:
            continue
        for walk in walks_of(flow, [mode]):
            seen.append(_batches(bundle, contract, flow, walk, mode.max_batches))
    yield from told(
        seen, "a trial stops after a few batches", "break out of the loop over batches in a trial"
    )


def _batches(bundle: Bundle, contract: Contract, flow: Flow, walk: Walk, most: int) -> Seen:
    training = course_of(walk, bundle).final
    if not training.steps:
        return Seen(None, "no training step was met", (), walk)
    step = evidence(bundle, training.steps[0].place, "a training step")
    bound = training.bounded()
    if bound is not None:
        place = evidence(bundle, bound[1], f"{bound[0]} batches")
        says = f"the trial trains on {bound[0]} batches, more than {most}"
        return Seen(bound[0] <= most, says, (place, step), walk)
    limits = [limit for limit in training.limits() if not limit.loop.of_epochs]
    known = [limit for limit in limits if limit.batches is not None]
    if known:
        first = min(known, key=lambda limit: limit.batches or 0)
        count = first.batches or 0
        least = "at least " if first.at_least else ""
        place = evidence(bundle, first.test.place, f"ends the loop after {least}{count} batches")
        says = f"the trial trains on {least}{count} batches, more than {most}"
        if first.at_least and count <= most:
            says = "on how many batches the trial trains cannot be told"
        good = None if first.at_least and count <= most else count <= most
        return Seen(good, says, (place, step), walk)
    whole = next((w for w in flow.training if w.run_id == walk.run_id and w.mode == contract.full.name), None)
    others = differences(bundle, contract, walk, whole) if whole is not None else []
    small = [place for place, number in others if number is not None and number <= most]
    if small:
        return Seen(True, "", (*small[:2], step), walk)
    if limits:
        place = evidence(bundle, limits[0].test.place, "may end the loop")
        return Seen(None, "after how many batches the trial stops cannot be told", (place, step), walk)
    if others or whole is None or walk.truncated or whole.truncated or not training.loops:
        places = tuple(place for place, _ in others[:3])
        return Seen(None, "whether the trial stops early cannot be told", (*places, step), walk)
    loop = training.loops[-1]
    if not training.steps[0].certain or loop.of_epochs or not isinstance(loop.node, ast.For):
        return Seen(None, "whether the trial stops early cannot be told", (step,), walk)
    place = evidence(bundle, loop.place, "goes over all batches, whatever the mode")
    return Seen(False, "nothing limits the batches of a trial", (place, step), walk)


@check(*LIGHT, impact=Impact.BREACHES)
def a_trial_does_not_search(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """A trial starts no search of hyper-parameters.

    A search trains again and again: a trial that searches is no trial.

    Bad:
        study.optimize(objective, n_trials=20)
    Good:
        if cfg.mode == "trial":
            cfg.optuna.n_trials = 0
        if cfg.optuna.n_trials > 0:
            study.optimize(objective, n_trials=cfg.optuna.n_trials)
    """
    modes = [mode for mode in light(contract) if mode.sets.get("optuna.n_trials") == 0]
    seen = []
    for walk in walks_of(flow, modes):
        held = held_by(bundle, walk, "optuna.n_trials")
        places = tuple(written(bundle, held))
        started = [(call, plain(call.argument(1, "n_trials"))) for call in course_of(walk, bundle).searches]
        asked = [call for call, number in started if isinstance(number, int) and number > 0 and call.certain]
        doubt = [call for call, number in started if number != 0]
        if asked:
            place = evidence(bundle, asked[0].place, "the search starts in a trial too")
            seen.append(Seen(False, "a trial searches hyper-parameters", (place, *places), walk))
        elif doubt:
            place = evidence(bundle, doubt[0].place, "may start")
            seen.append(Seen(None, "whether a trial searches cannot be told", (place, *places), walk))
        elif walk.truncated:
            seen.append(Seen(None, walk.truncated, places, walk))
        else:
            seen.append(Seen(True, "", places or trains_at(bundle, walk), walk))
    yield from told(
        seen, "no search starts in a trial", "set cfg.optuna.n_trials = 0 where the mode is trial"
    )


@check("modes.trial-purpose", impact=Impact.REMARKS)
def a_trial_comes_by_the_method(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """No part of the method waits for a step that a trial never reaches.

    A trial vouches for the lines that it runs. A term that sets in after 500 steps is first run hours into
    the whole experiment.

    Bad:
        if step >= cfg.method.warmup_steps:
            loss = loss + penalty(model)
    Good:
        if step >= min(cfg.method.warmup_steps, total_steps // 2):
            loss = loss + penalty(model)
    """
    late: dict[tuple[str, int], Answer] = {}
    reached: list[Evidence] = []
    for mode in contract.modes:
        for walk in walks_of(flow, [mode]) if mode.max_batches is not None else []:
            training = course_of(walk, bundle).final
            counts = [limit.batches for limit in training.limits() if limit.batches is not None]
            most = min(counts, default=None)
            if most is None:
                continue
            reached += [evidence(bundle, step.place, "reached in a trial") for step in training.steps[:1]]
            for test, read in _waiting(walk, training, most):
                key = (test.place.path, test.place.line)
                late.setdefault(
                    key,
                    remarked(
                        f"a trial of {most} steps never comes here: {read.key} is {value_of(read)}",
                        evidence(bundle, test.place, "waits for that step"),
                        *_from_config(bundle, contract, walk, read),
                        do="let a trial cross that boundary too",
                    ),
                )
    yield from late.values()
    if not late and reached:
        yield passed("nothing in the training loop waits for a later step", *reached[:2])
    elif not late:
        yield cannot_tell("how many steps a trial takes is not known")


def _waiting(walk: Walk, training: Training, most: int) -> Iterator[tuple[Test, ConfigRead]]:
    """Tests around the step that compare a counter with a setting beyond what a trial counts to."""
    lines = {
        (loop.source.path, n)
        for loop in training.loops
        for n in range(loop.node.lineno, (loop.node.end_lineno or 0) + 1)
    }
    reads = [r for r in walk.of(ConfigRead) if training.inside(r) and isinstance(r.value, Known)]
    for test in walk.of(Test):
        if test.came is True or not training.inside(test) or (test.place.path, test.place.line) not in lines:
            continue
        for part in walked(test.node):
            if not isinstance(part, ast.Compare) or not isinstance(part.ops[0], ast.GtE | ast.Gt):
                continue
            if not isinstance(part.left, ast.Name) or "step" not in part.left.id.lower():
                continue
            name = tail(part.comparators[0])
            for read in reads:
                value = value_of(read)
                beyond = isinstance(value, int) and not isinstance(value, bool) and value > most
                if beyond and read.key.rpartition(".")[2] == name and spans(read.place, test.place):
                    yield test, read
                    break


def _from_config(bundle: Bundle, contract: Contract, walk: Walk, read: ConfigRead) -> list[Evidence]:
    path = f"{contract.run_folder}/{walk.run_id}.yaml"
    line = bundle.key_line(path, *read.key.split(".")) if path in bundle.files else 0
    return [bundle.place(path, line, "sets that step")] if line else []
