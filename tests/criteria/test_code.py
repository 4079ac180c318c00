"""Criteria 1 and 2: imports among the experiment's own files, names, and values used as what they are."""

import inspect

import pytest

from labgate.bundle import Bundle
from labgate.compose import Child, Compositions
from labgate.contract import load
from labgate.criteria import code, complete
from labgate.finding import Outcome
from labgate.flow import Flow

CONTRACT = load("airas-2025-11")
MAIN = """\
import subprocess
import sys

import hydra


@hydra.main(config_path="../config", config_name="config", version_base="1.3")
def main(cfg):
    words = [f"run={cfg.run}", f"mode={cfg.mode}", f"results_dir={cfg.results_dir}"]
    subprocess.run([sys.executable, "-m", "src.train", *words], check=True)


if __name__ == "__main__":
    main()
"""
TRAIN = """\
import hydra
from omegaconf import OmegaConf

from src.model import build


def soften(logits, temperature):
    return logits / temperature


@hydra.main(config_path="../config", config_name="config", version_base="1.3")
def main(cfg):
    run = OmegaConf.load(f"config/runs/{cfg.run}.yaml")
    student = build(run.model)
    teacher = run.get("teacher")
    for epoch in range(run.training.epochs):
        loss = student(epoch)
        if teacher is not None:
            loss = loss + soften(loss, teacher.temperature)
        print(epoch, loss)


if __name__ == "__main__":
    main()
"""
MODEL = """\
import torch

WIDTHS = {"small": 32, "wide": 128}


def build(spec):
    return torch.nn.Linear(WIDTHS[spec.size], spec.classes)
"""
EVALUATE = """\
import json
import sys


def read(words):
    return dict(word.split("=", 1) for word in words)


given = read(sys.argv[1:])
for run_id in json.loads(given["run_ids"]):
    print(run_id)
"""
RUN = "run_id: {}\nmodel: {{size: small, classes: 10}}\ntraining: {{epochs: 2, schedule: cosine}}\n"
READY = Bundle.from_files(
    {
        "src/main.py": MAIN,
        "src/train.py": TRAIN,
        "src/model.py": MODEL,
        "src/evaluate.py": EVALUATE,
        "config/config.yaml": "defaults: [_self_]\nrun: null\nmode: full\nresults_dir: results\n",
        "config/runs/distilled.yaml": RUN.format("distilled") + "teacher: {temperature: 4.0}\n",
        "config/runs/alone.yaml": RUN.format("alone"),
    }
)
CHILD = Child()
KEPT = {}
"""Composers by what stands in the configs: most bundles here differ in their sources alone."""


@pytest.fixture(scope="module", autouse=True)
def child():
    """One child for all bundles of this file: importing Hydra is what takes the time."""
    with CHILD:
        yield
        for composer in KEPT.values():
            composer.close()


def asked(question, bundle):
    compositions = Compositions(bundle, CONTRACT, CHILD)
    configs = frozenset((path, file.text) for path, file in bundle.files.items() if path.endswith(".yaml"))
    compositions.composer = KEPT.setdefault(configs, compositions.composer)
    facts = {"bundle": bundle, "flow": Flow(bundle, CONTRACT, compositions)}
    return list(question(**{name: facts[name] for name in inspect.signature(question).parameters}))


def the_failure(question, bundle):
    (answer,) = asked(question, bundle)
    assert answer.outcome is Outcome.FAIL, answer
    return answer


def outcomes(question, bundle):
    return {answer.outcome for answer in asked(question, bundle)}


def places(answer):
    return [str(place) for place in answer.evidence]


imports = code.imports_of_its_own_files_resolve
names = complete.names_are_defined
values = code.values_are_used_as_what_they_are
QUESTIONS = [imports, names, values]


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_ready_experiment_passes(question):
    assert outcomes(question, READY) == {Outcome.PASS}


def test_a_pass_names_the_files_that_were_followed():
    (answer,) = asked(imports, READY)
    assert places(answer) == ["src/evaluate.py", "src/main.py", "src/model.py", "src/train.py"]


@pytest.mark.parametrize("question", QUESTIONS)
def test_code_that_cannot_be_followed_is_not_told_and_never_fails(question):
    hidden = READY.edit("src/train.py", "    student = ", "    exec(open(run.recipe).read())\n    student = ")
    assert Outcome.FAIL not in outcomes(question, hidden)


# Imports


def test_a_helper_that_was_never_written_fails_where_it_is_imported():
    answer = the_failure(imports, READY.edit("src/train.py", "import build", "import build, distil_loss"))
    assert answer.says.startswith("ImportError: cannot import name 'distil_loss' from 'src.model'")
    assert places(answer)[0] == "src/train.py:4" and answer.evidence[0].label == "imported here"
    assert "src/main.py:10" in places(answer), "the line that starts the training is shown"
    assert answer.evidence[0].shows == "from src.model import build, distil_loss"


def test_a_file_that_was_never_written_fails_once_for_all_runs_and_modes():
    answer = the_failure(imports, READY.edit("src/train.py", "src.model import", "src.students import"))
    assert answer.says.startswith("ModuleNotFoundError: No module named 'src.students'")
    assert "and 1 more" in answer.says


def test_a_file_imported_as_if_src_were_on_the_path_fails():
    answer = the_failure(imports, READY.edit("src/train.py", "src.model", "model"))
    assert "No module named 'model'" in answer.says and "src.name" in answer.do


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from src.model import build", "from .model import build"),
        ("from src.model import build", "import src.model\n\nbuild = src.model.build"),
        ("from src.model import build", "from src import model\n\nbuild = model.build"),
        (
            "from src.model import build",
            "import sys\n\nsys.path.insert(0, 'src')\nfrom model import build",
        ),
        (
            "from src.model import build",
            "try:\n    from src.fast import build\nexcept ImportError:\n    from src.model import build",
        ),
        (
            "from src.model import build",
            "from typing import TYPE_CHECKING\nfrom src.model import build\nif TYPE_CHECKING:\n"
            "    from src.kinds import Student",
        ),
    ],
    ids=["relative", "whole", "by package", "path", "tried", "for types"],
)
def test_each_way_to_import_that_works_passes(old, new):
    assert outcomes(imports, READY.edit("src/train.py", old, new)) == {Outcome.PASS}


def test_an_import_on_one_path_only_is_not_told():
    bundle = READY.edit("src/model.py", "import torch\n", "import torch\n\nif torch.cuda.is_available():\n")
    bundle = bundle.edit(
        "src/model.py", "available():\n", "available():\n    from src.kernels import fused\n"
    )
    assert outcomes(imports, bundle) == {Outcome.SKIP, Outcome.PASS}


# Names


def test_a_name_that_nothing_binds_fails_where_it_is_read():
    answer = the_failure(names, READY.edit("src/train.py", "print(epoch, loss)", "print(epoch, criterion)"))
    assert answer.says.startswith("name 'criterion' is not defined: NameError on alone, mode trial")
    assert places(answer) == ["src/train.py:20"] and answer.do == "define or import criterion"


def test_a_name_that_only_another_file_binds_fails():
    answer = the_failure(names, READY.edit("src/train.py", "build(run.model)", "build(run.model).to(device)"))
    assert "name 'device' is not defined" in answer.says


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("src/train.py", "    student = ", "    global student\n    student = "),
        ("src/train.py", "print(epoch, loss)", "print([x for x in (epoch, loss)])"),
        ("src/train.py", "print(epoch, loss)", "print(f'{(last := epoch)}', last)"),
        ("src/train.py", "print(epoch, loss)", "print(__name__, __file__, epoch)"),
        ("src/model.py", "import torch\n", "import torch\nfrom os.path import *\n\nHERE = join('a', 'b')\n"),
        (
            "src/train.py",
            "        print(epoch, loss)",
            "        try:\n            tqdm.write('x')\n        except NameError:\n            print(epoch)",
        ),
        ("src/train.py", "print(epoch, loss)", "show(epoch)\n\n\ndef show(epoch):\n    print(epoch)"),
    ],
    ids=["global", "comprehension", "walrus", "module's own", "wildcard", "caught", "defined below"],
)
def test_each_way_to_bind_a_name_is_understood(path, old, new):
    assert outcomes(names, READY.edit(path, old, new)) == {Outcome.PASS}


def test_a_name_bound_on_one_path_only_is_not_told():
    bundle = READY.edit(
        "src/train.py",
        "    student = ",
        "    import torch\n    if torch.cuda.is_available():\n"
        "        scaler = torch.amp.GradScaler()\n    student = ",
    ).edit("src/train.py", "print(epoch, loss)", "print(epoch, scaler)")
    assert Outcome.FAIL not in outcomes(names, bundle)


# Values


def test_a_string_that_is_asked_for_an_attribute_fails_in_each_file_where_the_config_says_so():
    bundle = READY.edit("src/main.py", "{cfg.run}", "{cfg.run.run_id}")
    answer = the_failure(values, bundle)
    assert answer.says.startswith("AttributeError: 'str' object has no attribute 'run_id'")
    assert places(answer) == ["src/main.py:9"]


def test_a_none_that_is_computed_with_fails_for_the_run_whose_config_says_so_alone():
    bundle = READY.edit("config/runs/alone.yaml", "{epochs: 2", "{epochs: null")
    answer = the_failure(values, bundle)
    assert "alone, mode" in answer.says and "distilled" not in answer.says
    assert places(answer)[0] == "src/train.py:16"


def test_a_key_that_no_table_of_the_code_has_fails():
    bundle = READY.edit("config/runs/alone.yaml", "size: small", "size: tiny")
    answer = the_failure(values, bundle)
    assert answer.says.startswith("KeyError: 'tiny'")
    assert places(answer)[0] == "src/model.py:7" and "src/train.py:14" in places(answer)


def test_a_function_of_the_experiment_called_without_what_it_needs_fails():
    bundle = READY.edit("src/train.py", "soften(loss, teacher.temperature)", "soften(loss)")
    answer = the_failure(values, bundle)
    assert answer.says.startswith("TypeError: soften() missing 1 required")
    assert "distilled, mode" in answer.says and "alone" not in answer.says


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("teacher.temperature)", "float(str(teacher.temperature)))"),
        ("print(epoch, loss)", "print(run.training.schedule.upper(), run.training.schedule[0])"),
        ("range(run.training.epochs)", "range(run.training.get('warm_up') or 1)"),
        (
            "print(epoch, loss)",
            "try:\n            print(run.training.schedule.name)\n        except AttributeError:\n"
            "            print(epoch)",
        ),
        (
            "print(epoch, loss)",
            "print(run.training.schedule.name if hasattr(run.training.schedule, 'name') else epoch)",
        ),
        (
            "print(epoch, loss)",
            "print(run.training.schedule.name if not isinstance(run.training.schedule, str) else epoch)",
        ),
    ],
    ids=["converted", "a string's own", "or", "caught", "hasattr", "isinstance"],
)
def test_values_that_are_tested_first_or_converted_pass(old, new):
    assert outcomes(values, READY.edit("src/train.py", old, new)) == {Outcome.PASS}


def test_a_misuse_on_one_path_only_is_not_told():
    bundle = READY.edit(
        "src/train.py", "print(epoch, loss)", "if loss > 2:\n            print(run.training.schedule.name)"
    )
    (answer,) = [answer for answer in asked(values, bundle) if answer.outcome is not Outcome.PASS]
    assert answer.outcome is Outcome.SKIP and answer.says.startswith("on some path AttributeError")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("run.training.epochs", "run.training.rounds"),
        ("print(epoch, loss)", "print(epoch, criterion)"),
        ("import build", "import build, distil_loss"),
        ("    student = ", "    raise SystemExit(1)\n    student = "),
    ],
)
def test_what_other_checks_speak_of_is_left_to_them(old, new):
    assert outcomes(values, READY.edit("src/train.py", old, new)) == {Outcome.PASS}
