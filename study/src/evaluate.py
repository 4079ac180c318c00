"""Compares finished runs: `python -m src.evaluate results_dir=PATH run_ids='["run-1", "run-2"]'`.

Everything comes from W&B, so only runs made with mode=full can be evaluated. Scores are those of the final
epoch on the published validation split, one for each seed; runs with the same model, task and budget are
compared.
"""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import wandb
from omegaconf import OmegaConf
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

CONFIG = Path(__file__).resolve().parents[1] / "config" / "config.yaml"
RESAMPLES = 10_000
LABELS = {"accuracy": "accuracy", "matthews_correlation": "Matthews correlation"}


@dataclass(frozen=True)
class Run:
    """One run as W&B has it. `history` has a row for each step and epoch, each once."""

    run_id: str
    history: pd.DataFrame
    summary: dict[str, Any]
    config: dict[str, Any]

    @property
    def metric(self) -> str:
        return self.config["dataset"]["metric"]

    @property
    def setting(self) -> tuple[str, str, float]:
        """Model, task and budget: what two runs share when they can be compared."""
        model, dataset = self.config["model"], self.config["dataset"]
        return model["name"], dataset["subset"], model["parameter_budget_percent"]

    @property
    def scores(self) -> np.ndarray:
        """The primary metric of every seed."""
        return np.array(self.summary[f"final_val_{self.metric}_per_seed"])

    @property
    def predictions(self) -> np.ndarray:
        """Seeds x examples."""
        return np.array(self.summary["val_predictions_per_seed"])

    @property
    def proposed(self) -> bool:
        return self.run_id.startswith("proposed")


def parse_arguments(words: list[str]) -> tuple[Path, list[str]]:
    """results_dir and run_ids, each as KEY=VALUE."""
    given = dict(word.partition("=")[::2] for word in words)
    mode = given.pop("mode", "full")
    if mode != "full":
        raise SystemExit(f"mode={mode} runs are not in W&B and cannot be evaluated")
    if set(given) != {"results_dir", "run_ids"}:
        raise SystemExit("expected results_dir=PATH run_ids='[\"run-1\", ...]'")
    try:
        run_ids = json.loads(given["run_ids"])
    except json.JSONDecodeError as error:
        raise SystemExit(f"run_ids is not a JSON list: {error}") from error
    if not isinstance(run_ids, list) or not run_ids or len(set(run_ids)) != len(run_ids):
        raise SystemExit("run_ids is a JSON list of at least one run, each once")
    return Path(given["results_dir"]), run_ids


def fetch(api: wandb.Api, entity: str, project: str, run_id: str) -> Run:
    try:
        run = api.run(f"{entity}/{project}/{run_id}")
    except (ValueError, wandb.errors.CommError) as error:
        raise SystemExit(
            f"{run_id} is not in {entity}/{project}; was it run with mode=full? ({error})"
        ) from error
    config, summary = dict(run.config), run.summary._json_dict
    if config.get("mode") != "full" or "final_val_loss" not in summary:
        raise SystemExit(
            f"{run_id} is not a finished full run (state {run.state}, mode {config.get('mode')})"
        )
    history = pd.DataFrame(run.scan_history())  # history() would thin it out
    # A run that was killed and went on has logged some rows twice; the later ones led to its results.
    history["kind"] = history["val_loss"].notna()
    history = history.drop_duplicates(["seed", "step", "kind"], keep="last").drop(columns="kind")
    return Run(run_id, history.sort_values(["seed", "step"], kind="stable"), summary, config)


def plain(value: Any) -> Any:
    """The same value with what JSON can say: no NaN, no NumPy."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


# Step 1: each run by itself


def process_run(run: Run, results_dir: Path) -> None:
    folder = results_dir / run.run_id
    write_json(
        folder / "metrics.json",
        {
            "run_id": run.run_id,
            "config": run.config,
            "summary": run.summary,
            "history": [row.dropna().to_dict() for _, row in run.history.iterrows()],
        },
    )
    plot_learning_curve(run, folder / f"{run.run_id}_learning_curve.pdf")
    plot_confusion_matrix(run, folder / f"{run.run_id}_confusion_matrix.pdf")
    plot_layers(run, folder / f"{run.run_id}_layers.pdf")


def plot_learning_curve(run: Run, path: Path) -> None:
    """Mean over seeds; losses without the penalty, which has an axis of its own."""
    steps = run.history.dropna(subset=["train_task_loss"]).groupby("step")
    epochs = run.history.dropna(subset=["val_loss"]).groupby("step")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    loss = steps["train_task_loss"].mean()
    left.plot(loss.index, loss, alpha=0.5, label="training cross-entropy")
    loss = epochs["val_loss"].mean()
    left.plot(loss.index, loss, marker="o", label="validation cross-entropy")
    penalty = steps["train_penalty"].mean()
    twin = left.twinx()
    twin.plot(penalty.index, penalty, color="tab:red", alpha=0.5, label="penalty (right axis)")
    twin.set(ylabel="penalty")
    left.set(xlabel="optimizer step", ylabel="cross-entropy", title="Loss")
    left.legend(handles=[*left.get_lines(), *twin.get_lines()])
    for key, name in (("val_accuracy", "accuracy"), ("val_matthews_correlation", "Matthews correlation")):
        values = epochs[key].mean()
        right.plot(values.index, values, marker="o", label=name)
        right.annotate(f"{values.iloc[-1]:.4f}", (values.index[-1], values.iloc[-1]), ha="right", va="bottom")
    right.set(xlabel="optimizer step", ylabel="score", title="Validation, mean over seeds")
    right.margins(y=0.15)
    right.legend()
    figure.suptitle(run.run_id)
    save_figure(figure, path)


def plot_confusion_matrix(run: Run, path: Path) -> None:
    names = run.summary["class_names"]
    labels = np.tile(run.summary["val_labels"], len(run.predictions))
    counts = confusion_matrix(labels, run.predictions.ravel(), labels=range(len(names)))
    figure, axes = plt.subplots(figsize=(6, 5))
    image = axes.imshow(counts, cmap="Blues")
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if counts[row, column] > counts.max() / 2 else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true", title=f"{run.run_id}\nall seeds")
    figure.colorbar(image, ax=axes, label="validation examples")
    save_figure(figure, path)


def plot_layers(run: Run, path: Path) -> None:
    """Importance, norm and effective rank of every adapted layer at the end: depth against kind."""
    last = run.history.dropna(subset=["val_loss"]).groupby("seed").last().mean(numeric_only=True)
    figure, panels = plt.subplots(1, 3, figsize=(15, 5))
    for axes, quantity in zip(panels, ("importance", "delta_norm", "effective_rank"), strict=True):
        cells = {}
        for key in last.index[last.index.str.startswith(f"{quantity}/")]:
            depth, kind = re.search(r"\.(\d+)\.(.+)$", key).groups()
            cells[kind, int(depth)] = last[key]
        axes.set(
            title=f"{quantity}, mean over seeds" if cells else f"{quantity}: none in this method",
            xlabel="layer",
        )
        if cells:
            table = pd.Series(cells).unstack()
            image = axes.imshow(table, aspect="auto", cmap="viridis")
            axes.set_xticks(range(len(table.columns)), table.columns)
            axes.set_yticks(range(len(table)), table.index)
            figure.colorbar(image, ax=axes, label=quantity)
    figure.suptitle(run.run_id)
    save_figure(figure, path)


# Step 2: runs against each other


def mcnemar(labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Exact and two-sided, on the examples that only one gets right. ours, theirs: one seed's predictions."""
    only_ours = int(((ours == labels) & (theirs != labels)).sum())
    only_theirs = int(((ours != labels) & (theirs == labels)).sum())
    discordant = only_ours + only_theirs
    p_value = float(binomtest(only_ours, discordant, 0.5).pvalue) if discordant else 1.0
    return {"only_proposed_right": only_ours, "only_baseline_right": only_theirs, "p_value": p_value}


def matthews(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Matthews correlation of two classes for each resample (R) and seed (S); 0 where undefined.

    labels: N; predictions: S x N; weights: R x N, how often a resample drew each example.
    """
    size = weights.sum(axis=1, keepdims=True)
    true, predicted, both = weights @ labels, weights @ predictions.T, weights @ (predictions * labels).T
    true = true[:, None]
    spread = np.sqrt(true * (size - true) * predicted * (size - predicted))
    return np.divide(size * both - true * predicted, spread, out=np.zeros_like(both), where=spread > 0)


def accuracies(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Accuracy for each resample and seed; arguments as for `matthews`."""
    return weights @ (predictions == labels).T / weights.sum(axis=1, keepdims=True)


def paired_bootstrap(metric: str, labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """The difference of the means over seeds, resampling examples and seeds, both alike for the two runs.

    The p-value is two-sided: twice the smaller share of resamples on either side of 0, counting one more
    (Davison and Hinkley 1997).
    """
    measure = matthews if metric == "matthews_correlation" else accuracies
    generator = np.random.default_rng(0)
    seeds, examples = ours.shape
    differences = []
    for _ in range(10):  # in ten parts: a resample needs a weight for every example
        parts = RESAMPLES // 10
        weights = generator.multinomial(examples, np.full(examples, 1 / examples), size=parts).astype(float)
        seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=parts) / seeds
        gap = measure(labels, ours, weights) - measure(labels, theirs, weights)
        differences.append((gap * seed_weights).sum(axis=1))
    drawn = np.concatenate(differences)
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "p_value": float(min(1.0, 2 * (tail + 1) / (len(drawn) + 1))),
        "interval_95": [float(low), float(high)],
    }


def holm(p_values: list[float]) -> list[float]:
    """Adjusted p-values (Holm 1979), in the given order."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def compare_pair(ours: Run, theirs: Run) -> dict[str, Any]:
    """A proposed run against a baseline: how much better, and whether that could be chance."""
    labels = np.array(ours.summary["val_labels"])
    if not np.array_equal(labels, theirs.summary["val_labels"]) or len(ours.scores) != len(theirs.scores):
        raise SystemExit(
            f"{ours.run_id} and {theirs.run_id} differ in their examples or in their number of seeds"
        )
    mean, base = ours.scores.mean(), theirs.scores.mean()
    seconds, base_seconds = ours.summary["final_train_seconds"], theirs.summary["final_train_seconds"]
    found = {
        "proposed": ours.run_id,
        "baseline": theirs.run_id,
        "metric": ours.metric,
        "difference": mean - base,
        "improvement_rate": (mean - base) / abs(base) if base else None,
        "training_time_ratio": seconds / base_seconds if base_seconds else None,
        "seeds": len(ours.scores),
        "seeds_won": int((ours.scores > theirs.scores).sum()),
    }
    if ours.metric == "accuracy":  # of the first seed, settled beforehand: seeds share their examples
        test = mcnemar(labels, ours.predictions[0], theirs.predictions[0])
        found |= {"test": "McNemar, exact, first seed", **test}
        test = paired_bootstrap(ours.metric, labels, ours.predictions, theirs.predictions)
        return found | {"bootstrap_interval_95": test["interval_95"]}
    test = paired_bootstrap(ours.metric, labels, ours.predictions, theirs.predictions)
    return found | {
        "test": "paired bootstrap over examples and seeds",
        "p_value": test["p_value"],
        "bootstrap_interval_95": test["interval_95"],
    }


def compare(runs: list[Run], results_dir: Path) -> None:
    folder = results_dir / "comparison"
    pairs = [
        compare_pair(ours, theirs)
        for ours, theirs in product(runs, runs)
        if ours.proposed and not theirs.proposed and ours.setting == theirs.setting
    ]
    for pair, adjusted in zip(pairs, holm([pair["p_value"] for pair in pairs]), strict=True):
        pair |= {"p_value_holm": adjusted, "significant_at_0.05": adjusted < 0.05}
    table = pd.DataFrame({run.run_id: table_row(run) for run in runs}).T
    write_json(
        folder / "aggregated_metrics.json",
        {
            "metrics": table.to_dict(),
            "comparisons": pairs,
            "correction": f"Holm over the {len(pairs)} comparisons",
        },
    )
    table.to_csv(folder / "comparison_table.csv")
    plot_table(table, folder / "comparison_table.pdf")
    for metric, name in LABELS.items():
        chosen = [run for run in runs if run.metric == metric]
        if chosen:
            plot_bars(chosen, f"final_val_{metric}", name, folder / f"comparison_{metric}_bar_chart.pdf")
            plot_boxes(chosen, name, folder / f"comparison_{metric}_box_plot.pdf")
    plot_bars(
        runs, "final_train_seconds", "training time (s)", folder / "comparison_training_time_bar_chart.pdf"
    )
    if pairs:
        plot_differences(pairs, folder / "comparison_differences.pdf")


def table_row(run: Run) -> dict[str, float]:
    summary = run.summary
    return {
        "budget_percent": run.config["model"]["parameter_budget_percent"],
        "adapter_percent": summary["parameters"]["adapter_percent_final"],
        "adapter_percent_training": summary["parameters"]["adapter_percent_training"],
        "final_val_accuracy": summary["final_val_accuracy"],
        "final_val_matthews_correlation": summary["final_val_matthews_correlation"],
        "final_val_loss": summary["final_val_loss"],
        "primary_std_over_seeds": float(run.scores.std(ddof=1)) if len(run.scores) > 1 else 0.0,
        "best_epoch": summary["best_epoch"],
        "final_train_seconds": summary["final_train_seconds"],
        "final_peak_memory_mib": summary["final_peak_memory_mib"],
    }


def plot_bars(runs: list[Run], key: str, name: str, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.5 * len(runs)))
    for place, run in enumerate(runs):
        spread = np.std(run.summary[f"{key}_per_seed"], ddof=1) if len(run.scores) > 1 else 0.0
        colour = "tab:blue" if run.proposed else "tab:grey"
        bar = axes.barh(
            place,
            run.summary[key],
            xerr=spread,
            color=colour,
            label="proposed" if run.proposed else "baseline",
        )
        axes.bar_label(bar, fmt="%.4g", padding=4)
    axes.set_yticks(range(len(runs)), [run.run_id for run in runs])
    axes.set(xlabel=f"{name}, mean and standard deviation over seeds", title=name)
    axes.margins(x=0.15)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys())
    save_figure(figure, path)


def plot_boxes(runs: list[Run], name: str, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.5 * len(runs)))
    ids = [run.run_id for run in runs]
    drawn = axes.boxplot(
        [run.scores for run in runs], tick_labels=ids, showmeans=True, orientation="horizontal"
    )
    for place, run in enumerate(runs, start=1):
        axes.annotate(f"{run.scores.mean():.4f}", (run.scores.mean(), place), ha="center", va="bottom")
    axes.legend([drawn["medians"][0], drawn["means"][0]], ["median", "mean"])
    axes.set(xlabel=name, title=f"{name} over seeds")
    save_figure(figure, path)


def plot_table(table: pd.DataFrame, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(3 + 2 * len(table.columns), 1 + 0.4 * len(table)))
    axes.axis("off")
    cells = [[f"{value:.4g}" for value in row] for row in table.to_numpy(dtype=float)]
    axes.table(cells, rowLabels=list(table.index), colLabels=list(table.columns), loc="center")
    axes.set_title("Final epoch, mean over seeds")
    save_figure(figure, path)


def plot_differences(pairs: list[dict[str, Any]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(11, 1.5 + 0.5 * len(pairs)))
    for place, pair in enumerate(pairs):
        low, high = pair["bootstrap_interval_95"]
        label = "difference, 95 % bootstrap interval" if place == 0 else None
        axes.plot([low, high], [place, place], color="tab:blue", label=label)
        axes.plot(pair["difference"], place, "o", color="tab:blue")
        axes.annotate(
            f"p = {pair['p_value_holm']:.3g}", (high, place), xytext=(6, 0), textcoords="offset points"
        )
    axes.axvline(0, color="grey", linestyle="--", label="no difference")
    axes.set_yticks(range(len(pairs)), [f"{pair['proposed']}\nagainst {pair['baseline']}" for pair in pairs])
    axes.set(xlabel="difference in the primary metric", title="Proposed runs against baselines, p after Holm")
    axes.margins(x=0.2, y=0.15)
    axes.legend()
    save_figure(figure, path)


def main() -> None:
    results_dir, run_ids = parse_arguments(sys.argv[1:])
    tracking = OmegaConf.load(CONFIG).wandb
    api = wandb.Api()
    runs = [fetch(api, tracking.entity, tracking.project, run_id) for run_id in run_ids]
    for run in runs:
        process_run(run, results_dir)
    compare(runs, results_dir)


if __name__ == "__main__":
    main()
