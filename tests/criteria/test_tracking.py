"""Criterion 6: what the training tells W&B, and what the evaluation asks of it."""

import pytest
from pruning import CHILD, READY, asked, at, lines, passes, the_failure

from labgate.bundle import Bundle, Promise
from labgate.contract import load
from labgate.criteria import tracking
from labgate.finding import Impact, Outcome

TRAIN, EVALUATE, CONFIG = "src/train.py", "src/evaluate.py", "config/config.yaml"


@pytest.fixture(scope="module", autouse=True)
def child():
    with CHILD:
        yield


@pytest.mark.parametrize(
    "question",
    [
        tracking.settings_are_present,
        tracking.the_key_comes_from_the_environment,
        tracking.training_logs_as_it_goes,
        tracking.summary_holds_final_and_best,
        tracking.evaluation_asks_for_what_was_logged,
        tracking.evaluation_asks_for_what_was_summarised,
        tracking.search_trials_stay_out_of_wandb,
        tracking.untracked_modes_stay_untracked,
        tracking.tracked_modes_reach_wandb,
        tracking.recorded_config_is_the_trained_one,
        tracking.training_dumps_no_json,
    ],
)
def test_an_experiment_in_order_passes_and_shows_where(question):
    assert passes(question, READY)
    assert all(answer.evidence for answer in asked(question, READY))


def test_an_entity_that_is_left_out_or_open_or_a_stand_in_fails():
    for line in ("", "  entity:\n", "  entity: your-entity\n"):
        bundle = READY.edit(CONFIG, "  entity: sparse-nets\n", line)
        assert "entity" in the_failure(tracking.settings_are_present, bundle).says


def test_an_entity_from_the_environment_cannot_be_told():
    bundle = READY.edit(CONFIG, "entity: sparse-nets", "entity: ${oc.env:WANDB_ENTITY}")
    (answer,) = asked(tracking.settings_are_present, bundle)
    assert answer.outcome is Outcome.SKIP


def test_a_key_in_the_code_fails_and_is_not_quoted():
    bundle = READY.edit(TRAIN, "    wandb.init(", f"    wandb.login(key={'c0ffee' * 7!r})\n    wandb.init(")
    answer = the_failure(tracking.the_key_comes_from_the_environment, bundle)
    assert "c0ffee" not in str(answer)


def test_logging_only_after_the_loop_fails_and_shows_the_loop():
    text = READY.text(TRAIN)
    inside = text[text.index("            if track:\n") : text.index("        accuracy = measure(")]
    text = text.replace(inside, "")
    inside = text[text.index("        if track:\n") : text.index("        if accuracy > best:")]
    text = text.replace(inside, "")
    after = '    if track:\n        wandb.log({"val_accuracy": best})\n    return best, best_epoch\n'
    bundle = READY.with_file(TRAIN, text.replace("    return best, best_epoch\n", after))
    answer = the_failure(tracking.training_logs_as_it_goes, bundle)
    assert lines(answer)[0] == at(bundle, TRAIN, 'wandb.log({"val_accuracy": best})')
    assert "for " in answer.evidence[1].shows


def test_a_training_that_never_logs_fails():
    bundle = READY.with_file(TRAIN, READY.text(TRAIN).replace("wandb.log(", "print("))
    answer = the_failure(tracking.training_logs_as_it_goes, bundle)
    assert "nothing is ever logged" in answer.says


def test_logging_before_wandb_is_started_would_crash():
    bundle = READY.edit(TRAIN, "    wandb.init(\n", '    wandb.log({"device": 0})\n    wandb.init(\n')
    answer = the_failure(tracking.training_logs_as_it_goes, bundle)
    assert answer.impact is Impact.BLOCKS
    assert lines(answer) == [at(bundle, TRAIN, '"device": 0'), at(bundle, TRAIN, "wandb.init(")]


def test_a_logger_that_the_trainer_brings_cannot_be_told():
    text = READY.text(TRAIN).replace("wandb.log(", "print(")
    bundle = READY.with_file(
        TRAIN, text.replace("import copy\n", "import copy\n\nfrom transformers import Trainer\n")
    )
    (answer,) = asked(tracking.training_logs_as_it_goes, bundle)
    assert answer.outcome is Outcome.SKIP


def test_a_best_metric_without_its_epoch_fails():
    bundle = READY.edit(TRAIN, '    wandb.summary["best_epoch"] = best_epoch\n', "")
    answer = the_failure(tracking.summary_holds_final_and_best, bundle)
    assert "no best epoch" in answer.says
    assert at(bundle, TRAIN, 'wandb.summary["best_accuracy"]') in lines(answer)


def test_one_epoch_has_no_best_epoch():
    bundle = READY.edit(TRAIN, '    wandb.summary["best_epoch"] = best_epoch\n', "")
    for run in ("pruned-mlp", "dense-mlp"):
        bundle = bundle.edit(f"config/runs/{run}.yaml", "epochs: 2", "epochs: 1")
    assert passes(tracking.summary_holds_final_and_best, bundle)


def test_a_promised_metric_that_never_reaches_the_summary_fails():
    bundle = READY.with_promise(
        Promise(metrics=("Accuracy", "F1 score", "an odd one that labgate knows nothing of"))
    )
    answer = the_failure(tracking.summary_holds_final_and_best, bundle)
    assert "'F1 score'" in answer.says
    assert "odd" not in answer.says


def test_a_promised_metric_that_is_logged_or_goes_by_no_name_is_kept():
    promised = READY.with_promise(Promise(metrics=("F1 score", "Accuracy")))
    logged = promised.edit(TRAIN, '{"val_accuracy": accuracy', '{"val_f1": 0.5, "val_accuracy": accuracy')
    assert passes(tracking.summary_holds_final_and_best, logged)
    nameless = promised.edit(TRAIN, 'wandb.summary["best_accuracy"]', 'wandb.summary["best_primary_metric"]')
    assert passes(tracking.summary_holds_final_and_best, nameless)


def test_a_summary_filled_in_a_loop_over_a_dict_is_read():
    bundle = READY.edit(
        TRAIN,
        '    wandb.summary["best_accuracy"] = best\n    wandb.summary["best_epoch"] = best_epoch\n',
        '    for key, value in {"best_accuracy": best, "best_epoch": best_epoch}.items():\n'
        "        wandb.summary[key] = value\n",
    )
    assert passes(tracking.summary_holds_final_and_best, bundle)


def test_a_key_read_but_never_logged_fails_and_shows_both_sides():
    bundle = READY.edit(EVALUATE, 'history["val_accuracy"]', 'history["val/accuracy"]')
    answer = the_failure(tracking.evaluation_asks_for_what_was_logged, bundle)
    assert answer.impact is Impact.BLOCKS
    assert lines(answer) == [
        at(bundle, EVALUATE, "val/accuracy"),
        at(bundle, TRAIN, '"val_accuracy": accuracy'),
    ]


def test_a_key_that_only_one_run_logs_fails_for_the_other():
    bundle = READY.edit(
        TRAIN,
        '            wandb.log({"val_accuracy": accuracy, "sparsity": model.sparsity()})',
        '            wandb.log({"sparsity": 0.0})\n'
        '            if cfg.run_id == "pruned-mlp":\n'
        '                wandb.log({"val_accuracy": accuracy})',
    )
    answer = the_failure(tracking.evaluation_asks_for_what_was_logged, bundle)
    assert "dense-mlp never gives" in answer.says


def test_a_key_that_is_tested_for_and_never_logged_breaches():
    bundle = READY.edit(
        EVALUATE,
        '    plt.plot(history["val_accuracy"], label="accuracy")',
        '    if "test_accuracy" in history.columns:\n'
        '        plt.plot(history["test_accuracy"], label="accuracy")',
    )
    answer = the_failure(tracking.evaluation_asks_for_what_was_logged, bundle)
    assert answer.impact is Impact.BREACHES


def test_one_of_several_names_is_enough():
    bundle = READY.edit(
        EVALUATE,
        '    plt.plot(history["val_accuracy"], label="accuracy")',
        '    for name in ("accuracy", "val_accuracy"):\n'
        "        if name in history.columns:\n"
        "            plt.plot(history[name], label=name)",
    )
    answer = the_failure(tracking.evaluation_asks_for_what_was_logged, bundle)
    assert answer.impact is Impact.REMARKS


def test_a_key_that_the_training_spells_on_another_path_is_no_breach():
    bundle = READY.edit(
        EVALUATE,
        '    plt.plot(history["val_accuracy"], label="accuracy")',
        '    if "perplexity" in history.columns:\n        plt.plot(history["perplexity"])',
    ).edit(
        TRAIN,
        "        if accuracy > best:",
        '        if cfg.dataset.name == "text":\n'
        '            wandb.log({"perplexity": 1.0})\n'
        "        if accuracy > best:",
    )
    assert passes(tracking.evaluation_asks_for_what_was_logged, bundle)


def test_a_column_that_the_evaluation_makes_itself_is_not_asked_of_wandb():
    bundle = READY.edit(
        EVALUATE,
        '    plt.plot(history["val_accuracy"], label="accuracy")',
        '    history["smooth"] = history["val_accuracy"].rolling(3).mean()\n    plt.plot(history["smooth"])',
    )
    assert passes(tracking.evaluation_asks_for_what_was_logged, bundle)


def test_names_that_are_made_at_run_time_cannot_be_told():
    bundle = READY.edit(TRAIN, '{"val_accuracy": accuracy, ', '{f"val_{model.metric}": accuracy, ')
    (answer,) = asked(tracking.evaluation_asks_for_what_was_logged, bundle)
    assert answer.outcome is Outcome.SKIP
    assert at(bundle, EVALUATE, 'history["val_accuracy"]') in lines(answer)


def test_keys_selected_at_once_and_logged_apart_give_no_row():
    bundle = READY.edit(EVALUATE, "run.history()", 'run.history(keys=["train_loss", "val_accuracy"])')
    answer = the_failure(tracking.evaluation_asks_for_what_was_logged, bundle)
    assert answer.impact is Impact.MISLEADS
    assert lines(answer)[0] == at(bundle, EVALUATE, "run.history(keys=")
    assert at(bundle, TRAIN, '"val_accuracy": accuracy') in lines(answer)
    together = bundle.edit(EVALUATE, '"train_loss", "val_accuracy"]', '"sparsity", "val_accuracy"]')
    assert passes(tracking.evaluation_asks_for_what_was_logged, together)


def test_alternatives_of_one_name_are_taken_as_one():
    for asked_for in (
        'summary.get("top", summary.get("best_accuracy"))',
        'summary.get("top") or summary["best_accuracy"]',
    ):
        bundle = READY.edit(EVALUATE, '"accuracy": summary["best_accuracy"]', f'"accuracy": {asked_for}')
        failures = [
            answer
            for answer in asked(tracking.evaluation_asks_for_what_was_summarised, bundle)
            if answer.outcome is Outcome.FAIL and answer.impact is not Impact.REMARKS
        ]
        assert not failures


def test_a_summary_key_that_is_tested_for_and_never_given_breaches():
    bundle = READY.edit(
        EVALUATE,
        '        plot_curve(history, folder / f"{run_id}_learning_curve.pdf")',
        '        if "confusion" in summary:\n            print(summary["confusion"])\n'
        '        plot_curve(history, folder / f"{run_id}_learning_curve.pdf")',
    )
    answer = the_failure(tracking.evaluation_asks_for_what_was_summarised, bundle)
    assert answer.impact is Impact.BREACHES


def test_without_a_run_config_nothing_is_said_of_how_far_a_run_gets():
    bundle = READY.without("config/runs/pruned-mlp.yaml").without("config/runs/dense-mlp.yaml")
    bundle = bundle.edit("src/main.py", "def main(cfg):\n", "def main(cfg):\n    sys.exit('no such run')\n")
    outcomes = {answer.outcome for answer in asked(tracking.tracked_modes_reach_wandb, bundle)}
    assert Outcome.FAIL not in outcomes


def test_a_summary_key_with_a_default_that_nobody_writes_misleads():
    bundle = READY.edit(EVALUATE, 'summary["best_accuracy"]', 'summary.get("top_accuracy", 0.0)')
    answer = the_failure(tracking.evaluation_asks_for_what_was_summarised, bundle)
    assert answer.impact is Impact.MISLEADS
    assert lines(answer)[0] == at(bundle, EVALUATE, "top_accuracy")


def test_what_is_logged_lands_in_the_summary_too():
    bundle = READY.edit(EVALUATE, 'summary["best_accuracy"]', 'summary["val_accuracy"]')
    assert passes(tracking.evaluation_asks_for_what_was_summarised, bundle)


def test_trials_that_log_into_the_live_run_fail():
    text = READY.text(TRAIN).replace("track=False", "track=True")
    init = text[
        text.index("    wandb.init(") : text.index("    best, best_epoch = fit(cfg, loader, track=True)")
    ]
    text = text.replace(init, "").replace(
        "    if cfg.optuna.n_trials > 0:\n", init + "    if cfg.optuna.n_trials > 0:\n"
    )
    bundle = READY.with_file(TRAIN, text)
    answer = the_failure(tracking.search_trials_stay_out_of_wandb, bundle)
    assert at(bundle, TRAIN, 'wandb.log({"train_loss"') in lines(answer)
    assert at(bundle, TRAIN, "study.optimize(") in lines(answer)


def test_trials_in_runs_that_are_disabled_are_silent():
    text = READY.text(TRAIN).replace(
        "        return fit(tried, loader, track=False)[0]\n",
        '        wandb.init(mode="disabled")\n'
        "        score = fit(tried, loader, track=True)[0]\n"
        "        wandb.finish()\n"
        "        return score\n",
    )
    assert passes(tracking.search_trials_stay_out_of_wandb, READY.with_file(TRAIN, text))


def test_a_trial_that_reaches_wandb_fails():
    bundle = READY.edit(TRAIN, "mode=cfg.wandb.mode", 'mode="online"')
    answer = the_failure(tracking.untracked_modes_stay_untracked, bundle)
    assert lines(answer) == [
        at(bundle, TRAIN, "wandb.init("),
        at(bundle, TRAIN, 'cfg.wandb.mode = "disabled"'),
    ]


def test_a_trial_that_uses_wandb_without_starting_it_would_crash():
    text = READY.text(TRAIN).replace("    wandb.init(\n", '    if cfg.mode == "full":\n        wandb.init(\n')
    answer = the_failure(tracking.untracked_modes_stay_untracked, READY.with_file(TRAIN, text))
    assert answer.impact is Impact.BLOCKS


def test_the_environment_can_disable_wandb():
    bundle = READY.edit(
        TRAIN, '        cfg.wandb.mode = "disabled"\n', '        os.environ["WANDB_MODE"] = "disabled"\n'
    )
    bundle = bundle.edit(TRAIN, "        mode=cfg.wandb.mode,\n", "").edit(
        TRAIN, "import copy\n", "import copy\nimport os\n"
    )
    assert passes(tracking.untracked_modes_stay_untracked, bundle)
    assert passes(tracking.tracked_modes_reach_wandb, bundle)


def test_a_search_that_leaves_wandb_disabled_behind_it_fails():
    bundle = READY.edit(
        TRAIN,
        "        tried = copy.deepcopy(cfg)\n",
        '        tried = cfg\n        tried.wandb.mode = "disabled"\n',
    )
    answer = the_failure(tracking.tracked_modes_reach_wandb, bundle)
    assert at(bundle, TRAIN, 'tried.wandb.mode = "disabled"') in lines(answer)


def test_a_sanity_run_in_the_project_of_the_real_one_fails():
    contract = load("airas-2026-08")
    files = {path: READY.text(path).replace("config/runs/", "config/run/") for path in READY.files}
    files = {path.replace("config/runs/", "config/run/"): text for path, text in files.items()}
    bundle = Bundle.from_files(files)
    answer = the_failure(tracking.small_modes_log_to_their_own_projects, bundle, contract)
    assert lines(answer) == [at(bundle, TRAIN, "wandb.init(")]
    apart = bundle.edit(
        TRAIN,
        "    return cfg\n",
        '    if cfg.mode != "full":\n        cfg.wandb.project += "-" + cfg.mode\n    return cfg\n',
    )
    assert passes(tracking.small_modes_log_to_their_own_projects, apart, contract)


def test_a_configuration_recorded_before_the_search_misleads():
    text = READY.text(TRAIN)
    init = text[
        text.index("    wandb.init(") : text.index("    best, best_epoch = fit(cfg, loader, track=True)")
    ]
    early = text.replace(init, "").replace(
        "    if cfg.optuna.n_trials > 0:\n", init + "    if cfg.optuna.n_trials > 0:\n"
    )
    bundle = READY.with_file(TRAIN, early)
    answer = the_failure(tracking.recorded_config_is_the_trained_one, bundle)
    assert answer.impact is Impact.MISLEADS
    assert lines(answer) == [
        at(bundle, TRAIN, "wandb.init("),
        at(bundle, TRAIN, "study.optimize("),
        at(bundle, TRAIN, 'cfg.training.lr = search(cfg, loader)["lr"]'),
        *lines(answer)[3:],
    ]
    mended = bundle.edit(
        TRAIN,
        '        cfg.training.lr = search(cfg, loader)["lr"]\n',
        '        cfg.training.lr = search(cfg, loader)["lr"]\n'
        "        wandb.config.update(OmegaConf.to_container(cfg), allow_val_change=True)\n",
    )
    assert passes(tracking.recorded_config_is_the_trained_one, mended)
    unused = bundle.edit(
        TRAIN, 'cfg.training.lr = search(cfg, loader)["lr"]', 'cfg.found = search(cfg, loader)["lr"]'
    )
    (answer,) = asked(tracking.recorded_config_is_the_trained_one, unused)
    assert answer.outcome is Outcome.SKIP  # what is trained with is what the file says


def test_printing_measured_numbers_as_json_fails_and_printing_the_config_does_not():
    measured = READY.edit(TRAIN, "    wandb.finish()\n", '    print(json.dumps({"best": best}))\n').edit(
        TRAIN, "import copy\n", "import copy\nimport json\n"
    )
    answer = the_failure(tracking.training_dumps_no_json, measured)
    assert lines(answer) == [at(measured, TRAIN, "print(json.dumps")]
    config = measured.edit(
        TRAIN, 'json.dumps({"best": best})', "json.dumps(OmegaConf.to_container(cfg.wandb))"
    )
    assert passes(tracking.training_dumps_no_json, config)


def test_a_results_file_fails_and_a_vocabulary_does_not():
    bundle = READY.edit(
        TRAIN,
        "    wandb.finish()\n",
        '    with open("results/results.json", "w") as file:\n        json.dump({"best": best}, file)\n',
    )
    bundle = bundle.edit(TRAIN, "import copy\n", "import copy\nimport json\n")
    assert "results.json" in the_failure(tracking.training_dumps_no_json, bundle).says
    assert passes(
        tracking.training_dumps_no_json, bundle.edit(TRAIN, "results/results.json", ".cache/vocabulary.json")
    )
