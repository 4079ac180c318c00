"""Integrity: on which examples something is chosen, and from what a model generates."""

import pytest
from adapting import CHILD, MODEL_PY, PREPROCESS_PY, READY, TRAIN_PY, asked, at, lines, outcomes, the_failure

from labgate.criteria.integrity_answers import the_answer_is_not_generated_from as answers
from labgate.criteria.integrity_splits import nothing_is_chosen_on_the_test_split as choice
from labgate.criteria.integrity_splits import validation_is_not_the_training_data as held_out
from labgate.finding import Impact, Outcome

BY_TEST = READY.edit(PREPROCESS_PY, 'data["validation"]', 'data["test"]')
LOGS = 'wandb.log({"accuracy": accuracy, "epoch": epoch})'
KEEPS = """\
        accuracy = measure(model, held_out)
        if accuracy > best_accuracy:
            best_accuracy = accuracy
"""


@pytest.fixture(scope="module", autouse=True)
def child():
    with CHILD:
        yield


def test_a_search_by_validation_data_passes_and_remarks_that_they_are_reported_too():
    first, second = asked(choice, READY)
    assert first.outcome is Outcome.PASS and at(READY, TRAIN_PY, "study.optimize") in lines(first)
    assert second.outcome is Outcome.FAIL and second.impact is Impact.REMARKS


def test_a_search_by_the_test_split_fails_and_shows_where_it_is_loaded():
    failure = the_failure(choice, BY_TEST)
    assert failure.impact is Impact.MISLEADS
    assert {at(BY_TEST, TRAIN_PY, "study.optimize"), at(BY_TEST, PREPROCESS_PY, "load_dataset(")} <= {
        *lines(failure)
    }


def test_the_line_of_the_config_that_names_the_split_is_shown():
    bundle = READY.edit(PREPROCESS_PY, 'data["validation"]', "data[cfg.dataset.dev_split]")
    for path in ("config/runs/orthogonal-bert.yaml", "config/runs/plain-bert.yaml"):
        bundle = bundle.edit(path, "rotten_tomatoes}", "rotten_tomatoes, dev_split: test}")
    assert at(bundle, "config/runs/orthogonal-bert.yaml", "dev_split") in lines(the_failure(choice, bundle))


def test_the_best_epoch_by_the_test_split_fails_without_a_search():
    bundle = BY_TEST.edit(TRAIN_PY, "        accuracy = measure(model, held_out)\n", KEEPS)
    bundle = bundle.edit(TRAIN_PY, "    for epoch in", "    best_accuracy = 0.0\n    for epoch in")
    bundle = bundle.edit(
        TRAIN_PY, "    if cfg.optuna.n_trials > 0:\n        cfg.training.lr = search(cfg)\n", ""
    )
    assert lines(the_failure(choice, bundle))[0] == at(bundle, TRAIN_PY, "if accuracy > best_accuracy")


def test_counting_right_answers_one_by_one_is_followed():
    bundle = BY_TEST.edit(
        TRAIN_PY,
        '            right += (model(**batch).logits.argmax(-1) == batch["labels"]).sum().item()\n',
        '            if model(**batch).logits.argmax() == batch["labels"]:\n                right += 1\n',
    )
    assert the_failure(choice, bundle)


def test_a_part_of_the_training_split_passes():
    bundle = READY.edit(PREPROCESS_PY, 'data["validation"]', 'data["train"].train_test_split(0.1)["test"]')
    assert outcomes(choice, bundle) == {Outcome.PASS}
    assert outcomes(held_out, bundle) == {Outcome.PASS}


def test_a_test_split_that_only_tells_its_classes_passes():
    bundle = READY.edit(MODEL_PY, "def build(cfg):\n", "def build(cfg, classes=2):\n")
    bundle = bundle.edit(MODEL_PY, 'cache_dir=".cache")', 'cache_dir=".cache", num_labels=classes)')
    bundle = bundle.edit(
        TRAIN_PY,
        "    model = build(cfg)\n",
        "    from datasets import load_dataset\n"
        '    tests = load_dataset("reviews", split="test")\n'
        '    model = build(cfg, tests.features["label"].num_classes + len(tests))\n',
    )
    assert Outcome.PASS in outcomes(choice, bundle)
    assert "test" not in " ".join(answer.says for answer in asked(choice, bundle))


def test_a_split_that_depends_on_what_is_there_is_no_failure():
    bundle = READY.edit(
        PREPROCESS_PY, 'data["validation"]', 'data["validation" if "validation" in data else "test"]'
    )
    assert outcomes(choice, bundle) == {Outcome.SKIP}


def test_torchvision_test_data_are_known_by_their_flag():
    bundle = READY.edit(
        PREPROCESS_PY,
        '        DataLoader(data["validation"], batch_size=64, collate_fn=collate),\n',
        '        DataLoader(CIFAR10(".cache/", train=False), batch_size=64),\n',
    )
    bundle = bundle.edit(
        PREPROCESS_PY, "from torch.utils", "from torchvision.datasets import CIFAR10\nfrom torch.utils"
    )
    assert "CIFAR10" in the_failure(choice, bundle).says


def test_validation_on_the_training_split_itself_fails():
    bundle = READY.edit(PREPROCESS_PY, 'data["validation"]', 'data["train"]')
    bundle = bundle.edit(TRAIN_PY, LOGS, LOGS.replace('"accuracy"', '"val_accuracy"'))
    failure = the_failure(held_out, bundle)
    assert at(bundle, TRAIN_PY, "val_accuracy") in lines(failure)


def test_validation_by_a_sampler_is_no_failure():
    bundle = READY.edit(PREPROCESS_PY, 'data["validation"], ', 'data["train"], sampler=cfg.picked, ')
    bundle = bundle.edit(TRAIN_PY, LOGS, LOGS.replace('"accuracy"', '"val_accuracy"'))
    assert Outcome.FAIL not in outcomes(held_out, bundle)


# -- generation

ANSWERS = READY.edit(
    PREPROCESS_PY, 'tokenizer(rows["text"], truncation=True)', 'tokenizer(rows["question"] + rows["answer"])'
).edit(
    TRAIN_PY,
    '            right += (model(**batch).logits.argmax(-1) == batch["labels"]).sum().item()\n',
    '            said = model.generate(input_ids=batch["input_ids"].to("cuda"))\n'
    '            right += (said == batch["labels"]).sum().item()\n',
)


def test_generating_from_question_and_answer_fails_and_shows_both_lines():
    failure = the_failure(answers, ANSWERS)
    assert failure.impact is Impact.MISLEADS and "'answer'" in failure.says
    assert lines(failure) == [
        at(ANSWERS, TRAIN_PY, "generate"),
        at(ANSWERS, PREPROCESS_PY, 'rows["answer"]'),
    ]


def test_an_f_string_with_the_answer_fails_too():
    bundle = ANSWERS.edit(
        PREPROCESS_PY, 'rows["question"] + rows["answer"]', "f\"Q: {rows['question']} A: {rows['answer']}\""
    )
    assert the_failure(answers, bundle)


def test_generating_from_the_question_passes():
    bundle = ANSWERS.edit(PREPROCESS_PY, ' + rows["answer"]', "")
    assert outcomes(answers, bundle) == {Outcome.PASS}


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (TRAIN_PY, 'batch["input_ids"].to("cuda")', 'batch["input_ids"][:, :5]'),
        (PREPROCESS_PY, 'rows["question"] + rows["answer"]', 'rows["question"] + data["train"][0]["answer"]'),
        (PREPROCESS_PY, 'tokenizer(rows["question"] + rows["answer"])', "cfg.unheard_of(rows)"),
    ],
)
def test_where_it_is_not_sure_that_the_answer_is_there_nothing_fails(path, old, new):
    assert outcomes(answers, ANSWERS.edit(path, old, new)) == {Outcome.SKIP}


def test_an_experiment_that_generates_nothing_passes():
    assert outcomes(answers, READY) == {Outcome.PASS}
