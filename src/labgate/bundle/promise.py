"""What the experiment promised to do, before any code was written.

AIRAS changed how it records this several times, and people write less; so one tolerant reader takes whatever
of the known keys is there, and never complains about what is not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

HISTORY = ".research/research_history.json"
"""Where AIRAS records the promise, inside a bundle."""

Role = Literal["proposed", "baseline"]

_PROPOSED = re.compile(r"proposed(?![a-z])", re.IGNORECASE)
_BASELINE = re.compile(r"(comparative|baseline)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class PromisedRun:
    """A run that was promised; `config` is its YAML where the promise carries it."""

    run_id: str
    method: str = ""
    model: str = ""
    dataset: str = ""
    role: Role | None = None
    config: str | None = None


@dataclass(frozen=True)
class Promise:
    """Hypothesis, method and design in prose, and what can be counted: metrics and runs.

    `origin` names where it came from, a path inside the bundle or a file beside it.
    """

    hypothesis: str = ""
    method: str = ""
    design: str = ""
    metrics: tuple[str, ...] = ()
    runs: tuple[PromisedRun, ...] = ()
    proposed_method: str = ""
    comparative_methods: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    origin: str = ""

    def run(self, run_id: str) -> PromisedRun | None:
        return next((run for run in self.runs if run.run_id == run_id), None)


def role_of(*labels: str) -> Role | None:
    """The part a run plays, by how its label or id begins: `proposed-…`, `comparative-1-…`, `baseline_…`."""
    for label in labels:
        if _PROPOSED.match(label):
            return "proposed"
        if _BASELINE.match(label):
            return "baseline"
    return None


def promise_from(record: object, origin: str, run_ids: Collection[str] = ()) -> Promise | None:
    """The promise in a decoded JSON, YAML or TOML document; None when it holds none of the known keys.

    Of several research iterations, the one that promises most of `run_ids` is taken, the later one of equals.
    """
    if not isinstance(record, Mapping):
        return None
    session = _first(record, "research_session")
    session = session if isinstance(session, Mapping) else record
    # The newer record stands beside the older keys, so the most specific place is looked at first.
    places: list[Any] = [_iteration(session, run_ids), _first(session, "new_method"), session, record]
    levels: list[Mapping[str, Any]] = [place for place in places if isinstance(place, Mapping)]
    design = next((d for d in (_first(p, "experimental_design", "design") for p in levels) if d), None)
    about: Mapping[str, Any] = design if isinstance(design, Mapping) else {}
    promise = Promise(
        hypothesis=_prose(_of(levels, "hypothesis", "research_hypothesis")),
        method=_prose(_of(levels, "method") or _method_of(_of(levels, "hypothesis", "research_hypothesis"))),
        design=_prose(_first(about, "experiment_summary", "experiment_strategy") or design),
        metrics=_names(_first(about, "evaluation_metrics") or _of(levels, "metrics", "evaluation_metrics")),
        runs=_runs(_of(levels, "experiment_runs", "runs")) or _generated_runs([about, *levels]),
        proposed_method=_method(_first(about, "proposed_method") or _of(levels, "proposed_method")),
        comparative_methods=_names(
            _first(about, "comparative_methods") or _of(levels, "comparative_methods", "baselines")
        ),
        models=_names(_first(about, "models_to_use", "expected_models") or _of(levels, "models")),
        datasets=_names(_first(about, "datasets_to_use", "expected_datasets") or _of(levels, "datasets")),
        origin=origin,
    )
    return promise if promise != Promise(origin=origin) else None


def _iteration(session: Mapping[str, Any], run_ids: Collection[str]) -> Mapping[str, Any] | None:
    found = session.get("iterations")
    iterations = [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
    best: Mapping[str, Any] | None = None
    most = -1
    for one in iterations:
        shared = sum(run.run_id in run_ids for run in _runs(one.get("experiment_runs")))
        if shared >= most:
            best, most = one, shared
    return best


def _runs(value: object) -> tuple[PromisedRun, ...]:
    return tuple(run for run in _each_run(value) if run.run_id)


def _each_run(value: object) -> Iterator[PromisedRun]:
    if isinstance(value, Mapping):
        pairs = [(str(run_id), one) for run_id, one in value.items()]
    elif isinstance(value, list):
        pairs = [("", one) for one in value]
    else:
        return
    for key, one in pairs:
        if isinstance(one, Mapping):
            run_id = _text(_first(one, "run_id", "id", "name")) or key
            method = _text(_first(one, "method_name", "method"))
            config = _first(one, "run_config", "config")
            said = role_of(_text(one.get("role")))
            yield PromisedRun(
                run_id,
                method,
                _text(_first(one, "model_name", "model")),
                _text(_first(one, "dataset_name", "dataset")),
                said or role_of(method, run_id),
                config if isinstance(config, str) else None,
            )
        elif key:
            yield PromisedRun(key, role=role_of(key), config=one if isinstance(one, str) else None)
        elif isinstance(one, str):
            yield PromisedRun(one, role=role_of(one))


def _generated_runs(levels: list[Mapping[str, Any]]) -> tuple[PromisedRun, ...]:
    """Later records name no runs: the configs that were generated with the code stand for them."""
    for level in levels:
        code = _first(level, "experiment_code")
        if isinstance(code, Mapping) and isinstance(code.get("run_configs"), Mapping):
            return _runs(code["run_configs"])
        if isinstance(code, Mapping) and isinstance(code.get("files"), Mapping):
            found = {
                match[1]: text
                for path, text in code["files"].items()
                if (match := re.fullmatch(r"config/runs?/(.+)\.ya?ml", str(path)))
            }
            return _runs(found)
    return ()


def _first(mapping: Mapping[str, Any], *keys: str) -> Any:
    return next((mapping[key] for key in keys if mapping.get(key) not in (None, "", [], {})), None)


def _of(levels: list[Mapping[str, Any]], *keys: str) -> Any:
    return next((found for level in levels if (found := _first(level, *keys)) is not None), None)


def _text(value: object) -> str:
    return str(value).strip() if isinstance(value, (str, int, float)) else ""


def _prose(value: object) -> str:
    """Text as it is; an object of texts as one paragraph a key."""
    if isinstance(value, Mapping):
        return "\n\n".join(f"{key}: {_text(text)}" for key, text in value.items() if _text(text))
    return _text(value)


def _method(value: object) -> str:
    if isinstance(value, Mapping):
        name, described = _text(_first(value, "method_name", "name")), _text(value.get("description"))
        return f"{name}: {described}" if name and described else name or described
    return _text(value)


def _method_of(hypothesis: object) -> object:
    """Later records tell the method nowhere but inside the hypothesis."""
    return hypothesis.get("method") if isinstance(hypothesis, Mapping) else None


def _names(value: object) -> tuple[str, ...]:
    """A list of names, of objects with a name, or one name."""
    items = value if isinstance(value, list) else list(value) if isinstance(value, Mapping) else [value]
    found = [
        _text(_first(item, "name", "method_name", "id")) if isinstance(item, Mapping) else _text(item)
        for item in items
    ]
    return tuple(name for name in found if name)
