"""Criterion 8, the evaluation: its command, what it fetches from W&B, and what it writes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from labgate.bundle import Bundle
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._asked import Part, part_of
from labgate.criteria._outputs import HOLE, figures, files
from labgate.criteria._tracing import (
    caller,
    cut,
    evaluation_walk,
    nodes_at,
    parts_of,
    reached,
    run_ids,
    texts,
)
from labgate.criteria._wandb import State, begins, is_init, whole
from labgate.finding import Answer, Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Flow
from labgate.flow.events import Call, Event, Fault, Place, Put, Started, Use, Walk, evidence
from labgate.flow.flow import RESULTS
from labgate.flow.values import (
    External,
    Known,
    Text,
    Value,
    options,
)


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
    faults = [fault for fault in walk.of(Fault) if _of_command_line(fault, walk)]
    sure = [fault for fault in faults if fault.certain and not fault.guarded]
    misplaced = _misplaced(walk)
    if sure:
        yield _refused(bundle, sure[0], misplaced)
        return
    leaves = _leaves(bundle, walk)
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
        yield from _taken(bundle, contract, walk)


def _of_command_line(fault: Fault, walk: Walk) -> bool:
    """Whether it is the words of the command that the fault is about."""
    if fault.key in ("argparse", "hydra.main", "hydra.compose"):
        return True
    if fault.kind == "JSONDecodeError":
        return any(fault.key and fault.key in word for word in walk.argv)
    if "JSON object must be str" in fault.says:
        return True
    if fault.key == "raise":
        return bool(re.search(r"run_?ids|results?_dir|usage|argument|expected", fault.says, re.IGNORECASE))
    return fault.key in ("run_ids", "results_dir") or "argument type conversion" in fault.says


def _refused(bundle: Bundle, fault: Fault, misplaced: Call | None) -> Answer:
    about = [evidence(bundle, place, label) for place, label in fault.about]
    if not about:
        about = _declared(bundle, fault)
    also = "" if misplaced is None else "; and the results would go to a folder called `results_dir=…`"
    first = fault.says.strip().splitlines()[0] if fault.says.strip() else fault.kind
    return failed(
        f"the contract's command line is refused: {fault.kind}: {first[:200]}{also}",
        evidence(bundle, fault.place, f"raises {fault.kind}"),
        *about[:4],
        do="take `results_dir=…` and `run_ids=[…]` as they stand: split each word at its first `=`, then json.loads",
    )


def _declared(bundle: Bundle, fault: Fault) -> list[Evidence]:
    """The arguments that the file declares without dashes."""
    source = bundle.sources.get(fault.place.path)
    found = []
    for node in ast.walk(source.tree) if source is not None and source.tree is not None else ():
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "add_argument"
        ):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and not str(first.value).startswith("-"):
                found.append(bundle.place(fault.place.path, node.lineno, "takes the whole word"))
    return found


def _misplaced(walk: Walk) -> Call | None:
    for call in walk.of(Call):
        if call.certain and call.path in ("pathlib.Path", "os.makedirs", "os.path.join"):
            for argument in call.args[:1]:
                if any(
                    isinstance(t, Known) and str(t.value).startswith("results_dir=") for t in texts(argument)
                ):
                    found: Call = call
                    return found
    return None


def _leaves(bundle: Bundle, walk: Walk) -> Call | None:
    """A sure end of the program before any run is looked up."""
    calls = [call for call in walk.of(Call) if reached(bundle, call)]
    if any(call.path.endswith(("Api().run", "Api().runs")) for call in calls):
        return None
    for call in calls:
        if (
            call.path in ("sys.exit", "builtins.SystemExit", "builtins.exit")
            and call.certain
            and not call.guarded
        ):
            ends = call.argument(0)
            if ends is not None and not (isinstance(ends, Known) and ends.value in (0, None)):
                return call
    return None


def _taken(bundle: Bundle, contract: Contract, walk: Walk) -> Answers:
    ids = run_ids(walk)
    looked = [call for call in walk.of(Call) if call.path.endswith("Api().run") and reached(bundle, call)]
    addresses = {t.value for call in looked for t in texts(call.argument(0, "path")) if isinstance(t, Known)}
    met = [
        run_id for run_id in ids if any(str(address).rpartition("/")[2] == run_id for address in addresses)
    ]
    parsed = [call for call in walk.of(Call) if call.path.endswith("loads") and _whole_list(call, ids)]
    place = [evidence(bundle, call.place, "the words become a list here") for call in parsed[:1]]
    if ids and len(met) == len(ids):
        place.append(evidence(bundle, looked[0].place, f"looks up {met[0]}"))
        yield passed(f"the command is taken, and each of its {len(ids)} run ids is looked up", *place)
    elif parsed:
        yield passed(f"run_ids is taken as a JSON list of {len(ids)} ids", *place)
    elif not ids and _reaches_results(bundle, walk):
        yield passed("the command is taken", _reaches_results(bundle, walk) or Evidence(walk.module))
    else:
        where = [evidence(bundle, call.place, "a run is looked up here") for call in looked[:1]]
        yield cannot_tell("what the command's words become could not be followed", *where)


def _whole_list(call: Call, ids: list[str]) -> bool:
    import json

    given = call.argument(0, "s")
    if not ids or not isinstance(given, Known) or not isinstance(given.value, str):
        return False
    try:
        return bool(json.loads(given.value) == ids)
    except ValueError:
        return False


def _reaches_results(bundle: Bundle, walk: Walk) -> Evidence | None:
    for written in (*files(bundle, walk), *figures(bundle, walk)):
        if written.path.startswith(f"{RESULTS}/"):
            return evidence(bundle, written.call.place, f"writes {written.shown}")
    return None


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
        places = []
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
        for node in ast.walk(source.tree) if source is not None and source.tree is not None else ():
            if not isinstance(node, ast.Call) or not _starts_something(node.func):
                continue
            words = [
                w.value for w in ast.walk(node) if isinstance(w, ast.Constant) and isinstance(w.value, str)
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
        if cut(walk) or any("wandb" in use.path for use in walk.of(Use)) or _stops_early(walk):
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
        yield from _by_listing(bundle, listed)
        return
    yield from _lookups(bundle, contract, flow, looked)


def _stops_early(walk: Walk) -> bool:
    return any(fault.certain and not fault.guarded for fault in walk.of(Fault))


def _by_listing(bundle: Bundle, listed: list[Call]) -> Answers:
    place = evidence(bundle, listed[0].place, "lists runs")
    filtered = listed[0].argument(1, "filters") is not None
    if filtered:
        yield passed("runs are found by a filter on what W&B holds", place)
    else:
        yield cannot_tell("runs are taken from the list of all, by a choice that reading cannot know", place)


def _lookups(bundle: Bundle, contract: Contract, flow: Flow, looked: list[Call]) -> Answers:
    place = evidence(bundle, looked[0].place, "looks a run up")
    found = list(texts(looked[0].argument(0, "path")))
    short = [t for t in found if isinstance(t, Known) and "/" not in str(t.value)]
    if short:
        yield failed(
            f"a run is looked up as {short[0].value!r}, without entity and project",
            place,
            do='look it up as f"{entity}/{project}/{run_id}"',
        )
        return
    trouble = False
    unsure = ""
    for walk in whole(flow):
        inits = [e for e in walk.events if is_init(e) and reached(bundle, e)]
        inits = [e for e in inits if isinstance(e, Call) and begins(e) is not State.OFF]
        if not inits or any("WANDB_RUN_ID" in t for e in walk.events for t in _environment(e)):
            unsure = unsure or "the training was not seen to start a W&B run"
            continue
        wanted = [t for call in looked for t in texts(call.argument(0, "path")) if _is_for(t, walk.run_id)]
        for answer in _same_address(bundle, walk, inits[-1], looked, wanted):
            trouble = True
            yield answer
            break
        if trouble:
            break
    if trouble:
        return
    if unsure or not any(isinstance(t, Known) or (t.parts and isinstance(t.parts[0], str)) for t in found):
        yield cannot_tell(unsure or "by which address a run is looked up is not known", place)
        return
    init = next(e for walk in whole(flow) for e in walk.events if is_init(e))
    shown = str(found[0].value) if isinstance(found[0], Known) else str(found[0])
    yield passed(
        f"runs are looked up as {shown}", place, evidence(bundle, init.place, "started under that id")
    )


def _environment(event: Event) -> Iterator[str]:
    if isinstance(event, Put) and event.path == "os.environ" and isinstance(event.key, Known):
        yield str(event.key.value)


def _is_for(text: Known | Text, run_id: str) -> bool:
    if isinstance(text, Known):
        return str(text.value).rpartition("/")[2] == run_id
    return bool(run_id) and (text.parts[-1] is None or run_id.endswith(str(text.parts[-1])))


def _same_address(
    bundle: Bundle, walk: Walk, init: Event, looked: list[Call], wanted: list[Known | Text]
) -> Iterator[Answer]:
    """What keeps the evaluation from finding the run that this walk starts."""
    assert isinstance(init, Call)
    if init.spread or "settings" in init.kwargs:
        return
    by = evidence(bundle, looked[0].place, "looks it up by id")
    started = evidence(bundle, init.place, "starts the run")
    given = init.argument(None, "id")
    known = [o for o in options(given)] if given is not None else []
    if given is None or known == [Known(None)]:
        named = init.argument(None, "name")
        has_name = (
            any(isinstance(o, Known) and o.value == walk.run_id for o in options(named)) if named else False
        )
        label = "has a name, and an id that W&B makes up" if has_name else "has an id that W&B makes up"
        yield failed(
            "the evaluation looks runs up by an id that the training never gives them",
            evidence(bundle, init.place, label),
            by,
            do="hand wandb.init(id=…) the run id",
            impact=Impact.BLOCKS,
        )
        return
    ids = [o.value for o in known if isinstance(o, Known)]
    if len(ids) == len(known) and walk.run_id and walk.run_id not in [str(i) for i in ids]:
        yield failed(
            f"the training starts the run as {ids[0]!r}, and the evaluation looks up {walk.run_id!r}",
            started,
            by,
            do="hand wandb.init(id=…) the run id as the command gives it",
            impact=Impact.BLOCKS,
        )
        return
    for position, name in ((1, "project"), (0, "entity")):
        value = init.argument(None, name)
        if not isinstance(value, Known) or not isinstance(value.value, str):
            continue
        asked = {
            str(t.value).split("/")[position]
            for t in wanted
            if isinstance(t, Known) and str(t.value).count("/") == 2
        }
        if asked and value.value not in asked:
            yield failed(
                f"the training logs to {name} {value.value!r}, and the evaluation asks {sorted(asked)[0]!r}",
                started,
                by,
                do=f"take the {name} from config.yaml in both",
                impact=Impact.BLOCKS,
            )
            return


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
        for part in parts_of(call.args[0]):
            what = _cannot_be_written(part)
            made = part.call.place if isinstance(part, External) and part.call is not None else call.place
            if what and (made, call.place) not in told_of and not call.guarded:
                told_of.add((made, call.place))
                bad = True
                yield failed(
                    f"{what} is handed to {call.path}",
                    *([evidence(bundle, made, "not plain data")] if made != call.place else []),
                    evidence(bundle, call.place, "raises TypeError: not JSON serializable"),
                    *caller(bundle, call),
                    do=_INSTEAD.get(what, "turn it into plain lists and dicts first"),
                    impact=Impact.BLOCKS,
                )
    if bad:
        return
    fetched = {use.path: use for use in walk.of(Use) if reached(bundle, use)}
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


def _attributes(bundle: Bundle, walk: Walk) -> set[str]:
    """Every attribute that the evaluation's code names."""
    source = bundle.module(walk.module)
    nodes = ast.walk(source.tree) if source is not None and source.tree is not None else ()
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)}


_INSTEAD = {
    "W&B's summary object": "take run.summary._json_dict",
    "a data frame": "write history.to_dict(orient='records')",
}


def _cannot_be_written(value: Value) -> str:
    """What of W&B's own, or of pandas', the value is; empty when it is none of them."""
    if not isinstance(value, External):
        return ""
    while (
        value.path in ("builtins.dict()", "copy.copy()", "copy.deepcopy()")
        and value.call is not None
        and value.call.args
    ):
        inner = value.call.args[0]
        if not isinstance(inner, External):
            return ""
        value = inner
    if value.path.endswith(("run().summary", "runs()[].summary")):
        return "W&B's summary object"
    if part_of(value) is Part.HISTORY and value.path.endswith((".history()", ".dropna()", ".copy()")):
        pandas = value.call.argument(None, "pandas") if value.call is not None else None
        return "" if isinstance(pandas, Known) and pandas.value is False else "a data frame"
    return ""


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
