"""Imports, and what libraries import on their own account, come with the declared dependencies."""

import pytest

from labgate.bundle import Bundle
from labgate.checks import CannotLookError
from labgate.compose import Compositions
from labgate.contract import load
from labgate.criteria import imports
from labgate.finding import Impact, Outcome
from labgate.flow import Flow
from labgate.packages import Packages, Resolution
from labgate.packages.requirements import read

CONTRACT = load("airas-2025-11")
PYPROJECT = """\
[project]
name = "pruning-study"
version = "0.1.0"
dependencies = [
  "hydra-core>=1.3",
  "transformers>=4.40",
  "pandas",
]
"""
MAIN = """\
import subprocess
import sys

import hydra


@hydra.main(config_path="../config", config_name="config", version_base=None)
def main(cfg):
    subprocess.run([sys.executable, "-m", "src.train", f"run={cfg.run}", f"mode={cfg.mode}"], check=True)


if __name__ == "__main__":
    main()
"""
TRAIN = """\
import hydra
import pandas as pd
from transformers import AutoModelForCausalLM


@hydra.main(config_path="../config", config_name="config", version_base=None)
def main(cfg):
    model = AutoModelForCausalLM.from_pretrained("gpt2")
    pd.DataFrame({"a": [1]}).to_csv("a.csv")


if __name__ == "__main__":
    main()
"""
RUN = "run_id: pruned\nmethod: pruned\nmodel: {}\ndataset: {}\ntraining: {epochs: 2}\noptuna: {}\n"
READY = Bundle.from_files(
    {
        "src/main.py": MAIN,
        "src/train.py": TRAIN,
        "config/config.yaml": "run: null\nresults_dir: results\nmode: full\n",
        "config/runs/pruned.yaml": RUN,
        "pyproject.toml": PYPROJECT,
    }
)
VERSIONS = dict.fromkeys(("hydra-core", "omegaconf", "transformers", "pandas", "numpy"), "1")
NEEDED_BY = {"numpy": ("pandas", "transformers"), "omegaconf": ("hydra-core",)}


def asked(question, bundle, **resolution):
    resolution = resolution or {"versions": VERSIONS, "needed_by": NEEDED_BY}
    with Compositions(bundle, CONTRACT) as compositions:
        flow = Flow(bundle, CONTRACT, compositions)
        return list(question(bundle, flow, Packages(bundle, read(bundle), Resolution(**resolution))))


def importing(words):
    return READY.edit("src/train.py", "import hydra\n", f"import hydra\n{words}\n")


def provided(bundle, **resolution):
    return asked(imports.imports_are_provided, bundle, **resolution)


def told(answers):
    return [(a.outcome, a.impact) for a in answers if a.outcome is not Outcome.PASS]


def test_imports_that_are_declared_pass_and_show_by_what():
    (answer,) = provided(READY)
    assert answer.outcome is Outcome.PASS
    assert {e.label for e in answer.evidence} >= {"provided by hydra-core", "provided by pandas"}


def test_an_import_that_nothing_provides_blocks_and_shows_where_it_is_missed():
    (failure,) = provided(importing("import timm"))
    assert (failure.outcome, failure.impact) == (Outcome.FAIL, None)
    assert [(e.where, e.line) for e in failure.evidence] == [("src/train.py", 2), ("pyproject.toml", 4)]


def test_an_import_that_another_package_brings_is_a_remark_that_names_it():
    remark = provided(importing("import numpy as np"))[0]
    assert remark.impact is Impact.REMARKS and "numpy comes with pandas" in remark.evidence[0].label


@pytest.mark.parametrize(
    "words",
    [
        "try:\n    import timm\nexcept ImportError:\n    timm = None",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import timm",
        "import json",
        "from src import main as other",
    ],
)
def test_imports_that_may_fail_or_are_ones_own_are_left_alone(words):
    assert told(provided(importing(words))) == []


def test_an_import_that_may_not_be_reached_cannot_be_told():
    bundle = READY.edit(
        "src/train.py", "def main(cfg):\n", "def main(cfg):\n    if pd.ready():\n        import timm\n"
    )
    assert told(provided(bundle)) == [(Outcome.SKIP, None)]


def test_without_versions_only_what_is_declared_can_be_told():
    answers = told(provided(importing("import numpy"), problem="offline"))
    assert answers == [(Outcome.SKIP, None)]


def test_a_project_that_declares_nothing_fails_once():
    bare = READY.with_file("pyproject.toml", PYPROJECT.partition("dependencies")[0])
    (failure,) = provided(bare, versions={})
    assert "hydra, pandas, transformers" in failure.says


# What libraries need for some of their functions


def optional(bundle, **resolution):
    return asked(imports.optional_packages_are_there_where_used, bundle, **resolution)


DEVICE_MAP = READY.edit("src/train.py", '"gpt2")', '"gpt2", device_map="auto")')


def test_a_device_map_without_accelerate_blocks():
    (failure,) = optional(DEVICE_MAP)
    assert failure.outcome is Outcome.FAIL and "accelerate" in failure.says
    assert (failure.evidence[0].where, failure.evidence[0].line) == ("src/train.py", 8)


def test_a_device_map_with_accelerate_brought_by_anything_passes():
    (answer,) = optional(DEVICE_MAP, versions={**VERSIONS, "accelerate": "1"})
    assert answer.outcome is Outcome.PASS and answer.evidence


@pytest.mark.parametrize("given", ["None", "None if cfg.mode else None"])
def test_a_device_map_of_none_needs_nothing(given):
    assert told(optional(READY.edit("src/train.py", '"gpt2")', f'"gpt2", device_map={given})'))) == []


def test_a_table_in_markdown_needs_tabulate():
    (failure,) = optional(READY.edit("src/train.py", 'to_csv("a.csv")', "to_markdown()"))
    assert "tabulate" in failure.says


def test_what_depends_on_an_unknown_test_cannot_be_told():
    guarded = READY.edit("src/train.py", "    pd.", "    if model.config.wide:\n        pd.")
    (answer,) = told(optional(guarded.edit("src/train.py", 'to_csv("a.csv")', "to_markdown()")))
    assert answer[0] is Outcome.SKIP


def test_nothing_is_said_when_versions_are_not_known():
    with pytest.raises(CannotLookError):
        optional(DEVICE_MAP, problem="offline")
