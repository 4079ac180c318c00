"""Criterion 8, the evaluation: its command, what it fetches from W&B, and what it writes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from labgate.bundle import Bundle
from labgate.bundle.syntax import walked
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria import _command_line, _lookups
from labgate.criteria._outputs import HOLE, paths
from labgate.criteria._tracing import (
    caller,
    cut,
    evaluation_walk,
    nodes_at,
    parts_of,
    reached,
    texts,
)
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Flow
from labgate.flow.events import Call, Event, Fault, Place, Started, Use, evidence
from labgate.flow.flow import RESULTS
from labgate.flow.values import Known, sources


@check(
    "evaluation.run-ids-json", "evaluation.independent-command", "hydra.cli-evaluate", impact=Impact.BLOCKS
)
def command_line_is_understood(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """The evaluation takes the contract's own command: `results_dir=PATH run_ids='["run-1", …]'`.

    Those words have no dashes. A parser that wants `--run_ids` refuses them, and a positional one takes the
    `run_ids=` for a part of the JSON: the evaluation dies after every run has been paid for.

    Bad:
        parser.add_argument("--run_ids", type=json.loads)
    Good:
        given = dict(word.split("=", 1) for word in sys.argv[1:])
        run_ids = json.loads(given["run_ids"])
    """
    walk = evaluation_walk(flow)
    faults = [fault for fault in walk.of(Fault) if _command_line.is_about_it(fault, walk)]
    sure = [fault for fault in faults if fault.certain and not fault.guarded]
    misplaced = _command_line.misplaced(walk)
    if sure:
        yield _command_line.refused(bundle, sure[0], misplaced)
        return
    leaves = _command_line.leaves(bundle, walk)
    if leaves is not None:
        yield failed(
            "the evaluation ends at the words of its own command",
            evidence(bundle, leaves.place, "leaves here"),
            do=f"take the words as they come: {' '.join(walk.argv)[:120]}",
        )
    elif misplaced is not None:
        yield failed(
            "what is taken for the results folder is the whole word `results_dir=…`",
            evidence(bundle, misplaced.place, f"a path that begins with results_dir={RESULTS}"),
            do="split the word at its first `=`",
            impact=Impact.BREACHES,
        )
    elif faults or cut(walk):
        places = [evidence(bundle, fault.place, fault.says) for fault in faults[:1]]
        yield cannot_tell(
            f"how the command is taken is not known{': ' + cut(walk) if cut(walk) else ''}", *places
        )
    else:
        yield from _command_line.taken(bundle, contract, walk)


@check("evaluation.main-does-not-call", impact=Impact.BREACHES)
def main_never_evaluates(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """Neither main.py nor train.py starts the evaluation.

    It compares runs, and is called once when all have ended. Called at the end of each, it asks W&B for runs
    that are not there yet.

    Bad:
        subprocess.run([sys.executable, "-m", "src.evaluate", f"results_dir={cfg.results_dir}"])
    Good:
        subprocess.run([sys.executable, "-u", "-m", "src.train", *sys.argv[1:]])
    """
    if not flow.training:
        yield cannot_tell("no walk of the training could be followed")
        return
    found: dict[object, tuple[Event, str]] = {}
    trains: Event | None = None
    for walk in flow.training:
        for started in walk.of(Started):
            if started.module == contract.evaluate_module and started.stack:
                found.setdefault(started.stack[-1], (started, "starts the evaluation"))
            elif started.module == contract.train_module and started.stack and trains is None:
                trains = started
    for path, line in _spoken(bundle, contract):
        found.setdefault((path, line), (Event(Place(path, line), True, False, ()), "starts the evaluation"))
    if found:
        places: list[Evidence] = []
        for event, label in found.values():
            place = event.stack[-1] if event.stack else event.place
            if (place.path, place.line) not in [(p.where, p.line) for p in places]:
                places.append(evidence(bundle, place, label))
        yield failed(
            "the training starts the evaluation",
            *places[:3],
            do="leave it out: the evaluation has a command of its own",
        )
    elif trains is not None:
        yield passed("main starts the training alone", evidence(bundle, trains.stack[-1], "starts src.train"))
    else:
        source = bundle.module(contract.main_module)
        yield passed(
            "nothing starts the evaluation",
            *([bundle.place(source.path, 0, "never speaks of the evaluation")] if source is not None else []),
        )


def _spoken(bundle: Bundle, contract: Contract) -> Iterator[tuple[str, int]]:
    """Commands in main and train that name the evaluation, wherever they stand."""
    evaluation = contract.evaluate_module
    file = evaluation.replace(".", "/") + ".py"
    for module in (contract.main_module, contract.train_module):
        source = bundle.module(module)
        for node in walked(source.tree) if source is not None and source.tree is not None else ():
            if not isinstance(node, ast.Call) or not _starts_something(node.func):
                continue
            words = [
                w.value for w in walked(node) if isinstance(w, ast.Constant) and isinstance(w.value, str)
            ]
            if any(
                re.search(rf"(^|\s)({re.escape(evaluation)}|{re.escape(file)})(\s|$)", word) for word in words
            ):
                assert source is not None
                yield source.path, node.lineno


def _starts_something(func: ast.expr) -> bool:
    name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
    return name in ("run", "Popen", "call", "check_call", "check_output", "system", "run_module", "execvp")


@check("evaluation.reads-config-yaml", impact=Impact.BREACHES)
def wandb_project_comes_from_the_config(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """The evaluation takes the W&B entity and project from config.yaml.

    Training logs to the address that stands there. A second copy of it in the evaluation is right until one
    of the two is changed.

    Bad:
        run = wandb.Api().run(f"my-team/my-project/{run_id}")
    Good:
        tracking = OmegaConf.load("config/config.yaml").wandb
        run = wandb.Api().run(f"{tracking.entity}/{tracking.project}/{run_id}")
    """
    walk = evaluation_walk(flow)
    reads = [call for call in walk.of(Call) if _reads(call, contract) and reached(bundle, call)]
    composed = _composed(flow, contract)
    elsewhere = [
        (call, path) for call in walk.of(Call) if reached(bundle, call) for path in _other_yaml(call)
    ]
    looked = [call for call in walk.of(Call) if call.path.endswith(("Api().run", "Api().runs"))]
    looked = [call for call in looked if reached(bundle, call)]
    address = [evidence(bundle, call.place, "the address it is used for") for call in looked[:1]]
    if reads:
        yield passed(
            f"the evaluation reads {contract.config_file}",
            evidence(bundle, reads[0].place, "read here"),
            *address,
        )
    elif composed is not None:
        yield passed(f"the evaluation composes {contract.config_file} with Hydra", composed, *address)
    elif elsewhere and not cut(walk):
        call, path = elsewhere[0]
        yield failed(
            f"the evaluation takes its W&B settings from {path}",
            evidence(bundle, call.place, f"reads {path}"),
            *address,
            do=f"load {contract.config_file}, in the root of the repository",
        )
    elif cut(walk) or any(call.path.endswith((".load", ".safe_load", ".compose")) for call in walk.of(Call)):
        yield cannot_tell("whether the evaluation reads config.yaml is not known", *address)
    elif looked:
        yield failed(
            f"the evaluation never reads {contract.config_file}",
            *address,
            do=f"load {contract.config_file} with OmegaConf and use its wandb.entity and wandb.project",
        )
    else:
        yield cannot_tell("the evaluation was not seen to look up a run")


def _reads(call: Call, contract: Contract) -> bool:
    if not (call.path.endswith(("OmegaConf.load", "builtins.open", "read_text"))):
        return False
    for text in texts(call.argument(0, "file", "file_")):
        path = str(text.value) if isinstance(text, Known) else "".join(part or HOLE for part in text.parts)
        if path.endswith(contract.config_file) or path.endswith(
            HOLE + contract.config_file.rpartition("/")[2]
        ):
            return True
    return False


def _other_yaml(call: Call) -> Iterator[str]:
    """The known paths of YAML files that a call reads."""
    mode = call.argument(1, "mode") if call.path == "builtins.open" else None
    if isinstance(mode, Known) and "r" not in str(mode.value):
        return
    if call.path.endswith(("OmegaConf.load", "builtins.open", "read_text")):
        for path in paths(call.argument(0, "file", "file_")):
            if path.endswith((".yaml", ".yml")) and HOLE not in path:
                yield path


def _composed(flow: Flow, contract: Contract) -> Evidence | None:
    """Where the evaluation is a Hydra program, or composes by hand."""
    walk = flow.evaluation[0]
    for call in walk.of(Call):
        if call.path in ("hydra.main", "hydra.compose") and not any(
            f.key == call.path for f in walk.of(Fault)
        ):
            return evidence(flow.bundle, call.place, "composed here")
    return None


@check("evaluation.api-run", "evaluation.uses-api", impact=Impact.BREACHES)
def runs_are_looked_up_in_wandb(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """The evaluation looks each run up in W&B where the training puts it.

    `api.run("entity/project/id")` goes by the id. A run that was started without `id=` has one that W&B made
    up, and only its name is the one that the evaluation knows.

    Bad:
        wandb.init(project=cfg.wandb.project, name=cfg.run_id)
    Good:
        wandb.init(entity=cfg.wandb.entity, project=cfg.wandb.project, id=cfg.run_id)
    """
    walk = evaluation_walk(flow)
    looked = [call for call in walk.of(Call) if call.path.endswith("Api().run") and reached(bundle, call)]
    listed = [call for call in walk.of(Call) if call.path.endswith("Api().runs") and reached(bundle, call)]
    if not looked and not listed:
        if cut(walk) or any("wandb" in use.path for use in walk.of(Use)) or _lookups.stops_early(walk):
            yield cannot_tell("the evaluation was not seen to look up a run")
            return
        source = bundle.module(walk.module)
        yield failed(
            "the evaluation never asks W&B for a run",
            *([bundle.place(source.path, 0, "never calls wandb.Api().run")] if source is not None else []),
            do='fetch each run with wandb.Api().run(f"{entity}/{project}/{run_id}")',
        )
        return
    if not looked:
        yield from _lookups.by_listing(bundle, listed)
        return
    yield from _lookups.lookups(bundle, contract, flow, looked)


@check("evaluation.api-retrieves", impact=Impact.BREACHES)
def retrieved_data_can_be_written(bundle: Bundle, flow: Flow) -> Answers:
    """History, summary and config of a run are fetched in a form that JSON can hold.

    `run.summary` is an object of W&B's, and so is every mapping inside it, `_wandb` among them: json.dump of
    `dict(run.summary)` is a TypeError. `run.summary._json_dict` is plain.

    Bad:
        json.dump({"summary": dict(run.summary)}, file)
    Good:
        json.dump({"summary": run.summary._json_dict}, file)
    """
    walk = evaluation_walk(flow)
    dumps = [
        call for call in walk.of(Call) if call.path in ("json.dump", "json.dumps") and reached(bundle, call)
    ]
    bad = False
    told_of: set[object] = set()
    for call in dumps:
        if "default" in call.kwargs or "cls" in call.kwargs or not call.args:
            continue
        for what, value in _lookups.unwritable(call.args[0]).items():
            made = value.call.place if value.call is not None else call.place
            if (made, call.place) in told_of or call.guarded:
                continue
            told_of.add((made, call.place))
            bad = True
            if not call.certain:
                place = evidence(bundle, call.place, "perhaps not plain data")
                yield cannot_tell(f"{what} may be handed to {call.path}", place)
            else:
                yield failed(
                    f"{what} is handed to {call.path}",
                    *([evidence(bundle, made, "not plain data")] if made != call.place else []),
                    evidence(bundle, call.place, "raises TypeError: not JSON serializable"),
                    *caller(bundle, call),
                    do=_lookups.INSTEAD.get(what, "turn it into plain lists and dicts first"),
                    impact=Impact.BLOCKS,
                )
    if bad:
        return
    doubtful = [c for c in dumps if c.args and "default" not in c.kwargs and "cls" not in c.kwargs]
    doubtful = [c for c in doubtful if any(_lookups.cannot_be_written(part) for part in parts_of(c.args[0]))]
    if doubtful:
        place = evidence(bundle, doubtful[0].place, "perhaps not plain data")
        yield cannot_tell(f"something of W&B's own may be handed to {doubtful[0].path}", place)
        return
    fetched: dict[str, Event] = {use.path: use for use in walk.of(Use) if reached(bundle, use)}
    for call in walk.of(Call):  # what an item of `api.runs(…)` has is handed on, and no name of its own
        if reached(bundle, call):
            for source in (source for argument in call.args for source in sources(argument)):
                fetched.setdefault(source.path, call)
    history = next(
        (c for c in walk.of(Call) if c.path.endswith(("run().history", "scan_history", "runs()[].history"))),
        None,
    )
    summary = next((u for p, u in fetched.items() if p.endswith(".summary._json_dict")), None)
    loose = next((u for p, u in fetched.items() if p.endswith((".run().summary", "runs()[].summary"))), None)
    config = next((u for p, u in fetched.items() if p.endswith((".run().config", "runs()[].config"))), None)
    if not any(call.path.endswith(("Api().run", "Api().runs")) for call in walk.of(Call)):
        yield cannot_tell("the evaluation was not seen to fetch a run")
        return
    places = [
        evidence(bundle, event.place, label)
        for event, label in ((history, "history"), (summary or loose, "summary"), (config, "config"))
        if event is not None
    ]
    missing = [
        name for name, e in (("history", history), ("summary", summary or loose), ("config", config)) if not e
    ]
    if missing and not cut(walk):
        looked = next(c for c in walk.of(Call) if c.path.endswith(("Api().run", "Api().runs")))
        yield failed(
            f"of a run, the evaluation never fetches {' and '.join(missing)}",
            *(places or [evidence(bundle, looked.place, "fetches the run")]),
            do="fetch run.history(), run.summary._json_dict and dict(run.config)",
        )
    elif cut(walk) or not (history and (summary or loose) and config):
        yield cannot_tell(
            f"what is fetched of a run could not be followed{': ' + cut(walk) if cut(walk) else ''}", *places
        )
    elif summary is None and loose is not None:
        yield passed("history, summary and config are fetched, and nothing of W&B's own is dumped", *places)
        yield remarked(
            "the summary is read through W&B's own object",
            evidence(bundle, loose.place, "not _json_dict"),
            do="take run.summary._json_dict, which is plain data",
        )
    else:
        yield passed("history, summary and config are fetched as plain data", *places)


@check("evaluation.not-in-trial", impact=Impact.BREACHES)
def a_trial_cannot_be_evaluated(bundle: Bundle, flow: Flow) -> Answers:
    """A run that W&B never saw ends the evaluation; nothing is made up in its place.

    A trial leaves nothing in W&B. An evaluation that goes on without a run writes a comparison of what is
    left, and it looks complete.

    Bad:
        try:
            run = api.run(address)
        except Exception:
            continue
    Good:
        run = api.run(address)
    """
    walk = evaluation_walk(flow)
    looked = [call for call in walk.of(Call) if call.path.endswith("Api().run") and reached(bundle, call)]
    bare = [call for call in looked if call.certain and (not call.guarded or _ends(bundle, call))]
    if not looked:
        yield cannot_tell("the evaluation was not seen to look up a run")
    elif bare:
        yield passed(
            "a run that W&B does not know ends the evaluation",
            evidence(bundle, bare[0].place, "looked up here"),
        )
    else:
        swallowed = [call for call in looked if call.guarded]
        place = evidence(bundle, looked[0].place, "looked up here")
        if swallowed:
            says = "an error of the look-up is caught, and the evaluation may go on without the run"
            yield remarked(
                says, evidence(bundle, swallowed[0].place, "looked up here"), do="let it end the evaluation"
            )
        yield cannot_tell("whether a run that is not in W&B ends the evaluation is not known", place)


def _ends(bundle: Bundle, call: Call) -> bool:
    """Whether every handler around the call ends in an exception, or in the end of the process."""
    tries = [node for node in nodes_at(bundle, call.place) if isinstance(node, ast.Try)]
    return bool(tries) and all(_leaves_by(handler.body) for node in tries for handler in node.handlers)


def _leaves_by(body: list[ast.stmt]) -> bool:
    last = body[-1]
    if isinstance(last, ast.Raise):
        return True
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        func = last.value.func
        return (func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")) in (
            "exit",
            "_exit",
            "abort",
        )
    return False
