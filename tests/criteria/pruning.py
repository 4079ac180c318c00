"""A small experiment that is in order: a pruned network against a dense one, in two runs."""

from dataclasses import replace

from labgate.bundle import Bundle, Promise
from labgate.checks import all_checks
from labgate.compose import Child, Compositions
from labgate.contract import load
from labgate.finding import Outcome
from labgate.flow import Flow

CONTRACT = load("airas-2025-11")
CHILD = Child()

MAIN = """\
import subprocess
import sys

import hydra


@hydra.main(config_path="../config", config_name="config", version_base="1.3")
def main(cfg):
    subprocess.run([sys.executable, "-u", "-m", "src.train", *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()
"""
TRAIN = """\
import copy

import hydra
import optuna
import torch
import wandb
from omegaconf import OmegaConf

from src.model import Pruned


def resolve(cfg):
    OmegaConf.set_struct(cfg, False)
    cfg = OmegaConf.merge(cfg, OmegaConf.load(f"config/runs/{cfg.run}.yaml"))
    if cfg.mode == "trial":
        cfg.wandb.mode = "disabled"
        cfg.optuna.n_trials = 0
    elif cfg.mode == "full":
        cfg.wandb.mode = "online"
    return cfg


def fit(cfg, loader, track):
    model = Pruned(cfg.model.keep)
    optimizer = torch.optim.SGD(model.parameters(), lr=cfg.training.lr)
    best, best_epoch = 0.0, 0
    for epoch in range(cfg.training.epochs):
        for batch in loader:
            loss = torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if track:
                wandb.log({"train_loss": loss.item()})
        accuracy = measure(model, loader)
        if track:
            wandb.log({"val_accuracy": accuracy, "sparsity": model.sparsity()})
        if accuracy > best:
            best, best_epoch = accuracy, epoch
    return best, best_epoch


def measure(model, loader):
    right = 0
    for batch in loader:
        right += (model(batch[0]).argmax(-1) == batch[1]).sum().item()
    return right / len(loader.dataset)


def search(cfg, loader):
    def objective(trial):
        tried = copy.deepcopy(cfg)
        tried.training.lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        return fit(tried, loader, track=False)[0]

    study = optuna.create_study(direction="maximize")
    study.optimize(objective, n_trials=cfg.optuna.n_trials)
    return study.best_params


@hydra.main(config_path="../config", config_name="config", version_base="1.3")
def main(cfg):
    cfg = resolve(cfg)
    loader = torch.utils.data.DataLoader(torch.load(".cache/digits.pt"), batch_size=32)
    if cfg.optuna.n_trials > 0:
        cfg.training.lr = search(cfg, loader)["lr"]
    wandb.init(
        entity=cfg.wandb.entity,
        project=cfg.wandb.project,
        id=cfg.run_id,
        mode=cfg.wandb.mode,
        config=OmegaConf.to_container(cfg, resolve=True),
    )
    best, best_epoch = fit(cfg, loader, track=True)
    wandb.summary["best_accuracy"] = best
    wandb.summary["best_epoch"] = best_epoch
    wandb.summary["folds"] = [best, best]
    wandb.finish()


if __name__ == "__main__":
    main()
"""
MODEL = """\
import torch


class Pruned(torch.nn.Module):
    def __init__(self, keep):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.keep = keep

    def forward(self, pixels):
        return self.layer(pixels)

    def sparsity(self):
        return 1.0 - self.keep
"""
EVALUATE = """\
import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import wandb
from omegaconf import OmegaConf
from scipy.stats import ttest_rel


def main():
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    results_dir, run_ids = Path(given["results_dir"]), json.loads(given["run_ids"])
    tracking = OmegaConf.load("config/config.yaml").wandb
    api = wandb.Api()
    summaries = {}
    for run_id in run_ids:
        run = api.run(f"{tracking.entity}/{tracking.project}/{run_id}")
        history = run.history()
        summary = run.summary._json_dict
        folder = results_dir / run_id
        write(folder / "metrics.json", {
            "summary": summary,
            "config": dict(run.config),
            "history": history.to_dict(orient="records"),
        })
        plot_curve(history, folder / f"{run_id}_learning_curve.pdf")
        summaries[run_id] = {"accuracy": summary["best_accuracy"], "folds": summary["folds"]}
    compare(summaries, results_dir / "comparison")


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        json.dump(content, file)


def plot_curve(history, path):
    plt.figure()
    plt.plot(history["train_loss"], label="loss")
    plt.plot(history["val_accuracy"], label="accuracy")
    plt.legend()
    finish(path)


def finish(path):
    plt.tight_layout()
    plt.savefig(path)


def compare(summaries, folder):
    ours, theirs = summaries["pruned-mlp"], summaries["dense-mlp"]
    write(folder / "aggregated_metrics.json", {
        "accuracy": {run_id: summary["accuracy"] for run_id, summary in summaries.items()},
        "improvement": (ours["accuracy"] - theirs["accuracy"]) / theirs["accuracy"],
        "p_value": ttest_rel(ours["folds"], theirs["folds"]).pvalue,
    })
    pd.DataFrame(summaries).to_csv(folder / "comparison_metrics.csv")
    bars = plt.bar(list(summaries), [summary["accuracy"] for summary in summaries.values()])
    plt.bar_label(bars)
    finish(folder / "comparison_accuracy_bar_chart.pdf")
    plt.boxplot([summary["folds"] for summary in summaries.values()])
    finish(folder / "comparison_accuracy_box_plot.pdf")


if __name__ == "__main__":
    main()
"""
CONFIG = """\
run: null
results_dir: results
mode: full
wandb:
  entity: sparse-nets
  project: pruning
  mode: online
"""
RUN = """\
run_id: {}
method: pruning
model: {{keep: 0.1}}
dataset: {{name: digits}}
training: {{epochs: 2, lr: 0.1}}
optuna: {{n_trials: 4}}
"""
READY = Bundle.from_files(
    {
        "src/main.py": MAIN,
        "src/train.py": TRAIN,
        "src/model.py": MODEL,
        "src/evaluate.py": EVALUATE,
        "config/config.yaml": CONFIG,
        "config/runs/pruned-mlp.yaml": RUN.format("pruned-mlp"),
        "config/runs/dense-mlp.yaml": RUN.format("dense-mlp"),
        "pyproject.toml": '[project]\nname = "pruning"\nversion = "0"\n',
    },
    promise=Promise(metrics=("Accuracy", "Sparsity of the weights")),
)


def asked(question, bundle, contract=CONTRACT):
    """What a check answers about `bundle`."""
    with Compositions(bundle, contract, CHILD) as compositions:
        facts = {"bundle": bundle, "contract": contract, "flow": Flow(bundle, contract, compositions)}
        names = question.__code__.co_varnames[: question.__code__.co_argcount]
        made = list(question(**{name: facts[name] for name in names}))
    (check,) = [check for check in all_checks() if check.question is question]
    return [replace(answer, impact=answer.impact or check.impact) for answer in made]


def the_failure(question, bundle, contract=CONTRACT):
    """Its one answer that is a failure."""
    (answer,) = [a for a in asked(question, bundle, contract) if a.outcome is Outcome.FAIL]
    return answer


def passes(question, bundle, contract=CONTRACT):
    """Whether it passes, and says nothing else."""
    answers = asked(question, bundle, contract)
    return bool(answers) and all(answer.outcome is Outcome.PASS for answer in answers)


def lines(answer):
    """Where an answer points: `src/train.py:12` and the like."""
    return [str(place) for place in answer.evidence]


def at(bundle, path, words):
    """`path:line` of the line that holds `words`."""
    found = [n for n, line in enumerate((bundle.text(path) or "").splitlines(), 1) if words in line]
    assert len(found) == 1, f"{words!r} stands {len(found)} times in {path}"
    return f"{path}:{found[0]}"
