"""Criterion 2, the working directory: what a program starts and opens after Hydra has changed it."""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Iterator

from labgate.bundle import Bundle
from labgate.checks import Answers, check
from labgate.compose import Compositions, HydraMain
from labgate.contract import Contract
from labgate.criteria._launches import (
    Launch,
    Opening,
    importable_once_installed,
    launches,
    lost_import,
    openings,
    scripts,
)
from labgate.finding import Answer, Impact, cannot_tell, failed, passed, remarked


@check("hydra.cli-full", "hydra.cli-trial", impact=Impact.BLOCKS)
def the_working_directory_holds(bundle: Bundle, contract: Contract, compositions: Compositions) -> Answers:
    """What a program starts and opens is found from the directory that Hydra leaves it in.

    Without `version_base`, Hydra 1.3 changes into `outputs/DATE/TIME` before it calls the function. A child
    `python -m src.train` then ends in `No module named 'src'`, and `config/runs/…` is not there.

    Bad:
        @hydra.main(config_path="../config", config_name="config")
        def main(cfg):
            subprocess.run([sys.executable, "-m", "src.train", f"run={cfg.run}"], check=True)
    Good:
        @hydra.main(config_path="../config", config_name="config", version_base="1.3")
        def main(cfg):
            subprocess.run([sys.executable, "-m", "src.train", f"run={cfg.run}"], check=True)
    """
    asked = [name for name in (contract.main_module, contract.train_module) if name in compositions.mains]
    for name in asked:
        main = compositions.mains[name]
        folder = _folder(compositions, name, main)
        if folder is None:
            yield cannot_tell(f"no config of {name} is composed, so its directory is not known")
        elif folder == ".":
            place = bundle.place(main.path, main.line, "leaves the directory as it is")
            yield passed(f"{name} stays in the directory that it is started in", place)
        else:
            yield from _after_the_change(bundle, main, folder)
    if not asked:
        yield cannot_tell("no program of the contract is started by Hydra")


def _folder(compositions: Compositions, name: str, main: HydraMain) -> str | None:
    """Where Hydra leaves the program: "." where it was started, else a folder; None when one cannot tell."""
    job = next((c.composition.job for c in compositions.each(name) if c.composition.tree is not None), None)
    if job is not None:
        return job.run_dir_expression if job.chdir and posixpath.normpath(job.run_dir) != "." else "."
    # Nothing composes: once something does, the defaults hold unless the config speaks of them.
    text = compositions.bundle.text(compositions.contract.config_file)
    if main.dynamic or text is None or "hydra" in text or "hydra." in " ".join(_overrides(compositions)):
        return None
    return "outputs/${now:%Y-%m-%d}/${now:%H-%M-%S}" if main.as_hydra_1_1 else "."


def _overrides(compositions: Compositions) -> Iterator[str]:
    for mode in compositions.contract.modes:
        yield from mode.overrides


def _after_the_change(bundle: Bundle, main: HydraMain, folder: str) -> Iterator[Answer]:
    source = bundle.sources[main.path]
    why = bundle.place(main.path, main.line, f"Hydra changes into {folder}")
    installed = importable_once_installed(bundle)
    broken = False
    found: list[Launch | Opening] = list(launches(source, main.function))
    found += openings(source, main.function, bundle)
    for thing in found:
        place = bundle.place(source.path, thing.line, "looked for in the new directory")
        if isinstance(thing, Launch):
            says = (
                f"the child `-m {thing.module}` starts where there is no `{thing.module.partition('.')[0]}`"
            )
            do = 'write version_base="1.3", or pass cwd=hydra.utils.get_original_cwd()'
            if installed:
                continue
        else:
            says = f"{thing.path} is opened where it does not exist"
            do = 'write version_base="1.3", or hydra.utils.to_absolute_path(…)'
        if not thing.certain or (isinstance(thing, Launch) and installed is None):
            yield cannot_tell(f"{says}, if this line is reached and the package is not installed", place, why)
            continue
        broken = True
        yield failed(says, place, why, do=do)
    if not broken:
        yield remarked(
            f"relative paths of {main.path}, as results_dir and .cache, lead into {folder}",
            why,
            do='write version_base="1.3"',
        )


@check("hydra.cli-full", "hydra.cli-trial", impact=Impact.BLOCKS)
def a_child_started_by_path_finds_its_imports(bundle: Bundle, contract: Contract) -> Answers:
    """A child that is started as `python src/train.py` imports nothing that only `-m src.train` would find.

    Python looks for a script's imports beside the script, in `src/`, where there is no `src`; and a script
    belongs to no package, so `from .model import …` fails as well.

    Bad:
        subprocess.run([sys.executable, str(Path(__file__).parent / "train.py")], check=True)
    Good:
        subprocess.run([sys.executable, "-m", "src.train"], check=True)
    """
    source = bundle.module(contract.main_module)
    if source is None or source.tree is None:
        yield cannot_tell("the main program cannot be read")
        return
    installed = importable_once_installed(bundle)
    functions = [node.name for node in source.tree.body if isinstance(node, ast.FunctionDef)]
    started = {script.line: script for name in functions for script in scripts(source, name, bundle)}
    broken = False
    for script in started.values():
        child = bundle.sources[script.path]
        line = lost_import(child)
        statement = child.line(line).strip()
        if not line or (installed and not statement.startswith("from .")):
            continue
        says = f"{script.path} is started by its path and cannot import what {statement!r} asks for"
        places = (
            bundle.place(source.path, script.line, "starts it by its path"),
            bundle.place(child.path, line, "looks for it beside the script"),
        )
        broken = True
        if installed is None and not statement.startswith("from ."):
            yield cannot_tell(f"{says}, unless the project is installed", *places)
        else:
            yield failed(says, *places, do=f"start it with `-m {child.module}`")
    if not broken:
        lines = [bundle.place(source.path, line, "starts a child by its path") for line in started]
        place = bundle.place(source.path, 0, "starts no child by its path")
        yield passed(
            f"{len(started)} children are started by path, none lacks an import", *(lines or [place])
        )
