"""Criterion 9 and the modes of criterion 2: what a trial leaves out, and that full leaves out nothing."""

import pytest
from adapting import READY, RUNS, TRAIN_PY, at, in_all_runs, lines, one_child, outcomes, passes, the_failure

from labgate.contract import load
from labgate.criteria import modes, trials
from labgate.finding import Impact, Outcome

STEERS = modes.the_mode_steers_the_run
UNTRACKED = modes.a_trial_keeps_to_its_tracking
TRACKED = modes.the_whole_experiment_is_tracked
WHOLE = modes.the_whole_experiment_is_whole
SEARCH = modes.the_search_trains_what_it_judges
EPOCH = trials.a_trial_trains_one_epoch
BATCHES = trials.a_trial_stops_after_two_batches
NO_SEARCH = trials.a_trial_does_not_search
METHOD = trials.a_trial_comes_by_the_method

LIMIT = '            if cfg.mode == "trial" and index >= 2:\n                break\n'
STEP = "            optimizer.step()\n"
SETS = '        cfg.training.epochs = 1\n    elif cfg.mode == "full":'


@pytest.fixture(scope="module", autouse=True)
def child():
    with one_child():
        yield


@pytest.mark.parametrize(
    "question", [STEERS, UNTRACKED, TRACKED, WHOLE, SEARCH, EPOCH, BATCHES, NO_SEARCH, METHOD]
)
def test_an_experiment_in_order_passes_and_shows_where(question):
    assert passes(question, READY)


def without_modes():
    text = READY.text(TRAIN_PY)
    start, end = text.index('    if cfg.mode == "trial":\n'), text.index("    return cfg\n")
    return READY.with_file(TRAIN_PY, text[:start] + text[end:]).edit(TRAIN_PY, LIMIT, "")


def test_a_mode_that_nothing_reads_breaches():
    bundle = without_modes().edit(TRAIN_PY, "mode=cfg.wandb.mode", 'settings={"silent": True}')
    answer = the_failure(STEERS, bundle)
    assert answer.impact is Impact.BREACHES
    assert outcomes(
        STEERS, bundle.edit(TRAIN_PY, "    return cfg\n", "    print(cfg.mode)\n    return cfg\n")
    ) == {Outcome.SKIP}


# One epoch


def test_a_trial_of_all_epochs_breaches_and_shows_the_loop():
    bundle = READY.edit(TRAIN_PY, "        cfg.training.epochs = 1\n", "")
    answer = the_failure(EPOCH, bundle)
    assert "3 epochs" in answer.says
    assert at(bundle, TRAIN_PY, "for epoch in range") in lines(answer)


@pytest.mark.parametrize(
    "loop",
    [
        'range(1 if cfg.mode == "trial" else cfg.training.epochs)',
        "range(1, cfg.training.epochs + 1)",
        "tqdm.trange(cfg.training.epochs)",
    ],
)
def test_one_epoch_however_the_loop_is_written_passes(loop):
    bundle = READY.edit(TRAIN_PY, "range(cfg.training.epochs)", loop)
    assert passes(EPOCH, bundle.edit(TRAIN_PY, "import copy\n", "import copy\n\nimport tqdm\n"))


def test_a_loop_that_a_trial_may_leave_early_cannot_be_told():
    bundle = READY.edit(TRAIN_PY, "        cfg.training.epochs = 1\n", "").edit(
        TRAIN_PY,
        "        accuracy = measure",
        '        if cfg.mode == "trial" and done():\n            break\n        accuracy = measure',
    )
    bundle = bundle.edit(TRAIN_PY, "import copy\n", "import copy\n\nfrom limits import done\n")
    assert outcomes(EPOCH, bundle) == {Outcome.SKIP}


# Two batches


def test_a_trial_of_all_batches_breaches_and_shows_the_loop():
    bundle = READY.edit(TRAIN_PY, LIMIT, "")
    answer = the_failure(BATCHES, bundle)
    assert answer.impact is Impact.BREACHES
    assert lines(answer)[0] == at(bundle, TRAIN_PY, "in enumerate(loader)")


@pytest.mark.parametrize(
    ("test", "after", "enough"),
    [
        ("index >= 2", False, True),
        ("index >= 1", True, True),
        ("index + 1 >= 2", True, True),
        ("index > 1", False, True),
        ("index == 1", True, True),
        ("index >= 2", True, False),
        ("index > 1", True, False),
        ("index >= 10", False, False),
    ],
)
def test_batches_are_counted_by_where_the_test_stands(test, after, enough):
    limit = LIMIT.replace("index >= 2", test)
    bundle = READY.edit(TRAIN_PY, LIMIT, "" if after else limit)
    bundle = bundle.edit(TRAIN_PY, STEP, STEP + limit) if after else bundle
    assert passes(BATCHES, bundle) if enough else the_failure(BATCHES, bundle)


def test_a_counter_of_optimizer_steps_counts_batches_at_least():
    every_other = "            if index % 2:\n                steps += 1\n"
    bundle = READY.edit(TRAIN_PY, LIMIT, "").edit(
        TRAIN_PY, STEP, STEP + every_other + LIMIT.replace("index >= 2", "steps >= 2")
    )
    bundle = bundle.edit(TRAIN_PY, "    for epoch in", "    steps = 0\n    for epoch in")
    assert outcomes(BATCHES, bundle) == {Outcome.SKIP}
    assert "at least 4" in the_failure(BATCHES, bundle.edit(TRAIN_PY, "steps >= 2", "steps >= 4")).says


def test_what_only_the_trial_comes_by_may_be_its_limit():
    bundle = READY.edit(TRAIN_PY, LIMIT, "").edit(
        TRAIN_PY, "    model = build(cfg)\n", "    loader = shortened(loader, cfg)\n    model = build(cfg)\n"
    )
    code = 'def shortened(loader, cfg):\n    if cfg.mode == "full":\n        return loader\n'
    code += "    if len(loader) > 2:\n        return list(loader)[:2]\n    return loader\n"
    bundle = bundle.edit(TRAIN_PY, "def measure(", f"{code}\n\ndef measure(")
    assert outcomes(BATCHES, bundle) == {Outcome.SKIP}


def test_a_mode_that_reaches_the_training_by_the_environment_cannot_be_told():
    bundle = READY.edit(TRAIN_PY, LIMIT, LIMIT.replace("cfg.mode ==", 'os.environ["MODE"] =='))
    cut = bundle.edit(TRAIN_PY, "index >= 2", "enough(index)").edit(
        TRAIN_PY, "import copy\n", "import copy\nimport os\n\nfrom limits import enough\n"
    )
    assert outcomes(BATCHES, cut) == {Outcome.SKIP}


@pytest.mark.parametrize("number", [2, 50])
def test_a_limit_in_a_variable_or_in_the_config_is_followed(number):
    variable = READY.edit(
        TRAIN_PY, LIMIT, "            if most is not None and index >= most:\n                break\n"
    )
    variable = variable.edit(
        TRAIN_PY,
        "    for epoch in",
        f'    most = {number} if cfg.mode == "trial" else None\n    for epoch in',
    )
    config = READY.edit(TRAIN_PY, "index >= 2", "index >= cfg.trial_batches").edit(
        "config/config.yaml", "mode: ???\n", f"mode: ???\ntrial_batches: {number}\n"
    )
    for bundle in (variable, config):
        assert passes(BATCHES, bundle) if number == 2 else the_failure(BATCHES, bundle)


def test_a_loader_cut_by_islice_is_counted():
    for number in (2, 20):
        bundle = READY.edit(TRAIN_PY, LIMIT, "").edit(
            TRAIN_PY,
            "enumerate(loader)",
            f'enumerate(islice(loader, {number} if cfg.mode == "trial" else None))',
        )
        bundle = bundle.edit(TRAIN_PY, "import copy\n", "import copy\nfrom itertools import islice\n")
        assert passes(BATCHES, bundle) if number == 2 else the_failure(BATCHES, bundle)


def test_a_setting_of_batches_that_a_trial_lowers_passes():
    bundle = READY.edit(TRAIN_PY, LIMIT, "").edit(TRAIN_PY, SETS, f"        cfg.limit_batches = 2\n{SETS}")
    bundle = bundle.edit(TRAIN_PY, "load_reviews(cfg)", "load_reviews(cfg, cfg.limit_batches)")
    bundle = bundle.edit("src/preprocess.py", "def load_reviews(cfg)", "def load_reviews(cfg, batches)")
    assert passes(
        BATCHES, bundle.edit("config/config.yaml", "mode: ???\n", "mode: ???\nlimit_batches: null\n")
    )


def test_a_trial_that_takes_another_way_which_is_not_understood_cannot_be_told():
    bundle = READY.edit(TRAIN_PY, LIMIT, "").edit(
        TRAIN_PY,
        "    model = build(cfg)\n",
        '    if cfg.mode == "trial":\n        loader = shortened(loader)\n    model = build(cfg)\n',
    )
    bundle = bundle.edit(TRAIN_PY, "import copy\n", "import copy\n\nfrom limits import shortened\n")
    assert outcomes(BATCHES, bundle) == {Outcome.SKIP}


# No search


def test_a_trial_that_searches_breaches():
    bundle = READY.edit(TRAIN_PY, "        cfg.optuna.n_trials = 0\n", "")
    answer = the_failure(NO_SEARCH, bundle)
    assert lines(answer)[0] == at(bundle, TRAIN_PY, "study.optimize(")


def test_a_search_that_the_mode_itself_guards_passes():
    bundle = READY.edit(TRAIN_PY, "        cfg.optuna.n_trials = 0\n", "").edit(
        TRAIN_PY, "if cfg.optuna.n_trials > 0:", 'if cfg.mode == "full":'
    )
    assert passes(NO_SEARCH, bundle)


# Tracking


def test_a_trial_that_never_starts_wandb_passes():
    bundle = READY.edit(
        TRAIN_PY, "    wandb.init(project", '    if cfg.mode == "full":\n        wandb.init(project'
    )
    assert passes(UNTRACKED, bundle)


def test_a_tracked_trial_is_not_shown_to_be_in_order():
    for bundle in (
        READY.edit(TRAIN_PY, '        cfg.wandb.mode = "disabled"\n', ""),
        READY.edit(TRAIN_PY, ", mode=cfg.wandb.mode)", ")"),
    ):
        assert outcomes(UNTRACKED, bundle) == {Outcome.SKIP}


def test_the_environment_counts_for_tracking():
    bundle = READY.edit(TRAIN_PY, ", mode=cfg.wandb.mode)", ")").edit(
        TRAIN_PY, '        cfg.wandb.mode = "disabled"\n', '        os.environ["WANDB_MODE"] = "disabled"\n'
    )
    bundle = bundle.edit(TRAIN_PY, "import copy\n", "import copy\nimport os\n")
    assert passes(UNTRACKED, bundle)
    assert passes(TRACKED, bundle)


# Full


def test_full_that_trains_for_fewer_epochs_than_asked_breaches_and_shows_both():
    bundle = READY.edit(TRAIN_PY, "range(cfg.training.epochs)", "range(min(cfg.training.epochs, 2))")
    answer = the_failure(WHOLE, bundle)
    assert "2 of 3 epochs" in answer.says
    assert lines(answer)[0] == at(bundle, TRAIN_PY, "for epoch in range")
    assert lines(answer)[1] in {at(bundle, run, "epochs: 3") for run in RUNS}


def test_full_that_searches_less_than_asked_breaches():
    bundle = READY.edit(TRAIN_PY, "n_trials=cfg.optuna.n_trials", "n_trials=min(cfg.optuna.n_trials, 1)")
    assert "1 of 4 trials" in the_failure(WHOLE, bundle).says


def test_a_limit_that_stays_in_force_breaches():
    bundle = READY.edit(TRAIN_PY, 'if cfg.mode == "trial" and index >= 2:', "if index >= 100:")
    assert lines(the_failure(WHOLE, bundle)) == [at(bundle, TRAIN_PY, "index >= 100")]


def test_one_epoch_for_the_trials_of_a_search_is_no_breach():
    bundle = READY.edit(
        TRAIN_PY, "        return fit(tried", "        tried.training.epochs = 1\n        return fit(tried"
    )
    assert passes(WHOLE, bundle)
    assert passes(SEARCH, bundle)


# The search


def test_a_search_in_the_mode_of_a_trial_misleads_and_shows_what_cuts_it():
    bundle = READY.edit(
        TRAIN_PY, "        return fit(tried", '        tried.mode = "trial"\n        return fit(tried'
    )
    answer = the_failure(SEARCH, bundle)
    assert answer.impact is Impact.MISLEADS
    assert lines(answer)[:3] == [
        at(bundle, TRAIN_PY, 'tried.mode = "trial"'),
        at(bundle, TRAIN_PY, "index >= 2"),
        at(bundle, TRAIN_PY, "study.optimize("),
    ]


def test_a_search_that_hands_over_a_limit_of_its_own_misleads():
    bundle = READY.edit(TRAIN_PY, "def fit(cfg, track):", "def fit(cfg, track, most=None):")
    bundle = bundle.edit(
        TRAIN_PY, LIMIT, f"{LIMIT}            if most is not None and index >= most:\n                break\n"
    )
    bundle = bundle.edit(TRAIN_PY, "fit(tried, track=False)", "fit(tried, track=False, most=2)")
    answer = the_failure(SEARCH, bundle)
    assert lines(answer)[0] == at(bundle, TRAIN_PY, "index >= most")
    assert passes(SEARCH, bundle.edit(TRAIN_PY, "most=2)", "most=500)"))


def test_an_experiment_without_a_search_passes():
    assert passes(SEARCH, in_all_runs("n_trials: 4", "n_trials: 0"))


# What a trial comes by


def test_a_term_that_waits_for_a_later_step_is_a_remark_and_shows_the_setting():
    bundle = in_all_runs("  rank: 4\n", "  rank: 4\n  after_step: 500\n").edit(
        TRAIN_PY,
        STEP,
        f"{STEP}            steps += 1\n            if steps >= cfg.model.after_step:\n"
        "                print(steps)\n",
    )
    bundle = bundle.edit(TRAIN_PY, "    for epoch in", "    steps = 0\n    for epoch in")
    answer = the_failure(METHOD, bundle)
    assert answer.impact is Impact.REMARKS
    assert lines(answer)[0] == at(bundle, TRAIN_PY, "after_step")
    assert lines(answer)[1] in {at(bundle, run, "after_step") for run in RUNS}
    early = bundle
    for run in RUNS:
        early = early.edit(run, "after_step: 500", "after_step: 1")
    assert passes(METHOD, early)


def test_the_newest_contract_asks_the_same_of_its_sanity_run():
    newest = load("airas-2026-08")
    bundle = READY.with_file(
        TRAIN_PY, READY.text(TRAIN_PY).replace('"trial"', '"sanity"').replace('"disabled"', '"online"')
    )
    for run in RUNS:
        bundle = bundle.without(run).with_file(run.replace("runs", "run"), READY.text(run))
    bundle = bundle.edit(TRAIN_PY, "config/runs/", "config/run/").edit(
        TRAIN_PY, 'elif cfg.mode == "full"', "elif True"
    )
    for question in (EPOCH, BATCHES, NO_SEARCH):
        assert passes(question, bundle, newest), question
    # run=… names a group here, which Hydra refuses: what the config would hold is our guess
    guessed = bundle.edit(TRAIN_PY, "        cfg.training.epochs = 1\n", "")
    assert outcomes(EPOCH, guessed, newest) == {Outcome.SKIP}
