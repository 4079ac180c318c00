"""Criterion 6, W&B tracking: what the training tells W&B, and when."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from labgate.bundle import BrokenFileError, Bundle
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria import _kept, _matching, _runs
from labgate.criteria._asked import Part
from labgate.criteria._tracing import search_spans
from labgate.criteria._wandb import (
    is_init,
    is_log,
    told,
    tracked,
    untracked,
    whole,
)
from labgate.finding import Answer, Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Flow
from labgate.flow.events import Call, Event, Put, evidence
from labgate.flow.values import Known

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
        yield _runs.mute(bundle, flow, mute, any(told_by[id(walk)].unnamed for walk in mute))
    said: set[object] = set()
    for walk in walks:
        if walk not in mute:
            for answer in _runs.logging(bundle, walk):
                key = (answer.outcome, answer.evidence)
                if key not in said:
                    said.add(key)
                    yield answer


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
    for group in _kept.alike(walks):
        yield from _kept.summary(bundle, flow, group)


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
    if not walks:
        yield cannot_tell("no walk of the whole experiment could be followed")
    elif not any(search_spans(walk) for walk in walks):
        yield from _runs.no_search(bundle, flow)
    else:
        yield from _once(answer for walk in walks for answer in _runs.searching(bundle, walk))


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
    yield from _once(answer for walk in walks for answer in _runs.untracked_mode(bundle, walk))


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
    yield from _once(answer for walk in walks for answer in _runs.online_mode(bundle, walk))


@check("tracking.own-project", impact=Impact.BREACHES)
def small_modes_log_to_their_own_projects(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """A mode that only tries the experiment out logs to a W&B project of its own.

    Such runs bear the ids of the real ones. In one project, the evaluation fetches five steps for a result.

    Bad:
        wandb.init(project=cfg.wandb.project)
    Good:
        wandb.init(project=cfg.wandb.project + {"sanity": "-sanity", "pilot": "-pilot"}.get(cfg.mode, ""))
    """
    suffixes = {mode.name: mode.project_suffix for mode in contract.modes if mode.project_suffix}
    walks = [walk for walk in flow.training if walk.mode in suffixes]
    if not walks:
        yield cannot_tell("no walk of such a mode could be followed")
        return
    yield from _once(a for walk in walks for a in _runs.own_project(bundle, walk, suffixes[walk.mode]))


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
    yield from _once(answer for walk in walks for answer in _kept.recorded(bundle, walk))


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
    programs = [f"{name.replace('.', '/')}.py" for name in (contract.train_module, contract.main_module)]
    dumps: dict[tuple[str, int], tuple[Call, bool | None, str]] = {}
    for walk in flow.training:
        for call in walk.of(Call):
            for value, how in _kept.dumped(call):
                key = (call.place.path, call.place.line)
                if how and bundle.module(contract.evaluate_module) is not bundle.sources.get(key[0]):
                    dumps.setdefault(key, (call, _kept.measured(value), how))
    for call, measured, how in dumps.values():
        place = evidence(bundle, call.place, how)
        if measured and _kept.searched(call):
            yield remarked(f"training {how}: the hyper-parameters that the search found", place)
        elif measured and call.place.path in programs:
            yield failed(f"training {how}", place, do="leave it out: W&B keeps the results")
        elif measured:
            yield remarked(
                f"a file beside the training {how}", place, do="leave it out: W&B keeps the results"
            )
        elif measured is None:
            yield cannot_tell(f"training {how}; whether it holds results is not known", place)
    if not any(measured is not False for _, measured, _ in dumps.values()):
        source = bundle.module(contract.train_module) or bundle.module(contract.main_module)
        places = [bundle.place(source.path, 0, "dumps no results")] if source is not None else []
        yield passed("training neither writes nor prints results as JSON", *places)


def _once(answers: Iterator[Answer]) -> Answers:
    """One answer for each place, the one with most to show: runs share their code."""
    said: dict[object, Answer] = {}
    for answer in answers:
        first = next(((e.where, e.line) for e in answer.evidence), answer.says)
        key = (answer.outcome, first)
        if key not in said or len(answer.evidence) > len(said[key].evidence):
            said[key] = answer
    yield from said.values()
