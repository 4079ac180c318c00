"""The classifier, and the two training objectives that are compared.

Ramped consistency, the proposed method, at step t of T, with two dropout passes p and q over the same batch:

    loss = (CE(p) + CE(q)) / 2  +  w(t) * (KL(p || q) + KL(q || p)) / 2
    w(t) = consistency_weight * min(1, (t + 1) / (ramp_fraction * T))

Label smoothing, the baseline, where u is the cross-entropy against the uniform distribution:

    loss = (1 - label_smoothing) * CE(p)  +  label_smoothing * u(p)
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor, nn
from transformers import AutoModel


class TextClassifier(nn.Module):
    """A pretrained encoder, the mean of its token states, dropout, one linear layer."""

    def __init__(self, cfg: DictConfig, num_classes: int) -> None:
        super().__init__()
        try:
            self.encoder = AutoModel.from_pretrained(cfg.model.name, cache_dir=cfg.cache_dir)
        except (OSError, ValueError) as error:
            raise RuntimeError(f"cannot load the model {cfg.model.name!r}: {error}") from error
        self.dropout = nn.Dropout(cfg.model.dropout)
        self.head = nn.Linear(self.encoder.config.hidden_size, num_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
        return self.head(self.dropout(mean))


class Loss(NamedTuple):
    """`task` is plain cross-entropy for every method, so that curves can be compared."""

    total: Tensor
    task: Tensor
    regulariser: Tensor
    weight: float


class RampedConsistency(nn.Module):
    def __init__(self, consistency_weight: float, ramp_steps: int) -> None:
        super().__init__()
        self.consistency_weight = consistency_weight
        self.ramp_steps = ramp_steps

    def forward(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> Loss:
        # One pass over the batch twice draws two independent dropout masks per example.
        twice = {key: torch.cat([batch[key], batch[key]]) for key in ("input_ids", "attention_mask")}
        first, second = model(**twice).float().chunk(2)
        task = (F.cross_entropy(first, batch["labels"]) + F.cross_entropy(second, batch["labels"])) / 2
        consistency = symmetric_kl(first, second)
        weight = self.consistency_weight * min(1.0, (step + 1) / self.ramp_steps)
        return Loss(task + weight * consistency, task, consistency, weight)


class LabelSmoothing(nn.Module):
    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> Loss:
        logits = model(batch["input_ids"], batch["attention_mask"]).float()
        task = F.cross_entropy(logits, batch["labels"])
        uniform = -F.log_softmax(logits, dim=-1).mean()
        total = (1.0 - self.label_smoothing) * task + self.label_smoothing * uniform
        return Loss(total, task, uniform, self.label_smoothing)


def symmetric_kl(first: Tensor, second: Tensor) -> Tensor:
    """The mean over the batch of (KL(p || q) + KL(q || p)) / 2, from logits."""
    log_p, log_q = F.log_softmax(first, dim=-1), F.log_softmax(second, dim=-1)
    forward = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    backward = F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
    return (forward + backward) / 2


def build_objective(cfg: DictConfig, total_steps: int) -> nn.Module:
    """The objective that the run config names."""
    if cfg.method == "ramped_consistency":
        ramp_steps = max(1, round(cfg.training.ramp_fraction * total_steps))
        return RampedConsistency(cfg.training.consistency_weight, ramp_steps)
    if cfg.method == "label_smoothing":
        return LabelSmoothing(cfg.training.label_smoothing)
    raise ValueError(f"no objective is called {cfg.method!r}")
