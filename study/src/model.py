"""Fisher-Weighted LoRA (FW-LoRA), and the LoRA and AdaLoRA that it is compared with, as they train.

Of M adapted layers, layer m has frozen weights W_m (out x in) and learns

    dW_m = s B_m A_m,    A_m: r_m x in,    B_m: out x r_m,    s = alpha / r.

For the first K optimizer steps the training is LoRA's, and the frozen weights' gradients are measured:

    F_m <- a F_m + (1 - a) ||dL_task/dW_m||_F^2,    F_m = 0 at first.

Then F is frozen, I_m = F_m / sum F, and the objective becomes

    L = L_task + l sum_m w_m ||dW_m||_F^2,    w_m = 1 - I_m.

The penalty needs neither dW_m nor autograd: with the r x r Gram matrices P = A A^T and Q = B^T B,

    ||B A||_F^2 = <P, Q>,    its gradient is 2 Q A for A and 2 B P for B.

Elsewhere: give `FisherWeightedLoraCallback(FisherPenalty())` to a `transformers.Trainer` whose model is a
plain PEFT LoRA model. The adapter stays an ordinary LoRA adapter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import TrainerCallback

ADAPTER = "default"


# Pure functions


def shrink_weights(fisher: Tensor, weighting: str = "share", order: Tensor | None = None) -> Tensor:
    """The penalty's weights w (M), from F (M). They sum to M - 1, so that one lambda means one strength.

    "share" is 1 - F / sum F, the method as stated; "inverse" is proportional to 1 / (1 + F / mean F), which
    tells the layers apart; "uniform" ignores F. `order` (M) shuffles F: a control for what F says of a layer.
    """
    if order is not None:
        fisher = fisher[order]
    if weighting == "share":
        return 1 - fisher / fisher.sum()
    if weighting == "inverse":
        raw = 1 / (1 + fisher / fisher.mean())
    elif weighting == "uniform":
        raw = torch.ones_like(fisher)
    else:
        raise ValueError(f"fw_lora.weighting is share, inverse or uniform, not {weighting!r}")
    return raw * (len(fisher) - 1) / raw.sum()


def add_penalty_gradients_(a: Sequence[nn.Parameter], b: Sequence[nn.Parameter], strength: Tensor) -> Tensor:
    """Adds the gradients of sum_m strength_m ||B_m A_m||_F^2 to those of a and b; returns the sum (0-dim).

    a: n parameters r x in; b: n parameters out x r, with gradients; strength: n x 1 x 1.
    """
    stacked_a, stacked_b = torch.stack(list(a)), torch.stack(list(b))
    p = torch.bmm(stacked_a, stacked_a.mT)
    q = torch.bmm(stacked_b.mT, stacked_b)
    strong_q = strength * q
    torch._foreach_add_([x.grad for x in a], list(torch.bmm(strong_q, stacked_a).unbind()), alpha=2)
    torch._foreach_add_([x.grad for x in b], list(torch.bmm(stacked_b, strength * p).unbind()), alpha=2)
    return (strong_q * p).sum()


def singular_values(a: Tensor, b: Tensor) -> Tensor:
    """Those of B A (r), from two thin QR decompositions and one r x r matrix. a: r x in; b: out x r."""
    right = torch.linalg.qr(a.mT.float(), mode="r").R
    left = torch.linalg.qr(b.float(), mode="r").R
    return torch.linalg.svdvals(left @ right.mT)


def effective_rank(values: Tensor) -> float:
    """exp of the entropy of the normalised singular values (Roy and Vetterli 2007); 0 for a zero matrix."""
    total = values.sum()
    if not total > 0:
        return 0.0
    share = values / total
    return math.exp(-torch.special.xlogy(share, share).sum().item())


# What a method does around an optimizer step


def adapted_layers(model: nn.Module) -> dict[str, LoraLayer]:
    """The layers that carry an adapter, by their name in the model before PEFT."""
    layers = {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
    if not layers:
        raise ValueError("the model has no LoRA layer: wrap it with get_peft_model first")
    return layers


def factors(layer: LoraLayer) -> tuple[Tensor, Tensor, float]:
    """A (r x in), B (out x r) and the scale of their product, whichever way the adapter keeps them."""
    a, b, scale = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER], layer.scaling[ADAPTER]
    if hasattr(layer, "lora_E"):  # AdaLoRA: B diag(E) A / r, and what PEFT calls scaling is alpha
        return a.detach() * layer.lora_E[ADAPTER].detach(), b.detach(), scale / layer.r[ADAPTER]
    return a.weight.detach(), b.weight.detach(), scale


class Lora:
    """Plain LoRA, and what a training loop asks of any method; the first three in the order of a step."""

    warmup_steps = 0

    def __init__(self, model: nn.Module) -> None:
        self.layers = adapted_layers(model)
        self.step = 0
        device = next(model.parameters()).device
        self.no_penalty = torch.zeros((), device=device)

    def start_step(self) -> None:
        """Before the forward pass."""
        self.measuring = False

    def finish_backward(self) -> Tensor:
        """After the backward pass, before clipping: adds the penalty's gradients and returns it (0-dim)."""
        return self.no_penalty

    def finish_step(self, learning_rate: float) -> None:
        """After optimizer.step(), before zero_grad()."""
        self.step += 1

    def importance(self) -> dict[str, float]:
        """A score for each layer, summing to 1; empty while there is none."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step = state["step"]


@dataclass(frozen=True)
class FisherPenalty:
    """Settings, by the names of the run configs' section `fw_lora`.

    `fisher_every` = q measures every q-th warm-up step and lets F fade by a^q, at a q-th of the cost.
    `decoupled` takes the penalty out of the loss and multiplies B_m by 1 - lr lambda w_m after each step:
    Adam does not rescale it, as with AdamW's decay. lambda is not comparable between the two.
    """

    lambda_fw: float = 1e-4
    warmup_steps: int = 500
    fisher_alpha: float = 0.98
    fisher_every: int = 1
    weighting: str = "share"
    shuffle_seed: int | None = None
    decoupled: bool = False

    def __post_init__(self) -> None:
        if self.lambda_fw < 0 or not 0 <= self.fisher_alpha < 1:
            raise ValueError("fw_lora needs lambda_fw >= 0 and 0 <= fisher_alpha < 1")
        if self.warmup_steps < 1 or self.fisher_every < 1:
            raise ValueError("fw_lora.warmup_steps and fw_lora.fisher_every are at least 1")
        shrink_weights(torch.ones(2), self.weighting)


class FisherWeightedLora(Lora):
    """The method of this file on a plain PEFT LoRA model, in one process.

    With gradient accumulation the squared norms of the micro-batches add up.
    """

    def __init__(self, model: nn.Module, settings: FisherPenalty) -> None:
        super().__init__(model)
        self.settings = settings
        self.warmup_steps = settings.warmup_steps
        self.frozen = [layer.get_base_layer().weight for layer in self.layers.values()]
        if not all(weight.is_floating_point() for weight in self.frozen):
            raise ValueError("the gradient of quantised weights cannot be measured")
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # Frozen weights' gradients are not reduced: each rank would shrink by importances of its own.
            raise ValueError("FW-LoRA runs in one process: F is not averaged over ranks")
        self.hooked: set[int] = set()
        self.fisher = torch.zeros(len(self.frozen), device=self.no_penalty.device)
        self.norms: list[list[Tensor]] = [[] for _ in self.frozen]
        self.weights: Tensor | None = None
        self.measuring = False

    def start_step(self) -> None:
        self.measuring = self.step < self.warmup_steps and self.step % self.settings.fisher_every == 0
        if self.measuring:
            for m, weight in enumerate(self.frozen):
                weight.requires_grad_(True)
                if m not in self.hooked:
                    weight.register_post_accumulate_grad_hook(lambda weight, m=m: self._measure(m, weight))
                    self.hooked.add(m)

    def _measure(self, m: int, weight: Tensor) -> None:
        """Takes the norm as soon as the gradient is there and drops it, so that no clipping ever sees it."""
        self.norms[m].append(torch.linalg.vector_norm(weight.grad, dtype=torch.float32))
        weight.grad = None

    @torch.no_grad()
    def finish_backward(self) -> Tensor:
        if self.measuring:
            fade = self.settings.fisher_alpha**self.settings.fisher_every
            norms = torch.stack([norm for found in self.norms for norm in found]).view(len(self.frozen), -1)
            self.fisher.mul_(fade).add_(norms.square().sum(dim=1), alpha=1 - fade)
            for weight, found in zip(self.frozen, self.norms, strict=True):
                weight.requires_grad_(False)
                found.clear()
        if self.weights is None or self.settings.decoupled:
            return self.no_penalty
        penalty = self.no_penalty
        for a, b, strength in self.groups:
            for parameter in (*a, *b):
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            penalty = penalty + add_penalty_gradients_(a, b, strength)
        return penalty

    @torch.no_grad()
    def finish_step(self, learning_rate: float) -> None:
        if self.weights is not None and self.settings.decoupled:
            factors = [1 - learning_rate * self.settings.lambda_fw * weight for weight in self.weight_list]
            torch._foreach_mul_(self.b, factors)
        self.step += 1
        if self.step == self.warmup_steps:
            self._freeze(self._weights())

    def _weights(self) -> Tensor:
        if not (torch.isfinite(self.fisher).all() and (self.fisher > 0).any()):
            raise FloatingPointError("the Fisher scores are not finite, or all zero")
        order = None
        if self.settings.shuffle_seed is not None:
            generator = torch.Generator().manual_seed(self.settings.shuffle_seed)
            order = torch.randperm(len(self.frozen), generator=generator).to(self.fisher.device)
        return shrink_weights(self.fisher, self.settings.weighting, order)

    def _freeze(self, weights: Tensor) -> None:
        """From here on the weights stand, on the host as well: no later step has to wait for the device."""
        self.weights, self.weight_list = weights, weights.tolist()
        layers = list(self.layers.values())
        self.b = [layer.lora_B[ADAPTER].weight for layer in layers]
        alike: dict[tuple[int, ...], list[int]] = {}
        for m, layer in enumerate(layers):
            alike.setdefault((*layer.lora_A[ADAPTER].weight.shape, self.b[m].shape[0]), []).append(m)
        self.groups = []
        for members in alike.values():
            scales = torch.tensor([layers[m].scaling[ADAPTER] ** 2 for m in members], device=weights.device)
            self.groups.append(
                (
                    [layers[m].lora_A[ADAPTER].weight for m in members],
                    [self.b[m] for m in members],
                    (self.settings.lambda_fw * weights[members] * scales).view(-1, 1, 1),
                )
            )

    def importance(self) -> dict[str, float]:
        total = self.fisher.sum()
        return dict(zip(self.layers, (self.fisher / total).tolist(), strict=True)) if total > 0 else {}

    def state_dict(self) -> dict[str, Any]:
        state = {"step": self.step, "names": list(self.layers), "fisher": self.fisher.cpu()}
        return state | {"weights": None if self.weights is None else self.weights.cpu()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["names"] != list(self.layers):
            raise ValueError("these importances belong to a model with other adapted layers")
        self.step = state["step"]
        self.fisher.copy_(state["fisher"])
        if state["weights"] is not None:
            self._freeze(state["weights"].to(self.fisher.device))


class AdaLora(Lora):
    """PEFT's AdaLoRA. Its orthogonality term stands in `outputs.loss`: a loss made of logits lacks it."""

    def __init__(self, model: PeftModel) -> None:
        super().__init__(model)
        self.allocation = model.base_model
        self.config: AdaLoraConfig = model.peft_config[ADAPTER]

    def finish_step(self, learning_rate: float) -> None:
        self.step += 1
        self.allocation.update_and_allocate(
            self.step
        )  # counted from 1, the last step is the final allocation

    def importance(self) -> dict[str, float]:
        """The share of the ranks that a layer still has."""
        kept = {name: int((layer.lora_E[ADAPTER] != 0).sum()) for name, layer in self.layers.items()}
        total = sum(kept.values())
        return {name: count / total for name, count in kept.items()} if total else {}

    def state_dict(self) -> dict[str, Any]:
        """With the averages that decide over ranks, which PEFT does not save."""
        allocator = self.allocation.rankallocator
        averages = {name: dict(getattr(allocator, name)) for name in ("ipt", "exp_avg_ipt", "exp_avg_unc")}
        return {"step": self.step, "rank_pattern": self.config.rank_pattern, **averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step, self.config.rank_pattern = state["step"], state["rank_pattern"]
        for name in ("ipt", "exp_avg_ipt", "exp_avg_unc"):
            setattr(self.allocation.rankallocator, name, dict(state[name]))


# For transformers.Trainer


class FisherWeightedLoraCallback(TrainerCallback):
    """FW-LoRA for `transformers.Trainer`; its state is saved with each checkpoint and read on resuming.

    The Trainer clips before it calls us: the penalty's gradient is not clipped. In this study's loop it is.
    """

    FILE = "fisher_weighted_lora.pt"

    def __init__(self, settings: FisherPenalty) -> None:
        self.settings = settings

    def on_train_begin(self, args, state, control, model=None, **kwargs) -> None:
        if args.fp16:
            raise ValueError("FW-LoRA needs bf16 or float32: fp16's changing loss scale would scale F")
        self.method = FisherWeightedLora(model, self.settings)
        if state.global_step:
            folder = Path(args.resume_from_checkpoint or self._folder(args, state))
            self.method.load_state_dict(torch.load(folder / self.FILE, weights_only=True))

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.method.start_step()

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.method.finish_backward()

    def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs) -> None:
        self.method.finish_step(optimizer.param_groups[0]["lr"])

    def on_save(self, args, state, control, **kwargs) -> None:
        torch.save(self.method.state_dict(), self._folder(args, state) / self.FILE)

    def _folder(self, args, state) -> Path:
        return Path(args.output_dir) / f"checkpoint-{state.global_step}"
