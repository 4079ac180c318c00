"""Criterion 5: the files that the contract names, no others, and nothing asked of those that are missing."""

import pytest
from adapting import (
    MODEL_PY,
    PREPROCESS_PY,
    READY,
    TRAIN_PY,
    asked,
    at,
    lines,
    one_child,
    passes,
    the_failure,
)

from labgate.checks import all_checks
from labgate.contract import load
from labgate.criteria import files
from labgate.finding import Impact, Outcome

REQUIRED = [
    "src/main.py",
    TRAIN_PY,
    "src/evaluate.py",
    PREPROCESS_PY,
    MODEL_PY,
    "pyproject.toml",
    "config/config.yaml",
]
OTHERS = files.no_other_files_are_there
IMPORTS = files.imports_that_no_run_reaches_are_met


@pytest.fixture(scope="module", autouse=True)
def child():
    with one_child():
        yield


def there(path):
    """The check that asks whether `path` is there."""
    name = path.rpartition("/")[2].replace(".", "-")
    return next(check.question for check in all_checks() if check.id == f"files/{name}-is-there")


@pytest.mark.parametrize("path", REQUIRED)
def test_each_required_file_has_its_own_check_which_passes_when_it_is_there(path):
    assert passes(there(path), READY)


@pytest.mark.parametrize("path", REQUIRED)
def test_a_required_file_that_is_missing_or_empty_blocks(path):
    assert the_failure(there(path), READY.without(path)).impact is Impact.BLOCKS
    answer = the_failure(there(path), READY.with_file(path, ""))
    assert answer.impact is Impact.BLOCKS
    assert "0 bytes" in answer.says


def test_a_missing_module_shows_who_imports_it():
    answer = the_failure(there(MODEL_PY), READY.without(MODEL_PY))
    assert lines(answer) == [at(READY, TRAIN_PY, "from src.model import")]


@pytest.mark.parametrize("text", ["# the model\n", '"""The model."""\n', "pass\n", "...\n", "\n\n"])
def test_a_module_that_holds_nothing_fails(text):
    assert "nothing" in the_failure(there(MODEL_PY), READY.with_file(MODEL_PY, text)).says


def test_a_module_that_nobody_imports_and_is_empty_breaches():
    bundle = READY.with_file(MODEL_PY, "").edit(TRAIN_PY, "from src.model import build, overlap\n", "")
    assert the_failure(there(MODEL_PY), bundle).impact is Impact.BREACHES


def test_a_module_of_constants_is_no_empty_module():
    assert passes(there(PREPROCESS_PY), READY.with_file(PREPROCESS_PY, "RANKS = (4, 8)\n"))


def test_a_program_of_imports_alone_fails():
    answer = the_failure(there("src/evaluate.py"), READY.with_file("src/evaluate.py", "import json\n"))
    assert "imports" in answer.says


def test_a_program_that_never_calls_what_it_defines_fails():
    bundle = READY.edit("src/evaluate.py", 'if __name__ == "__main__":\n    main()\n', "")
    answer = the_failure(there("src/evaluate.py"), bundle)
    assert "calls none" in answer.says


def test_a_file_that_the_contract_leaves_open_may_be_missing():
    newest = load("airas-2026-08")
    assert passes(there(TRAIN_PY), READY.without(TRAIN_PY), newest)
    assert the_failure(there("src/main.py"), READY.without("src/main.py"), newest)


# No others


def test_no_others_passes_on_the_ready_experiment():
    assert passes(OTHERS, READY)


@pytest.mark.parametrize(
    "path", ["src/__init__.py", "src/losses.py", "setup.py", "setup.cfg", "config/optuna/tpe.yaml", "run.py"]
)
def test_another_file_breaches_and_is_named(path):
    answer = the_failure(OTHERS, READY.with_file(path, "x = 1\n"))
    assert answer.impact is Impact.BREACHES
    assert lines(answer) == [path]


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        ".github/workflows/run.yml",
        ".research/history.json",
        "uv.lock",
        "results/run/metrics.json",
        "config/runs/third-run.yaml",
        "src/__pycache__/train.cpython-311.pyc",
        "Dockerfile",
    ],
)
def test_what_is_no_part_of_the_experiment_is_no_breach(path):
    assert passes(OTHERS, READY.with_file(path, ""))


def test_tests_are_a_remark():
    bundle = READY.with_file("tests/test_model.py", "def test_x():\n    assert True\n")
    assert the_failure(OTHERS, bundle).impact is Impact.REMARKS


# Imports


def test_imports_among_the_files_are_met():
    assert passes(IMPORTS, READY)


def test_an_import_that_no_run_reaches_and_nothing_meets_breaches():
    late = "def draw(rows):\n    from src.figures import draw_rows\n\n    return draw_rows(rows)\n"
    bundle = READY.with_file(MODEL_PY, f"{READY.text(MODEL_PY)}\n\n{late}")
    answer = the_failure(IMPORTS, bundle)
    assert answer.impact is Impact.BREACHES
    assert lines(answer) == [at(bundle, MODEL_PY, "src.figures")]


def test_a_name_that_the_module_lacks_shows_the_module_too():
    late = "def again(cfg):\n    from src.preprocess import load_all\n\n    return load_all(cfg)\n"
    bundle = READY.with_file(MODEL_PY, f"{READY.text(MODEL_PY)}\n\n{late}")
    assert lines(the_failure(IMPORTS, bundle)) == [at(bundle, MODEL_PY, "import load_all"), PREPROCESS_PY]


def test_what_the_runs_import_in_vain_is_left_to_the_check_of_the_runs():
    (answer,) = asked(IMPORTS, READY.edit(TRAIN_PY, "import build, overlap", "import build, overlap, prune"))
    assert answer.outcome is Outcome.SKIP


def test_an_import_that_may_fail_and_is_caught_is_a_remark():
    late = "def again():\n    try:\n        import src.fast\n    except ImportError:\n        return None\n"
    bundle = READY.with_file(MODEL_PY, f"{READY.text(MODEL_PY)}\n\n{late}")
    assert the_failure(IMPORTS, bundle).impact is Impact.REMARKS
