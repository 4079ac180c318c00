"""Criteria 2 and 7, the run configs: what stands in them, how they are named, and which there are."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from labgate.bundle import BrokenFileError, Bundle
from labgate.bundle.syntax import walked
from labgate.checks import Answers, check
from labgate.compose import Compositions, Request
from labgate.contract import Contract
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed, remarked

_SHELL = re.compile(r"[\s()&;|<>$`\"'*?\[\]{}!#~\\]")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*")
_RESOLVER = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*:")
_OC = ("env", "decode", "create", "select", "deprecated", "dict.keys", "dict.values")
_RESOLVERS = {"now", "hydra", "python_version", *(f"oc.{name}" for name in _OC)}
"""Those of OmegaConf and Hydra themselves."""
_WORDS = ("true", "false", "null", "nan", "inf")


@check("hydra.cli-full", "hydra.cli-trial", "configs.match-runs", impact=Impact.BLOCKS)
def run_ids_survive_the_command_line(
    bundle: Bundle, contract: Contract, compositions: Compositions
) -> Answers:
    """Every run id arrives in the config as it is written, past the shell and past Hydra's grammar.

    The command says `run=ID` without quotes. A space or a parenthesis is the shell's, a comma makes Hydra
    think of a sweep, and `1e-4` or `null` arrive as 0.0001 and as nothing.

    Bad:
        run_id = "proposed (ours), seed 1"
    Good:
        run_id = "proposed-seed-1"
    """
    if not compositions.run_ids:
        yield cannot_tell(f"there is no run config in {contract.run_folder} and no promised run")
        return
    bad = 0
    for run_id, path in compositions.run_paths.items():
        place = [bundle.place(path, 0, "its name is the run id")] if path else []
        trouble = _trouble(run_id, compositions)
        if trouble:
            bad += 1
            yield failed(
                f"{contract.run_key}={run_id} {trouble}",
                *place,
                do="rename the run with letters, digits, `-`, `_` and `.` alone, its file and its run_id too",
            )
    if not bad:
        places = [bundle.place(path, 0, "a run id") for path in compositions.run_paths.values() if path]
        yield passed(f"{len(compositions.run_ids)} run ids pass the shell and Hydra's grammar", *places[:2])


def _trouble(run_id: str, compositions: Compositions) -> str:
    """What becomes of `run=ID` that should not; "" when nothing does."""
    found = _SHELL.search(run_id)
    if found:
        return f"holds {found[0]!r}, which the shell takes for itself"
    if _PLAIN.fullmatch(run_id) and run_id.lower() not in _WORDS:
        return ""
    composition = compositions.composer.compose(Request(None, None, (f"+run={run_id}",), None))
    if composition.error is not None:
        return f"is refused by Hydra's grammar: {composition.error.first_line[:200]}"
    value = (composition.tree or {}).get("run")
    return "" if str(value) == run_id else f"reaches the code as {value!r}"


@check("hydra.sections", impact=Impact.BREACHES)
def run_configs_have_their_sections(
    bundle: Bundle, contract: Contract, compositions: Compositions
) -> Answers:
    """Every run config has the contract's sections, by their exact names, if config.yaml does not have them.

    The code reads `cfg.training` and `cfg.optuna` on every path; a baseline whose file leaves one out is the
    run that dies after the proposed method has spent its hours.

    Bad:
        sections = ("run_id", "method", "model", "data", "train")
    Good:
        sections = ("run_id", "method", "model", "dataset", "training", "optuna")
    """
    paths = {run: path for run, path in compositions.run_paths.items() if path}
    if not paths:
        yield cannot_tell(f"there is no run config in {contract.run_folder}")
        return
    shared = _mapping(compositions.bundle, contract.config_file) or {}
    lacking: dict[tuple[str, ...], list[str]] = {}
    whole = []
    for path in paths.values():
        try:
            value = compositions.bundle.yaml(path)
        except BrokenFileError as error:
            yield failed(
                f"{path} {error.says}", bundle.place(path, error.line), do="repair it", impact=Impact.BLOCKS
            )
            continue
        if not isinstance(value, Mapping):
            what = "is empty" if value is None else f"holds a {type(value).__name__}, not a mapping"
            yield failed(f"{path} {what}", bundle.place(path, 1), do="write the run's sections into it")
            continue
        missing = tuple(key for key in contract.sections if not _has(value, shared, key, contract))
        if missing:
            lacking.setdefault(missing, []).append(path)
        else:
            whole.append(path)
    for missing, files in lacking.items():
        near = [place for key in missing for place in _near(compositions.bundle, files[0], key, contract)]
        yield failed(
            f"{_listed(missing)} missing from {_listed(files)}, and from {contract.config_file}",
            *(bundle.place(path, 1, f"has no {_listed(missing)}") for path in files),
            *near,
            do=f"give each run config {_listed(contract.sections)}",
        )
    if whole:
        yield passed(f"{len(whole)} run configs have {_listed(contract.sections)}", bundle.place(whole[0], 1))


def _has(run: Mapping[Any, Any], shared: Mapping[Any, Any], key: str, contract: Contract) -> bool:
    """Whether a run has a section: in its own file, below the run key there, or from config.yaml."""
    inner = run.get(contract.run_key)
    if key in run or (isinstance(inner, Mapping) and key in inner):
        return True
    return key != "run_id" and shared.get(key) not in (None, "???", "")


def _near(bundle: Bundle, path: str, key: str, contract: Contract) -> list[Evidence]:
    """A key of the file that may have been meant."""
    names = [str(name) for name in _mapping(bundle, path) or {} if name not in contract.sections]
    short = [name for name in names if name in key or key in name]
    found = short or difflib.get_close_matches(key, names, 1, 0.7)
    return [bundle.place(path, bundle.key_line(path, name), f"meant as {key}?") for name in found[:1]]


@check("hydra.sections", "configs.match-runs", impact=Impact.BREACHES)
def run_ids_equal_their_files(bundle: Bundle, contract: Contract, compositions: Compositions) -> Answers:
    """A run config's `run_id` is its file's name.

    The command chooses the file by its name, W&B and the evaluation know the run by `run_id`: where the two
    differ, the evaluation asks for a run that nobody logged.

    Bad:
        files = {"config/runs/proposed-bert.yaml": "run_id: proposed_bert"}
    Good:
        files = {"config/runs/proposed-bert.yaml": "run_id: proposed-bert"}
    """
    same = []
    for run_id, path in compositions.run_paths.items():
        value = _mapping(compositions.bundle, path) if path else None
        said = value.get("run_id") if value else None
        if path is None or said is None or (isinstance(said, str) and ("${" in said or said == "???")):
            continue
        line = compositions.bundle.key_line(path, "run_id")
        place = compositions.bundle.place(path, line, "the run's id")
        if str(said) == run_id:
            same.append(place)
            continue
        yield failed(
            f"{path} says run_id {said!r}, and the command finds it as {run_id!r}",
            place,
            do=f"write `run_id: {run_id}`, or rename the file",
        )
    if same:
        yield passed(f"{len(same)} run configs bear their own run_id", *same[:2])
    elif not any(compositions.run_paths.values()):
        yield cannot_tell(f"there is no run config in {contract.run_folder}")
    else:
        yield cannot_tell("no run config says its run_id")


@check("configs.match-runs", impact=Impact.BREACHES)
def run_configs_are_the_promised_runs(
    bundle: Bundle, contract: Contract, compositions: Compositions
) -> Answers:
    """There is one config for every promised run, and none besides.

    A promised run without a config never runs; one that was not promised spends hours that nobody asked for.

    Bad:
        promised, configs = {"proposed", "baseline"}, {"proposed", "ablation"}
    Good:
        promised, configs = {"proposed", "baseline"}, {"proposed", "baseline"}
    """
    promise = bundle.promise
    if promise is None or not promise.runs:
        yield cannot_tell("no promise says which runs there should be")
        return
    have = {run: path for run, path in compositions.run_paths.items() if path}
    promised = [run.run_id for run in promise.runs]
    origin = Evidence(promise.origin or "promise", 0, ", ".join(promised)[:200], "promises these runs")
    extra = [run for run in have if run not in promised]
    missing = [run for run in promised if run not in have]
    for run in missing:
        near = difflib.get_close_matches(run, extra, 1, 0.6)
        places = [bundle.place(have[name], 0, "bears another name") for name in near]
        do = f"write {contract.run_folder}/{run}.yaml" if not near else f"rename it {run}.yaml"
        yield failed(f"the promised run {run!r} has no config", origin, *places, do=do)
    for run in extra:
        if not any(difflib.get_close_matches(name, [run], 1, 0.6) for name in missing):
            yield remarked(f"{have[run]} belongs to no promised run", bundle.place(have[run], 0), origin)
    if not missing:
        places = [bundle.place(have[run], 0, "a promised run") for run in promised[:2]]
        yield passed(f"each of the {len(promised)} promised runs has its config", origin, *places)


@check("hydra.parameters-from-config", impact=Impact.BLOCKS)
def every_resolver_is_registered(bundle: Bundle, contract: Contract, compositions: Compositions) -> Answers:
    """Every `${name:…}` of the configs names a resolver that exists.

    OmegaConf looks for the resolver when the value is read or the config is resolved, which is often as late
    as the line that hands the config to W&B.

    Bad:
        config = {"training": {"batch_size": "${optuna:batch_size}"}}
    Good:
        config = {"training": {"batch_size": 32}}
    """
    registered = {name for source in bundle.sources.values() for name in _resolvers(source.tree)}
    files = [contract.config_file, *filter(None, compositions.run_paths.values())]
    unknown: dict[str, list[Evidence]] = {}
    for path in files:
        file = compositions.bundle.files.get(path)
        for number, line in enumerate(file.lines if file else (), start=1):
            for name in _RESOLVER.findall(line.partition(" #")[0]):
                if name not in _RESOLVERS and name not in registered:
                    place = compositions.bundle.place(path, number, "asks for it")
                    unknown.setdefault(name, []).append(place)
    for name, places in unknown.items():
        if None in registered:
            yield cannot_tell(
                f"the code registers resolvers by names that reading cannot tell; {name}?", *places
            )
        else:
            yield failed(
                f"no resolver is called {name!r}: OmegaConf raises UnsupportedInterpolationType",
                *places[:6],
                do=f"write plain values, or OmegaConf.register_new_resolver({name!r}, …) first",
            )
    if not unknown:
        yield passed("the configs name no unknown resolver", compositions.bundle.place(contract.config_file))


def _resolvers(tree: ast.Module | None) -> Iterator[str | None]:
    """The names under which a module registers resolvers; None for one that reading cannot tell."""
    for node in walked(tree) if tree else ():
        match node:
            case ast.Call(func=ast.Attribute(attr="register_new_resolver" | "register_resolver")):
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                match given:
                    case [ast.Constant(value=str(name)), *_]:
                        yield name
                    case _:
                        yield None


def _mapping(bundle: Bundle, path: str) -> Mapping[Any, Any] | None:
    try:
        value = bundle.yaml(path)
    except BrokenFileError:
        return None
    return value if isinstance(value, Mapping) else None


def _listed(words: tuple[str, ...] | list[str]) -> str:
    return ", ".join(words)
