"""Whether a W&B run is started, in which mode, and whether it is told anything as the training goes."""

from __future__ import annotations

import ast
import re
from typing import Any

from labgate.bundle import Bundle
from labgate.bundle.syntax import walked
from labgate.checks import Answers
from labgate.criteria._tracing import cut, loops_around, reached, search_spans
from labgate.criteria._wandb import (
    Moment,
    State,
    begins,
    default_mode,
    is_init,
    is_log,
    is_summary,
    mode_of,
    moments,
    names_of,
    told,
)
from labgate.finding import Answer, Evidence, Impact, cannot_tell, failed, passed
from labgate.flow import Flow
from labgate.flow.events import Call, ConfigWrite, Event, Walk, evidence
from labgate.flow.values import Known


def mute(bundle: Bundle, flow: Flow, mute: list[Walk], foreign: bool) -> Answer:
    who = names_of(mute)
    why = next((cut(walk) for walk in mute if cut(walk)), "")
    source = bundle.module(flow.contract.train_module) or bundle.module(flow.contract.main_module)
    if foreign or why or source is None or not any(is_init(e) or e.stack for w in mute for e in w.events):
        return cannot_tell(f"no call that logs to W&B was seen for {who}" + (f": {why}" if why else ""))
    inits = [e for walk in mute for e in walk.events if is_init(e)]
    if not inits and _never(bundle, mute[0]):
        return cannot_tell(
            f"no W&B run is started that could be told anything ({who})", *_never(bundle, mute[0])
        )
    places = [evidence(bundle, e.place, "a run is started here, and never told anything") for e in inits[:1]]
    return failed(
        f"nothing is ever logged to W&B ({who})",
        *(places or [bundle.place(source.path, 0, "has no call of wandb.log")]),
        do="call wandb.log with every metric, at least once an epoch",
    )


def logging(bundle: Bundle, walk: Walk) -> Answers:
    seen = [m for m in moments(bundle, walk) if not m.searching]
    logs = [m for m in seen if is_log(m.event)]
    early = next((m for m in logs if m.state is State.NONE and m.event.certain and not m.event.guarded), None)
    later = [m for m in seen if is_init(m.event)]
    if early is not None and not cut(walk):
        places = [evidence(bundle, m.event.place, "W&B is started only here") for m in later[:1]]
        yield failed(
            f"wandb.log is called before wandb.init ({walk.name})",
            evidence(bundle, early.event.place, "raises wandb.Error: you must call wandb.init() first"),
            *places,
            do="call wandb.init before anything is logged",
            impact=Impact.BLOCKS,
        )
        return
    if not logs:
        yield cannot_tell(f"no call that logs to W&B is sure to be reached ({walk.name})")
        return
    trained = _training_loops(bundle, walk)
    inside = [m for m in logs if loops_around(bundle, m.event)]
    sure = [m for m in inside if m.event.certain and m.state in (State.LIVE, State.UNSURE)]
    if sure:
        started = next((m for m in later if m.event.certain), later[0] if later else None)
        places = [evidence(bundle, started.event.place, "started here")] if started else []
        yield passed(
            f"metrics are logged in the training loop ({walk.name})",
            evidence(bundle, sure[0].event.place, "logged in the loop"),
            *places,
        )
    elif inside or cut(walk) or not trained or told(walk).unnamed:
        where = (inside or logs)[0].event.place
        yield cannot_tell(
            f"whether the loop logs depends on what reading cannot know ({walk.name})",
            evidence(bundle, where),
        )
    else:
        loop = min(trained)
        yield failed(
            f"W&B is told only once, outside the training loop ({walk.name})",
            evidence(bundle, logs[0].event.place, "logs here"),
            bundle.place(loop[0], loop[1], "the loop that trains"),
            do="call wandb.log inside the loop, at least once an epoch",
        )


def _training_loops(bundle: Bundle, walk: Walk) -> set[tuple[str, int]]:
    """The loops that a backward pass or a cleared gradient lies in."""
    found: set[tuple[str, int]] = set()
    met = set()
    for call in walk.of(Call):
        if call.path.endswith((".backward", ".zero_grad", "torch.autograd.grad")) and reached(bundle, call):
            key = (call.place, call.stack)
            if key not in met:
                met.add(key)
                found |= loops_around(bundle, call)
    return found


def distinct(events: Any) -> list[Event]:
    """Events at different lines, in the order of their lines."""
    found = {(event.place.path, event.place.line): event for event in events}
    return [found[key] for key in sorted(found)]


def searching(bundle: Bundle, walk: Walk) -> Answers:
    spans = search_spans(walk)
    if not spans:
        return
    search = spans[0][0]
    loud = [m for m in moments(bundle, walk) if m.searching and _speaks(m)]
    sure = [m for m in loud if m.event.certain and m.state is not State.UNSURE]
    callback = next((c for c in walk.of(Call) if c.path.endswith("WeightsAndBiasesCallback")), None)
    if callback is not None:
        place = evidence(bundle, callback.place, "logs every trial")
        yield failed("Optuna's W&B callback logs each trial", place, do="leave the callback out")
    elif sure:
        yield _loud(bundle, walk, search, sure)
    elif loud:
        says = f"whether a trial logs to W&B depends on what reading cannot know ({walk.name})"
        yield cannot_tell(
            says, evidence(bundle, loud[0].event.place), evidence(bundle, search.place, "the search")
        )
    elif cut(walk):
        yield cannot_tell(f"the search was not followed to its end: {cut(walk)}")
    else:
        yield passed("the search's trials log nothing", evidence(bundle, search.place, "the search"))


def no_search(bundle: Bundle, flow: Flow) -> Answers:
    """No call of `optimize` was met: a PASS when none stands in the code either."""
    for path, other in bundle.sources.items():
        spoken = re.search(r"\boptuna\b|\.optimize\(", other.text or "")
        if spoken and other.module != flow.contract.evaluate_module:
            yield cannot_tell("optuna is spoken of, and no search was seen to run", bundle.place(path, 0))
            return
    source = bundle.module(flow.contract.train_module) or bundle.module(flow.contract.main_module)
    places = [bundle.place(source.path, 0, "searches nothing")] if source is not None else []
    yield passed("there is no search whose trials could log", *places)


def _speaks(moment: Moment) -> bool:
    """Whether W&B hears something of what happens in the search."""
    event = moment.event
    if isinstance(event, Call) and event.path == "wandb.init":
        return begins(event) is not State.OFF
    if not (is_log(event) or is_summary(event)):
        return False
    return moment.state in (State.LIVE, State.UNSURE)


def _loud(bundle: Bundle, walk: Walk, search: Call, sure: list[Moment]) -> Answer:
    events = distinct(m.event for m in sure)
    live = next((e for e in walk.events if is_init(e) and e.certain), None)
    places = [evidence(bundle, event.place, "every trial comes by here") for event in events[:3]]
    places.append(evidence(bundle, search.place, "the search"))
    if live is not None and live not in events:
        places.append(evidence(bundle, live.place, "the run that is live meanwhile"))
    return failed(
        f"every trial of the search logs to W&B ({walk.name})",
        *places,
        do="start W&B after the search, or hand the objective a flag that keeps it from logging",
    )


def untracked_mode(bundle: Bundle, walk: Walk) -> Answers:
    seen = list(moments(bundle, walk))
    default = "online"
    loud = [
        m
        for m in seen
        if is_init(m.event) and isinstance(m.event, Call) and state_after(m, walk) is State.LIVE
    ]
    unsure = [m for m in seen if is_init(m.event) and state_after(m, walk) is State.UNSURE]
    raises = [
        m
        for m in seen
        if m.state is State.NONE
        and m.event.certain
        and not m.event.guarded
        and (is_log(m.event) or is_summary(m.event))
    ]
    if cut(walk) and not loud:
        yield cannot_tell(f"the code was not followed to its end ({walk.name}): {cut(walk)}")
    elif any(m.event.certain for m in loud):
        first = next(m.event for m in loud if m.event.certain)
        assert isinstance(first, Call)
        says = mode_of(first) or default
        yield failed(
            f"W&B is started in mode {says!r} ({walk.name})",
            evidence(bundle, first.place, "reaches W&B"),
            *_settled(bundle, walk, first),
            do='hand wandb.init the mode that the configuration settles: "disabled" in this one',
        )
    elif raises:
        yield failed(
            f"W&B is never started, and used all the same ({walk.name})",
            *(
                evidence(bundle, m.event.place, "raises wandb.Error: call wandb.init() first")
                for m in raises[:2]
            ),
            do='call wandb.init(mode="disabled"), which makes every later call do nothing',
            impact=Impact.BLOCKS,
        )
    elif loud or unsure:
        event = (loud or unsure)[0].event
        yield cannot_tell(
            f"in which mode W&B starts is not known ({walk.name})", evidence(bundle, event.place)
        )
    else:
        off = next((m.event for m in seen if is_init(m.event)), None)
        places = [evidence(bundle, off.place, "starts disabled")] if off else []
        places += _settled(bundle, walk, off)
        if not places:
            entry = next((e for e in walk.events if e.place.line), None)
            places = [bundle.place(entry.place.path, 0, "never uses W&B in this mode")] if entry else []
        yield passed(f"W&B hears nothing ({walk.name})", *places)


def state_after(moment: Moment, walk: Walk) -> State:
    """What state this `wandb.init` leads to, the environment as it is by then."""
    assert isinstance(moment.event, Call)
    return begins(moment.event, default_mode(walk, moment.index))


def _settled(bundle: Bundle, walk: Walk, before: Event | None) -> list[Evidence]:
    """Where the configuration's W&B mode was last written before an event."""
    found: list[Evidence] = []
    for event in walk.events:
        if event is before:
            break
        if isinstance(event, ConfigWrite) and event.key.endswith("wandb.mode") and event.certain:
            said = event.value.value if isinstance(event.value, Known) else "…"
            found = [evidence(bundle, event.place, f"sets the mode to {said!r}")]
    return found


def online_mode(bundle: Bundle, walk: Walk) -> Answers:
    inits = [m for m in moments(bundle, walk) if is_init(m.event) and not m.searching]
    states = {id(m): state_after(m, walk) for m in inits}
    silent = [m for m in inits if states[id(m)] is State.OFF or _offline(m)]
    online = [m for m in inits if states[id(m)] is State.LIVE and not _offline(m)]
    sure = [m for m in online if m.event.certain]
    if sure:
        place = evidence(bundle, sure[0].event.place, "starts online")
        yield passed(f"W&B is online ({walk.name})", place, *_settled(bundle, walk, sure[0].event))
    elif silent and len(silent) == len(inits) and any(m.event.certain for m in silent) and not cut(walk):
        event = next(m.event for m in silent if m.event.certain)
        assert isinstance(event, Call)
        yield failed(
            f"W&B is started {mode_of(event) or 'disabled'!s} in a run that has to reach it ({walk.name})",
            evidence(bundle, event.place, "never reaches W&B"),
            *_settled(bundle, walk, event),
            do='start it with mode="online"',
        )
    elif not walk.run_id and not inits:
        yield cannot_tell("with no run config, how far a run would get is not known")
    elif not inits and not cut(walk) and not told(walk).unnamed and _follows_training(walk):
        anywhere = next((e for e in walk.events if is_init(e)), None)
        if anywhere is None:
            yield failed(
                f"no W&B run is ever started ({walk.name})",
                *(_never(bundle, walk) or [bundle.place(_entry(walk), 0, "never calls wandb.init")]),
                *_settled(bundle, walk, None),
                do="call wandb.init with the config's entity, project and mode, and the run id as its id",
            )
        else:
            yield cannot_tell(
                f"the call that starts W&B was not reached ({walk.name})", evidence(bundle, anywhere.place)
            )
    else:
        places = [evidence(bundle, m.event.place) for m in inits[:1]]
        yield cannot_tell(f"whether W&B is online depends on what reading cannot know ({walk.name})", *places)


def own_project(bundle: Bundle, walk: Walk, suffix: str) -> Answers:
    """Whether the run's project ends in `suffix`."""
    inits = [m.event for m in moments(bundle, walk) if is_init(m.event) and not m.searching]
    sure = [e for e in inits if isinstance(e, Call) and e.certain]
    project = sure[0].argument(None, "project") if sure else None
    if not isinstance(project, Known) or not isinstance(project.value, str):
        places = [evidence(bundle, event.place) for event in inits[:1]]
        yield cannot_tell(f"to which project W&B logs is not known ({walk.name})", *places)
    elif project.value.endswith(suffix):
        place = evidence(bundle, sure[0].place, f"logs to {project.value}")
        yield passed(f"W&B logs to a project of its own ({walk.name})", place)
    else:
        yield failed(
            f"W&B logs to {project.value!r}, the project of the whole experiment ({walk.name})",
            evidence(bundle, sure[0].place, f"logs to {project.value}"),
            do=f"let the project's name end in {suffix!r} in this mode",
        )


def _never(bundle: Bundle, walk: Walk) -> list[Evidence]:
    """Calls of wandb.init that stand in the code, and are not come by."""
    for path, source in bundle.sources.items():
        for node in (
            walked(source.tree) if source.tree is not None and not path.endswith("evaluate.py") else ()
        ):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "wandb.init":
                return [bundle.place(path, node.lineno, "never come by")]
    return []


def _offline(moment: Moment) -> bool:
    assert isinstance(moment.event, Call)
    return mode_of(moment.event) == "offline"


def _follows_training(walk: Walk) -> bool:
    return any(call.path.endswith((".backward", ".step", ".fit", ".train")) for call in walk.of(Call))


def _entry(walk: Walk) -> str:
    """The file in which training happens on this walk."""
    for call in walk.of(Call):
        if call.path.endswith(".backward"):
            path: str = call.place.path
            return path
    return walk.module.replace(".", "/") + ".py"
