"""Integrity: data and numbers are real, failures are seen."""

import pytest
from adapting import (
    CHILD,
    PREPROCESS_PY,
    READY,
    TRAIN_PY,
    asked,
    at,
    in_all_runs,
    lines,
    outcomes,
    the_failure,
)

from labgate.bundle import Promise
from labgate.criteria.integrity_data import data_that_cannot_be_had_are_not_invented as data
from labgate.criteria.integrity_failures import a_failed_training_ends_the_run as ends
from labgate.criteria.integrity_failures import exceptions_are_not_passed_over as passed_over
from labgate.criteria.integrity_scores import predictions_are_compared_with_labels as compared
from labgate.criteria.integrity_values import missing_metrics_stay_missing as missing
from labgate.criteria.integrity_values import nothing_shown_is_random as random_numbers
from labgate.criteria.integrity_values import what_is_drawn_was_measured as drawn
from labgate.finding import Impact, Outcome

EVALUATE_PY, MAIN_PY = "src/evaluate.py", "src/main.py"
RAISES = '        raise RuntimeError(f"{cfg.dataset.name} cannot be had") from error\n'
INVENTS = '        data = {"train": torch.randn(99, 8), "validation": torch.randn(9, 8)}\n'
INVENTED = READY.edit(PREPROCESS_PY, RAISES, INVENTS)
PRINTS = '        print(wandb.Api().run(f"reviews/adapters/{run_id}").summary)\n'
ASKS = """\
        run = wandb.Api().run(f"reviews/adapters/{run_id}")
        labels, predictions = run.summary["labels"], run.summary["predictions"]
"""


@pytest.fixture(scope="module", autouse=True)
def child():
    with CHILD:
        yield


def evaluating(body, imports=""):
    """The experiment with these lines in the loop over its runs."""
    bundle = READY.edit(EVALUATE_PY, PRINTS, ASKS + body)
    return bundle.edit(EVALUATE_PY, "import wandb\n", f"import numpy as np\nimport wandb\n{imports}")


# -- data


def test_a_handler_that_raises_passes():
    assert outcomes(data, READY) == {Outcome.PASS}


def test_noise_in_place_of_data_fails_and_shows_loading_handler_and_noise():
    failure = the_failure(data, INVENTED)
    assert failure.impact is Impact.MISLEADS
    assert lines(failure) == [
        at(INVENTED, PREPROCESS_PY, "load_dataset(cfg"),
        at(INVENTED, PREPROCESS_PY, "except OSError"),
        at(INVENTED, PREPROCESS_PY, "torch.randn"),
    ]


def test_noise_made_by_a_function_is_found_in_it():
    bundle = READY.edit(PREPROCESS_PY, RAISES, "        data = substitute()\n").edit(
        PREPROCESS_PY,
        "def load_reviews(cfg):\n",
        "def substitute():\n    return {'train': np.random.rand(9, 8)}\n\n\ndef load_reviews(cfg):\n",
    )
    assert at(bundle, PREPROCESS_PY, "np.random") in lines(the_failure(data, bundle))


def test_noise_where_a_flag_tells_that_nothing_was_loaded_fails():
    bundle = READY.edit(
        PREPROCESS_PY, RAISES, "        print(error)\n    if not data:\n        data = torch.rand(9)\n"
    )
    assert the_failure(data, bundle)


@pytest.mark.parametrize(
    "handler",
    [
        "        time.sleep(random.random())\n        data = load_dataset(cfg.dataset.mirror)\n",
        "        data = load_from_disk('.cache/reviews')\n",
        "        torch.manual_seed(0)\n        raise\n",
    ],
)
def test_other_ways_to_go_on_pass(handler):
    assert Outcome.FAIL not in outcomes(data, READY.edit(PREPROCESS_PY, RAISES, handler))


NOISE = (
    READY.edit(
        PREPROCESS_PY,
        '        DataLoader(data["train"], batch_size=16, shuffle=True, collate_fn=collate),\n',
        "        DataLoader(TensorDataset(torch.randn(99, 8), torch.randint(0, 2, (99,)))),\n",
    )
    .edit(PREPROCESS_PY, "import DataLoader", "import DataLoader, TensorDataset")
    .edit(PREPROCESS_PY, "from datasets", "import torch\nfrom datasets")
)


def test_training_on_noise_fails():
    assert at(NOISE, PREPROCESS_PY, "torch.randn") in lines(the_failure(data, NOISE))


def test_noise_that_the_config_or_the_promise_announces_passes():
    announced = NOISE
    for path in ("config/runs/orthogonal-bert.yaml", "config/runs/plain-bert.yaml"):
        announced = announced.edit(path, "cornell-movie-review-data/rotten_tomatoes", "gaussian_blobs")
    assert outcomes(data, announced) == {Outcome.PASS}
    assert outcomes(data, NOISE.with_promise(Promise(design="on synthetic data"))) == {Outcome.PASS}


def test_noise_in_the_trial_alone_is_a_remark():
    bundle = NOISE.edit(
        PREPROCESS_PY,
        "    return (\n",
        "    if cfg.mode == 'full':\n        return data, data\n    return (\n",
    )
    (answer,) = asked(data, bundle)
    assert answer.impact is Impact.REMARKS


def test_noise_added_to_real_data_passes():
    bundle = READY.edit(
        PREPROCESS_PY, "        return tokenizer(", "        torch.randn(3)\n        return tokenizer("
    )
    assert outcomes(data, bundle) == {Outcome.PASS}


# -- failures


def test_a_child_whose_exit_code_nobody_asks_for_fails():
    bundle = READY.edit(MAIN_PY, ", check=True", "")
    assert lines(the_failure(ends, bundle)) == [at(bundle, MAIN_PY, "subprocess.run")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    subprocess.run(", "    done = subprocess.run("),
        ("    subprocess.run(", "    return subprocess.run("),
    ],
)
def test_a_child_whose_exit_code_is_looked_at_passes(old, new):
    bundle = READY.edit(MAIN_PY, old, new).edit(
        MAIN_PY, ", check=True)", ")\n    print(done)" if "done" in new else ")"
    )
    assert outcomes(ends, bundle) == {Outcome.PASS}


def hiding(handler):
    return READY.edit(
        TRAIN_PY,
        '    wandb.summary["accuracy"] = fit(cfg, track=True)\n',
        '    try:\n        wandb.summary["accuracy"] = fit(cfg, track=True)\n' + handler,
    )


def test_a_training_whose_exceptions_are_printed_fails():
    bundle = hiding("    except Exception as error:\n        print(error)\n")
    assert lines(the_failure(ends, bundle)) == [
        at(bundle, TRAIN_PY, "except Exception"),
        at(bundle, TRAIN_PY, "        wandb.summary"),
    ]


@pytest.mark.parametrize(
    "handler",
    [
        "    except Exception as error:\n        print(error)\n        raise\n",
        "    except torch.cuda.OutOfMemoryError:\n        print('too large')\n",
        "    except Exception:\n        sys.exit(1)\n",
        "    finally:\n        wandb.finish()\n",
    ],
)
def test_a_training_whose_failure_is_handed_on_passes(handler):
    assert outcomes(ends, hiding(handler)) == {Outcome.PASS}


def test_passing_over_every_exception_is_a_remark():
    bundle = READY.edit(PREPROCESS_PY, "OSError as error", "Exception").edit(
        PREPROCESS_PY, RAISES, "        pass\n"
    )
    (answer,) = asked(passed_over, bundle)
    assert answer.impact is Impact.REMARKS
    assert outcomes(passed_over, READY) == {Outcome.PASS}


# -- what the evaluation shows


@pytest.mark.parametrize(
    "body",
    [
        "        stats.ttest_ind(np.random.normal(0.9, 0.01, 30), np.random.normal(0.8, 0.01, 30))\n",
        "        right = np.random.randint(0, 2, size=99)\n        json.dumps(right.tolist())\n",
    ],
)
def test_random_numbers_that_are_tested_or_written_fail(body):
    bundle = evaluating(body, "from scipy import stats\n")
    assert at(bundle, EVALUATE_PY, "np.random") in lines(the_failure(random_numbers, bundle))


def test_random_numbers_where_a_column_is_missing_fail():
    bundle = evaluating(
        "        if 'right' in run.history():\n"
        "            right = run.history()['right']\n"
        "        else:\n"
        "            right = np.random.randint(0, 2, size=99)\n"
    )
    assert at(bundle, EVALUATE_PY, "np.random") in lines(the_failure(random_numbers, bundle))


@pytest.mark.parametrize(
    "body",
    [
        "        again = np.random.choice(labels, size=9)\n        json.dumps(again.mean())\n",
        "        order = np.random.randint(0, 9, size=9)\n        json.dumps(np.array(labels)[order])\n",
        "        signs = np.random.randint(0, 2, 9) * 2 - 1\n        json.dumps(signs * np.array(labels))\n",
        "        axes.plot(np.random.normal(1, 0.1, 9), labels)\n",
    ],
)
def test_drawing_again_from_what_was_measured_passes(body):
    assert outcomes(random_numbers, evaluating(body)) <= {Outcome.PASS, Outcome.SKIP}


METRICS = "from sklearn.metrics import confusion_matrix\n"


@pytest.mark.parametrize(
    "body",
    [
        "        confusion_matrix(predictions, predictions)\n",
        "        confusion_matrix(list(predictions), np.array(predictions))\n",
        "        truth = predictions.copy()\n        confusion_matrix(truth, predictions)\n",
    ],
)
def test_comparing_predictions_with_themselves_fails(body):
    bundle = evaluating(body, METRICS)
    assert at(bundle, EVALUATE_PY, "        confusion_matrix(") in lines(the_failure(compared, bundle))


def test_labels_copied_from_predictions_fail_wherever_they_are_compared():
    bundle = evaluating(
        "        labels = predictions.copy()\n"
        "        right = sum(a == b for a, b in zip(labels, predictions))\n"
    )
    assert at(bundle, EVALUATE_PY, "predictions.copy()") in lines(the_failure(compared, bundle))


@pytest.mark.parametrize(
    "body",
    [
        "        confusion_matrix(labels, predictions)\n",
        "        labels = predictions.copy()\n        labels[0] = 1\n"
        "        confusion_matrix(labels, predictions)\n",
        "        confusion_matrix([row['a'] for row in predictions], [row['b'] for row in predictions])\n",
    ],
)
def test_comparing_two_things_passes(body):
    assert outcomes(compared, evaluating(body, METRICS)) == {Outcome.PASS}


SEABORN = "import seaborn as sns\n"


@pytest.mark.parametrize("matrix", ["np.eye(2)", "np.array([[50, 4], [6, 40]])", "[[50, 4], [6, 40]]"])
def test_a_matrix_that_stands_in_the_code_fails_when_drawn(matrix):
    bundle = evaluating(f"        sns.heatmap({matrix}, annot=True)\n", SEABORN)
    assert lines(the_failure(drawn, bundle)) == [at(bundle, EVALUATE_PY, "heatmap")]


def test_a_matrix_that_is_counted_passes_when_drawn():
    counting = "        counts = np.zeros((2, 2))\n        counts[labels, predictions] += 1\n"
    body = counting + "        sns.heatmap(counts)\n"
    assert outcomes(drawn, evaluating(body, SEABORN)) == {Outcome.PASS}


def test_a_number_for_a_metric_that_was_never_logged_fails():
    bundle = evaluating('        print(run.summary.get("test_accuracy", 0.93))\n')
    failure = the_failure(missing, bundle)
    assert failure.impact is Impact.MISLEADS and lines(failure) == [at(bundle, EVALUATE_PY, "0.93")]


def test_nought_for_a_metric_that_was_never_logged_is_a_remark():
    (answer,) = asked(missing, evaluating('        print(run.summary.get("test_accuracy", 0.0))\n'))
    assert answer.impact is Impact.REMARKS


@pytest.mark.parametrize(
    "asks",
    [
        '"test_accuracy"',
        '"test_accuracy", None',
        '"test_accuracy", float("nan")',
        '"epochs", 3',
        '"best_accuracy", -1',
    ],
)
def test_other_defaults_pass(asks):
    assert outcomes(missing, evaluating(f"        print(run.summary.get({asks}))\n")) == {Outcome.PASS}


def test_the_experiment_that_is_in_order_fails_nowhere():
    ready = in_all_runs("optuna: {n_trials: 4}", "optuna: {n_trials: 4}  # in order")
    for question in (data, ends, passed_over, random_numbers, compared, drawn, missing):
        assert Outcome.FAIL not in outcomes(question, ready)
