"""Criterion 2, Hydra: the contract's commands compose a config for every run, in every mode."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from labgate.bundle import Bundle
from labgate.bundle.syntax import every, walked
from labgate.checks import Answers, check
from labgate.compose import ApiCall, Composed, Composition, Compositions, HydraMain
from labgate.contract import Contract
from labgate.criteria._hydra_errors import UNREADABLE_OVERRIDE, Complaint, explain
from labgate.finding import Answer, Evidence, Impact, cannot_tell, failed, passed

_OURS = ("Timeout", "Memory", "Crash")


@dataclass
class _Defect:
    """One complaint and the runs and modes that make it."""

    complaint: Complaint
    runs: list[str] = field(default_factory=list)


@check(
    "hydra.manages-run-configs",
    "hydra.cli-full",
    "hydra.cli-trial",
    "configs.referenced",
    impact=Impact.BLOCKS,
)
def every_run_composes_in_every_mode(
    bundle: Bundle, contract: Contract, compositions: Compositions
) -> Answers:
    """Hydra composes a config for each run and mode, from the contract's exact command.

    Nothing of an experiment runs before its config is composed, so a group that has no folder, a missing
    `config_name` or a key that config.yaml lacks kills every run in its first second. The real Hydra composes
    here, apart from the bundle's code.

    Bad:
        @hydra.main(config_path="../config")
        def main(cfg): ...
    Good:
        @hydra.main(config_path="../config", config_name="config", version_base="1.3")
        def main(cfg): ...
    """
    name = contract.main_module
    main = compositions.mains.get(name)
    if main is None:
        yield _without_hydra(bundle, contract, compositions)
        return
    decorator = bundle.place(main.path, main.line, "Hydra starts here")
    if not main.started:
        yield failed(
            f"nothing calls {main.function}(), so `python -m {name}` ends without doing anything",
            decorator,
            do=f'end the file with `if __name__ == "__main__": {main.function}()`',
        )
        return
    doubts = compositions.doubts(name)
    if doubts or compositions.reason:
        why = f"what Hydra gets is not settled by reading: {'; '.join(doubts)}"
        yield cannot_tell(why if doubts else compositions.reason or "", decorator)
        return
    defects: dict[str, _Defect] = {}
    fine: list[Composed] = []
    for composed in compositions.each(name):
        if composed.composition.error is None:
            fine.append(composed)
        elif _is_about_the_id(composed.composition):
            continue
        else:
            _gather(defects, compositions, main, composed)
    yield from _told(bundle, defects, compositions)
    yield from _second_defect(bundle, contract, main, compositions, defects)
    if fine and not defects:
        first = fine[0]
        files = [bundle.place(path, 0, "takes part") for path in first.composition.sources]
        runs = len({composed.run_id for composed in fine})
        note = f" ({compositions.note})" if compositions.note else ""
        yield passed(
            f"{len(fine)} configs compose: {runs} runs in {len(contract.modes)} modes{note}",
            decorator,
            *files,
        )


def _without_hydra(bundle: Bundle, contract: Contract, compositions: Compositions) -> Answer:
    path = contract.main_module.replace(".", "/") + ".py"
    source = bundle.module(contract.main_module)
    if source is None or source.tree is None:
        return cannot_tell(compositions.reason or f"{path} cannot be read")
    other: list[HydraMain | ApiCall] = [*compositions.mains.values(), *compositions.api_calls]
    reached = [entry for entry in other if _mentions(source.tree, entry.path)]
    reached += [call for call in compositions.api_calls if call.path == source.path]
    if reached:
        place = bundle.place(reached[0].path, reached[0].line, "uses Hydra")
        return cannot_tell(f"{compositions.reason}; Hydra is used in another way", place)
    says = "is empty" if not source.tree.body else "uses no Hydra"
    return failed(
        f"{source.path} {says}, so nothing takes the command's {contract.run_key}=, results_dir= and mode",
        bundle.place(source.path, 1 if source.tree.body else 0),
        do="decorate its main function with hydra.main and call it",
        impact=Impact.BREACHES,  # it runs, and heeds none of it
    )


def _mentions(tree: ast.Module, path: str) -> bool:
    """Whether a module's code names another module, in an import or on a child's command line."""
    stem = path.removesuffix(".py").replace("/", ".")
    last = stem.rpartition(".")[2]
    for node in walked(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[-1] == last:
            return True
        if isinstance(node, ast.Import | ast.ImportFrom) and any(
            alias.name.split(".")[-1] == last for alias in node.names
        ):
            return True
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and (stem in node.value or path in node.value)
        ):
            return True
    return False


def _gather(
    defects: dict[str, _Defect], compositions: Compositions, main: HydraMain, composed: Composed
) -> None:
    """One defect a kind of complaint: those of different runs differ only by a run's name."""
    complaint = explain(compositions.bundle, compositions.contract, main, composed.composition)
    kind = complaint.says.replace(f"mode={composed.mode}", "<mode>")
    for run_id in sorted(compositions.run_ids, key=len, reverse=True):
        kind = kind.replace(run_id, "<run>")
    defect = defects.setdefault(kind, _Defect(complaint))
    defect.runs.append(f"{composed.run_id} ({composed.mode})")


def _told(bundle: Bundle, defects: dict[str, _Defect], compositions: Compositions) -> Iterator[Answer]:
    store = _registers(bundle)
    total = len(compositions.run_ids) * len(compositions.contract.modes)
    for defect in defects.values():
        complaint = defect.complaint
        whom = "" if len(defect.runs) == total else f" [{', '.join(sorted(set(defect.runs)))[:200]}]"
        if any(f"{kind}: " in complaint.says for kind in _OURS):
            yield cannot_tell(f"composing did not end: {complaint.says}{whom}", *complaint.evidence)
        elif complaint.unsure or store:
            yield cannot_tell(
                f"{complaint.says}; {complaint.unsure or 'the code registers configs'}", *complaint.evidence
            )
        else:
            yield failed(f"{complaint.says}{whom}", *complaint.evidence, do=complaint.do)


def _second_defect(
    bundle: Bundle,
    contract: Contract,
    main: HydraMain,
    compositions: Compositions,
    defects: dict[str, _Defect],
) -> Iterator[Answer]:
    """Where Hydra was not even given the config, say what would fail once it is."""
    if not defects:
        return
    further: dict[str, _Defect] = {}
    for composed in compositions.each(contract.main_module):
        request = compositions.once_named(composed.composition.request)
        if request is None:
            return
        composition = compositions.composer.compose(request)
        if composition.error is not None and not _is_about_the_id(composition):
            way = "../" * main.path.count("/") + str(request.config_dir)
            other = replace(main, config_path=way, config_name=request.config_name)
            _gather(further, compositions, other, replace(composed, composition=composition))
    for answer in _told(bundle, further, compositions):
        yield replace(answer, says=f"once Hydra is given {contract.config_file}: {answer.says}")


def _registers(bundle: Bundle) -> bool:
    """Whether any source adds configs to Hydra's store, which no file shows."""
    return any("ConfigStore" in (source.text or "") for source in bundle.sources.values())


def _is_about_the_id(composition: Composition) -> bool:
    error = composition.error
    return error is not None and error.kind in (*UNREADABLE_OVERRIDE, "Shell")


@check("hydra.manages-run-configs", "configs.provided-apart", impact=Impact.BLOCKS)
def the_run_config_takes_part(bundle: Bundle, contract: Contract, compositions: Compositions) -> Answers:
    """A run's own file is part of what Hydra composes, or the code loads it.

    With a plain `run: null` in config.yaml, `run=ID` sets a word and nothing else: every run then trains on
    the defaults of config.yaml, if it trains at all.

    Bad:
        @hydra.main(config_path="../config", config_name="config")
        def main(cfg):
            train(cfg)
    Good:
        @hydra.main(config_path="../config", config_name="config")
        def main(cfg):
            train(OmegaConf.merge(cfg, OmegaConf.load(f"config/runs/{cfg.run}.yaml")))
    """
    paths = {run: path for run, path in compositions.run_paths.items() if path}
    composed = [
        c
        for c in compositions.each(contract.main_module)
        if c.composition.error is None and c.run_id in paths
    ]
    if not composed:
        yield cannot_tell("no config is composed for a run that has a file of its own")
        return
    left_out = sorted({c.run_id for c in composed if paths[c.run_id] not in c.composition.sources})
    if not left_out:
        first = composed[0]
        yield passed(
            "each run's file is composed", bundle.place(paths[first.run_id], 0, f"run={first.run_id}")
        )
        return
    loaders = list(_loaders(bundle, contract))
    if loaders:
        yield passed("the code reads the run's file by itself", *loaders[:3])
        return
    main = compositions.mains[contract.main_module]
    yield failed(
        f"nothing reads {paths[left_out[0]]}: it is not composed, and no source names its folder",
        bundle.place(main.path, main.line, "composes without it"),
        bundle.place(paths[left_out[0]], 0, "never read"),
        do=f"choose it in the defaults list, or merge {contract.run_folder}/<run>.yaml into the config",
    )


def _loaders(bundle: Bundle, contract: Contract) -> Iterator[Evidence]:
    """Lines that name the folder of the run configs, outside the evaluation."""
    folder = contract.run_folder.rpartition("/")[2]
    for source in bundle.sources.values():
        if source.tree is None or source.module == contract.evaluate_module:
            continue
        docstrings = {node.value for node in every(source.tree, ast.Expr)}
        for node in every(source.tree, ast.Constant):
            if (
                isinstance(node.value, str)
                and node not in docstrings
                and folder in re.split(r"[^A-Za-z0-9_-]", node.value)
            ):
                yield bundle.place(source.path, node.lineno, "names the folder of the run configs")
