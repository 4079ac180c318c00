"""A W&B server for one machine, which unmodified clients take for the real one."""

from labgate.standins.wandb.standin import Wandb

__all__ = ["Wandb"]
