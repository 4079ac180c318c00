"""What becomes of the words of the evaluation's own command."""

from __future__ import annotations

import ast
import re

from labgate.bundle import Bundle
from labgate.bundle.syntax import walked
from labgate.checks import Answers
from labgate.contract import Contract
from labgate.criteria._outputs import figures, files
from labgate.criteria._tracing import (
    reached,
    run_ids,
    texts,
)
from labgate.finding import Answer, Evidence, cannot_tell, failed, passed
from labgate.flow.events import Call, Fault, Walk, evidence
from labgate.flow.flow import RESULTS
from labgate.flow.values import (
    Known,
)


def is_about_it(fault: Fault, walk: Walk) -> bool:
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


def refused(bundle: Bundle, fault: Fault, misplaced: Call | None) -> Answer:
    about = [evidence(bundle, place, label) for place, label in fault.about]
    if not about:
        about = _declared(bundle, fault)
    also = "" if misplaced is None else "; and the results would go to a folder called `results_dir=…`"
    first = fault.says.strip().splitlines()[0] if fault.says.strip() else fault.kind
    return failed(
        f"the contract's command line is refused: {fault.kind}: {first[:200]}{also}",
        evidence(bundle, fault.place, f"raises {fault.kind}"),
        *about[:4],
        do="split each word at its first `=`, then json.loads what follows `run_ids=`",
    )


def _declared(bundle: Bundle, fault: Fault) -> list[Evidence]:
    """The arguments that the file declares without dashes."""
    source = bundle.sources.get(fault.place.path)
    found = []
    for node in walked(source.tree) if source is not None and source.tree is not None else ():
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "add_argument"
        ):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and not str(first.value).startswith("-"):
                found.append(bundle.place(fault.place.path, node.lineno, "takes the whole word"))
    return found


def misplaced(walk: Walk) -> Call | None:
    for call in walk.of(Call):
        if call.certain and call.path in ("pathlib.Path", "os.makedirs", "os.path.join"):
            for argument in call.args[:1]:
                if any(
                    isinstance(t, Known) and str(t.value).startswith("results_dir=") for t in texts(argument)
                ):
                    found: Call = call
                    return found
    return None


def leaves(bundle: Bundle, walk: Walk) -> Call | None:
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
                left: Call = call
                return left
    return None


def taken(bundle: Bundle, contract: Contract, walk: Walk) -> Answers:
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
