"""A declared parameter budget against the adapters that rank and targets give."""

import pytest
from adapting import (
    MODEL_PY,
    RUNS,
    TRAIN_PY,
    asked,
    at,
    in_all_runs,
    lines,
    one_child,
    passes,
    the_failure,
)

from labgate.criteria.budget import declared_budget_is_what_rank_and_targets_give as BUDGET
from labgate.finding import Impact, Outcome

RANK = "  rank: 4\n"
READ = '        raise ValueError("trained in bf16 only")\n'


@pytest.fixture(scope="module", autouse=True)
def child():
    with one_child():
        yield


def declaring(line):
    return in_all_runs(RANK, f"{RANK}  {line}\n")


def reading(bundle, key):
    return bundle.edit(TRAIN_PY, READ, f"{READ}    print(cfg.model.{key})\n")


def test_a_budget_that_nothing_reads_misleads_and_says_what_the_adapters_come_to():
    bundle = declaring("parameter_budget_percent: 0.5")
    answer = the_failure(BUDGET, bundle)
    assert answer.impact is Impact.MISLEADS
    # 12 layers, query and value: 2 * 4 * (768 + 768) parameters each, of 108.9 million
    assert (
        "declares 0.50% of the backbone; nothing reads it; rank 4 on query, value gives 0.14%" in answer.says
    )
    assert lines(answer) == [f"{path}:6" for path in RUNS] + [at(bundle, MODEL_PY, "adapters = LoraConfig(")]


def test_a_budget_that_is_read_and_missed_misleads():
    bundle = reading(declaring("param_budget_ratio: 0.005"), "param_budget_ratio")
    assert "declares 0.50%; rank 4" in the_failure(BUDGET, bundle).says


def test_a_budget_that_rank_and_targets_give_passes():
    assert passes(BUDGET, reading(declaring("param_budget_ratio: 0.0013"), "param_budget_ratio"))


@pytest.mark.parametrize("line", ["compute_budget_ratio: 0.5", "latency_budget_percent: 20", "budget: small"])
def test_a_budget_of_something_else_is_none_of_parameters(line):
    (answer,) = asked(BUDGET, declaring(line))
    assert (answer.outcome, answer.says) == (Outcome.PASS, "no run declares a parameter budget")


def test_beside_a_file_that_does_not_parse_nobody_can_say_that_nothing_reads_it():
    bundle = declaring("parameter_budget_percent: 0.5").with_file(MODEL_PY, "def build(cfg:\n")
    assert [answer.outcome for answer in asked(BUDGET, bundle)] == [Outcome.SKIP]
