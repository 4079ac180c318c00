"""Criterion 8: the evaluation's command, what it fetches, the numbers and the figures that it writes."""

import pytest
from pruning import CHILD, READY, asked, at, lines, passes, the_failure

from labgate.bundle import Promise
from labgate.criteria import evaluation, figures, results
from labgate.finding import Impact, Outcome

MAIN, TRAIN, EVALUATE = "src/main.py", "src/train.py", "src/evaluate.py"
PARSING = '    given = dict(word.split("=", 1) for word in sys.argv[1:])\n'
ARGPARSE = """\
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("{0}results_dir")
    parser.add_argument("{0}run_ids")
    given = vars(parser.parse_args())
"""


@pytest.fixture(scope="module", autouse=True)
def child():
    with CHILD:
        yield


@pytest.mark.parametrize(
    "question",
    [
        evaluation.command_line_is_understood,
        evaluation.main_never_evaluates,
        evaluation.wandb_project_comes_from_the_config,
        evaluation.runs_are_looked_up_in_wandb,
        evaluation.retrieved_data_can_be_written,
        evaluation.a_trial_cannot_be_evaluated,
        results.each_run_has_its_metrics,
        results.history_is_exported,
        results.all_runs_have_aggregated_metrics,
        results.derived_metrics_are_computed,
        results.differences_are_tested,
        results.a_table_shows_the_metrics,
        results.promised_metrics_are_compared,
        figures.each_run_has_its_figures,
        figures.runs_are_compared_in_figures,
        figures.run_figures_bear_the_run_id,
        figures.comparison_figures_are_called_so,
        figures.bars_and_boxes_compare_runs,
        figures.figures_can_be_read,
        figures.training_draws_nothing,
    ],
)
def test_an_evaluation_in_order_passes_and_shows_where(question):
    assert passes(question, READY)
    assert all(answer.evidence for answer in asked(question, READY))


def test_a_parser_that_wants_dashes_refuses_the_command():
    bundle = READY.edit(EVALUATE, PARSING, ARGPARSE.format("--"))
    answer = the_failure(evaluation.command_line_is_understood, bundle)
    assert answer.impact is Impact.BLOCKS
    assert lines(answer)[0] == at(bundle, EVALUATE, "parse_args()")


def test_a_positional_parser_takes_the_words_whole_and_shows_where_they_are_declared():
    bundle = READY.edit(EVALUATE, PARSING, ARGPARSE.format(""))
    answer = the_failure(evaluation.command_line_is_understood, bundle)
    assert "JSONDecodeError" in answer.says
    assert lines(answer) == [
        at(bundle, EVALUATE, "json.loads("),
        at(bundle, EVALUATE, 'add_argument("results_dir")'),
        at(bundle, EVALUATE, 'add_argument("run_ids")'),
    ]


def test_a_positional_parser_that_splits_at_the_equals_sign_passes():
    bundle = READY.edit(
        EVALUATE,
        PARSING,
        ARGPARSE.format("").replace("vars(parser.parse_args())", "parser.parse_args()"),
    )
    bundle = bundle.edit(EVALUATE, 'given["results_dir"]', 'given.results_dir.partition("=")[2]')
    bundle = bundle.edit(EVALUATE, 'given["run_ids"]', 'given.run_ids.removeprefix("run_ids=")')
    assert passes(evaluation.command_line_is_understood, bundle)


def test_words_that_omegaconf_reads_pass():
    bundle = READY.edit(EVALUATE, PARSING, "    given = OmegaConf.from_cli()\n")
    bundle = bundle.edit(EVALUATE, 'json.loads(given["run_ids"])', "list(given.run_ids)")
    assert passes(evaluation.command_line_is_understood, bundle)


def test_a_main_that_starts_the_evaluation_fails():
    line = '    subprocess.run([sys.executable, "-m", "src.evaluate", "results_dir=results"])\n'
    bundle = READY.edit(MAIN, "*sys.argv[1:]], check=True)\n", "*sys.argv[1:]], check=True)\n" + line)
    answer = the_failure(evaluation.main_never_evaluates, bundle)
    assert lines(answer) == [at(bundle, MAIN, "src.evaluate")]


def test_a_project_that_is_written_into_the_evaluation_fails():
    bundle = READY.edit(EVALUATE, '    tracking = OmegaConf.load("config/config.yaml").wandb\n', "")
    bundle = bundle.edit(EVALUATE, "{tracking.entity}/{tracking.project}", "sparse-nets/pruning")
    answer = the_failure(evaluation.wandb_project_comes_from_the_config, bundle)
    assert lines(answer) == [at(bundle, EVALUATE, "api.run(")]


def test_settings_from_another_file_fail():
    bundle = READY.edit(EVALUATE, '"config/config.yaml"', 'results_dir / "config.yaml"')
    answer = the_failure(evaluation.wandb_project_comes_from_the_config, bundle)
    assert "results/config.yaml" in answer.says


def test_a_run_without_an_id_of_its_own_is_never_found():
    bundle = READY.edit(TRAIN, "        id=cfg.run_id,\n", "        name=cfg.run_id,\n")
    answer = the_failure(evaluation.runs_are_looked_up_in_wandb, bundle)
    assert answer.impact is Impact.BLOCKS
    assert lines(answer) == [at(bundle, TRAIN, "wandb.init("), at(bundle, EVALUATE, "api.run(")]


def test_a_run_that_is_logged_to_another_project_is_never_found():
    bundle = READY.edit(TRAIN, "project=cfg.wandb.project", 'project="pruning-runs"')
    answer = the_failure(evaluation.runs_are_looked_up_in_wandb, bundle)
    assert "'pruning-runs'" in answer.says and "'pruning'" in answer.says


def test_a_run_that_is_looked_up_by_its_id_alone_fails():
    bundle = READY.edit(EVALUATE, 'f"{tracking.entity}/{tracking.project}/{run_id}"', "run_id")
    assert "without entity and project" in the_failure(evaluation.runs_are_looked_up_in_wandb, bundle).says


def test_wandbs_own_summary_cannot_be_dumped():
    bundle = READY.edit(EVALUATE, "run.summary._json_dict", "dict(run.summary)")
    answer = the_failure(evaluation.retrieved_data_can_be_written, bundle)
    assert answer.impact is Impact.BLOCKS
    assert lines(answer)[:2] == [
        at(bundle, EVALUATE, "dict(run.summary)"),
        at(bundle, EVALUATE, "json.dump(content"),
    ]


def test_wandbs_own_summary_with_a_fallback_for_what_json_lacks_can_be_dumped():
    bundle = READY.edit(EVALUATE, "run.summary._json_dict", "dict(run.summary)")
    bundle = bundle.edit(EVALUATE, "json.dump(content, file)", "json.dump(content, file, default=str)")
    answers = asked(evaluation.retrieved_data_can_be_written, bundle)
    assert {answer.impact for answer in answers if answer.outcome is Outcome.FAIL} <= {Impact.REMARKS}


def test_a_frame_cannot_be_dumped():
    bundle = READY.edit(EVALUATE, 'history.to_dict(orient="records")', "history")
    assert "data frame" in the_failure(evaluation.retrieved_data_can_be_written, bundle).says


def test_a_config_that_is_never_fetched_fails():
    bundle = READY.edit(EVALUATE, '            "config": dict(run.config),\n', "")
    assert "config" in the_failure(evaluation.retrieved_data_can_be_written, bundle).says


def test_a_swallowed_lookup_is_only_remarked():
    lookup = '        run = api.run(f"{tracking.entity}/{tracking.project}/{run_id}")\n'
    caught = f"        try:\n    {lookup}        except wandb.errors.CommError:\n            continue\n"
    answers = asked(evaluation.a_trial_cannot_be_evaluated, READY.edit(EVALUATE, lookup, caught))
    assert {answer.outcome for answer in answers} == {Outcome.FAIL, Outcome.SKIP}
    assert all(answer.impact is Impact.REMARKS for answer in answers if answer.outcome is Outcome.FAIL)


def test_metrics_beside_the_runs_folder_fail():
    bundle = READY.edit(EVALUATE, 'folder / "metrics.json"', 'results_dir / f"{run_id}_metrics.json"')
    answer = the_failure(results.each_run_has_its_metrics, bundle)
    assert at(bundle, EVALUATE, "json.dump(content") in lines(answer)


def test_a_folder_that_is_not_known_cannot_be_told():
    bundle = READY.edit(EVALUATE, "folder = results_dir / run_id", "folder = Path(run.config['folder'])")
    assert [a.outcome for a in asked(results.each_run_has_its_metrics, bundle)] == [Outcome.SKIP]


def test_a_history_that_is_fetched_and_never_written_fails():
    bundle = READY.edit(EVALUATE, '            "history": history.to_dict(orient="records"),\n', "")
    answer = the_failure(results.history_is_exported, bundle)
    assert "'summary', 'config'" in answer.says
    assert at(bundle, EVALUATE, "run.history()") in lines(answer)


def test_a_history_in_a_file_of_its_own_is_exported():
    bundle = READY.edit(EVALUATE, '            "history": history.to_dict(orient="records"),\n', "")
    bundle = bundle.edit(
        EVALUATE,
        "        plot_curve(history,",
        '        history.to_csv(folder / "history.csv")\n        plot_curve(history,',
    )
    assert passes(results.history_is_exported, bundle)


def test_aggregated_metrics_elsewhere_fail():
    bundle = READY.edit(EVALUATE, '"aggregated_metrics.json"', '"summary.json"')
    assert "results/comparison/summary.json" in str(
        the_failure(results.all_runs_have_aggregated_metrics, bundle).evidence
    )


def test_no_difference_between_runs_fails_whatever_is_subtracted_for_the_layout():
    line = '        "improvement": (ours["accuracy"] - theirs["accuracy"]) / theirs["accuracy"],\n'
    bundle = READY.edit(EVALUATE, line, "")
    bundle = bundle.edit(
        EVALUATE,
        "    plt.bar_label(bars)\n",
        "    width = 0.8 / len(summaries)\n"
        "    plt.xlim(-0.5, len(summaries) - width / 2)\n"
        "    plt.bar_label(bars)\n",
    )
    answer = the_failure(results.derived_metrics_are_computed, bundle)
    assert at(bundle, EVALUATE, 'write(folder / "aggregated_metrics.json"') in lines(answer)


def test_a_ratio_with_a_name_of_its_own_is_a_derived_metric():
    bundle = READY.edit(
        EVALUATE,
        '"improvement": (ours["accuracy"] - theirs["accuracy"]) / theirs',
        '"speedup": ours["accuracy"] / theirs',
    )
    assert passes(results.derived_metrics_are_computed, bundle)


def test_a_difference_that_nothing_names_cannot_be_told():
    bundle = READY.edit(EVALUATE, '"improvement": (', '"spread": (')
    assert [a.outcome for a in asked(results.derived_metrics_are_computed, bundle)] == [Outcome.SKIP]


def test_a_test_that_is_imported_and_never_called_fails():
    line = '        "p_value": ttest_rel(ours["folds"], theirs["folds"]).pvalue,\n'
    bundle = READY.edit(EVALUATE, line, "")
    answer = the_failure(results.differences_are_tested, bundle)
    assert lines(answer) == [at(bundle, EVALUATE, "import ttest_rel")]


def test_a_bootstrap_of_ones_own_is_a_test():
    own = """\
def bootstrap(ours, theirs):
    rng = np.random.default_rng(0)
    drawn = [rng.choice(ours).mean() - rng.choice(theirs).mean() for _ in range(1000)]
    return sum(value <= 0 for value in drawn) / len(drawn)


def compare("""
    bundle = READY.edit(
        EVALUATE,
        'ttest_rel(ours["folds"], theirs["folds"]).pvalue',
        'bootstrap(ours["folds"], theirs["folds"])',
    )
    bundle = bundle.edit(EVALUATE, "def compare(", own).edit(
        EVALUATE, "from scipy.stats import ttest_rel\n", "import numpy as np\n"
    )
    assert passes(results.differences_are_tested, bundle)


def test_no_table_fails_and_a_history_as_csv_is_none():
    bundle = READY.edit(
        EVALUATE, '    pd.DataFrame(summaries).to_csv(folder / "comparison_metrics.csv")\n', ""
    )
    bundle = bundle.edit(
        EVALUATE,
        "        plot_curve(history,",
        '        history.to_csv(folder / "history.csv")\n        plot_curve(history,',
    )
    assert the_failure(results.a_table_shows_the_metrics, bundle).impact is Impact.BREACHES


def test_a_table_that_is_drawn_is_one():
    bundle = READY.edit(
        EVALUATE,
        'pd.DataFrame(summaries).to_csv(folder / "comparison_metrics.csv")',
        "plt.gca().table(list(summaries))",
    )
    assert passes(results.a_table_shows_the_metrics, bundle)


def test_a_promised_metric_that_is_logged_and_never_compared_fails():
    bundle = READY.with_promise(Promise(metrics=("Accuracy", "Exact match", "F1")))
    bundle = bundle.edit(TRAIN, '"sparsity": model.sparsity()', '"val_f1": accuracy')
    answer = the_failure(results.promised_metrics_are_compared, bundle)
    assert "'F1' is logged as 'val_f1'" in answer.says
    assert at(bundle, TRAIN, "val_f1") in lines(answer)


def test_an_evaluation_that_takes_whatever_there_is_cannot_be_told():
    bundle = READY.with_promise(Promise(metrics=("F1",)))
    bundle = bundle.edit(
        EVALUATE,
        '{"accuracy": summary["best_accuracy"], "folds"',
        '{**{key: value for key, value in summary.items()}, "folds"',
    )
    assert [a.outcome for a in asked(results.promised_metrics_are_compared, bundle)] == [Outcome.SKIP]


def test_a_run_figure_without_the_run_id_fails():
    bundle = READY.edit(EVALUATE, 'f"{run_id}_learning_curve.pdf"', '"learning_curve.pdf"')
    answer = the_failure(figures.run_figures_bear_the_run_id, bundle)
    assert lines(answer)[0] == at(bundle, EVALUATE, "plt.savefig(")


def test_a_figure_that_is_no_pdf_fails():
    bundle = READY.edit(EVALUATE, "comparison_accuracy_bar_chart.pdf", "comparison_accuracy_bar_chart.png")
    assert ".png" in the_failure(figures.comparison_figures_are_called_so, bundle).says


def test_two_figures_of_one_name_fail():
    bundle = READY.edit(EVALUATE, "comparison_accuracy_box_plot.pdf", "comparison_accuracy_bar_chart.pdf")
    assert "overwrites" in the_failure(figures.comparison_figures_are_called_so, bundle).says


def test_a_figure_outside_the_runs_folder_fails():
    bundle = READY.edit(
        EVALUATE,
        'folder / f"{run_id}_learning_curve.pdf"',
        'Path("figures") / f"{run_id}_learning_curve.pdf"',
    )
    assert the_failure(figures.each_run_has_its_figures, bundle)


def test_bars_alone_fail():
    bundle = READY.edit(EVALUATE, "plt.boxplot(", "plt.plot(")
    answer = the_failure(figures.bars_and_boxes_compare_runs, bundle)
    assert "box plot" in answer.says
    assert at(bundle, EVALUATE, "plt.bar(") in lines(answer)


def test_boxes_that_pandas_draws_count():
    bundle = READY.edit(
        EVALUATE,
        'plt.boxplot([summary["folds"] for summary in summaries.values()])',
        'pd.DataFrame(summaries).plot(kind="box")',
    )
    assert passes(figures.bars_and_boxes_compare_runs, bundle)


def test_figures_without_legends_fail_where_they_are_saved():
    bundle = READY.edit(EVALUATE, "    plt.legend()\n", "")
    answer = the_failure(figures.figures_can_be_read, bundle)
    assert lines(answer) == [at(bundle, EVALUATE, "plt.savefig(")]


def test_a_legend_that_seaborn_draws_counts():
    bundle = (
        READY.edit(EVALUATE, "    plt.legend()\n", "")
        .edit(
            EVALUATE,
            'plt.plot(history["train_loss"], label="loss")',
            'sns.lineplot(history["train_loss"], label="loss")',
        )
        .edit(EVALUATE, "import wandb\n", "import seaborn as sns\nimport wandb\n")
    )
    assert passes(figures.figures_can_be_read, bundle)


def test_a_figure_in_the_training_fails():
    bundle = READY.edit(
        TRAIN, "    wandb.finish()\n", '    plt.savefig("loss.png")\n    wandb.finish()\n'
    ).edit(TRAIN, "import copy\n", "import copy\n\nimport matplotlib.pyplot as plt\n")
    assert lines(the_failure(figures.training_draws_nothing, bundle)) == [at(bundle, TRAIN, "plt.savefig")]


def test_comparisons_that_are_not_drawn_into_their_folder_fail():
    bundle = READY.edit(
        EVALUATE, 'finish(folder / "comparison_accuracy_bar_chart.pdf")', 'finish(folder.parent / "bars.pdf")'
    ).edit(
        EVALUATE, 'finish(folder / "comparison_accuracy_box_plot.pdf")', 'finish(folder.parent / "box.pdf")'
    )
    answer = the_failure(figures.runs_are_compared_in_figures, bundle)
    assert "no figure that compares runs is saved in" in answer.says
    assert at(bundle, EVALUATE, "plt.savefig(path)") in lines(answer)


def test_a_figure_on_a_branch_of_a_config_that_does_not_compose_cannot_be_told():
    drawn = '    if cfg.dataset.task == "images":\n        plt.savefig("loss.png")\n    wandb.finish()\n'
    bundle = READY.edit(TRAIN, "    wandb.finish()\n", drawn).edit(
        TRAIN, "import copy\n", "import copy\n\nimport matplotlib.pyplot as plt\n"
    )
    for run in ("pruned-mlp", "dense-mlp"):
        path = f"config/runs/{run}.yaml"
        bundle = bundle.edit(path, "{name: digits}", "{name: digits, task: text}")
    assert passes(figures.training_draws_nothing, bundle)
    unknown = bundle.without("config/config.yaml").edit(TRAIN, "cfg = resolve(cfg)", "pass")
    for run in ("pruned-mlp", "dense-mlp"):
        unknown = unknown.with_file(f"config/runs/{run}.yaml", "- no mapping\n")
    outcomes = {answer.outcome for answer in asked(figures.training_draws_nothing, unknown)}
    assert outcomes == {Outcome.SKIP}


def test_an_evaluation_that_is_missing_cannot_be_looked_at():
    from labgate.checks import CannotLookError

    with pytest.raises(CannotLookError):
        asked(results.each_run_has_its_metrics, READY.without(EVALUATE))
