"""Names of models, as far as their form decides."""

import pytest
from adapting import PREPROCESS_PY, READY, RUNS, asked, at, in_all_runs, lines, one_child, passes, the_failure

from labgate.criteria.hub import model_ids_are_possible as IDS
from labgate.finding import Impact, Outcome

NAME = "name: google-bert/bert-base-uncased"


@pytest.fixture(scope="module", autouse=True)
def child():
    with one_child():
        yield


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("hf://google-bert/bert-base-uncased", "no scheme"),
        ("BERT base (110M)", "letters, digits"),
        ("google-bert/bert--base", "no '--'"),
    ],
)
def test_a_name_that_no_hub_takes_would_crash_and_shows_where_it_is_written(name, why):
    bundle = in_all_runs(NAME, f"name: {name}")
    answer = the_failure(IDS, bundle)
    assert answer.impact is Impact.BLOCKS and why in answer.says
    assert at(bundle, PREPROCESS_PY, "AutoTokenizer.from_pretrained") in lines(answer)
    assert [line for line in lines(answer) if line.startswith("config/")] == [f"{path}:4" for path in RUNS]


@pytest.mark.parametrize("name", ["bert-base-uncased", "a/b/c", "./models/bert", "google-bert/bert_base.v2"])
def test_a_name_that_may_be_one_passes(name):
    assert {a.outcome for a in asked(IDS, in_all_runs(NAME, f"name: {name}"))} == {Outcome.PASS}


def test_a_name_that_is_loaded_on_some_path_only_cannot_be_told():
    bundle = READY.edit(
        PREPROCESS_PY,
        "    tokenizer = AutoTokenizer",
        '    if input():\n        AutoTokenizer.from_pretrained("BERT (110M)", cache_dir=".cache")\n'
        "    tokenizer = AutoTokenizer",
    )
    assert Outcome.FAIL not in {answer.outcome for answer in asked(IDS, bundle)}
    assert not passes(IDS, bundle)
