"""Criterion 9 and the modes of criterion 2: what a mode must set holds while training, and nothing more."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labgate.bundle import BrokenFileError, Bundle
from labgate.checks import Answers, check
from labgate.contract import Contract, Mode
from labgate.criteria._training import Limit, Training, in_search, is_reached, searches, trainings
from labgate.finding import Answer, Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Call, ConfigRead, ConfigWrite, Flow, Known, Test, Walk, options
from labgate.flow.events import Event, Place, Put, evidence

LIGHT = ("modes.trial-light", "modes.sanity-light", "hydra.trial-sets", "hydra.sanity-sets")
_OFF = {"disabled", "offline", "dryrun"}


def _light(contract: Contract) -> list[Mode]:
    """The modes that are there to try the code out."""
    return [mode for mode in contract.modes if mode.sets.get("training.epochs") is not None]


def _walks(flow: Flow, modes: list[Mode]) -> list[Walk]:
    names = {mode.name for mode in modes}
    return [walk for walk in flow.training if walk.mode in names]


@dataclass(frozen=True)
class _Seen:
    """What was seen of one setting on one walk: `good` is None when it cannot be told."""

    good: bool | None
    says: str
    places: tuple[Evidence, ...]
    walk: Walk


def _told(seen: list[_Seen], good: str, do: str) -> Answers:
    """One failure for each place that is wrong; else a doubt; else a pass."""
    wrong: dict[tuple[str, tuple[Evidence, ...]], list[Walk]] = {}
    for one in seen:
        if one.good is False:
            wrong.setdefault((one.says, one.places), []).append(one.walk)
    for (says, places), walks in wrong.items():
        yield failed(f"{says} ({_names(walks)})", *places, do=do)
    doubts = [one for one in seen if one.good is None]
    if doubts and not wrong:
        yield cannot_tell(f"{doubts[0].says} ({_names([one.walk for one in doubts])})", *doubts[0].places)
    elif not wrong and seen:
        places = dict.fromkeys(place for one in seen for place in one.places)
        yield passed(good, *list(places)[:5])
    elif not seen:
        yield cannot_tell("there is no walk of such a mode")


def _names(walks: list[Walk]) -> str:
    names = list(dict.fromkeys(walk.name for walk in walks))
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


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
    elif lines or any(
        f'"{key}"' in s.text or f"'{key}'" in s.text or f".{key}" in s.text for s in bundle.sources.values()
    ):
        places = [bundle.place(path, line, "read here") for path, line in lines]
        yield cannot_tell(f"{key} is named, and no test of it was met", *places[:3])
    else:
        main = contract.main_module.replace(".", "/") + ".py"
        yield failed(
            f"nothing reads {key}: every mode does the same", bundle.place(main), do=f"test cfg.{key}"
        )


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
    for walk in _walks(flow, _light(contract)):
        wanted = contract.mode(walk.mode).sets["training.epochs"]
        training = trainings(bundle, walk)[1]
        held = _held(bundle, walk, "training.epochs")
        counted = training.epochs()
        if counted is not None:
            epochs, place = counted
            places = (
                evidence(bundle, place, f"{epochs} epoch{'s' if epochs != 1 else ''}"),
                *_written(bundle, held),
            )
            ended = [limit for limit in training.limits() if limit.loop.of_epochs]
            if epochs == wanted:
                seen.append(_Seen(True, "", places, walk))
            elif ended:
                places = (*places, evidence(bundle, ended[0].test.place, "may end it"))
                good = True if ended[0].batches == wanted else None
                seen.append(_Seen(good, "how many epochs the trial does cannot be told", places, walk))
            else:
                seen.append(_Seen(False, f"the trial trains for {epochs} epochs, not {wanted}", places, walk))
        else:
            seen.append(_by_setting(bundle, walk, training, held, wanted))
    yield from _told(
        seen, "a trial trains for one epoch", "set cfg.training.epochs = 1 where the mode is trial"
    )


def _by_setting(bundle: Bundle, walk: Walk, training: Training, held: Event | None, wanted: object) -> _Seen:
    """No loop over epochs was met with a number: what the setting holds, or a bound on steps, must do."""
    bound = training.bounded()
    most = 0 if bound is None else bound[0]
    if bound is not None and most <= 10:
        place = evidence(bundle, bound[1], f"{most} rounds in all")
        return _Seen(True, "", (place,), walk)
    if held is not None and held.certain and _value(held) == wanted:
        return _Seen(True, "", tuple(_written(bundle, held)), walk)
    steps = [evidence(bundle, step.place, "a training step") for step in training.steps[:1]]
    return _Seen(None, "how many epochs the trial does cannot be told", tuple(steps), walk)


def _written(bundle: Bundle, held: Event | None) -> list[Evidence]:
    if held is None:
        return []
    key = getattr(held, "key", "")
    label = f"sets {key}" if isinstance(held, ConfigWrite) else f"reads {key}"
    return [evidence(bundle, held.place, label)]


def _held(bundle: Bundle, walk: Walk, key: str) -> Event | None:
    """The last event that shows what a setting holds for the final training: a write, else a read."""
    last: Event | None = None
    for event in walk.of(ConfigWrite, ConfigRead):
        same = event.key == key or event.key.endswith(f".{key}")
        if same and is_reached(event) and not in_search(walk, event):
            if isinstance(event, ConfigWrite) or not isinstance(last, ConfigWrite):
                last = event
    return last


def _value(event: Event) -> object:
    value = getattr(event, "value", None)
    return value.value if isinstance(value, Known) else None


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
        for walk in _walks(flow, [mode]):
            seen.append(_batches(bundle, contract, flow, walk, mode.max_batches))
    yield from _told(
        seen, "a trial stops after a few batches", "break out of the loop over batches in a trial"
    )


def _batches(bundle: Bundle, contract: Contract, flow: Flow, walk: Walk, most: int) -> _Seen:
    training = trainings(bundle, walk)[1]
    if not training.steps:
        return _Seen(None, "no training step was met", (), walk)
    step = evidence(bundle, training.steps[0].place, "a training step")
    bound = training.bounded()
    if bound is not None:
        place = evidence(bundle, bound[1], f"{bound[0]} batches")
        says = f"the trial trains on {bound[0]} batches, more than {most}"
        return _Seen(bound[0] <= most, says, (place, step), walk)
    limits = [limit for limit in training.limits() if not limit.loop.of_epochs]
    known = [limit for limit in limits if limit.batches is not None]
    if known:
        first = min(known, key=lambda limit: limit.batches or 0)
        count = first.batches or 0
        place = evidence(bundle, first.test.place, f"ends the loop after {count} batches")
        return _Seen(
            count <= most, f"the trial trains on {count} batches, more than {most}", (place, step), walk
        )
    whole = next((w for w in flow.training if w.run_id == walk.run_id and w.mode == contract.full.name), None)
    others = _differences(bundle, contract, walk, whole) if whole is not None else []
    small = [place for place, number in others if number is not None and number <= most]
    if small:
        return _Seen(True, "", (*small[:2], step), walk)
    if limits:
        place = evidence(bundle, limits[0].test.place, "may end the loop")
        return _Seen(None, "after how many batches the trial stops cannot be told", (place, step), walk)
    if others or whole is None or walk.truncated or whole.truncated or not training.loops:
        places = tuple(place for place, _ in others[:3])
        return _Seen(None, "whether the trial stops early cannot be told", (*places, step), walk)
    loop = training.loops[-1]
    if not training.steps[0].certain or loop.of_epochs or not isinstance(loop.node, ast.For):
        return _Seen(None, "whether the trial stops early cannot be told", (step,), walk)
    place = evidence(bundle, loop.place, "goes over all batches, whatever the mode")
    return _Seen(False, "nothing limits the batches of a trial", (place, step), walk)


def _differences(
    bundle: Bundle, contract: Contract, walk: Walk, whole: Walk
) -> list[tuple[Evidence, int | None]]:
    """What a trial does otherwise than the whole experiment, besides what the contract lists: (place, number).

    The number is a setting's new value, or one that stands in the branch.
    """
    listed = {key for mode in contract.modes for key in (*mode.sets, *mode.overrides)}
    plain = {key.rpartition(".")[2] for key in listed} | {"mode", "wandb"}
    found: dict[str, tuple[Evidence, int | None]] = {}
    before = {(e.place, e.key, repr(e.value)) for e in whole.of(ConfigWrite)}
    for write in walk.of(ConfigWrite):
        if (write.place, write.key, repr(write.value)) in before or not is_reached(write):
            continue
        if write.key.rpartition(".")[2] in plain or write.key.startswith("wandb."):
            continue
        number = write.value.value if isinstance(write.value, Known) else None
        counts = isinstance(number, int) and ("batch" in write.key or "step" in write.key)
        place = evidence(bundle, write.place, f"sets {write.key} in a trial")
        found[f"{place}{write.key}"] = (place, int(number) if counts and isinstance(number, int) else None)
    came = {}
    for test in whole.of(Test):
        came.setdefault((test.place, id(test.node)), set()).add(test.came)
    for test in walk.of(Test):
        if not is_reached(test) or test.came in came.get((test.place, id(test.node)), {test.came}):
            continue
        keys = {r.key.rpartition(".")[2] for r in walk.of(ConfigRead) if _on(r.place, test.place)}
        if _only_sets(bundle, test, plain) or (keys and keys <= plain - {"mode", "trial_mode"}):
            continue
        place = evidence(bundle, test.place, "goes another way in a trial")
        found[str(place)] = (place, _number_in(bundle, test))
    return list(found.values())


def _on(place: Place, other: Place) -> bool:
    return place.path == other.path and other.line <= place.line <= max(other.line, other.end_line)


def _statement(bundle: Bundle, test: Test) -> ast.If | ast.IfExp | None:
    source = bundle.sources.get(test.place.path)
    for node in source.nodes if source is not None else ():
        if isinstance(node, ast.If | ast.IfExp) and node.test is test.node:
            return node
    return None


def _only_sets(bundle: Bundle, test: Test, plain: set[str]) -> bool:
    """Whether a branch does nothing but set what the contract lists, raise and print."""
    node = _statement(bundle, test)
    if not isinstance(node, ast.If):
        return False
    for statement in node.body if test.came else node.orelse:
        if isinstance(statement, ast.Raise | ast.Pass):
            continue
        if isinstance(statement, ast.Assign):
            names = {_tail(target) for target in statement.targets}
            if names <= plain:
                continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            call = statement.value
            words = {a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
            if _tail(call.func) in ("print", "info", "set_struct") or any(
                w.rpartition(".")[2] in plain for w in words
            ):
                continue
        return False
    return True


def _tail(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return node.id if isinstance(node, ast.Name) else ""


def _number_in(bundle: Bundle, test: Test) -> int | None:
    """The integer that a branch gives to a name that speaks of batches or steps."""
    node = _statement(bundle, test)
    source = bundle.sources.get(test.place.path)
    if isinstance(node, ast.IfExp) and source is not None:
        taken = node.body if test.came else node.orelse
        whole = source.line(node.lineno).lower()
        if (
            isinstance(taken, ast.Constant)
            and isinstance(taken.value, int)
            and ("batch" in whole or "step" in whole)
        ):
            return None if "batch_size" in whole else taken.value
    if isinstance(node, ast.If):
        for statement in node.body if test.came else node.orelse:
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
                name = _tail(statement.targets[0]).lower()
                number = statement.value.value
                if isinstance(number, int) and ("batch" in name or "step" in name) and "size" not in name:
                    return number
    return None


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
    modes = [mode for mode in _light(contract) if mode.sets.get("optuna.n_trials") == 0]
    seen = []
    for walk in _walks(flow, modes):
        held = _held(bundle, walk, "optuna.n_trials")
        places = tuple(_written(bundle, held))
        started = [(call, _value_of(call.argument(1, "n_trials"))) for call in searches(walk)]
        asked = [call for call, number in started if isinstance(number, int) and number > 0 and call.certain]
        doubt = [call for call, number in started if number != 0]
        if asked:
            place = evidence(bundle, asked[0].place, "the search starts in a trial too")
            seen.append(_Seen(False, "a trial searches hyper-parameters", (place, *places), walk))
        elif doubt:
            place = evidence(bundle, doubt[0].place, "may start")
            seen.append(_Seen(None, "whether a trial searches cannot be told", (place, *places), walk))
        elif walk.truncated:
            seen.append(_Seen(None, walk.truncated, places, walk))
        else:
            seen.append(_Seen(True, "", places or _anywhere(bundle, walk), walk))
    yield from _told(
        seen, "no search starts in a trial", "set cfg.optuna.n_trials = 0 where the mode is trial"
    )


def _anywhere(bundle: Bundle, walk: Walk) -> tuple[Evidence, ...]:
    steps = [call for call in walk.of(Call) if call.path.endswith(".backward") and call.certain]
    return tuple(evidence(bundle, call.place, "trains without a search before") for call in steps[:1])


def _value_of(value: object) -> object:
    return value.value if isinstance(value, Known) else None


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
    yield from _tracking(bundle, contract, flow, _light(contract), "a trial")


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
    for walk in _walks(flow, modes):
        wanted = str(contract.mode(walk.mode).sets.get("wandb.mode", "online"))
        seen.append(_tracked(bundle, walk, wanted, what))
    do = "set cfg.wandb.mode where the mode is tested, and hand it to wandb.init"
    yield from _told(seen, f"W&B is in the state that {what} asks for", do)


def _tracked(bundle: Bundle, walk: Walk, wanted: str, what: str) -> _Seen:
    held = _held(bundle, walk, "wandb.mode")
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
        if in_search(walk, event):
            continue
        state = _state(event, variable)
        place = evidence(bundle, event.place, f"starts W&B {state or 'in a mode that is not known'}")
        if state is None or event.spread:
            doubts.append(place)
        elif (state in _OFF) != (wanted in _OFF):
            if event.certain:
                says = f"W&B is {state} in {what}, not {wanted}"
                return _Seen(False, says, (place, *_written(bundle, held)), walk)
            doubts.append(place)
        else:
            good.append(place)
    if doubts:
        return _Seen(None, "in which mode W&B starts cannot be told", tuple(doubts[:2]), walk)
    places = (*good[:2], *_written(bundle, held))
    if good:
        return _Seen(True, "", places, walk)
    if wanted in _OFF and not walk.truncated and any(_trains(event) for event in walk.events):
        return _Seen(True, "", places or _untracked(bundle, walk), walk)
    return _Seen(None, "no certain start of W&B was met", places, walk)


def _trains(event: Event) -> bool:
    return isinstance(event, Call) and is_reached(event)


def _untracked(bundle: Bundle, walk: Walk) -> tuple[Evidence, ...]:
    steps = [call for call in walk.of(Call) if call.path.endswith(".backward") and is_reached(call)]
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
    for walk in _walks(flow, [contract.full]):
        seen.append(_whole(bundle, contract, walk))
    yield from _told(seen, "the whole experiment does what its config asks for", "take the limit out of full")


def _whole(bundle: Bundle, contract: Contract, walk: Walk) -> _Seen:
    path = f"{contract.run_folder}/{walk.run_id}.yaml"
    asked = _asked(bundle, path)
    training = trainings(bundle, walk)[1]
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
            return _Seen(False, f"full trains for {counted[0]} of {epochs} epochs", places, walk)
        good += places
    trials = asked.get("optuna.n_trials")
    for call in searches(walk):
        number = _value_of(call.argument(1, "n_trials"))
        if isinstance(number, int) and isinstance(trials, int) and call.certain:
            line = bundle.key_line(path, "optuna", "n_trials")
            places = (
                evidence(bundle, call.place, f"{number} trials"),
                bundle.place(path, line, "asks for these"),
            )
            if number < trials:
                return _Seen(False, f"full searches {number} of {trials} trials", places, walk)
            good += places
    for limit in training.limits():
        if limit.batches is not None and _is_literal(limit) and limit.test.certain:
            place = evidence(bundle, limit.test.place, "in every mode")
            return _Seen(False, f"full stops after {limit.batches} rounds of its loop", (place,), walk)
    if good:
        return _Seen(True, "", tuple(good), walk)
    steps = tuple(evidence(bundle, step.place, "a training step") for step in training.steps[:1])
    if walk.truncated or not training.steps:
        return _Seen(None, "the training was not followed to its end", steps, walk)
    bound = training.bounded()
    if bound is not None and bound[0] in asked.values():
        return _Seen(True, "", (evidence(bundle, bound[1], f"{bound[0]} rounds, as the config asks"),), walk)
    return _Seen(None, "how long the whole experiment trains cannot be told", steps, walk)


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
    """A trial of the search trains before it is judged; it is not cut down to the batches of a mode for trying out.

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
    for walk in _walks(flow, [contract.full]):
        started = searches(walk)
        if not started:
            continue
        searched += 1
        search, final = trainings(bundle, walk)
        short = [limit for limit in search.limits() if not limit.loop.of_epochs]
        places = [
            evidence(bundle, limit.test.place, f"ends after {limit.batches} batches") for limit in short
        ]
        switched = [
            write
            for write in walk.of(ConfigWrite)
            if write.key.rpartition(".")[2] in keys
            and _value(write) in light | {True}
            and in_search(walk, write)
            and write.certain
        ]
        free = {(limit.test.place, limit.batches) for limit in final.limits()}
        cut = [limit for limit in short if limit.batches is not None and limit.batches <= 8]
        cut = [limit for limit in cut if (limit.test.place, limit.batches) not in free]
        if switched:
            place = evidence(bundle, switched[0].place, f"puts the search into mode {_value(switched[0])}")
        elif cut and search.steps and search.steps[0].certain:
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
            f"each trial of the search is cut down to a few batches: it judges noise ({_names(walks)})",
            *unique[:5],
            do="let a trial of the search train: fewer epochs, not fewer batches",
        )
    if not wrong and sound:
        yield passed("the search is not cut down to a trial's batches", *sound[:2])
    elif not wrong:
        yield _no_search(bundle, flow)


def _no_search(bundle: Bundle, flow: Flow) -> Answer:
    for walk in flow.training:
        steps = [call for call in walk.of(Call) if call.path.endswith(".backward") and call.certain]
        if steps and not walk.truncated:
            return passed("no search is started", evidence(bundle, steps[0].place, "trains as configured"))
    return cannot_tell("no search and no training was met")


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
        for walk in _walks(flow, [mode]) if mode.max_batches is not None else []:
            training = trainings(bundle, walk)[1]
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
                        f"a trial of {most} steps never comes here: {read.key} is {_value(read)}",
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
        for part in ast.walk(test.node):
            if not isinstance(part, ast.Compare) or not isinstance(part.ops[0], ast.GtE | ast.Gt):
                continue
            if not isinstance(part.left, ast.Name) or "step" not in part.left.id.lower():
                continue
            name = _tail(part.comparators[0])
            for read in reads:
                value = _value(read)
                beyond = isinstance(value, int) and not isinstance(value, bool) and value > most
                if beyond and read.key.rpartition(".")[2] == name and _on(read.place, test.place):
                    yield test, read
                    break


def _from_config(bundle: Bundle, contract: Contract, walk: Walk, read: ConfigRead) -> list[Evidence]:
    path = f"{contract.run_folder}/{walk.run_id}.yaml"
    line = bundle.key_line(path, *read.key.split(".")) if path in bundle.files else 0
    return [bundle.place(path, line, "sets that step")] if line else []
