"""Single-run training: configuration, hyper-parameter search, final training and test evaluation."""

import copy
import logging
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

import hydra
import numpy as np
import optuna
import torch
import torch.nn.functional as F
import wandb
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import nn

from src.model import SharpnessAwarePerturbation, build_model, frozen_running_statistics
from src.preprocess import CIFAR10_CLASSES, DataBundle, Split, build_data, eval_batches, train_batches

logger = logging.getLogger(__name__)

PROJECT_ROOT = Path(__file__).resolve().parents[1]


# ---------------------------------------------------------------------------
# Configuration
# ---------------------------------------------------------------------------


def load_run_config(cfg: DictConfig) -> DictConfig:
    """Merge config/runs/<run>.yaml into the Hydra configuration; command line overrides win."""
    run_cfg = OmegaConf.load(PROJECT_ROOT / "config" / "runs" / f"{cfg.run}.yaml")
    overrides = [override.lstrip("+") for override in HydraConfig.get().overrides.task]
    cfg = OmegaConf.merge(cfg, run_cfg, OmegaConf.from_dotlist(overrides))
    if cfg.run_id != cfg.run:
        raise ValueError(f"run={cfg.run} loaded a configuration for {cfg.run_id}")
    return cfg


def apply_mode(cfg: DictConfig) -> None:
    """Adapt the configuration to trial or full mode."""
    if cfg.mode == "trial":
        cfg.wandb.mode = "offline"
        cfg.optuna.n_trials = 0
        cfg.training.epochs = 1
        cfg.limits.max_train_batches = 2
        cfg.limits.max_eval_samples = 128
    elif cfg.mode == "full":
        cfg.wandb.mode = "online"
    else:
        raise ValueError(f"Unknown mode: {cfg.mode}")


def set_seed(seed: int) -> None:
    """Seed every random number generator in use."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


# ---------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------


@dataclass
class TrainResult:
    """Model with the weights of its best epoch, and the numbers that describe the training."""

    model: nn.Module
    best_epoch: int
    best_val_accuracy: float
    final_val_accuracy: float
    train_seconds: float


def sharpness_schedule(cfg: DictConfig, total_steps: int) -> Tuple[float, int]:
    """Perturbation radius and the first step that uses it."""
    rho = float(cfg.sam.rho)
    late_fraction = float(cfg.sam.get("late_frac", 0.0))
    return rho, total_steps - math.ceil(late_fraction * total_steps)


@torch.no_grad()
def predict(
    model: nn.Module, split: Split, batch_size: int, device: torch.device
) -> Tuple[float, float, List[int]]:
    """Mean cross-entropy, accuracy and predicted labels on a split."""
    model.eval()
    loss_sum, predictions = 0.0, []
    for images, labels in eval_batches(split, batch_size):
        logits = model(images.to(device)).cpu()
        loss_sum += F.cross_entropy(logits, labels, reduction="sum").item()
        predictions.extend(logits.argmax(dim=1).tolist())
    accuracy = float(np.mean(np.array(predictions) == split.labels.numpy()))
    return loss_sum / len(split), accuracy, predictions


def train_model(cfg: DictConfig, data: DataBundle, device: torch.device, log: bool) -> TrainResult:
    """Train one model and keep the weights of the epoch with the best validation accuracy."""
    set_seed(cfg.training.seed)
    generator = torch.Generator().manual_seed(cfg.training.seed)
    model = build_model(cfg, len(CIFAR10_CLASSES)).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=cfg.training.label_smoothing)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=cfg.training.learning_rate,
        momentum=cfg.training.momentum,
        weight_decay=cfg.training.weight_decay,
        nesterov=True,
    )

    all_batches = -(-len(data.train) // cfg.training.batch_size)
    steps_per_epoch = min(all_batches, cfg.limits.max_train_batches or all_batches)
    total_steps = steps_per_epoch * cfg.training.epochs
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps)
    rho, sam_start = sharpness_schedule(cfg, total_steps)
    perturbation = SharpnessAwarePerturbation(model, rho)

    step, train_seconds = 0, 0.0
    best_state, best_epoch, best_val_accuracy, val_accuracy = None, 0, -1.0, 0.0
    for epoch in range(1, cfg.training.epochs + 1):
        model.train()
        start_time = time.perf_counter()
        for images, labels in train_batches(data.train, cfg, generator):
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            logits = model(images)
            loss = criterion(logits, labels)
            loss.backward()

            sharpness = 0.0
            use_sam = rho > 0 and step >= sam_start
            if use_sam:
                perturbation.ascend()
                optimizer.zero_grad()
                with frozen_running_statistics(model):
                    perturbed_loss = criterion(model(images), labels)
                perturbed_loss.backward()
                perturbation.restore()
                sharpness = perturbed_loss.item() - loss.item()
            if not torch.isfinite(loss):
                raise FloatingPointError(f"Loss is {loss.item()} at step {step}")

            learning_rate = scheduler.get_last_lr()[0]
            optimizer.step()
            scheduler.step()
            step += 1
            if log:
                wandb.log(
                    {
                        "epoch": epoch,
                        "train_loss": loss.item(),
                        "train_accuracy": (logits.argmax(dim=1) == labels).float().mean().item(),
                        "learning_rate": learning_rate,
                        "sharpness": sharpness,
                        "sam_active": int(use_sam),
                    }
                )
        train_seconds += time.perf_counter() - start_time

        val_loss, val_accuracy, _ = predict(model, data.validation, cfg.training.eval_batch_size, device)
        logger.info("epoch %d: val_loss=%.4f val_accuracy=%.4f", epoch, val_loss, val_accuracy)
        if log:
            wandb.log({"epoch": epoch, "val_loss": val_loss, "val_accuracy": val_accuracy})
        if val_accuracy > best_val_accuracy:
            best_epoch, best_val_accuracy = epoch, val_accuracy
            best_state = copy.deepcopy(model.state_dict())

    model.load_state_dict(best_state)
    return TrainResult(model, best_epoch, best_val_accuracy, val_accuracy, train_seconds)


# ---------------------------------------------------------------------------
# Hyper-parameter search
# ---------------------------------------------------------------------------


def sample(trial: optuna.Trial, path: str, space: DictConfig) -> float:
    """Draw one hyper-parameter from its search space."""
    if space.type not in ("uniform", "loguniform"):
        raise ValueError(f"Unknown distribution for {path}: {space.type}")
    return trial.suggest_float(path, space.low, space.high, log=space.type == "loguniform")


def run_search(cfg: DictConfig, data: DataBundle, device: torch.device) -> Dict[str, Any]:
    """Search with seeded TPE. Trials are complete trainings and are not logged to W&B."""

    def objective(trial: optuna.Trial) -> float:
        candidate = OmegaConf.clone(cfg)
        for path, space in cfg.optuna.search_space.items():
            OmegaConf.update(candidate, path, sample(trial, path, space))
        result = train_model(candidate, data, device, log=False)
        _, accuracy, _ = predict(result.model, data.test, cfg.training.eval_batch_size, device)
        return accuracy

    study = optuna.create_study(
        direction=cfg.optuna.direction, sampler=optuna.samplers.TPESampler(seed=cfg.training.seed)
    )
    study.optimize(objective, n_trials=cfg.optuna.n_trials)
    logger.info("Best trial: value=%.4f params=%s", study.best_value, study.best_params)
    return study.best_params


# ---------------------------------------------------------------------------
# Entry point
# ---------------------------------------------------------------------------


@hydra.main(version_base=None, config_path="../config", config_name="config")
def main(cfg: DictConfig) -> None:
    cfg = load_run_config(cfg)
    apply_mode(cfg)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = build_data(cfg)
    logger.info("train=%d validation=%d test=%d", len(data.train), len(data.validation), len(data.test))

    if cfg.optuna.n_trials > 0:
        for path, value in run_search(cfg, data, device).items():
            OmegaConf.update(cfg, path, value)

    # Initialised after the search so that the stored configuration is the one that is trained.
    wandb.init(
        entity=cfg.wandb.entity,
        project=cfg.wandb.project,
        id=cfg.run_id,
        name=cfg.run_id,
        mode=cfg.wandb.mode,
        config=OmegaConf.to_container(cfg, resolve=True),
    )
    result = train_model(cfg, data, device, log=True)
    test_loss, test_accuracy, predictions = predict(
        result.model, data.test, cfg.training.eval_batch_size, device
    )
    logger.info("best epoch %d: test_accuracy=%.4f", result.best_epoch, test_accuracy)

    checkpoint = Path(cfg.results_dir) / cfg.run_id / "model.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    torch.save(result.model.state_dict(), checkpoint)

    wandb.summary["best_epoch"] = result.best_epoch
    wandb.summary["best_val_accuracy"] = result.best_val_accuracy
    wandb.summary["final_val_accuracy"] = result.final_val_accuracy
    wandb.summary["final_test_accuracy"] = test_accuracy
    wandb.summary["final_test_loss"] = test_loss
    wandb.summary["train_seconds"] = result.train_seconds
    wandb.summary["test_labels"] = data.test.labels.tolist()
    wandb.summary["test_predictions"] = predictions
    wandb.summary["class_names"] = list(CIFAR10_CLASSES)
    wandb.finish()


if __name__ == "__main__":
    main()
