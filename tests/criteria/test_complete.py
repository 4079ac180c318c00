"""Criterion 1: whole sources, no missing code, no undefined name."""

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
    outcomes,
    passes,
    the_failure,
)

from labgate.criteria import _ruff, complete, model
from labgate.finding import Impact, Outcome

WHOLE = complete.sources_are_whole
MISSING = complete.no_code_is_missing
NAMES = complete.names_are_defined
USED = complete.definitions_are_used_as_written
HELPER = "src/preprocess.py"


@pytest.fixture(scope="module", autouse=True)
def child():
    with one_child():
        yield


def with_helper(code):
    """The experiment with more code at the end of its preprocessing."""
    return READY.with_file(HELPER, f"{READY.text(HELPER)}\n\n{code}\n")


@pytest.mark.parametrize("question", [WHOLE, MISSING, NAMES, USED])
def test_an_experiment_in_order_passes_and_shows_where(question):
    assert passes(question, READY)


# Whole sources


def test_a_file_that_was_cut_off_fails_where_reading_ends():
    text = READY.text(TRAIN_PY)
    cut = text[: text.index("**batch).loss")]
    answer = the_failure(WHOLE, READY.with_file(TRAIN_PY, cut))
    assert answer.impact is Impact.BLOCKS
    assert "cut off" in answer.says
    assert lines(answer) == [f"{TRAIN_PY}:{cut.count(chr(10)) + 1}"]


def test_a_branch_without_a_body_at_the_end_is_called_cut_off():
    answer = the_failure(WHOLE, READY.with_file(MODEL_PY, "def build(cfg):\n    if cfg.model.rank:\n"))
    assert "cut off" in answer.says


def test_nul_bytes_fail_on_the_line_that_holds_them():
    data = READY.text(MODEL_PY).encode().replace(b"    return model\n", b"    return model\0\n")
    answer = the_failure(WHOLE, READY.with_file(MODEL_PY, data))
    assert "NUL" in answer.says
    assert lines(answer) == [at(READY, MODEL_PY, "return model")]


def test_bytes_that_are_not_utf8_fail():
    answer = the_failure(WHOLE, READY.with_file(MODEL_PY, b"import torch\nNAME = '\xff\xfe'\n"))
    assert "UTF-8" in answer.says
    assert lines(answer) == [f"{MODEL_PY}:2"]


def test_line_ends_written_as_backslash_n_are_named_as_such():
    escaped = READY.text(MODEL_PY).replace("\n", "\\n")
    assert "line ends" in the_failure(WHOLE, READY.with_file(MODEL_PY, escaped)).says


def test_a_broken_source_that_nothing_imports_is_a_remark():
    answer = the_failure(WHOLE, READY.with_file("scratch.py", "def ("))
    assert answer.impact is Impact.REMARKS


# Missing code


@pytest.mark.parametrize(
    "words",
    [
        "# TODO: shuffle per epoch",
        "# FIXME",
        "# PLACEHOLDER: real loading comes later",
        "# ... rest of the code stays the same",
        "# omitted for brevity",
        "# This is a simplified version of the sampler",
        "# your code here",
    ],
)
def test_a_comment_that_admits_missing_code_fails_on_its_line(words):
    bundle = READY.edit(PREPROCESS_PY, "    collate =", f"    {words}\n    collate =")
    answer = the_failure(MISSING, bundle)
    assert answer.impact is Impact.BREACHES
    assert lines(answer) == [at(bundle, PREPROCESS_PY, words)]


@pytest.mark.parametrize(
    "words",
    [
        "# shuffled once per epoch; the order is kept for the rest of the training data",
        "# code unchanged since the pilot study",
        "# approximate, see the appendix",
        "# a placeholder of the prompt, {answer}, is filled per row",
        "# todos los textos",
        "# not implemented for image data",
        "# the rows to be written to disk",
        "# the rest of the model stays frozen",
        "# rows that speak of a TODO are left in",
        "# drawn by a method to be implemented by whoever calls this",
    ],
)
def test_a_comment_that_admits_nothing_does_not_fail(words):
    assert passes(MISSING, READY.edit(PREPROCESS_PY, "    collate =", f"    {words}\n    collate ="))


def test_words_in_a_string_that_is_used_are_no_admission():
    assert passes(MISSING, with_helper('PROMPT = "TODO lists: name what is on them"'))


@pytest.mark.parametrize("body", ["pass", "...", '"""Pads a batch."""', "raise NotImplementedError"])
def test_a_function_without_a_body_fails(body):
    bundle = with_helper(f"def pad(batch):\n    {body}")
    assert lines(the_failure(MISSING, bundle)) == [at(bundle, HELPER, "def pad")]


def test_a_function_without_a_body_that_says_so_is_one_failure():
    bundle = with_helper("def pad(batch):\n    # TODO: pad to the longest\n    pass")
    answer = the_failure(MISSING, bundle)
    assert lines(answer) == [at(bundle, HELPER, "def pad"), at(bundle, HELPER, "TODO")]


def test_dots_among_statements_fail():
    bundle = with_helper("def pad(batch):\n    longest = max(map(len, batch))\n    ...\n    return longest")
    assert lines(the_failure(MISSING, bundle)) == [at(bundle, HELPER, "    ...")]


@pytest.mark.parametrize(
    "code",
    [
        "class Sampler(abc.ABC):\n    @abc.abstractmethod\n    def draw(self):\n        ...",
        "class Sampler(typing.Protocol):\n    def draw(self) -> int: ...",
        "@typing.overload\ndef draw(n: int) -> int: ...",
        "class Sampler:\n    def draw(self):\n        raise NotImplementedError\n\n\n"
        "class Even(Sampler):\n    def draw(self):\n        return 2",
        "class DataError(Exception):\n    pass",
        "class Silent:\n    def log(self, row):\n        pass\n\n    def finish(self):\n        pass",
        "class Watch(Callback):\n    def on_epoch_end(self, trainer):\n        pass",
        "def no_op(*rows):\n    pass",
        "try:\n    import apex\nexcept ImportError:\n    pass",
        'def pick(kind):\n    if kind == "even":\n        return 2\n'
        "    raise NotImplementedError(f'no sampler is called {kind}')",
    ],
)
def test_what_may_be_idle_does_not_fail(code):
    assert passes(MISSING, with_helper(code))


def test_a_network_without_a_forward_pass_fails_under_models_and_only_there():
    gate = "\n\nclass Gate(torch.nn.Module):\n    def forward(self, x):\n        pass\n"
    bundle = READY.with_file(MODEL_PY, READY.text(MODEL_PY) + gate)
    answer = the_failure(model.no_model_code_is_missing, bundle)
    assert lines(answer) == [at(bundle, MODEL_PY, "def forward")]
    assert passes(MISSING, bundle)


def test_a_mark_in_the_config_fails():
    bundle = READY.edit("config/config.yaml", "entity: reviews", "entity: reviews  # TODO: ours")
    assert lines(the_failure(MISSING, bundle)) == [at(bundle, "config/config.yaml", "TODO")]


# Names


def test_a_name_that_a_run_comes_by_undefined_blocks_and_names_the_runs():
    bundle = READY.edit(TRAIN_PY, "return right / seen", "return right / total")
    answer = the_failure(NAMES, bundle)
    assert answer.impact is Impact.BLOCKS
    assert "'total' is not defined" in answer.says
    assert lines(answer) == [at(bundle, TRAIN_PY, "right / total")]


def test_an_undefined_name_that_no_run_comes_by_breaches():
    bundle = with_helper("def pad(batch):\n    return stack(batch)")
    answer = the_failure(NAMES, bundle)
    assert answer.impact is Impact.BREACHES
    assert lines(answer) == [at(bundle, HELPER, "stack(batch)")]


def test_an_annotation_that_is_evaluated_blocks():
    bundle = READY.edit(MODEL_PY, "def overlap(model):", "def overlap(model: peft.PeftModel):")
    assert the_failure(NAMES, bundle).impact is Impact.BLOCKS


@pytest.mark.parametrize("written", ['"peft.PeftModel"', "peft.PeftModel"])
def test_an_annotation_that_python_never_evaluates_is_a_remark(written):
    bundle = READY.edit(MODEL_PY, "def overlap(model):", f"def overlap(model: {written}):")
    if not written.startswith('"'):
        bundle = bundle.edit(
            MODEL_PY, "import torch\n", "from __future__ import annotations\n\nimport torch\n"
        )
    assert the_failure(NAMES, bundle).impact is Impact.REMARKS


def test_without_ruff_nothing_is_claimed(monkeypatch):
    monkeypatch.setattr(_ruff.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(_ruff.CannotLookError, match="gone"):
        asked(USED, with_helper("import abc"))


def test_unused_imports_are_one_remark_a_file():
    bundle = READY.edit(MODEL_PY, "import torch\n", "import math\nimport os\nimport torch\n")
    answer = the_failure(USED, bundle)
    assert answer.impact is Impact.REMARKS
    assert lines(answer) == [at(bundle, MODEL_PY, "import math"), at(bundle, MODEL_PY, "import os")]


def test_a_definition_that_shadows_another_is_a_remark():
    bundle = with_helper("def pad(rows):\n    return rows\n\n\ndef pad(rows):\n    return rows[0]")
    assert outcomes(USED, bundle) == {Outcome.FAIL}
    assert the_failure(USED, bundle).impact is Impact.REMARKS
