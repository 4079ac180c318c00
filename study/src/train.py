"""Trains one run: the search, then the final training once per seed, every step of it in W&B.

Nothing here knows the methods apart: a run config names one, `src/model.py` has it, and the loop calls it
three times a step. What was done is kept after every epoch, so that the same command goes on after a SIGKILL.
"""

from __future__ import annotations

import copy
import math
import resource
import time
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
import torch
import torch.nn.functional as F
import wandb
from omegaconf import DictConfig, OmegaConf
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState
from sklearn.metrics import accuracy_score, matthews_corrcoef
from torch import Tensor, nn
from transformers import get_scheduler, set_seed

from src.main import BadInput, fingerprint, suggest
from src.model import effective_rank, factors, singular_values
from src.preprocess import Batch, Data, batches, build, count_parameters, load_data

OPTIMIZERS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
PRECISIONS = {"bf16": torch.bfloat16, "none": torch.float32}


class Training:
    """One model, trained with one seed on one part of the data. Raises BadInput before its first step."""

    def __init__(
        self, cfg: DictConfig, data: Data, part: list[dict], seed: int, fisher: list[float] | None = None
    ) -> None:
        self.cfg, self.data, self.part, self.seed = cfg, data, part, seed
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # A batch is what an optimizer step sees, in however many parts.
        self.micro_batch = cfg.training.batch_size // cfg.training.gradient_accumulation_steps
        steps = math.ceil(len(part) / cfg.training.batch_size)
        self.steps_per_epoch = min(steps, cfg.limits.train_batches or steps)
        self.total_steps = self.steps_per_epoch * cfg.training.epochs
        for value, known in (
            (cfg.training.optimizer, OPTIMIZERS),
            (cfg.training.mixed_precision, PRECISIONS),
        ):
            if value not in known:
                raise BadInput(f"{cfg.run_id}: {value!r} is not among {', '.join(known)}")
        set_seed(seed)
        try:
            self.model, self.method = build(cfg, len(data.class_names), self.total_steps, self.device, fisher)
            self.optimizer = self._optimizer()
            warmup = round(cfg.training.warmup_ratio * self.total_steps)
            self.scheduler = get_scheduler(
                cfg.training.lr_scheduler, self.optimizer, warmup, self.total_steps
            )
        except (ValueError, TypeError) as error:
            raise BadInput(f"{cfg.run_id} cannot be built: {error}") from error
        if self.method.warmup_steps >= self.total_steps:
            raise BadInput(
                f"{cfg.run_id}: fw_lora.warmup_steps is {self.method.warmup_steps} of {self.total_steps} "
                "steps: the penalty would never act"
            )
        self.autocast = torch.autocast(
            self.device.type,
            dtype=PRECISIONS[cfg.training.mixed_precision],
            enabled=cfg.training.mixed_precision != "none",
        )

    def _optimizer(self) -> torch.optim.Optimizer:
        """Over what is trained: adapters and head. Matrices decay, vectors do not."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.cfg.training.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return OPTIMIZERS[self.cfg.training.optimizer](groups, lr=self.cfg.training.learning_rate)

    def epoch_batches(self, epoch: int) -> Any:
        """The epoch's batches: their order follows from seed and epoch, whatever happened before."""
        found = batches(self.part, self.data.collate, self.cfg.training.batch_size, 1000 * self.seed + epoch)
        return islice(found, self.steps_per_epoch)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One optimizer step. Its measurements stay on the device."""
        self.model.train()
        self.method.start_step()
        loss = task_loss = torch.zeros((), device=self.device)
        size = len(batch["labels"])
        for start in range(0, size, self.micro_batch):
            micro = {
                key: value[start : start + self.micro_batch].to(self.device) for key, value in batch.items()
            }
            share = len(micro["labels"]) / size
            with self.autocast:
                outputs = self.model(**micro)
                task = F.cross_entropy(outputs.logits.detach().float(), micro["labels"])
            (share * outputs.loss).backward()
            loss = loss + share * outputs.loss.detach()
            task_loss = task_loss + share * task
        penalty = self.method.finish_backward()
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, self.cfg.training.max_grad_norm)
        learning_rate = self.scheduler.get_last_lr()[0]
        self.optimizer.step()
        self.method.finish_step(learning_rate)
        self.scheduler.step()
        self.optimizer.zero_grad()
        return {
            "train_loss": loss + penalty,
            "train_task_loss": task_loss,
            "train_penalty": loss - task_loss + penalty,  # AdaLoRA's is inside the model's loss
            "grad_norm": norm,
            "learning_rate": torch.tensor(learning_rate),
        }

    @torch.no_grad()
    def scores(self, part: list[dict]) -> dict[str, Any]:
        """Cross-entropy, accuracy, Matthews correlation and predictions, without dropout."""
        self.model.eval()
        loss, labels, predictions = 0.0, [], []
        for batch in batches(part, self.data.collate, self.cfg.training.eval_batch_size):
            with self.autocast:
                logits = self.model(
                    input_ids=batch["input_ids"].to(self.device),
                    attention_mask=batch["attention_mask"].to(self.device),
                ).logits
            logits = logits.float().cpu()
            loss += F.cross_entropy(logits, batch["labels"], reduction="sum").item()
            labels += batch["labels"].tolist()
            predictions += logits.argmax(dim=-1).tolist()
        return {
            "loss": loss / len(labels),
            "accuracy": float(accuracy_score(labels, predictions)),
            "matthews_correlation": float(matthews_corrcoef(labels, predictions)),
            "predictions": predictions,
        }

    def layer_measurements(self) -> dict[str, float]:
        """For each adapted layer: its importance, ||dW||_F and the effective rank of dW."""
        found = {f"importance/{name}": value for name, value in self.method.importance().items()}
        for name, layer in self.method.layers.items():
            a, b, scale = factors(layer)
            values = scale * singular_values(a, b)
            found[f"delta_norm/{name}"] = values.norm().item()
            found[f"effective_rank/{name}"] = effective_rank(values)
        return found

    def state_dict(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state_all() if self.device.type == "cuda" else []
        return {
            "trained": {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "method": self.method.state_dict(),
            "rng": [torch.get_rng_state(), *cuda],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, value in state["trained"].items():
                parameters[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.method.load_state_dict(state["method"])
        torch.set_rng_state(state["rng"][0].cpu())
        for index, value in enumerate(state["rng"][1:]):
            torch.cuda.set_rng_state(value.cpu(), index)


def warmup_fisher(cfg: DictConfig, data: Data, part: list[dict], seed: int) -> list[float] | None:
    """F of every target after the warm-up of a rank-1 model, where the ranks are to follow it; else None."""
    if cfg.model.lora.allocation == "even":
        return None
    if cfg.model.lora.allocation != "fisher":
        raise BadInput(f"model.lora.allocation is even or fisher, not {cfg.model.lora.allocation!r}")
    probe = copy.deepcopy(cfg)
    probe.method = "control_fw_lora"
    probe.model.parameter_budget_percent = 100.0  # rank 1 for each target, with the run's own scale
    probe.model.lora.alpha = cfg.model.lora.alpha / cfg.model.lora.rank
    probe.model.lora.rank = 1
    training = Training(probe, data, part, seed)
    left = training.method.warmup_steps
    for epoch in range(1, cfg.training.epochs + 1):
        for batch in islice(training.epoch_batches(epoch), left):
            training.step(batch)
            left -= 1
    return training.method.fisher.tolist()


def search(cfg: DictConfig, data: Data, journal: Path) -> dict[str, Any]:
    """The best hyper-parameters. Trials are whole trainings on `fit`, scored on `tune`, and unknown to W&B.

    A killed search goes on where it was: trials are read back from the journal, a half-done one is done
    again, and what is proposed next depends on the finished ones and the seed alone.
    """

    def objective(trial: optuna.Trial) -> float:
        candidate = copy.deepcopy(cfg)
        for key, space in cfg.optuna.search_space.items():
            OmegaConf.update(candidate, key, suggest(trial, key, space))
        seed = cfg.training.seed
        training = Training(candidate, data, data.fit, seed, warmup_fisher(candidate, data, data.fit, seed))
        score = 0.0
        for epoch in range(1, candidate.training.epochs + 1):
            for batch in training.epoch_batches(epoch):
                training.step(batch)
            score = training.scores(data.tune)[cfg.dataset.metric]
            trial.report(score, epoch)
            if epoch < candidate.training.epochs and trial.should_prune():
                raise optuna.TrialPruned
        return score

    study = optuna.create_study(
        study_name=journal.stem,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        direction=cfg.optuna.direction,
        sampler=optuna.samplers.TPESampler(seed=cfg.training.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        load_if_exists=True,
    )
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)

    def finished(study: optuna.Study) -> int:
        return len(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))

    def reseed(study: optuna.Study, trial: Any = None) -> None:
        study.sampler = optuna.samplers.TPESampler(seed=1000 * cfg.training.seed + finished(study))

    reseed(study)
    study.optimize(objective, n_trials=max(0, cfg.optuna.n_trials - finished(study)), callbacks=[reseed])
    best = ", ".join(f"{key}={value:.4g}" for key, value in study.best_params.items())
    print(f"search: {best}: {cfg.dataset.metric} {study.best_value:.4f} on the tuning split", flush=True)
    return study.best_params


def train_seed(
    cfg: DictConfig, data: Data, seed: int, checkpoint: Path, done: list[dict[str, Any]]
) -> dict[str, Any]:
    """Trains on `train` with one seed, is scored on `validation` after each epoch, and reports them all.

    `done` holds the outcomes of the seeds before; the checkpoint holds them too, so that it is all there is.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    epochs: list[dict[str, Any]] = []
    saved = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else {"seed": None}
    resumed = saved["seed"] == seed
    fisher = saved["fisher"] if resumed else warmup_fisher(cfg, data, data.train, seed)
    training = Training(cfg, data, data.train, seed, fisher)
    seconds = time.perf_counter() - started if fisher else 0.0  # what it takes to know F is training time
    if resumed:
        training.load_state_dict(saved["training"])
        epochs, seconds = saved["epochs"], saved["seconds"]

    for epoch in range(len(epochs) + 1, cfg.training.epochs + 1):
        started, rows = time.perf_counter(), []
        for batch in training.epoch_batches(epoch):
            rows.append(training.step(batch))
            if len(rows) == cfg.training.log_every:
                log_steps(rows, training, epoch)
                rows = []
        log_steps(rows, training, epoch)
        elapsed = time.perf_counter() - started
        seconds += elapsed

        scores = training.scores(data.validation)
        print(
            f"seed {seed}, epoch {epoch}: " + ", ".join(f"{k} {scores[k]:.4f}" for k in list(scores)[:3]),
            flush=True,
        )
        wandb.log(
            {
                "seed": seed,
                "epoch": epoch,
                "step": training.method.step,
                "val_loss": scores["loss"],
                "val_accuracy": scores["accuracy"],
                "val_matthews_correlation": scores["matthews_correlation"],
                "train_seconds": seconds,
                "steps_per_second": training.steps_per_epoch / elapsed,
                "peak_memory_mib": peak_memory_mib(training.device),
                **training.layer_measurements(),
            }
        )
        epochs.append(scores)
        keep(
            checkpoint,
            {
                "seed": seed,
                "done": done,
                "epochs": epochs,
                "seconds": seconds,
                "fisher": fisher,
                "training": training.state_dict(),
            },
        )
    training.model.save_pretrained(checkpoint.parent / f"adapter-seed-{seed}", save_embedding_layers=False)
    return {
        "epochs": epochs,
        "seconds": seconds,
        "peak_memory_mib": peak_memory_mib(training.device),
        "parameters": count_parameters(training.model),
    }


def log_steps(rows: list[dict[str, Tensor]], training: Training, epoch: int) -> None:
    """A row in W&B for every step; the device is waited for once for all of them."""
    if not rows:
        return
    keys = list(rows[0])
    values = torch.stack(
        [torch.stack([row[key].float().to(training.device) for key in keys]) for row in rows]
    )
    first = training.method.step - len(rows)
    for offset, row in enumerate(values.tolist(), start=1):
        if not math.isfinite(row[0]):
            raise FloatingPointError(f"the loss is {row[0]} at step {first + offset} of seed {training.seed}")
        wandb.log(
            {
                "seed": training.seed,
                "epoch": epoch,
                "step": first + offset,
                **dict(zip(keys, row, strict=True)),
            }
        )


def peak_memory_mib(device: torch.device) -> float:
    """Of the device where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def keep(path: Path, state: dict[str, Any]) -> None:
    """Writes the checkpoint whole or not at all."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def summarise(run: Any, cfg: DictConfig, data: Data, outcomes: list[dict[str, Any]]) -> None:
    """The final epoch is reported, as the mean over seeds. `best_epoch` describes; it selected nothing."""
    last = [outcome["epochs"][-1] for outcome in outcomes]
    for key in ("loss", "accuracy", "matthews_correlation"):
        per_seed = [scores[key] for scores in last]
        wandb.summary[f"final_val_{key}"] = sum(per_seed) / len(per_seed)
        wandb.summary[f"final_val_{key}_per_seed"] = per_seed
    curve = [
        sum(outcome["epochs"][epoch][cfg.dataset.metric] for outcome in outcomes) / len(outcomes)
        for epoch in range(cfg.training.epochs)
    ]
    wandb.summary["best_epoch"] = 1 + curve.index(max(curve))
    wandb.summary["best_epoch_val_score"] = max(curve)
    seconds = [outcome["seconds"] for outcome in outcomes]
    wandb.summary["final_train_seconds"] = sum(seconds) / len(seconds)
    wandb.summary["final_train_seconds_per_seed"] = seconds
    wandb.summary["final_peak_memory_mib"] = max(outcome["peak_memory_mib"] for outcome in outcomes)
    wandb.summary["parameters"] = outcomes[0]["parameters"]
    wandb.summary["class_names"] = data.class_names
    wandb.summary["val_labels"] = [row["labels"] for row in data.validation]
    wandb.summary["val_predictions_per_seed"] = [scores["predictions"] for scores in last]


def train(cfg: DictConfig) -> None:
    """Everything that `python -m src.main` promises for one run."""
    data = load_data(cfg)
    seeds = [cfg.training.seed + index for index in range(cfg.training.repeats)]
    folder = Path(cfg.results_dir) / cfg.run_id
    folder.mkdir(parents=True, exist_ok=True)
    Training(cfg, data, data.train, cfg.training.seed)  # what cannot be built fails here, not after a search
    if cfg.optuna.n_trials > 0:
        for key, value in search(cfg, data, folder / f"search-{fingerprint(cfg)}.journal").items():
            OmegaConf.update(cfg, key, value)

    checkpoint = folder / f"training-{fingerprint(cfg)}.pt"
    # W&B starts after the search, and so records what is trained with. Rows logged after the last checkpoint
    # of a killed run come again; evaluate.py keeps the later ones.
    with wandb.init(
        entity=cfg.wandb.entity,
        project=cfg.wandb.project,
        id=cfg.run_id,
        name=cfg.run_id,
        mode=cfg.wandb.mode,
        dir=cfg.cache_dir,
        resume="allow" if checkpoint.exists() else None,
        config=OmegaConf.to_container(cfg, resolve=True),
    ) as run:
        done = torch.load(checkpoint, weights_only=True)["done"] if checkpoint.exists() else []
        for seed in seeds[len(done) :]:
            done.append(train_seed(cfg, data, seed, checkpoint, done))
        summarise(run, cfg, data, done)
    checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit("start a run with python -m src.main run=RUN_ID results_dir=PATH mode=trial|full")
