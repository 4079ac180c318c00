"""Compares finished runs: `python -m src.evaluate results_dir=PATH run_ids='["run-1", "run-2"]'`.

Everything comes from W&B, so only runs made with mode=full can be evaluated: a trial leaves nothing there.
"""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import wandb
from omegaconf import OmegaConf
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, f1_score

CONFIG = Path(__file__).resolve().parents[1] / "config" / "config.yaml"
PRIMARY = "final_test_accuracy"
HIGHER_IS_BETTER = {
    "final_test_accuracy": True,
    "final_test_macro_f1": True,
    "final_test_loss": False,
    "best_val_accuracy": True,
    "total_train_seconds": False,
}
FOLDS = 20


def parse_arguments(words: list[str]) -> SimpleNamespace:
    """Reads KEY=VALUE words, as the training command takes them."""
    args = SimpleNamespace(results_dir=None, run_ids=None, mode="full")
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not hasattr(args, key):
            raise SystemExit(f"expected results_dir=PATH run_ids='[\"run-1\", ...]', got {word!r}")
        setattr(args, key, value)
    if args.results_dir is None or args.run_ids is None:
        raise SystemExit("both results_dir=PATH and run_ids='[\"run-1\", ...]' are needed")
    if args.mode != "full":
        raise SystemExit(f"mode={args.mode} runs are not in W&B and cannot be evaluated")
    args.run_ids = json.loads(args.run_ids)
    if not args.run_ids:
        raise SystemExit("run_ids names no run")
    return args


def fetch(api: wandb.Api, entity: str, project: str, run_id: str) -> SimpleNamespace:
    """One run as W&B has it: every row of its history, its summary, its configuration."""
    try:
        run = api.run(f"{entity}/{project}/{run_id}")
    except (ValueError, wandb.errors.CommError) as error:
        raise SystemExit(
            f"{run_id} is not in {entity}/{project}; was it run with mode=full? ({error})"
        ) from error
    history = run.history(samples=run.lastHistoryStep + 1)  # the default thins the history to 500 rows
    summary = run.summary._json_dict
    config = dict(run.config)
    if config["mode"] != "full":
        raise SystemExit(f"{run_id} was run with mode={config['mode']}; only full runs can be evaluated")
    return SimpleNamespace(run_id=run_id, history=history, summary=summary, config=config)


def plain(value: object) -> object:
    """The same value with what JSON can say: no NaN, no NumPy."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(path)


def save_figure(figure: plt.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
    print(path)


def process_run(run: SimpleNamespace, results_dir: Path) -> None:
    """Step 1: what there is to say and to see about one run."""
    labels, predictions = run.summary["test_labels"], run.summary["test_predictions"]
    per_class = f1_score(labels, predictions, labels=range(len(run.summary["class_names"])), average=None)
    rows = [row.dropna().to_dict() for _, row in run.history.iterrows()]
    folder = results_dir / run.run_id
    write_json(
        folder / "metrics.json",
        {
            "run_id": run.run_id,
            "config": run.config,
            "summary": run.summary,
            "test_f1_per_class": dict(zip(run.summary["class_names"], per_class, strict=True)),
            "history": rows,
        },
    )
    plot_learning_curve(run, folder / f"{run.run_id}_learning_curve.pdf")
    plot_regulariser(run, folder / f"{run.run_id}_regulariser_curve.pdf")
    plot_confusion_matrix(run, folder / f"{run.run_id}_confusion_matrix.pdf")


def plot_learning_curve(run: SimpleNamespace, path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    steps = run.history.dropna(subset=["train_task_loss"])
    epochs = run.history.dropna(subset=["val_loss"])
    left.plot(steps["_step"], steps["train_loss"], alpha=0.3, label="training objective")
    left.plot(steps["_step"], steps["train_task_loss"], alpha=0.6, label="training cross-entropy")
    left.plot(epochs["_step"], epochs["val_loss"], marker="o", label="validation cross-entropy")
    left.set(xlabel="step", ylabel="loss", title="Loss")
    left.legend()

    right.plot(epochs["_step"], epochs["val_accuracy"], marker="o", label="validation accuracy")
    right.plot(epochs["_step"], epochs["val_macro_f1"], marker="s", label="validation macro-F1")
    right.axhline(run.summary["final_test_accuracy"], linestyle="--", color="grey", label="test accuracy")
    best = epochs.loc[epochs["val_accuracy"].idxmax()]
    right.annotate(
        f"best: epoch {run.summary['best_epoch']}, {best['val_accuracy']:.4f}",
        xy=(best["_step"], best["val_accuracy"]),
        xytext=(0, 8),
        textcoords="offset points",
        ha="right",
    )
    right.margins(y=0.2)
    right.set(xlabel="step", ylabel="score", title="Scores")
    right.legend()
    figure.suptitle(run.run_id)
    save_figure(figure, path)


def plot_regulariser(run: SimpleNamespace, path: Path) -> None:
    steps = run.history.dropna(subset=["train_regulariser"])
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot(steps["_step"], steps["train_regulariser"], alpha=0.6, label="regulariser")
    axes.plot(steps["_step"], steps["regulariser_weight"], label="its weight")
    last = steps.iloc[-1]
    axes.annotate(
        f"{last['regulariser_weight']:.3f}",
        xy=(last["_step"], last["regulariser_weight"]),
        xytext=(-4, 6),
        textcoords="offset points",
        ha="right",
    )
    axes.margins(y=0.15)
    axes.set(xlabel="step", ylabel="value", title=f"{run.run_id}: {run.config['method']}")
    axes.legend()
    save_figure(figure, path)


def plot_confusion_matrix(run: SimpleNamespace, path: Path) -> None:
    names = run.summary["class_names"]
    counts = confusion_matrix(
        run.summary["test_labels"], run.summary["test_predictions"], labels=range(len(names))
    )
    figure, axes = plt.subplots(figsize=(6, 5))
    image = axes.imshow(counts, cmap="Blues")
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if counts[row, column] > counts.max() / 2 else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true", title=run.run_id)
    figure.colorbar(image, ax=axes, label="test examples")
    save_figure(figure, path)


def compare(runs: list[SimpleNamespace], results_dir: Path) -> None:
    """Step 2: the proposed runs against the baselines."""
    table = pd.DataFrame({run.run_id: {key: run.summary[key] for key in HIGHER_IS_BETTER} for run in runs})
    proposed = [run for run in runs if run.run_id.startswith("proposed")]
    baselines = [run for run in runs if not run.run_id.startswith("proposed")]
    folder = results_dir / "comparison"
    aggregated = {
        "primary_metric": PRIMARY,
        "higher_is_better": HIGHER_IS_BETTER,
        "metrics": {key: table.loc[key].to_dict() for key in table.index},
    }
    if proposed and baselines:
        best = max(proposed, key=lambda run: run.summary[PRIMARY])
        rival = max(baselines, key=lambda run: run.summary[PRIMARY])
        aggregated["best_proposed"] = {"run_id": best.run_id, "value": best.summary[PRIMARY]}
        aggregated["best_baseline"] = {"run_id": rival.run_id, "value": rival.summary[PRIMARY]}
        aggregated["gap"] = best.summary[PRIMARY] - rival.summary[PRIMARY]
        aggregated["improvement_rate"] = {
            run.run_id: {
                key: improvement_rate(table.loc[key, best.run_id], table.loc[key, run.run_id])
                for key in table.index
            }
            for run in baselines
        }
        aggregated["significance"] = {run.run_id: mcnemar(best, run) for run in baselines}
    write_json(folder / "aggregated_metrics.json", aggregated)

    plot_bars(
        table, ["final_test_accuracy", "final_test_macro_f1"], folder / "comparison_test_scores_bar_chart.pdf"
    )
    plot_bars(table, ["total_train_seconds"], folder / "comparison_train_seconds_bar_chart.pdf")
    plot_boxes(runs, folder / "comparison_fold_accuracy_box_plot.pdf")
    plot_table(table, folder / "comparison_metrics_table.pdf")


def improvement_rate(proposed: float, baseline: float) -> float | None:
    return (proposed - baseline) / baseline if baseline else None


def mcnemar(proposed: SimpleNamespace, baseline: SimpleNamespace) -> dict:
    """The exact McNemar test on the test examples that just one of the two gets right."""
    labels = np.array(proposed.summary["test_labels"])
    if not np.array_equal(labels, baseline.summary["test_labels"]):
        raise SystemExit(f"{proposed.run_id} and {baseline.run_id} were not tested on the same examples")
    ours = np.array(proposed.summary["test_predictions"]) == labels
    theirs = np.array(baseline.summary["test_predictions"]) == labels
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    discordant = only_ours + only_theirs
    p_value = binomtest(only_ours, discordant, 0.5).pvalue if discordant else 1.0
    return {
        "test": "McNemar, exact, two-sided",
        "proposed": proposed.run_id,
        "only_proposed_right": only_ours,
        "only_baseline_right": only_theirs,
        "p_value": float(p_value),
        "significant_at_0.05": bool(p_value < 0.05),
    }


def fold_accuracies(run: SimpleNamespace) -> list[float]:
    """Accuracy on up to FOLDS equal parts of the test split, in its own order."""
    right = np.array(run.summary["test_predictions"]) == np.array(run.summary["test_labels"])
    return [float(fold.mean()) for fold in np.array_split(right, min(FOLDS, len(right)))]


def plot_bars(table: pd.DataFrame, keys: list[str], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(4 + 2 * len(keys), 4.5))
    width = 0.8 / len(table.columns)
    for index, run_id in enumerate(table.columns):
        places = np.arange(len(keys)) + (index - (len(table.columns) - 1) / 2) * width
        bars = axes.bar(places, table.loc[keys, run_id], width, label=run_id)
        axes.bar_label(bars, fmt="%.4g", padding=2)
    axes.set_xticks(range(len(keys)), keys)
    axes.margins(y=0.15)
    axes.set(ylabel="value", title="Comparison")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, -0.35), fontsize="small")
    save_figure(figure, path)


def plot_boxes(runs: list[SimpleNamespace], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(4 + 2 * len(runs), 4.5))
    folds = [fold_accuracies(run) for run in runs]
    drawn = axes.boxplot(folds, tick_labels=[run.run_id for run in runs], showmeans=True)
    for place, values in enumerate(folds, start=1):
        axes.annotate(
            f"mean {np.mean(values):.4f}",
            xy=(place, np.mean(values)),
            xytext=(28, 0),
            textcoords="offset points",
            va="center",
        )
    axes.legend([drawn["medians"][0], drawn["means"][0]], ["median", "mean"])
    axes.tick_params(axis="x", labelsize="small")
    axes.set(ylabel="accuracy", title=f"Test accuracy over {len(folds[0])} parts of the test split")
    save_figure(figure, path)


def plot_table(table: pd.DataFrame, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(4 + 3.5 * len(table.columns), 2.5))
    cells = [[f"{value:.4g}" for value in row] for row in table.to_numpy()]
    axes.axis("off")
    axes.table(cells, rowLabels=list(table.index), colLabels=list(table.columns), loc="center")
    axes.set_title("Metrics of the finished runs")
    save_figure(figure, path)


def main() -> None:
    args = parse_arguments(sys.argv[1:])
    tracking = OmegaConf.load(CONFIG).wandb
    api = wandb.Api()
    runs = [fetch(api, tracking.entity, tracking.project, run_id) for run_id in args.run_ids]
    results_dir = Path(args.results_dir)
    for run in runs:
        process_run(run, results_dir)
    compare(runs, results_dir)


if __name__ == "__main__":
    main()
