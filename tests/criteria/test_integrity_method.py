"""Integrity: the method takes effect, and every method is searched alike."""

import pytest
from adapting import (
    CHILD,
    READY,
    RUNS,
    TRAIN_PY,
    asked,
    at,
    in_all_runs,
    lines,
    outcomes,
    the_failure,
)

from labgate.bundle import Promise
from labgate.bundle.promise import PromisedRun
from labgate.criteria.integrity_budgets import every_method_searches_as_much as budgets
from labgate.criteria.integrity_budgets import more_than_one_seed_is_run as seeds
from labgate.criteria.integrity_method import the_proposed_run_differs as effect
from labgate.criteria.integrity_search import the_best_can_change as best
from labgate.criteria.integrity_search import the_search_is_seeded as seeded
from labgate.criteria.integrity_search import the_search_looks_for_the_better as direction
from labgate.finding import Impact, Outcome

ORTHOGONAL, PLAIN = RUNS
RUNS_PROMISED = (
    PromisedRun("orthogonal-bert", "orthogonal_adapters", role="proposed"),
    PromisedRun("plain-bert", "lora", role="baseline"),
)
KNOWN = READY.with_promise(Promise(runs=RUNS_PROMISED))
ALIKE = READY.with_promise(
    Promise(
        design="All baselines are trained with identical optimisation hyper-parameters.", runs=RUNS_PROMISED
    )
)
INERT = KNOWN.edit(TRAIN_PY, " + cfg.model.strength * overlap(model)", "")


@pytest.fixture(scope="module", autouse=True)
def child():
    with CHILD:
        yield


# -- the method


def test_a_method_whose_setting_is_read_passes():
    assert outcomes(effect, KNOWN) == {Outcome.PASS}


def test_a_method_that_nothing_reads_fails_and_shows_its_settings():
    failure = the_failure(effect, INERT)
    assert failure.impact is Impact.MISLEADS
    assert at(INERT, ORTHOGONAL, "strength: 0.01") in lines(failure)


def test_a_name_that_no_run_has_fails_and_shows_the_comparison():
    bundle = INERT.edit(
        TRAIN_PY,
        "            optimizer.zero_grad()\n",
        '            if cfg.method == "orthogonal":\n'
        "                loss = loss + overlap(model)\n"
        "            optimizer.zero_grad()\n",
    )
    assert at(bundle, TRAIN_PY, 'cfg.method == "orthogonal"') in lines(the_failure(effect, bundle))


@pytest.mark.parametrize(
    "line",
    [
        "            if cfg.method == 'orthogonal_adapters':\n                loss = loss + overlap(model)\n",
        "            loss = loss + (0.1 if cfg.method != 'lora' else 0.0) * overlap(model)\n",
        "            loss = cfg.unheard_of(cfg, loss)\n",
    ],
)
def test_a_method_that_may_take_effect_is_no_failure(line):
    bundle = INERT.edit(
        TRAIN_PY, "            optimizer.zero_grad()\n", line + "            optimizer.zero_grad()\n"
    )
    assert Outcome.FAIL not in outcomes(effect, bundle)


def test_without_a_known_baseline_nothing_is_said():
    assert outcomes(effect, READY) == {Outcome.SKIP}
    assert outcomes(budgets, READY) == {Outcome.SKIP}


# -- the search


MEASURED = READY.edit(
    TRAIN_PY,
    "return fit(tried, track=False)",
    "val_accuracy = fit(tried, False)\n        return val_accuracy",
)


def test_an_accuracy_to_be_minimised_fails_and_shows_study_and_value():
    assert outcomes(direction, MEASURED) == {Outcome.PASS}
    wrong = MEASURED.edit(TRAIN_PY, 'direction="maximize"', "")
    assert lines(the_failure(direction, wrong)) == [
        at(wrong, TRAIN_PY, "create_study"),
        at(wrong, TRAIN_PY, "return val_accuracy"),
    ]


@pytest.mark.parametrize("value", ["-val_accuracy", "1 - val_accuracy", "accuracy_loss"])
def test_a_value_that_is_turned_round_is_no_failure(value):
    bundle = MEASURED.edit(TRAIN_PY, "return val_accuracy", f"return {value}")
    bundle = bundle.edit(TRAIN_PY, 'direction="maximize"', 'direction="minimize"')
    assert Outcome.FAIL not in outcomes(direction, bundle)


def test_an_objective_that_gives_a_constant_fails():
    bundle = READY.edit(
        TRAIN_PY, "return fit(tried, track=False)", "fit(tried, track=False)\n        return 0.0"
    )
    assert at(bundle, TRAIN_PY, "return 0.0") in lines(the_failure(direction, bundle))


def test_a_search_without_a_seed_is_a_remark():
    (answer,) = asked(seeded, READY)
    assert answer.impact is Impact.REMARKS and lines(answer) == [at(READY, TRAIN_PY, "create_study")]
    sampler = 'direction="maximize", sampler=optuna.samplers.TPESampler(seed=3)'
    assert outcomes(seeded, READY.edit(TRAIN_PY, 'direction="maximize"', sampler)) == {Outcome.PASS}


@pytest.mark.parametrize(
    ("start", "test", "name"),
    [
        ('float("-inf")', "loss < best", "loss"),
        ("0.0", "loss < best", "loss"),
        ("math.inf", "accuracy > best", "accuracy"),
    ],
)
def test_a_best_that_nothing_can_beat_fails_and_shows_its_start(start, test, name):
    bundle = keeping(start, test, name)
    assert lines(the_failure(best, bundle)) == [
        at(bundle, TRAIN_PY, f"best = {start}"),
        at(bundle, TRAIN_PY, test),
    ]


@pytest.mark.parametrize(
    ("start", "test", "name"),
    [
        ('float("inf")', "loss < best", "loss"),
        ("0.0", "accuracy > best", "accuracy"),
        ("-1.0", "accuracy > best", "accuracy"),
        ("0.0", "delta < best", "delta"),
    ],
)
def test_a_best_that_can_be_beaten_passes(start, test, name):
    assert outcomes(best, keeping(start, test, name)) == {Outcome.PASS}


def keeping(start, test, name):
    bundle = READY.edit(TRAIN_PY, "    for epoch in", f"    best = {start}\n    for epoch in")
    return bundle.edit(
        TRAIN_PY, "        if track:\n", f"        if {test}:\n            best = {name}\n        if track:\n"
    )


# -- alike for every method


def test_unequal_trials_are_a_remark():
    bundle = KNOWN.edit(PLAIN, "n_trials: 4", "n_trials: 2")
    (answer,) = asked(budgets, bundle)
    assert answer.impact is Impact.REMARKS
    assert lines(answer)[:2] == [at(bundle, ORTHOGONAL, "n_trials"), at(bundle, PLAIN, "n_trials")]
    assert outcomes(budgets, KNOWN) == {Outcome.PASS}


def test_unequal_trials_against_the_promise_mislead():
    bundle = ALIKE.edit(PLAIN, "n_trials: 4", "n_trials: 2")
    assert the_failure(budgets, bundle).impact is Impact.MISLEADS


def test_a_promise_about_another_paper_is_not_about_the_runs():
    design = "Comparison: identical hyper-parameters to the original paper."
    bundle = KNOWN.edit(PLAIN, "n_trials: 4", "n_trials: 2").with_promise(
        Promise(design=design, runs=RUNS_PROMISED)
    )
    (answer,) = asked(budgets, bundle)
    assert answer.impact is Impact.REMARKS


def test_a_setting_of_the_method_alone_may_be_searched_alone():
    ours = (
        "n_trials: 4, search_space: {model.strength: {low: 0.1, high: 1.0}, lr: {low: 1.0e-5, high: 1.0e-3}}"
    )
    theirs = "n_trials: 4, search_space: {lr: {low: 1.0e-5, high: 1.0e-3}}"
    bundle = KNOWN.edit(ORTHOGONAL, "n_trials: 4", ours).edit(PLAIN, "n_trials: 4", theirs)
    bundle = bundle.edit(PLAIN, "  strength: 0.0\n", "")
    assert outcomes(budgets, bundle) == {Outcome.PASS}


def test_one_seed_is_a_remark_and_several_pass():
    one = in_all_runs("precision: bf16", "precision: bf16, seed: 1")
    (answer,) = asked(seeds, one)
    assert answer.impact is Impact.REMARKS and len(answer.evidence) == 2
    several = in_all_runs("precision: bf16", "precision: bf16, seeds: [1, 2, 3]")
    assert outcomes(seeds, several) == {Outcome.PASS}
