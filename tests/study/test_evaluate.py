"""The statistics of the evaluation, against counting by hand and against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import matthews_corrcoef
from src.evaluate import (
    Run,
    accuracies,
    compare_pair,
    holm,
    matthews,
    mcnemar,
    paired_bootstrap,
    parse_arguments,
)

from src import evaluate

pytestmark = pytest.mark.study


def predictions(labels, right, seeds, seed=0):
    generator = np.random.default_rng(seed)
    wrong = generator.random((seeds, len(labels))) >= right
    return np.where(wrong, 1 - labels, labels)


LABELS = np.random.default_rng(1).integers(0, 2, 300)


def test_matthews_of_resamples_is_scikit_learn_s():
    found = predictions(LABELS, 0.8, 3)
    weights = np.random.default_rng(2).multinomial(300, np.full(300, 1 / 300), size=4).astype(float)
    expected = [
        [
            matthews_corrcoef(np.repeat(LABELS, row.astype(int)), np.repeat(seed, row.astype(int)))
            for seed in found
        ]
        for row in weights
    ]
    np.testing.assert_allclose(matthews(LABELS, found, weights), expected, rtol=1e-9)
    assert matthews(LABELS, np.ones((1, 300), int), np.ones((1, 300))) == 0  # undefined for one class


def test_accuracies_of_resamples_count_each_example_as_often_as_it_was_drawn():
    weights = np.array([[2.0, 0.0, 1.0]])
    np.testing.assert_allclose(accuracies(np.array([1, 0, 1]), np.array([[1, 1, 0]]), weights), [[2 / 3]])


def test_mcnemar_is_exact():
    labels = np.zeros(10, int)
    ours, theirs = np.zeros(10, int), np.array([1] * 6 + [0] * 4)
    assert mcnemar(labels, ours, theirs) == {
        "only_proposed_right": 6,
        "only_baseline_right": 0,
        "p_value": pytest.approx(2 * 0.5**6),
    }
    assert mcnemar(labels, ours, ours)["p_value"] == 1.0


def test_holm_adjusts_in_order_and_never_beyond_one():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("metric", ["accuracy", "matthews_correlation"])
def test_the_bootstrap_finds_a_difference_and_finds_none(metric):
    good, same, poor = (predictions(LABELS, right, 5, seed) for right, seed in ((0.9, 3), (0.9, 4), (0.7, 5)))
    assert paired_bootstrap(metric, LABELS, good, poor)["p_value"] < 0.01
    assert paired_bootstrap(metric, LABELS, good, same)["p_value"] > 0.05
    assert paired_bootstrap(metric, LABELS, good, good) == {"p_value": 1.0, "interval_95": [0.0, 0.0]}


def test_the_bootstrap_is_not_significant_more_often_than_it_says():
    """Of 100 comparisons of equals, about five fall below 0.05; ten would be chance once in fifty."""
    draws = [(predictions(LABELS, 0.8, 4, 2 * i), predictions(LABELS, 0.8, 4, 2 * i + 1)) for i in range(100)]
    below = sum(paired_bootstrap("accuracy", LABELS, *pair)["p_value"] < 0.05 for pair in draws)
    assert below <= 10


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    monkeypatch.setattr(evaluate, "RESAMPLES", 1000)


def run(run_id, found, metric="accuracy", seconds=10.0):
    scores = [float((row == LABELS).mean()) for row in found]
    summary = {
        "val_labels": LABELS.tolist(),
        "val_predictions_per_seed": found.tolist(),
        f"final_val_{metric}_per_seed": scores,
        "final_train_seconds": seconds,
    }
    config = {"dataset": {"metric": metric, "subset": "sst2"}}
    config["model"] = {"name": "roberta-base", "parameter_budget_percent": 0.2}
    return Run(run_id, pd.DataFrame(), summary, config)


def test_a_comparison_says_how_much_better_and_how_much_slower():
    ours, theirs = (
        run("proposed-x", predictions(LABELS, 0.9, 3, 1), seconds=12.0),
        run("b", predictions(LABELS, 0.6, 3, 2)),
    )
    pair = compare_pair(ours, theirs)
    assert pair["difference"] == pytest.approx(ours.scores.mean() - theirs.scores.mean())
    assert pair["improvement_rate"] == pytest.approx(ours.scores.mean() / theirs.scores.mean() - 1)
    assert pair["training_time_ratio"] == pytest.approx(1.2)
    assert pair["seeds_won"] == 3 and pair["p_value"] < 0.001


def test_runs_that_were_scored_on_other_examples_are_not_compared():
    with pytest.raises(SystemExit, match="differ in their examples"):
        compare_pair(run("proposed-x", predictions(LABELS, 0.9, 3)), run("b", predictions(LABELS, 0.9, 2)))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["results_dir=x"], "expected results_dir"),
        (["results_dir=x", "run_ids=[a]"], "not a JSON list"),
        (["results_dir=x", "run_ids=[]"], "at least one run"),
        (["results_dir=x", 'run_ids=["a", "a"]'], "each once"),
        (["results_dir=x", 'run_ids=["a"]', "mode=trial"], "cannot be evaluated"),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_refused(words, says):
    with pytest.raises(SystemExit, match=says):
        parse_arguments(words)


def test_the_contract_s_command_line_is_understood():
    folder, ids = parse_arguments(["results_dir=some/where=x", 'run_ids=["run-1", "run-2"]'])
    assert str(folder) == "some/where=x" and ids == ["run-1", "run-2"]
