"""Independent evaluation: fetches finished runs from W&B, exports their metrics and compares them.

Usage:
    uv run python -m src.evaluate results_dir=<path> run_ids='["run-1", "run-2"]'

Runs in trial mode do not reach W&B and can therefore not be evaluated.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import wandb
from omegaconf import OmegaConf
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

CONFIG_PATH = Path(__file__).resolve().parents[1] / "config" / "config.yaml"
PRIMARY_METRIC = "final_test_accuracy"
COMPARED_METRICS = ["final_test_accuracy", "final_test_loss", "best_val_accuracy", "train_seconds"]


@dataclass
class RunData:
    """Everything W&B knows about one run."""

    run_id: str
    history: pd.DataFrame
    summary: Dict[str, Any]
    config: Dict[str, Any]

    @property
    def is_proposed(self) -> bool:
        return self.run_id.startswith("proposed")

    @property
    def correct(self) -> np.ndarray:
        return np.array(self.summary["test_predictions"]) == np.array(self.summary["test_labels"])


def parse_args() -> argparse.Namespace:
    """Read the output directory and the JSON list of run ids."""
    parser = argparse.ArgumentParser(description="Evaluate and compare finished W&B runs")
    parser.add_argument("--results_dir", required=True, help="directory for metrics and figures")
    parser.add_argument("--run_ids", required=True, help="JSON list of W&B run ids")
    args = parser.parse_args()
    args.run_ids = json.loads(args.run_ids)
    return args


def fetch_run(api: wandb.Api, entity: str, project: str, run_id: str) -> RunData:
    """Retrieve history, summary and configuration of a run."""
    try:
        run = api.run(f"{entity}/{project}/{run_id}")
    except (ValueError, wandb.errors.CommError) as error:
        raise SystemExit(f"Run {run_id} was not found in {entity}/{project}: {error}") from error
    config = dict(run.config)
    if config["mode"] != "full":
        raise SystemExit(f"Run {run_id} was made in {config['mode']} mode and cannot be evaluated")
    history = run.history(samples=run.lastHistoryStep + 1)
    summary = dict(run.summary)
    return RunData(run_id=run_id, history=history, summary=summary, config=config)


def save_json(data: Dict[str, Any], path: Path) -> None:
    """Write a JSON file and report its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as handle:
        json.dump(data, handle, indent=2)
    print(path)


def save_figure(figure: plt.Figure, path: Path) -> None:
    """Write a figure and report its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
    print(path)


# ---------------------------------------------------------------------------
# Step 1: per-run processing
# ---------------------------------------------------------------------------


def per_class_accuracy(run: RunData) -> Dict[str, float]:
    """Test accuracy within each true class."""
    labels = np.array(run.summary["test_labels"])
    return {
        name: float(run.correct[labels == index].mean())
        for index, name in enumerate(run.summary["class_names"])
    }


def export_run_metrics(run: RunData, out_dir: Path) -> None:
    """Write the history, the summary and the configuration of a run to metrics.json."""
    history = [
        {key: value for key, value in row.items() if pd.notna(value)}
        for row in run.history.to_dict(orient="records")
    ]
    metrics = {
        "run_id": run.run_id,
        "summary": run.summary,
        "config": run.config,
        "per_class_accuracy": per_class_accuracy(run),
        "history": history,
    }
    save_json(metrics, out_dir / "metrics.json")


def plot_learning_curve(run: RunData, out_dir: Path) -> None:
    """Loss and accuracy during training, with the best epoch marked."""
    train = run.history.dropna(subset=["train_loss"])
    validation = run.history.dropna(subset=["val_loss"])
    figure, (loss_axis, accuracy_axis) = plt.subplots(1, 2, figsize=(11, 4))
    loss_axis.plot(train["_step"], train["train_loss"], alpha=0.5, label="train loss")
    loss_axis.plot(validation["_step"], validation["val_loss"], marker="o", label="validation loss")
    loss_axis.set_xlabel("step")
    loss_axis.set_ylabel("cross-entropy")
    loss_axis.legend()

    accuracy_axis.plot(train["_step"], train["train_accuracy"], alpha=0.3, label="train accuracy")
    accuracy_axis.plot(validation["_step"], validation["val_acc"], marker="o", label="validation accuracy")
    best_epoch = run.summary["best_epoch"]
    best_step = validation.loc[validation["epoch"] == best_epoch, "_step"].iloc[0]
    accuracy_axis.axvline(best_step, linestyle="--", color="grey", label="best epoch")
    accuracy_axis.annotate(
        f"epoch {best_epoch}: {run.summary['best_val_accuracy']:.4f}",
        xy=(best_step, run.summary["best_val_accuracy"]),
        xytext=(-5, 5),
        textcoords="offset points",
        ha="right",
    )
    accuracy_axis.margins(y=0.15)
    accuracy_axis.set_xlabel("step")
    accuracy_axis.set_ylabel("accuracy")
    accuracy_axis.legend()
    figure.suptitle(run.run_id)
    save_figure(figure, out_dir / f"{run.run_id}_learning_curve.pdf")


def plot_sharpness(run: RunData, out_dir: Path) -> None:
    """Loss increase under the perturbation, and the learning rate, over the training."""
    steps = run.history.dropna(subset=["sharpness"])
    figure, axis = plt.subplots(figsize=(7, 4))
    axis.plot(steps["_step"], steps["sharpness"], alpha=0.6, label="loss increase at w + e(w)")
    axis.plot(steps["_step"], steps["learning_rate"], label="learning rate")
    share = steps["sam_active"].mean()
    axis.annotate(f"perturbed steps: {share:.1%}", xy=(0.02, 0.9), xycoords="axes fraction")
    axis.set_xlabel("step")
    axis.set_ylabel("value")
    axis.set_title(run.run_id)
    axis.legend()
    save_figure(figure, out_dir / f"{run.run_id}_sharpness_curve.pdf")


def plot_confusion_matrix(run: RunData, out_dir: Path) -> None:
    """Confusion matrix of the test split."""
    names = run.summary["class_names"]
    matrix = confusion_matrix(
        run.summary["test_labels"], run.summary["test_predictions"], labels=list(range(len(names)))
    )
    figure, axis = plt.subplots(figsize=(8, 7))
    image = axis.imshow(matrix, cmap="Blues")
    for row in range(len(names)):
        for column in range(len(names)):
            axis.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=7)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    axis.set_title(run.run_id)
    figure.colorbar(image, ax=axis, label="test images")
    save_figure(figure, out_dir / f"{run.run_id}_confusion_matrix.pdf")


# ---------------------------------------------------------------------------
# Step 2: aggregated analysis
# ---------------------------------------------------------------------------


def improvement_rate(proposed: float, baseline: float) -> Optional[float]:
    """Relative difference to the baseline; for losses and times, negative is better."""
    return (proposed - baseline) / baseline if baseline else None


def mcnemar_test(proposed: RunData, baseline: RunData) -> Dict[str, Any]:
    """Exact McNemar test on the test images that only one of the two runs classifies correctly."""
    if proposed.summary["test_labels"] != baseline.summary["test_labels"]:
        raise SystemExit("The runs were not tested on the same images in the same order")
    wins = int(np.sum(proposed.correct & ~baseline.correct))
    losses = int(np.sum(baseline.correct & ~proposed.correct))
    p_value = float(binomtest(wins, wins + losses, 0.5).pvalue) if wins + losses else 1.0
    return {"test": "exact McNemar", "wins": wins, "losses": losses, "p_value": p_value}


def aggregate(runs: List[RunData], out_dir: Path) -> pd.DataFrame:
    """Write aggregated_metrics.json and return the table of compared metrics."""
    table = pd.DataFrame({run.run_id: [run.summary[name] for name in COMPARED_METRICS] for run in runs})
    table.index = pd.Index(COMPARED_METRICS)
    aggregated: Dict[str, Any] = {
        "primary_metric": PRIMARY_METRIC,
        "metrics": {name: table.loc[name].to_dict() for name in COMPARED_METRICS},
        "comparisons": [],
    }
    for proposed in [run for run in runs if run.is_proposed]:
        for baseline in [run for run in runs if not run.is_proposed]:
            rates = {
                name: improvement_rate(proposed.summary[name], baseline.summary[name])
                for name in COMPARED_METRICS
            }
            aggregated["comparisons"].append(
                {
                    "proposed": proposed.run_id,
                    "baseline": baseline.run_id,
                    "improvement_rate": rates,
                    "significance": mcnemar_test(proposed, baseline),
                }
            )
    save_json(aggregated, out_dir / "aggregated_metrics.json")
    return table


def plot_bar_chart(table: pd.DataFrame, metric: str, out_dir: Path) -> None:
    """One metric, one bar per run."""
    figure, axis = plt.subplots(figsize=(2 + 2.5 * len(table.columns), 4))
    for position, run_id in enumerate(table.columns):
        bar = axis.bar(position, table.loc[metric, run_id], label=run_id)
        axis.bar_label(bar, fmt="%.4g")
    axis.set_xticks([])
    axis.set_ylabel(metric)
    axis.set_title(f"Comparison: {metric}")
    axis.margins(y=0.2)
    axis.legend(fontsize="small")
    save_figure(figure, out_dir / f"comparison_{metric}_bar_chart.pdf")


def plot_box_plot(runs: List[RunData], out_dir: Path) -> None:
    """Spread of the per-class test accuracy of each run."""
    figure, axis = plt.subplots(figsize=(2 + 2.5 * len(runs), 4))
    values = [list(per_class_accuracy(run).values()) for run in runs]
    boxes = axis.boxplot(values, showmeans=True)
    for position, accuracies in enumerate(values, start=1):
        axis.annotate(
            f"median {np.median(accuracies):.4f}",
            xy=(position, np.median(accuracies)),
            xytext=(25, 0),
            textcoords="offset points",
        )
    axis.set_xticks(range(1, len(runs) + 1), [run.run_id for run in runs], fontsize="small")
    axis.set_ylabel("accuracy within a class")
    axis.set_title("Per-class test accuracy")
    axis.legend([boxes["medians"][0], boxes["means"][0]], ["median", "mean"])
    save_figure(figure, out_dir / "comparison_per_class_accuracy_box_plot.pdf")


def plot_metrics_table(table: pd.DataFrame, out_dir: Path) -> None:
    """All compared metrics as a table."""
    figure, axis = plt.subplots(figsize=(4 + 3 * len(table.columns), 2.5))
    axis.axis("off")
    cells = [[f"{value:.4f}" for value in row] for row in table.to_numpy()]
    axis.table(cellText=cells, rowLabels=list(table.index), colLabels=list(table.columns), loc="center")
    axis.set_title("Performance metrics")
    save_figure(figure, out_dir / "comparison_metrics_table.pdf")


def main() -> None:
    args = parse_args()
    results_dir = Path(args.results_dir)
    wandb_cfg = OmegaConf.load(CONFIG_PATH).wandb
    api = wandb.Api()
    runs = [fetch_run(api, wandb_cfg.entity, wandb_cfg.project, run_id) for run_id in args.run_ids]

    for run in runs:
        out_dir = results_dir / run.run_id
        export_run_metrics(run, out_dir)
        plot_learning_curve(run, out_dir)
        plot_sharpness(run, out_dir)
        plot_confusion_matrix(run, out_dir)

    comparison_dir = results_dir / "comparison"
    table = aggregate(runs, comparison_dir)
    for metric in COMPARED_METRICS:
        plot_bar_chart(table, metric, comparison_dir)
    plot_box_plot(runs, comparison_dir)
    plot_metrics_table(table, comparison_dir)


if __name__ == "__main__":
    main()
