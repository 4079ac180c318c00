"""Residual network for 32x32 images and the sharpness-aware perturbation of the proposed method.

Sharpness-aware minimisation (SAM) replaces the gradient at w by the gradient at w + e(w), where
e(w) = rho * g / ||g||_2 points towards the steepest loss increase within a ball of radius rho.
The proposed method applies it only during the last `late_fraction` of the optimisation steps.
"""

from contextlib import contextmanager
from typing import Iterator, List, Tuple

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and an identity or 1x1 projection shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet-(6n+2): three stages of n residual blocks at 32, 16 and 8 pixels."""

    def __init__(self, depth: int, width: int, num_classes: int) -> None:
        super().__init__()
        if (depth - 2) % 6 != 0:
            raise ValueError(f"depth must be 6n+2, got {depth}")
        blocks = (depth - 2) // 6
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        channels = width
        stages: List[nn.Module] = []
        for stage in range(3):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(ResidualBlock(channels, width * 2**stage, stride))
                channels = width * 2**stage
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.stages(self.stem(x))
        return self.head(features.mean(dim=(2, 3)))


def build_model(cfg: DictConfig, num_classes: int) -> nn.Module:
    """Instantiate the architecture named in the run configuration."""
    if cfg.model.name != "cifar_resnet":
        raise ValueError(f"Unknown model: {cfg.model.name}")
    return CifarResNet(cfg.model.depth, cfg.model.width, num_classes)


# ---------------------------------------------------------------------------
# Sharpness-aware minimisation
# ---------------------------------------------------------------------------


class SharpnessAwarePerturbation:
    """Moves the weights to w + e(w) and back again."""

    def __init__(self, model: nn.Module, rho: float) -> None:
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.rho = rho
        self.moved: List[Tuple[nn.Parameter, torch.Tensor]] = []

    @torch.no_grad()
    def ascend(self) -> None:
        """Add e(w), computed from the gradients that are currently stored."""
        with_grad = [parameter for parameter in self.parameters if parameter.grad is not None]
        norm = torch.stack([parameter.grad.norm() for parameter in with_grad]).norm()
        for parameter in with_grad:
            original = parameter.detach().clone()
            parameter.add_(parameter.grad * (self.rho / (norm + 1e-12)))
            self.moved.append((parameter, original))

    @torch.no_grad()
    def restore(self) -> None:
        """Put the weights back exactly; the gradients of the perturbed point are kept."""
        for parameter, original in self.moved:
            parameter.copy_(original)
        self.moved.clear()


@contextmanager
def frozen_running_statistics(model: nn.Module) -> Iterator[None]:
    """Keep the perturbed forward pass from updating the batch normalisation statistics."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
