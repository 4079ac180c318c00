"""Integrity: what is reported was not used to tune or to select, and is not what was trained on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from labgate.bundle import Bundle
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._objectives import body, returns
from labgate.criteria._samples import Split, Trace, reached
from labgate.finding import Answer, Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Flow
from labgate.flow.events import Call, ConfigRead, Entered, Event, Place, Put, Test, Walk, evidence
from labgate.flow.values import Known, Map, Value

_BEST = re.compile(r"(^|_)best(_|$)|^best", re.IGNORECASE)
_VALIDATION = re.compile(r"(^|[/_.])(val|valid|validation|dev|eval)([/_.]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class _Choice:
    """Something that is decided by looking at examples."""

    what: str
    event: Event
    splits: frozenset[Split]
    walk: Walk

    @property
    def place(self) -> Place:
        return self.event.place


def _choices(walk: Walk, splits: Trace) -> Iterator[_Choice]:
    """What a walk tunes or selects, and on which splits."""
    for event in walk.of(Call, Test):
        if not reached(event):
            continue
        if isinstance(event, Call):
            for what, value in _chosen_by_call(event):
                yield _Choice(what, event, splits(value), walk)
        elif isinstance(event.node, ast.Compare) and _keeps_the_best(event.node):
            yield _Choice("what is best so far", event, splits(event.value), walk)


def _chosen_by_call(call: Call) -> Iterator[tuple[str, Value]]:
    tail = call.path.rpartition(".")[2]
    if tail == "optimize":
        yield from (("the search's objective", value) for value in call.gave)
    elif tail in ("max", "min") and call.path.startswith("builtins.") and call.node is not None:
        if len(call.args) == 2 and any(_best_name(part) for part in call.node.args):
            yield from (("what is best so far", value) for value in call.args)
    elif call.path.endswith("ReduceLROnPlateau().step") and call.args:
        yield "the learning rate's steps", call.args[0]


def _keeps_the_best(node: ast.Compare) -> bool:
    if len(node.ops) != 1 or not isinstance(node.ops[0], ast.Gt | ast.Lt | ast.GtE | ast.LtE):
        return False
    return any(_best_name(side) for side in (node.left, node.comparators[0]))


def _best_name(node: ast.expr) -> bool:
    """Whether an expression is a name, attribute or key that says `best`."""
    if isinstance(node, ast.BinOp):
        return _best_name(node.left) or _best_name(node.right)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return isinstance(node.slice.value, str) and _BEST.search(node.slice.value) is not None
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return _BEST.search(name) is not None


def _reported(walk: Walk) -> Iterator[tuple[Event, str, Value]]:
    """Each value that a walk hands to W&B, with its key."""
    for event in walk.of(Call, Put):
        if isinstance(event, Put):
            if "wandb" in event.path and "summary" in event.path and isinstance(event.key, Known):
                yield event, str(event.key.value), event.value
        elif event.path in ("wandb.log", "wandb.init().log", "wandb.run.log") or (
            event.path.startswith("wandb.") and event.path.endswith("summary.update")
        ):
            given = event.args[0] if event.args else None
            if isinstance(given, Map):
                for key, value in given.items.items():
                    yield event, str(key), value


def _tested(found: frozenset[Split], shown: frozenset[Split]) -> Split | None:
    """The test split, when nothing else is held out and looked at, and it is whole, or shown whole."""
    held = [split for split in found if split.kind != "train" or split.part]
    whole = {(split.data, split.name) for split in shown if split.kind == "test" and not split.part}
    tests = [
        split
        for split in held
        if split.kind == "test" and split.sure and (not split.part or (split.data, split.name) in whole)
    ]
    parts = {split.kind for split in held if split.kind != "train"}
    trained = any(split.kind == "train" for split in held) and not all(split.part for split in tests)
    return tests[0] if tests and parts == {"test"} and not trained else None


@check("integrity.test-split-not-used-for-selection", impact=Impact.MISLEADS)
def nothing_is_chosen_on_the_test_split(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """What the search and the best epoch are chosen by is not the test split.

    The best of twenty trials and ten epochs on the test split is too good by what luck gives, and more so for
    the method that searches longer. The number then stands in the paper as a test result.

    Bad:
        val_ds = load_dataset("gsm8k", "main", split="test")
        study.optimize(lambda trial: accuracy(train(trial), val_ds), n_trials=20)
    Good:
        parts = load_dataset("gsm8k", "main", split="train").train_test_split(0.1, seed=0)
        study.optimize(lambda trial: accuracy(train(trial, parts["train"]), parts["test"]), n_trials=20)
    """
    walks = [walk for walk in flow.training if walk.mode == contract.full.name]
    splits = Trace()
    choices = [choice for walk in walks for choice in _choices(walk, splits)]
    shown = frozenset(split for walk in walks for _, _, value in _reported(walk) for split in splits(value))
    by_test: dict[str, list[tuple[_Choice, Split]]] = {}
    for choice in choices:
        split = _tested(choice.splits, shown)
        if split is not None and choice.event.certain:
            by_test.setdefault(split.data, []).append((choice, split))
    for chosen in by_test.values():
        yield _chosen_on_test(bundle, contract, chosen, splits)
    if by_test:
        return
    doubtful = [choice for choice in choices if any(split.kind == "test" for split in choice.splits)]
    settled = [choice for choice in choices if choice.splits and choice not in doubtful]
    if doubtful:
        place = evidence(bundle, doubtful[0].place, f"{doubtful[0].what} is chosen")
        yield cannot_tell(f"{doubtful[0].what} may hang on {_listed(doubtful[0].splits)}", place)
    elif settled:
        where = {c.place.line: evidence(bundle, c.place, f"chooses {c.what}") for c in settled}
        yield passed(f"what is chosen hangs on {_listed(settled[0].splits)}", *list(where.values())[:3])
        yield from _chosen_and_reported(bundle, settled, shown)
    elif not walks or any(walk.truncated for walk in walks):
        yield cannot_tell("the training could not be followed to its end")
    elif choices:
        place = evidence(bundle, choices[0].place, f"chooses {choices[0].what}")
        yield cannot_tell("on which examples the choice hangs is not settled by reading", place)
    else:
        reports = [event for walk in walks for event, _, _ in _reported(walk)]
        if reports:
            place = evidence(bundle, reports[0].place, "reports to W&B")
            yield passed("nothing is searched, and no epoch is chosen", place)
        else:
            yield cannot_tell("nothing is seen to be chosen or reported")


def _chosen_on_test(
    bundle: Bundle, contract: Contract, chosen: list[tuple[_Choice, Split]], splits: Trace
) -> Answer:
    split = chosen[0][1]
    places = {
        (choice.place.path, choice.place.line): evidence(bundle, choice.place, f"chooses {choice.what} by it")
        for choice, _ in chosen
    }
    loads = {s.place: evidence(bundle, s.place, "loads it") for _, s in chosen}
    says = " and ".join(dict.fromkeys(choice.what for choice, _ in chosen))
    return failed(
        f"{says} hang{'s' if ' and ' not in says else ''} on the test split, {split}",
        *places.values(),
        *_looks(bundle, chosen, splits),
        *loads.values(),
        *_settings(bundle, contract, chosen[0][0].walk, split),
        do="hold out a part of the training split for it, and look at the test split once, at the end",
    )


def _looks(bundle: Bundle, chosen: list[tuple[_Choice, Split]], splits: Trace) -> list[Evidence]:
    """Where an objective looks at the split, and what it hands back."""
    found: dict[Evidence, None] = {}
    for choice, split in chosen:
        call = choice.event
        if not isinstance(call, Call) or not call.gave:
            continue
        path, first, last = body(bundle, call)
        entries: Iterator[Entered] = choice.walk.of(Entered)
        for entry in entries:
            inside = entry.place.path == path and first <= entry.place.line <= last
            seen = {(s.data, s.name) for v in entry.args.values() for s in splits(v)} if inside else set()
            if (split.data, split.name) in seen:
                found[evidence(bundle, entry.place, "looks at it")] = None
        found.update(dict.fromkeys(returns(bundle, call)))
    return list(found)[:4]


def _settings(bundle: Bundle, contract: Contract, walk: Walk, split: Split) -> list[Evidence]:
    """Config lines that name the split."""
    found: dict[tuple[str, int], Evidence] = {}
    for read in walk.of(ConfigRead):
        if read.value != Known(split.name) or not re.search(r"split|val|dev|eval|test", read.key):
            continue
        keys = read.key.split(".")
        if keys[0] == contract.run_key:
            keys = keys[1:]
        for path in (f"{contract.run_folder}/{walk.run_id}.yaml", contract.config_file):
            line = bundle.key_line(path, *keys) if path in bundle.files else 0
            if line:
                found[path, line] = bundle.place(path, line, "names it")
                break
    return list(found.values())[:2]


def _chosen_and_reported(bundle: Bundle, settled: list[_Choice], shown: frozenset[Split]) -> Iterator[Answer]:
    """Where the only held-out examples choose and are reported too: the number is a little too good."""
    chosen = {(s.data, s.kind) for c in settled for s in c.splits if s.kind == "validation"}
    looked = {(s.data, s.kind) for s in shown if s.kind != "train" or s.part}
    if chosen and looked == chosen:
        places = {c.place.line: evidence(bundle, c.place, f"chooses {c.what}") for c in settled}
        yield remarked(
            f"the same split chooses and is reported, {_listed(settled[0].splits)}:"
            " the result is a little too good",
            *list(places.values())[:3],
            do="choose on a part of the training split, or say so beside the result",
        )


def _listed(found: Iterable[Split]) -> str:
    words = []
    for split in sorted(found, key=str):
        words.append(f"{'a part of ' if split.part else ''}{split}")
    return ", ".join(dict.fromkeys(words))


@check("integrity.test-split-not-used-for-selection", impact=Impact.MISLEADS)
def validation_is_not_the_training_data(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """What is logged as validation is measured on examples that were held out.

    A score on the training split rises as long as the model learns it by heart; early stopping and the search
    then choose what overfits most.

    Bad:
        loader = DataLoader(load_dataset("ag_news", split="train"))
        wandb.log({"val_accuracy": accuracy(model, loader)})
    Good:
        loader = DataLoader(load_dataset("ag_news", split="train").train_test_split(0.1)["test"])
        wandb.log({"val_accuracy": accuracy(model, loader)})
    """
    walks = [walk for walk in flow.training if walk.mode == contract.full.name]
    wrong: dict[tuple[str, int, str], tuple[Event, Split]] = {}
    fine: list[Event] = []
    called = False
    splits = Trace()
    for walk in walks:
        for event, key, value in _reported(walk):
            called = called or _VALIDATION.search(key) is not None
            found = splits(value) if _VALIDATION.search(key) else frozenset()
            if found and all(s.kind == "train" and s.sure and not (s.part or s.picked) for s in found):
                wrong.setdefault((event.place.path, event.place.line, key), (event, next(iter(found))))
            elif found:
                fine.append(event)
    for (_, _, key), (event, split) in wrong.items():
        answer = (
            f"{key!r} is measured on the training split itself, {split}",
            evidence(bundle, event.place, f"reports {key}"),
            evidence(bundle, split.place, "loads it"),
        )
        if event.certain:
            yield failed(*answer, do="hold out a part of the training split, and measure on that")
        else:
            yield cannot_tell(f"if it is reached, {answer[0]}", *answer[1:])
    if wrong:
        return
    if fine:
        yield passed("what is called validation was held out", evidence(bundle, fine[0].place, "reports it"))
    elif walks and not called and not any(walk.truncated for walk in walks):
        yield passed("nothing is reported as validation")
    else:
        yield cannot_tell("nothing that is reported as validation could be traced to its examples")
