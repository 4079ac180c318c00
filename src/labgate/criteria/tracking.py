"""Criterion 6, W&B tracking: what the training tells W&B, and when."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from labgate.bundle import BrokenFileError, Bundle
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria import _matching
from labgate.criteria._asked import Part
from labgate.criteria._metric_names import family, recorded_as
from labgate.criteria._tracing import caller, cut, loops_around, parts_of, reached, search_spans
from labgate.criteria._wandb import (
    AUTOMATIC,
    RUNS,
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
    tracked,
    untracked,
    whole,
)
from labgate.finding import Answer, Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Flow
from labgate.flow.events import Call, ConfigRead, ConfigWrite, Event, Put, Walk, evidence
from labgate.flow.values import External, Known, Unknown, Value, plain, sources, text_of

_STAND_IN = re.compile(
    r"^<.*>$|^(your|my|some)[-_ ]|^(todo|xxx+|changeme|change-me|entity|project)$", re.IGNORECASE
)


@check("tracking.settings-present", impact=Impact.BREACHES)
def settings_are_present(bundle: Bundle, contract: Contract) -> Answers:
    """config.yaml names the W&B entity and project.

    Training and evaluation both take the address of a run from there. Where one is left out, the runs go to
    whatever account the key belongs to, and the evaluation looks for them elsewhere.

    Bad:
        wandb = {"entity": None, "project": "your-project"}
    Good:
        wandb = {"entity": "text-group", "project": "ramped-consistency"}
    """
    path = contract.config_file
    try:
        value = bundle.yaml(path)
    except BrokenFileError as error:
        yield cannot_tell(f"{path} {error.says}")
        return
    shown = []
    for name in ("entity", "project"):
        found = list(_settings(value, name))
        if not found:
            place = bundle.place(path, bundle.key_line(path, "wandb"), f"has no {name}")
            yield failed(f"{path} names no W&B {name}", place, do=f"add `{name}:` to its `wandb:` section")
            continue
        keys, setting = found[0]
        place = bundle.place(path, bundle.key_line(path, *keys), f"the {name}")
        if isinstance(setting, str) and "${oc.env:" in setting:
            yield cannot_tell(f"the W&B {name} comes from the environment of whoever runs it", place)
        elif setting in (None, "", "???"):
            yield failed(f"the W&B {name} is left open", place, do=f"write the {name}'s name")
        elif isinstance(setting, str) and _STAND_IN.search(setting.strip()):
            yield failed(f"the W&B {name} is a stand-in", place, do=f"write the {name}'s real name")
        else:
            shown.append(place)
    if len(shown) == 2:
        yield passed(f"{path} names the W&B entity and project", *shown)


def _settings(value: object, name: str, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """`wandb.entity`, or whatever setting of a section about W&B bears that name."""
    if not isinstance(value, Mapping):
        return
    for key, item in value.items():
        here = (*keys, str(key))
        about = any("wandb" in part.lower() or "logging" in part.lower() for part in here)
        if about and not isinstance(item, Mapping) and str(key).lower() in (name, f"wandb_{name}"):
            yield here, item
        yield from _settings(item, name, here)


@check("tracking.api-key", impact=Impact.BREACHES)
def the_key_comes_from_the_environment(bundle: Bundle, flow: Flow) -> Answers:
    """No W&B key is written into the code or the configuration.

    WANDB_API_KEY is there when the experiment runs. A key in a file is published with the file, and logs to
    the account of whoever wrote it.

    Bad:
        wandb.login(key="0123456789abcdef0123456789abcdef01234567")
    Good:
        wandb.init(project=cfg.wandb.project)  # authenticates by WANDB_API_KEY
    """
    bad = False
    met: set[tuple[str, int]] = set()
    for walk in flow.walks:
        for event in walk.events:
            written = _written_key(event)
            if written and (event.place.path, event.place.line) not in met:
                met.add((event.place.path, event.place.line))
                bad = True
                place = Evidence(event.place.path, event.place.line, "", "a key stands here (not quoted)")
                yield failed("a W&B key is written into the code", place, do="read it from WANDB_API_KEY")
    for path, file in bundle.files.items():
        for number, line in (
            enumerate((file.text or "").splitlines(), 1) if path.endswith((".yaml", ".yml")) else ()
        ):
            if re.match(r"\s*(wandb_)?api_?key\s*:\s*['\"]?[0-9a-zA-Z]{20,}", line):
                bad = True
                place = Evidence(path, number, "", "a key stands here (not quoted)")
                yield failed(
                    "a W&B key is written into the configuration", place, do="read it from WANDB_API_KEY"
                )
    if not bad:
        first = next((e for walk in flow.walks for e in walk.events if is_init(e)), None)
        places = [evidence(bundle, first.place, "authenticates by the environment")] if first else []
        yield passed("no W&B key stands in the code or the configuration", *places)


def _written_key(event: Event) -> bool:
    if isinstance(event, Call) and event.path in ("wandb.login", "wandb.Api"):
        given = event.argument(1 if event.path == "wandb.login" else None, "key", "api_key")
        return isinstance(given, Known) and isinstance(given.value, str) and len(given.value) > 8
    if isinstance(event, Put) and event.path == "os.environ":
        key = isinstance(event.key, Known) and event.key.value == "WANDB_API_KEY"
        return key and isinstance(event.value, Known) and len(str(event.value.value)) > 8
    return False


@check(
    "tracking.initialises-and-logs",
    "tracking.logs-each-step",
    "tracking.logs-frequently",
    impact=Impact.BREACHES,
)
def training_logs_as_it_goes(bundle: Bundle, flow: Flow) -> Answers:
    """The training loop logs its metrics to a W&B run that was started before.

    Curves are drawn from what was logged on the way. One call after the loop leaves a single point, and
    a call before `wandb.init` is an error of W&B's.

    Bad:
        for epoch in range(epochs):
            loss = train_epoch(model)
        wandb.log({"loss": loss})
    Good:
        for epoch in range(epochs):
            wandb.log({"loss": train_epoch(model)})
    """
    walks = tracked(flow)
    if not walks:
        yield cannot_tell("no walk of a tracked mode could be followed")
        return
    told_by = {id(walk): told(walk) for walk in walks}
    mute = [walk for walk in walks if not any(is_log(e) for e in walk.events)]
    if mute:
        yield _mute(bundle, flow, mute, any(told_by[id(walk)].unnamed for walk in mute))
    said: set[object] = set()
    for walk in walks:
        if walk not in mute:
            for answer in _logging(bundle, walk):
                key = (answer.outcome, answer.evidence)
                if key not in said:
                    said.add(key)
                    yield answer


def _mute(bundle: Bundle, flow: Flow, mute: list[Walk], foreign: bool) -> Answer:
    who = names_of(mute)
    why = next((cut(walk) for walk in mute if cut(walk)), "")
    source = bundle.module(flow.contract.train_module) or bundle.module(flow.contract.main_module)
    if foreign or why or source is None or not any(is_init(e) or e.stack for w in mute for e in w.events):
        return cannot_tell(f"no call that logs to W&B was seen for {who}" + (f": {why}" if why else ""))
    inits = [e for walk in mute for e in walk.events if is_init(e)]
    if not inits and _never(bundle, mute[0]):
        return cannot_tell(f"no W&B run is started that could be told anything ({who})", *_never(bundle, mute[0]))
    places = [evidence(bundle, e.place, "a run is started here, and never told anything") for e in inits[:1]]
    return failed(
        f"nothing is ever logged to W&B ({who})",
        *(places or [bundle.place(source.path, 0, "has no call of wandb.log")]),
        do="call wandb.log with every metric, at least once an epoch",
    )


def _logging(bundle: Bundle, walk: Walk) -> Answers:
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


@check("tracking.summary", impact=Impact.BREACHES)
def summary_holds_final_and_best(bundle: Bundle, flow: Flow) -> Answers:
    """The run's summary holds the final and best metrics, the best epoch among them.

    Runs are compared by their summaries. What is not there has to be guessed from the last row of a history,
    which is not the best one.

    Bad:
        wandb.summary["runtime"] = seconds
    Good:
        wandb.summary["best_val_acc"] = best
        wandb.summary["best_epoch"] = best_epoch
    """
    walks = whole(flow)
    if not walks:
        yield cannot_tell("no walk of the whole experiment could be followed")
        return
    for group in _alike(walks):
        yield from _summary(bundle, flow, group)


def _alike(walks: list[Walk]) -> list[list[Walk]]:
    """The walks, those together that set the same summary keys."""
    groups: dict[object, list[Walk]] = {}
    for walk in walks:
        known = told(walk)
        groups.setdefault((frozenset(known.summary), bool(known.unnamed), bool(cut(walk))), []).append(walk)
    return list(groups.values())


def _summary(bundle: Bundle, flow: Flow, walks: list[Walk]) -> Answers:
    walk, known = walks[0], told(walks[0])
    who = names_of(walks)
    hidden = [e for e in known.unnamed if is_summary(e)] or (known.patterns if known.summary else [])
    if not known.summary:
        if known.unnamed or cut(walk) or not any(is_init(e) for e in walk.events):
            yield cannot_tell(f"no summary key was seen for {who}")
            return
        init = next(e for e in walk.events if is_init(e))
        yield failed(
            f"nothing is put into the run's summary ({who})",
            evidence(bundle, init.place, "this run's summary stays as W&B fills it"),
            do='set wandb.summary["best_…"], ["final_…"] and ["best_epoch"] after training',
        )
        return
    keys = list(known.summary)
    lacking = []
    best = [key for key in keys if _MEASURES.search(key)]
    if not best and not hidden:
        lacking.append("no final or best metric")
    chosen = [key for key in keys if re.search("best", key, re.IGNORECASE) and not re.search("optuna|param", key)]
    if chosen and _epochs(walk) != 1 and not hidden:
        if not any(re.search(r"epoch|step|iter|round", key, re.IGNORECASE) for key in keys):
            lacking.append(f"{chosen[0]!r} and no best epoch")
    unmet = [m for m in _promised(bundle) if family(m) and not recorded_as(m, [*keys, *AUTOMATIC])]
    if not hidden:
        lacking += [f"nothing of {metric!r}, which was promised" for metric in unmet]
    places = _distinct(known.summary.values())
    shown = [evidence(bundle, place.place, "into the summary") for place in places[:4]]
    if not lacking:
        sure = [key for key, event in known.summary.items() if event.certain]
        if hidden and (not best or not sure):
            yield cannot_tell(f"some summary keys are not known ({who})", *shown)
        elif not sure:
            yield cannot_tell(
                f"whether the summary is written depends on what reading cannot know ({who})", *shown
            )
        else:
            yield passed(f"the summary holds {', '.join(keys[:6])} ({who})", *shown)
        return
    yield failed(
        f"the summary has {'; '.join(lacking)} ({who})",
        *shown,
        do="add them to wandb.summary when training has ended",
    )


_MEASURES = re.compile(
    r"best|final|test|eval|val|acc|f1|score|mcc|exact|auc|ppl|perplex|bleu|rouge|mse|mae|loss|reward|error|corr"
    r"|fid|psnr|ssim|iou|metric|rate",
    re.IGNORECASE,
)
"""What the name of a metric holds."""


def _epochs(walk: Walk) -> int | None:
    """How many epochs the run trains, when its configuration says so."""
    found = [
        read.value.value
        for read in walk.of(ConfigRead)
        if re.search(r"(^|\.)(num_|max_|n_)?(train_)?epochs$", read.key) and isinstance(read.value, Known)
    ]
    counts = [count for count in found if isinstance(count, int)]
    return max(counts, default=None)


def _promised(bundle: Bundle) -> tuple[str, ...]:
    return bundle.promise.metrics if bundle.promise is not None else ()


def _distinct(events: Any) -> list[Event]:
    """Events at different lines, in the order of their lines."""
    found = {(event.place.path, event.place.line): event for event in events}
    return [found[key] for key in sorted(found)]


@check("tracking.names-match", impact=Impact.BREACHES)
def evaluation_asks_for_what_was_logged(bundle: Bundle, flow: Flow) -> Answers:
    """Every key that the evaluation asks of a run's history was logged by the training under that name.

    A column that is not there is a KeyError after every run has ended, or, behind a test, a curve that is
    silently left out.

    Bad:
        wandb.log({"val_acc": accuracy})  # train.py
        history["val/acc"].plot()  # evaluate.py
    Good:
        wandb.log({"val_acc": accuracy})  # train.py
        history["val_acc"].plot()  # evaluate.py
    """
    yield from _matching.answers(bundle, flow, Part.HISTORY)


@check("tracking.names-match", impact=Impact.BREACHES)
def evaluation_asks_for_what_was_summarised(bundle: Bundle, flow: Flow) -> Answers:
    """Every key that the evaluation asks of a run's summary was put there, or logged, under that name.

    `summary.get(...)` of a key that nobody wrote is None, or a zero that looks like a result.

    Bad:
        wandb.summary["best_acc"] = best  # train.py
        accuracy = summary.get("best_accuracy", 0.0)  # evaluate.py
    Good:
        wandb.summary["best_acc"] = best  # train.py
        accuracy = summary["best_acc"]  # evaluate.py
    """
    yield from _matching.answers(bundle, flow, Part.SUMMARY)


@check("tracking.optuna-silent", impact=Impact.BREACHES)
def search_trials_stay_out_of_wandb(bundle: Bundle, flow: Flow) -> Answers:
    """A search's trials log nothing to W&B; only the run after it does.

    Trials that log into the run leave twenty trainings in one curve, and the evaluation cannot tell which
    rows are those of the model that is reported.

    Bad:
        def objective(trial):
            wandb.log({"trial_loss": train(trial)})
    Good:
        def objective(trial):
            return train(trial, log=False)
    """
    walks = whole(flow)
    searched = [(walk, span) for walk in walks for span in search_spans(walk)]
    if not walks:
        yield cannot_tell("no walk of the whole experiment could be followed")
        return
    if not searched:
        yield from _no_search(bundle, flow, walks)
        return
    said: set[object] = set()
    quiet: list[Call] = []
    for walk in (
        dict.fromkeys(walk for walk, _ in searched) if False else {id(w): w for w, _ in searched}.values()
    ):
        inside = [m for m in moments(bundle, walk) if m.searching]
        loud = [m for m in inside if _speaks(m)]
        sure = [m for m in loud if m.event.certain and m.state is not State.UNSURE]
        search = next(call for w, (call, _, _) in searched if w is walk)
        if any(call.path.endswith("WeightsAndBiasesCallback") for call in walk.of(Call)):
            call = next(call for call in walk.of(Call) if call.path.endswith("WeightsAndBiasesCallback"))
            if "callback" not in said:
                said.add("callback")
                place = evidence(bundle, call.place, "logs every trial")
                yield failed("Optuna's W&B callback logs each trial", place, do="leave the callback out")
        elif sure:
            places = tuple(dict.fromkeys((m.event.place.path, m.event.place.line) for m in sure))
            if places not in said:
                said.add(places)
                yield _loud(bundle, walk, search, sure)
        elif loud:
            place = loud[0].event.place
            if place not in said:
                said.add(place)
                says = f"whether a trial logs to W&B depends on what reading cannot know ({walk.name})"
                yield cannot_tell(says, evidence(bundle, place), evidence(bundle, search.place, "the search"))
        elif cut(walk):
            yield cannot_tell(f"the search was not followed to its end: {cut(walk)}")
        else:
            quiet.append(search)
    if quiet:
        yield passed("the search's trials log nothing", evidence(bundle, quiet[0].place, "the search"))


def _no_search(bundle: Bundle, flow: Flow, walks: list[Walk]) -> Answers:
    """No call of `optimize` was met: a PASS when none stands in the code either."""
    for path, source in bundle.sources.items():
        if (
            re.search(r"\boptuna\b|\.optimize\(", source.text or "")
            and source.module != flow.contract.evaluate_module
        ):
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
    events = _distinct(m.event for m in sure)
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


@check("tracking.trial-disabled", impact=Impact.BREACHES)
def untracked_modes_stay_untracked(bundle: Bundle, flow: Flow) -> Answers:
    """In a mode that W&B must not hear of, it is disabled before its first use.

    A trial only shows that the code runs. One that reaches W&B fails without a key, and leaves a run of two
    batches under the name that the real one needs.

    Bad:
        wandb.init(project=cfg.wandb.project)
        if cfg.mode == "trial":
            cfg.wandb.mode = "disabled"
    Good:
        if cfg.mode == "trial":
            cfg.wandb.mode = "disabled"
        wandb.init(project=cfg.wandb.project, mode=cfg.wandb.mode)
    """
    walks = untracked(flow)
    if not walks:
        yield cannot_tell("no walk of an untracked mode could be followed")
        return
    yield from _once(answer for walk in walks for answer in _untracked(bundle, walk))


def _untracked(bundle: Bundle, walk: Walk) -> Answers:
    seen = list(moments(bundle, walk))
    default = "online"
    loud = [
        m for m in seen if is_init(m.event) and isinstance(m.event, Call) and _after(m, walk) is State.LIVE
    ]
    unsure = [m for m in seen if is_init(m.event) and _after(m, walk) is State.UNSURE]
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


def _after(moment: Moment, walk: Walk) -> State:
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


@check("tracking.full-online", "modes.full-online", impact=Impact.BREACHES)
def tracked_modes_reach_wandb(bundle: Bundle, flow: Flow) -> Answers:
    """In a mode that W&B hears of, its run is online.

    The evaluation fetches everything from W&B. A full run that ended offline or disabled has to be done
    again.

    Bad:
        wandb.init(project=cfg.wandb.project, mode="offline")
    Good:
        wandb.init(project=cfg.wandb.project, mode=cfg.wandb.mode)
    """
    walks = tracked(flow)
    if not walks:
        yield cannot_tell("no walk of a tracked mode could be followed")
        return
    yield from _once(answer for walk in walks for answer in _online(bundle, walk))


def _online(bundle: Bundle, walk: Walk) -> Answers:
    inits = [m for m in moments(bundle, walk) if is_init(m.event) and not m.searching]
    states = {id(m): _after(m, walk) for m in inits}
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


def _never(bundle: Bundle, walk: Walk) -> list[Evidence]:
    """Calls of wandb.init that stand in the code, and are not come by."""
    for path, source in bundle.sources.items():
        for node in (
            ast.walk(source.tree) if source.tree is not None and not path.endswith("evaluate.py") else ()
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


@check("integrity.records-what-was-trained", impact=Impact.MISLEADS)
def recorded_config_is_the_trained_one(bundle: Bundle, flow: Flow) -> Answers:
    """The configuration that W&B records is the one that the final run is trained with.

    A run that is started before the search records the values from the file. The best ones are trained with,
    and whoever repeats the run by its record gets another model.

    Bad:
        wandb.init(config=OmegaConf.to_container(cfg))
        cfg.training.lr = search(cfg).best_params["lr"]
    Good:
        cfg.training.lr = search(cfg).best_params["lr"]
        wandb.init(config=OmegaConf.to_container(cfg))
    """
    walks = whole(flow)
    if not walks:
        yield cannot_tell("no walk of the whole experiment could be followed")
        return
    yield from _once(answer for walk in walks for answer in _recorded(bundle, walk))


def _recorded(bundle: Bundle, walk: Walk) -> Answers:
    spans = search_spans(walk)
    seen = [m for m in moments(bundle, walk) if not m.searching]
    inits = [m for m in seen if is_init(m.event) and _after(m, walk) is not State.OFF]
    if not inits or cut(walk):
        why = cut(walk) or "no W&B run was seen to start"
        yield cannot_tell(f"what W&B records is not known ({walk.name}): {why}")
        return
    init = inits[-1]
    assert isinstance(init.event, Call)
    updates = _config_updates(bundle, walk)
    place = evidence(bundle, init.event.place, "records the configuration")
    if (
        "config" not in init.event.kwargs
        and not init.event.spread
        and len(init.event.args) < 5
        and not updates
    ):
        yield failed(
            f"W&B is handed no configuration ({walk.name})",
            evidence(bundle, init.event.place, "records no configuration"),
            do="hand it over: wandb.init(config=OmegaConf.to_container(cfg, resolve=True))",
        )
        return
    late = [
        (index, event)
        for search, _, end in spans
        for index, event in enumerate(walk.events[end:], end)
        if isinstance(event, ConfigWrite)
        and event.certain
        and index > init.index
        and init.index < walk.events.index(search)
        and not event.key.startswith("wandb.")
        and _suggested(event.value)
    ]
    later = [update for update in updates if late and update[0] > late[0][0]]
    if late and not later:
        search = spans[0][0]
        writes = _distinct(event for _, event in late)
        yield failed(
            f"W&B records the values from before the search, and the best ones are trained with ({walk.name})",
            evidence(bundle, init.event.place, "records the configuration as it is by now"),
            evidence(bundle, search.place, "searches"),
            *(
                evidence(bundle, event.place, "puts a best value into the configuration")
                for event in writes[:3]
            ),
            *caller(bundle, writes[0]),
            do="start W&B after the search, or call wandb.config.update(…, allow_val_change=True)",
        )
    elif later:
        yield passed(
            f"the best values are recorded after the search ({walk.name})",
            place,
            evidence(bundle, later[0][1].place, "recorded anew"),
        )
    elif spans and init.index < walk.events.index(spans[0][0]) and not updates:
        says = f"whether the search's result is trained with is not known, and W&B records what was before ({walk.name})"
        yield cannot_tell(says, place, evidence(bundle, spans[0][0].place, "searches"))
    else:
        after = [evidence(bundle, spans[0][0].place, "the search, before it")] if spans else []
        yield passed(f"W&B records the configuration that is trained with ({walk.name})", place, *after)


def _suggested(value: Value) -> bool:
    """Whether a value came out of a search."""
    return any(
        ".trial.suggest_" in source.path or ".best_params" in source.path or ".best_trial" in source.path
        for source in sources(value)
    )


def _config_updates(bundle: Bundle, walk: Walk) -> list[tuple[int, Event]]:
    """Where the recorded configuration is changed: `wandb.config.update(…)`, `run.config["lr"] = …`."""
    found: list[tuple[int, Event]] = []
    for index, event in enumerate(walk.events):
        if (isinstance(event, Call) and event.path in {f"{run}.config.update" for run in RUNS}) or (
            isinstance(event, Put) and event.path.startswith(tuple(f"{run}.config" for run in RUNS))
        ):
            found.append((index, event))
    return [item for item in found if reached(bundle, item[1])]


@check("tracking.no-dumps", impact=Impact.BREACHES)
def training_dumps_no_json(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """Training writes no results.json and prints no JSON of what it measured.

    W&B is the one place where results are. A second copy in a file or in the log is what people end up
    reading, and nobody keeps the two alike.

    Bad:
        print(json.dumps(metrics))
    Good:
        wandb.summary.update(metrics)
    """
    if not flow.training:
        yield cannot_tell("no walk of the training could be followed")
        return
    dumps: dict[tuple[str, int], tuple[Call, bool | None, str]] = {}
    for walk in flow.training:
        for call in walk.of(Call):
            for value, how in _dumped(call):
                key = (call.place.path, call.place.line)
                if how and bundle.module(contract.evaluate_module) is not bundle.sources.get(key[0]):
                    dumps.setdefault(key, (call, _measured(value), how))
    for call, measured, how in dumps.values():
        place = evidence(bundle, call.place, how)
        if measured and _searched(call):
            yield remarked(f"training {how}: the hyper-parameters that the search found", place)
        elif measured:
            yield failed(
                f"training {how}", place, do="leave it out: wandb.log and wandb.summary keep the results"
            )
        elif measured is None:
            yield cannot_tell(f"training {how}; whether it holds results is not known", place)
    if not any(measured is not False for _, measured, _ in dumps.values()):
        source = bundle.module(contract.train_module) or bundle.module(contract.main_module)
        places = [bundle.place(source.path, 0, "dumps no results")] if source is not None else []
        yield passed("training neither writes nor prints results as JSON", *places)


def _dumped(call: Call) -> Iterator[tuple[Value, str]]:
    """What a call dumps as JSON, and where to; empty words when it is no matter of this check."""
    if call.path in ("builtins.print", "sys.stdout.write", "logging.info") or call.path.endswith(
        (".info", ".echo")
    ):
        for made in {id(s): s for arg in call.args for s in sources(arg)}.values():
            if made.path == "json.dumps()" and made.call is not None and made.call.args:
                yield made.call.args[0], "prints JSON"
    elif call.path == "json.dump" and len(call.args) > 1:
        to = call.args[1]
        if isinstance(to, External) and to.path.startswith("sys.stdout"):
            yield call.args[0], "prints JSON"
        else:
            name = _file_name(to)
            if _RESULTS.search(name):
                yield call.args[0], f"writes {name}"
    elif call.path.endswith((".write_text", ".write")) and call.args:
        name = _file_name(call.args[0] if call.path.endswith("write_text") else call.of)
        for made in {id(s): s for arg in call.args for s in sources(arg)}.values():
            if (
                made.path == "json.dumps()"
                and made.call is not None
                and made.call.args
                and _RESULTS.search(name)
            ):
                yield made.call.args[0], f"writes {name}"


def _searched(call: Call) -> bool:
    """Whether all that is dumped came out of a search."""
    for arg in call.args:
        for made in sources(arg):
            if made.path == "json.dumps()" and made.call is not None and made.call.args:
                given = [part for part in parts_of(made.call.args[0]) if isinstance(part, External)]
                if given and all(".trial.suggest_" in g.path or ".best_" in g.path for g in given):
                    return True
    return False


_RESULTS = re.compile(r"(result|metric|summary|history|score|final|eval)[^/]*\.json", re.IGNORECASE)


def _file_name(value: Value | None) -> str:
    """The last part of the path of a file object or of a path, holes as `…`; empty when nothing is known."""
    if isinstance(value, External) and value.call is not None and value.call.path == "builtins.open":
        value = value.call.argument(0, "file")
    text = text_of(value) if value is not None else None
    if text is None:
        return ""
    return str(text.value if isinstance(text, Known) else text).rpartition("/")[2]


def _measured(value: Value) -> bool | None:
    """Whether a value holds something that only running could give; None when it is not known at all."""
    if isinstance(value, Unknown | External):
        return None
    try:
        plain(value)
    except ValueError:
        return True
    return False


def _once(answers: Iterator[Answer]) -> Answers:
    """One answer for each place of which something is said, the one with most to show; runs share their code."""
    said: dict[object, Answer] = {}
    for answer in answers:
        first = [(e.where, e.line) for e in answer.evidence[:1]] or [answer.says]
        key = (answer.outcome, *first)
        if key not in said or len(answer.evidence) > len(said[key].evidence):
            said[key] = answer
    yield from said.values()
