"""Trains one run: search on validation data, the final training, one look at the test split."""

import copy
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import hydra
import optuna
import torch
import torch.nn.functional as F
import wandb
from omegaconf import DictConfig, OmegaConf
from sklearn.metrics import accuracy_score, f1_score
from torch import nn
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup, set_seed

from src.main import resolve_config
from src.model import TextClassifier, build_objective
from src.preprocess import Splits, load_splits, make_loader


@dataclass(frozen=True)
class Scores:
    loss: float
    accuracy: float
    macro_f1: float
    labels: list[int]
    predictions: list[int]


@dataclass(frozen=True)
class Training:
    """What came of one training. `seconds` counts optimisation only, not validation."""

    model: nn.Module
    best: Scores
    best_epoch: int
    last: Scores
    seconds: float


def apply_mode(cfg: DictConfig) -> None:
    """What `mode` settles. A trial only shows that the code runs."""
    if cfg.mode == "trial":
        cfg.wandb.mode = "disabled"
        cfg.optuna.n_trials = 0
        cfg.training.epochs = 1
        cfg.limits.train_batches = 2
        cfg.limits.eval_examples = 64
    elif cfg.mode == "full":
        cfg.wandb.mode = "online"


def score(model: nn.Module, loader: DataLoader, device: torch.device) -> Scores:
    """Loss, accuracy and macro-F1 over a split, without dropout."""
    model.eval()
    total, labels, predictions = 0.0, [], []
    with torch.no_grad():
        for batch in loader:
            logits = model(batch["input_ids"].to(device), batch["attention_mask"].to(device)).float().cpu()
            total += F.cross_entropy(logits, batch["labels"], reduction="sum").item()
            labels += batch["labels"].tolist()
            predictions += logits.argmax(dim=-1).tolist()
    return Scores(
        loss=total / len(labels),
        accuracy=float(accuracy_score(labels, predictions)),
        macro_f1=float(f1_score(labels, predictions, average="macro", zero_division=0)),
        labels=labels,
        predictions=predictions,
    )


def build_optimizer(model: nn.Module, cfg: DictConfig) -> torch.optim.Optimizer:
    """AdamW; biases and normalisation weights, the vectors, are not decayed."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": cfg.training.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=cfg.training.learning_rate)


def fit(
    cfg: DictConfig, splits: Splits, device: torch.device, track: bool, checkpoint: Path | None = None
) -> Training:
    """Trains as `cfg` says and judges every epoch on the validation split.

    With `track` every step and epoch goes to W&B. With `checkpoint` the best epoch is kept there and the
    model comes back with its weights.
    """
    set_seed(cfg.training.seed)
    model = TextClassifier(cfg, len(splits.class_names)).to(device)
    train_loader = make_loader(splits.train, splits, cfg.training.batch_size, shuffle_seed=cfg.training.seed)
    validation_loader = make_loader(splits.validation, splits, cfg.training.eval_batch_size)

    steps_per_epoch = min(len(train_loader), cfg.limits.train_batches or len(train_loader))
    total_steps = steps_per_epoch * cfg.training.epochs
    objective = build_objective(cfg, total_steps)
    optimizer = build_optimizer(model, cfg)
    warmup_steps = round(cfg.training.warmup_fraction * total_steps)
    scheduler = get_linear_schedule_with_warmup(optimizer, warmup_steps, total_steps)
    bf16 = cfg.training.bf16 and device.type == "cuda"

    best, best_epoch, last, step, seconds = None, 0, None, 0, 0.0
    for epoch in range(1, cfg.training.epochs + 1):
        model.train()
        started = time.perf_counter()
        for batch in islice(train_loader, steps_per_epoch):
            batch = {key: tensor.to(device) for key, tensor in batch.items()}
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                loss = objective(model, batch, step)
            if not torch.isfinite(loss.total):
                raise FloatingPointError(f"the loss became {loss.total.item()} at step {step}")
            optimizer.zero_grad(set_to_none=True)
            loss.total.backward()
            grad_norm = nn.utils.clip_grad_norm_(model.parameters(), cfg.training.max_grad_norm)
            learning_rate = scheduler.get_last_lr()[0]
            optimizer.step()
            scheduler.step()
            step += 1
            if track:
                wandb.log(
                    {
                        "epoch": epoch,
                        "train_loss": loss.total.item(),
                        "train_task_loss": loss.task.item(),
                        "train_regulariser": loss.regulariser.item(),
                        "regulariser_weight": loss.weight,
                        "grad_norm": grad_norm.item(),
                        "learning_rate": learning_rate,
                    }
                )
        seconds += time.perf_counter() - started

        last = score(model, validation_loader, device)
        print(f"epoch {epoch}: validation loss {last.loss:.4f}, accuracy {last.accuracy:.4f}", flush=True)
        if track:
            wandb.log(
                {
                    "epoch": epoch,
                    "val_loss": last.loss,
                    "val_accuracy": last.accuracy,
                    "val_macro_f1": last.macro_f1,
                    "train_seconds": seconds,
                }
            )
        if best is None or last.accuracy > best.accuracy:
            best, best_epoch = last, epoch
            if checkpoint is not None:
                checkpoint.parent.mkdir(parents=True, exist_ok=True)
                torch.save(model.state_dict(), checkpoint)

    if checkpoint is not None:
        model.load_state_dict(torch.load(checkpoint, map_location=device, weights_only=True))
    return Training(model, best, best_epoch, last, seconds)


def search(cfg: DictConfig, splits: Splits, device: torch.device) -> optuna.Study:
    """Tunes on the validation split. Trials are whole trainings and stay out of W&B."""

    def objective(trial: optuna.Trial) -> float:
        candidate = copy.deepcopy(cfg)
        for key, space in cfg.optuna.search_space.items():
            OmegaConf.update(candidate, key, suggest(trial, key, space))
        return fit(candidate, splits, device, track=False).best.accuracy

    sampler = optuna.samplers.TPESampler(seed=cfg.training.seed)
    study = optuna.create_study(direction=cfg.optuna.direction, sampler=sampler)
    study.optimize(objective, n_trials=cfg.optuna.n_trials)
    return study


def suggest(trial: optuna.Trial, key: str, space: DictConfig) -> float:
    if space.type == "loguniform":
        return trial.suggest_float(key, space.low, space.high, log=True)
    if space.type == "uniform":
        return trial.suggest_float(key, space.low, space.high)
    raise ValueError(f"{key}: no search over {space.type!r}")


@hydra.main(version_base="1.3", config_path="../config", config_name="config")
def main(cfg: DictConfig) -> None:
    cfg = resolve_config(cfg)
    apply_mode(cfg)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    splits = load_splits(cfg)
    print(f"{len(splits.train)} to train, {len(splits.validation)} to validate, {len(splits.test)} to test")

    if cfg.optuna.n_trials > 0:
        study = search(cfg, splits, device)
        print(f"best of {len(study.trials)} trials: {study.best_params}, {study.best_value:.4f}")
        for key, value in study.best_params.items():
            OmegaConf.update(cfg, key, value)

    # W&B starts after the search, so that it records the values that are trained with.
    with wandb.init(
        entity=cfg.wandb.entity,
        project=cfg.wandb.project,
        id=cfg.run_id,
        name=cfg.run_id,
        mode=cfg.wandb.mode,
        config=OmegaConf.to_container(cfg, resolve=True),
    ) as run:
        if cfg.mode == "full":
            print(f"W&B run: {run.url}")
        checkpoint = Path(cfg.results_dir) / cfg.run_id / "best_model.pt"
        training = fit(cfg, splits, device, track=True, checkpoint=checkpoint)
        test_loader = make_loader(splits.test, splits, cfg.training.eval_batch_size)
        test = score(training.model, test_loader, device)
        print(f"test accuracy of epoch {training.best_epoch}: {test.accuracy:.4f}")

        wandb.summary["best_epoch"] = training.best_epoch
        wandb.summary["best_val_accuracy"] = training.best.accuracy
        wandb.summary["best_val_macro_f1"] = training.best.macro_f1
        wandb.summary["final_val_accuracy"] = training.last.accuracy
        wandb.summary["final_test_accuracy"] = test.accuracy
        wandb.summary["final_test_macro_f1"] = test.macro_f1
        wandb.summary["final_test_loss"] = test.loss
        wandb.summary["total_train_seconds"] = training.seconds
        wandb.summary["class_names"] = splits.class_names
        wandb.summary["test_labels"] = test.labels
        wandb.summary["test_predictions"] = test.predictions


if __name__ == "__main__":
    main()
