"""What W&B keeps of a run, its summary and its configuration, and what is dumped beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labgate.bundle import Bundle
from labgate.checks import Answers
from labgate.criteria._metric_names import family, recorded_as
from labgate.criteria._runs import distinct, state_after
from labgate.criteria._tracing import caller, cut, parts_of, reached, search_spans
from labgate.criteria._wandb import (
    AUTOMATIC,
    RUNS,
    State,
    is_init,
    is_summary,
    moments,
    names_of,
    told,
)
from labgate.finding import cannot_tell, failed, passed, remarked
from labgate.flow import Flow
from labgate.flow.events import Call, ConfigRead, ConfigWrite, Event, How, Put, Walk, evidence
from labgate.flow.values import External, Known, Unknown, Value, plain, sources, text_of


def alike(walks: list[Walk]) -> list[list[Walk]]:
    """The walks, those together that set the same summary keys."""
    groups: dict[object, list[Walk]] = {}
    for walk in walks:
        known = told(walk)
        groups.setdefault((frozenset(known.summary), bool(known.unnamed), bool(cut(walk))), []).append(walk)
    return list(groups.values())


def summary(bundle: Bundle, flow: Flow, walks: list[Walk]) -> Answers:
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
    chosen = [key for key in keys if "best" in key.lower() and not re.search("optuna|param|pred|label", key)]
    dated = any(re.search(r"epoch|step|iter|round", key, re.IGNORECASE) for key in keys)
    undated = bool(chosen) and not dated and not hidden and _epochs(walk) != 1
    kept = [*keys, *known.history, *AUTOMATIC]  # W&B keeps the last value of all that is logged
    unmet = [m for m in _promised(bundle) if family(m) and not recorded_as(m, kept)]
    if unmet and any(_NAMELESS.search(key) for key in keys):
        unmet = unmet[1:]  # `best_primary_metric` is one of them
    if not hidden:
        lacking += [f"nothing of {metric!r}, which was promised" for metric in unmet]
    places = distinct(known.summary.values())
    shown = [evidence(bundle, place.place, "into the summary") for place in places[:4]]
    if not lacking and undated:
        yield remarked(
            f"the summary has {chosen[0]!r} and no best epoch ({who})",
            *shown,
            do="add the epoch of the best metric",
        )
    if undated and lacking:
        lacking.append(f"{chosen[0]!r} and no best epoch")
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

_NAMELESS = re.compile(r"primary|metric|score|objective|perf", re.IGNORECASE)
"""What the name of a key holds that records a metric without saying which."""


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


def recorded(bundle: Bundle, walk: Walk) -> Answers:
    spans = search_spans(walk)
    seen = [m for m in moments(bundle, walk) if not m.searching]
    inits = [m for m in seen if is_init(m.event) and state_after(m, walk) is not State.OFF]
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
        and _read_after(walk, index, event.key)
    ]
    later = [update for update in updates if late and update[0] > late[0][0]]
    if late and not later:
        search = spans[0][0]
        writes = distinct(event for _, event in late)
        yield failed(
            f"W&B records the values from before the search, not those trained with ({walk.name})",
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
        says = f"W&B records what was before the search; what comes of that is not known ({walk.name})"
        yield cannot_tell(says, place, evidence(bundle, spans[0][0].place, "searches"))
    else:
        after = [evidence(bundle, spans[0][0].place, "the search, before it")] if spans else []
        yield passed(f"W&B records the configuration that is trained with ({walk.name})", place, *after)


def _read_after(walk: Walk, index: int, key: str) -> bool:
    """Whether a config key is read after event `index`: by name, or with a section handed on whole."""
    for event in walk.events[index + 1 :]:
        if isinstance(event, ConfigRead):
            whole = event.how in (How.WHOLE, How.LOOP) and (
                event.key in ("", "*") or key.startswith(f"{event.key}.")
            )
            if event.key == key or whole:
                return True
    return False


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


def dumped(call: Call) -> Iterator[tuple[Value, str]]:
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


def searched(call: Call) -> bool:
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


def measured(value: Value) -> bool | None:
    """Whether a value holds something that only running could give; None when it is not known at all."""
    if isinstance(value, Unknown | External):
        return None
    try:
        plain(value)
    except ValueError:
        return True
    return False
