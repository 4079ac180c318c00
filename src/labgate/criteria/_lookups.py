"""Whether the evaluation finds a run where the training put it, and what of it JSON can hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from labgate.bundle import Bundle
from labgate.bundle.syntax import walked
from labgate.checks import Answers
from labgate.contract import Contract
from labgate.criteria._asked import Part, part_of
from labgate.criteria._tracing import (
    reached,
    texts,
)
from labgate.criteria._wandb import State, begins, is_init, whole
from labgate.finding import Answer, Impact, cannot_tell, failed, passed
from labgate.flow import Flow
from labgate.flow.events import Call, Event, Fault, Put, Walk, evidence
from labgate.flow.values import NONE, External, Known, Map, OneOf, Seq, Text, Unknown, Value, options


def stops_early(walk: Walk) -> bool:
    return any(fault.certain and not fault.guarded for fault in walk.of(Fault))


def by_listing(bundle: Bundle, listed: list[Call]) -> Answers:
    place = evidence(bundle, listed[0].place, "lists runs")
    filtered = listed[0].argument(1, "filters") is not None
    if filtered:
        yield passed("runs are found by a filter on what W&B holds", place)
    else:
        yield cannot_tell("runs are taken from the list of all, by a choice that reading cannot know", place)


def lookups(bundle: Bundle, contract: Contract, flow: Flow, looked: list[Call]) -> Answers:
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
    known = list(options(given)) if given is not None else []
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


def attributes(bundle: Bundle, walk: Walk) -> set[str]:
    """Every attribute that the evaluation's code names."""
    source = bundle.module(walk.module)
    nodes = walked(source.tree) if source is not None and source.tree is not None else ()
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)}


INSTEAD = {
    "W&B's summary object": "take run.summary._json_dict",
    "a data frame": "write history.to_dict(orient='records')",
}


def unwritable(value: Value, depth: int = 8) -> dict[str, External]:
    """What `value` is sure to hold that JSON cannot: of several things that it may be, all hold it."""
    found: dict[str, External] = {}
    if depth <= 0:
        return found
    if isinstance(value, OneOf):
        # None stands for a run that could not be had, and such a run is not written
        met = [o for o in value.options if not isinstance(o, Unknown) and o != NONE]
        each = [unwritable(option, depth - 1) for option in met]
        for kind in each[0] if each else ():
            if all(kind in other for other in each):
                found[kind] = each[0][kind]
    elif isinstance(value, Map | Seq):
        for item in list(value.items.values() if isinstance(value, Map) else value.items)[:64]:
            for kind, made in unwritable(item, depth - 1).items():
                found.setdefault(kind, made)
    elif isinstance(value, External) and (kind := cannot_be_written(value)):
        found[kind] = value
    return found


def cannot_be_written(value: Value) -> str:
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
