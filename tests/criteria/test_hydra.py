"""Criterion 2: the contract's commands compose a config for every run, in every mode."""

import pytest

from labgate.bundle import Bundle
from labgate.compose import Child, Compositions
from labgate.contract import load
from labgate.criteria import hydra, working_directory
from labgate.finding import Outcome

CONTRACT = load("airas-2025-11")
MAIN = """\
import subprocess
import sys

import hydra
from omegaconf import OmegaConf


@hydra.main(config_path="../config", config_name="config", version_base="1.3")
def main(cfg):
    run = OmegaConf.load(hydra.utils.to_absolute_path(f"config/runs/{cfg.run}.yaml"))
    subprocess.run([sys.executable, "-u", "-m", "src.train", f"run={run.run_id}"], check=True)


if __name__ == "__main__":
    main()
"""
CONFIG = """\
defaults:
  - _self_
run: null
results_dir: results
mode: full
"""
RUN = "run_id: {}\nmethod: pruned\nmodel: {{}}\ndataset: {{}}\ntraining: {{epochs: 2}}\noptuna: {{}}\n"
READY = Bundle.from_files(
    {
        "src/main.py": MAIN,
        "src/train.py": "print('trains')\n",
        "config/config.yaml": CONFIG,
        "config/runs/pruned-mlp.yaml": RUN.format("pruned-mlp"),
        "config/runs/dense-mlp.yaml": RUN.format("dense-mlp"),
        "pyproject.toml": '[project]\nname = "pruning"\nversion = "0"\n',
    }
)


CHILD = Child()


@pytest.fixture(scope="module", autouse=True)
def child():
    """One child for all bundles of this file: importing Hydra is what takes the time."""
    with CHILD:
        yield


def asked(question, bundle):
    with Compositions(bundle, CONTRACT, CHILD) as compositions:
        needs = {"bundle": bundle, "contract": CONTRACT, "compositions": compositions}
        return list(question(**needs))


def composing(bundle):
    return asked(hydra.every_run_composes_in_every_mode, bundle)


def the_failure(answers):
    (answer,) = [answer for answer in answers if answer.outcome is not Outcome.PASS]
    assert answer.outcome is Outcome.FAIL, answer
    return answer


def places(answer):
    return [str(place) for place in answer.evidence]


def test_every_run_and_mode_is_counted_where_all_compose():
    (answer,) = composing(READY)
    assert answer.outcome is Outcome.PASS
    assert answer.says == "4 configs compose: 2 runs in 2 modes"
    assert places(answer) == ["src/main.py:8", "config/config.yaml"]


def test_a_forgotten_config_name_fails_and_shows_the_config_that_is_never_read():
    answer = the_failure(composing(READY.edit("src/main.py", ', config_name="config"', "")))
    assert "Key 'run' is not in struct" in answer.says
    assert places(answer) == ["src/main.py:8", "config/config.yaml"]
    assert answer.do == 'add config_name="config"'


def test_a_second_defect_behind_a_forgotten_config_name_is_told_as_well():
    bundle = READY.edit("src/main.py", ', config_name="config"', "").edit(
        "config/config.yaml", "mode: full\n", ""
    )
    first, second = composing(bundle)
    assert first.do == 'add config_name="config"'
    assert second.says.startswith("once Hydra is given config/config.yaml: the command sets `mode`")


def test_a_config_path_that_leads_nowhere_fails_and_says_the_right_one():
    answer = the_failure(composing(READY.edit("src/main.py", '"../config"', '"config"')))
    assert "Primary config directory not found" in answer.says
    assert places(answer) == ["src/main.py:8", "config/config.yaml"]
    assert answer.do == 'write config_path="../config"'


def test_a_key_that_the_command_sets_and_the_config_lacks_fails_once_for_all_runs():
    answer = the_failure(composing(READY.edit("config/config.yaml", "results_dir: results\n", "")))
    assert "the command sets `results_dir`, which the config does not have" in answer.says
    assert "pruned-mlp" not in answer.says
    assert answer.do == "add `results_dir: ???` to config/config.yaml"


@pytest.mark.parametrize("option", ["???", "dense-mlp"])
def test_a_group_whose_folder_bears_another_name_fails_and_shows_the_entry_and_the_folder(option):
    bundle = READY.edit("config/config.yaml", "  - _self_\nrun: null\n", f"  - _self_\n  - run: {option}\n")
    answer = the_failure(composing(bundle))
    assert places(answer)[:2] == ["config/config.yaml:3", "config/runs/dense-mlp.yaml"]
    assert answer.evidence[1].label == "the run configs lie in config/runs, not in config/run"


def test_a_folder_of_the_commands_group_that_no_defaults_list_names_fails():
    bundle = READY.with_file("config/run/dense-mlp.yaml", RUN).edit("config/config.yaml", "run: null\n", "")
    answer = the_failure(composing(bundle))
    assert answer.says.startswith("the command sets the group `run`, which no defaults list names")
    assert places(answer)[:2] == ["config/config.yaml:1", "config/run/dense-mlp.yaml"]


@pytest.mark.parametrize("entry", ["runs: ${run}", "runs@run: ${run}", "runs/${run}"])
def test_a_defaults_entry_that_interpolates_a_key_of_the_config_fails_at_its_line(entry):
    answer = the_failure(
        composing(READY.edit("config/config.yaml", "  - _self_\n", f"  - _self_\n  - {entry}\n"))
    )
    assert "Error resolving interpolation" in answer.says
    assert places(answer)[0] == "config/config.yaml:3"


def test_a_hydra_block_with_a_wrong_key_fails_at_that_key():
    bundle = READY.edit(
        "config/config.yaml", "mode: full\n", "mode: full\nhydra:\n  job:\n    change_dir: false\n"
    )
    answer = the_failure(composing(bundle))
    assert "Key 'change_dir' not in 'JobConf'" in answer.says
    assert places(answer)[0] == "config/config.yaml:8"


def test_yaml_that_does_not_parse_fails_at_the_line_that_the_parser_names():
    answer = the_failure(composing(READY.edit("config/config.yaml", "run: null\n", "run: null\nrun: 1\n")))
    assert "found duplicate key run" in answer.says
    assert "config/config.yaml:4" in places(answer)


def test_a_run_of_its_own_that_fails_is_named():
    entry = "  - _self_\n  - runs: ???\n"
    bundle = READY.edit("config/config.yaml", "  - _self_\n", entry)
    answer = the_failure(composing(bundle))
    assert "You must specify 'runs'" in answer.says


def test_a_main_without_hydra_fails_and_an_empty_one_too():
    answer = the_failure(composing(READY.with_file("src/main.py", "import argparse\n")))
    assert answer.says.startswith("src/main.py uses no Hydra")
    answer = the_failure(composing(READY.with_file("src/main.py", "")))
    assert answer.says.startswith("src/main.py is empty")


def test_a_main_that_hands_over_to_a_hydra_program_elsewhere_is_not_told():
    text = "import os, sys\nos.execvp('python', ['python', '-m', 'src.train', *sys.argv[1:]])\n"
    bundle = READY.with_file("src/main.py", text).with_file("src/train.py", MAIN)
    (answer,) = composing(bundle)
    assert answer.outcome is Outcome.SKIP


def test_a_decorated_function_that_nothing_calls_fails():
    bundle = READY.edit("src/main.py", 'if __name__ == "__main__":\n    main()\n', "")
    assert "nothing calls main()" in the_failure(composing(bundle)).says


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('config_name="config"', "config_name=sys.argv.pop()"),
        ("\n\n@hydra", "\n\nsys.argv.insert(1, '+run=1')\n\n\n@hydra"),
        ('"../config"', '"/etc/experiment"'),
    ],
)
def test_what_reading_cannot_settle_is_not_told(old, new):
    (answer,) = composing(READY.edit("src/main.py", old, new))
    assert answer.outcome is Outcome.SKIP


def test_configs_that_the_code_registers_or_a_plugin_brings_are_not_held_missing():
    bundle = READY.edit("config/config.yaml", "  - _self_\n", "  - _self_\n  - base_schema\n")
    assert the_failure(composing(bundle))
    code = (
        "from hydra.core.config_store import ConfigStore\nConfigStore.instance().store('base_schema', {})\n"
    )
    (answer,) = composing(bundle.with_file("src/train.py", code))
    assert answer.outcome is Outcome.SKIP
    bundle = READY.edit(
        "config/config.yaml", "  - _self_\n", "  - _self_\n  - override hydra/sweeper: optuna\n"
    )
    assert the_failure(composing(bundle))
    dependencies = 'version = "0"\ndependencies = ["hydra-optuna-sweeper"]\n'
    (answer,) = composing(bundle.edit("pyproject.toml", 'version = "0"\n', dependencies))
    assert answer.outcome is Outcome.SKIP


def test_a_run_config_that_nothing_reads_fails_and_one_that_is_loaded_or_composed_passes():
    question = hydra.the_run_config_takes_part
    (answer,) = asked(question, READY)
    assert (answer.outcome, places(answer)) == (Outcome.PASS, ["src/main.py:10"])
    unread = READY.edit(
        "src/main.py", 'hydra.utils.to_absolute_path(f"config/runs/{cfg.run}.yaml")', "cfg.base"
    )
    answer = the_failure(asked(question, unread))
    assert places(answer) == ["src/main.py:8", "config/runs/dense-mlp.yaml"]
    composed = unread.with_file("config/run/dense-mlp.yaml", RUN.format("dense-mlp"))
    composed = composed.with_file("config/run/pruned-mlp.yaml", RUN.format("pruned-mlp"))
    composed = composed.edit("config/config.yaml", "run: null\n", "  - run: ???\n")
    with Compositions(composed, load("airas-2025-10-23"), CHILD) as compositions:
        (answer,) = question(composed, compositions.contract, compositions)
    assert answer.outcome is Outcome.PASS


NO_VERSION = READY.edit("src/main.py", ', version_base="1.3"', "")


def directory(bundle):
    return asked(working_directory.the_working_directory_holds, bundle)


def test_a_child_by_module_after_hydra_changed_the_directory_fails_and_shows_both_lines():
    assert [answer.outcome for answer in directory(READY)] == [Outcome.PASS]
    answer = the_failure(directory(NO_VERSION))
    assert answer.says == "the child `-m src.train` starts where there is no `src`"
    assert places(answer) == ["src/main.py:11", "src/main.py:8"]


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("src/main.py", "check=True", "check=True, cwd=hydra.utils.get_original_cwd()"),
        ("src/main.py", "    run = ", "    os.chdir(hydra.utils.get_original_cwd())\n    run = "),
        ("config/config.yaml", "mode: full\n", "mode: full\nhydra: {run: {dir: .}}\n"),
        ("config/config.yaml", "mode: full\n", "mode: full\nhydra: {job: {chdir: false}}\n"),
        (
            "pyproject.toml",
            'version = "0"\n',
            'version = "0"\n[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
            '[tool.hatch.build.targets.wheel]\npackages = ["src"]\n',
        ),
    ],
)
def test_a_child_that_is_told_where_to_start_is_fine(path, old, new):
    answers = directory(NO_VERSION.edit(path, old, new))
    assert not [answer for answer in answers if answer.outcome is Outcome.FAIL and answer.impact is None]


def test_a_build_that_puts_the_inside_of_src_on_the_path_does_not_make_src_importable():
    bundle = NO_VERSION.edit(
        "pyproject.toml", 'version = "0"\n', 'version = "0"\n[build-system]\nrequires = ["setuptools"]\n'
    )
    assert "starts where there is no `src`" in the_failure(directory(bundle)).says


def test_a_relative_path_opened_after_the_change_fails_and_a_branch_is_not_told():
    fine = NO_VERSION.edit("src/main.py", "check=True", "check=True, cwd='/'")
    bundle = fine.edit(
        "src/main.py", 'hydra.utils.to_absolute_path(f"config/runs/{cfg.run}.yaml")', '"config/" + "a.yaml"'
    )
    answer = the_failure(directory(bundle))
    assert answer.says == "config/a.yaml is opened where it does not exist"
    branch = bundle.edit("src/main.py", "    run = ", "    if cfg.mode == 'full':\n        run = ")
    (answer,) = [a for a in directory(branch) if a.impact is None]
    assert answer.outcome is Outcome.SKIP


def test_a_changed_directory_is_told_even_where_another_defect_keeps_the_config_from_composing():
    bundle = NO_VERSION.edit("config/config.yaml", "mode: full\n", "")
    assert "starts where there is no `src`" in the_failure(directory(bundle)).says
    (answer,) = directory(
        bundle.edit("config/config.yaml", "run: null\n", "run: null\nhydra: {run: {dir: .}}\n")
    )
    assert answer.outcome is Outcome.SKIP


BY_PATH = READY.edit("src/main.py", '"-m", "src.train"', 'str(Path(__file__).parent / "train.py")')


def children(bundle):
    return asked(lambda bundle, contract, **_: by_path(bundle, contract), bundle)


by_path = working_directory.a_child_started_by_path_finds_its_imports


@pytest.mark.parametrize(
    "statement", ["from src.model import build", "import src.model", "from .model import build"]
)
def test_a_child_started_by_path_that_imports_from_src_fails_and_shows_both_lines(statement):
    bundle = BY_PATH.with_file("src/train.py", f"import os\n{statement}\n")
    answer = the_failure(children(bundle))
    assert places(answer) == ["src/main.py:11", "src/train.py:2"]
    assert answer.do == "start it with `-m src.train`"


def test_a_child_started_by_path_passes_where_its_imports_are_found():
    assert children(BY_PATH)[0].outcome is Outcome.PASS
    found = "import sys\nsys.path.insert(0, '.')\nfrom src.model import build\n"
    assert children(BY_PATH.with_file("src/train.py", found))[0].outcome is Outcome.PASS
    assert (
        children(READY.with_file("src/train.py", "from src.model import build\n"))[0].outcome is Outcome.PASS
    )
    cared = BY_PATH.edit("src/main.py", "check=True", "check=True, env={'PYTHONPATH': '.'}")
    assert (
        children(cared.with_file("src/train.py", "from src.model import build\n"))[0].outcome is Outcome.PASS
    )
