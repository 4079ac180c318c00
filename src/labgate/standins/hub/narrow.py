"""A real model's config.json at a narrow width: each layer, label, position and token stays.

Module names, and so what LoRA, hooks and layer indices find, depend on none of what is changed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WIDTH, INNER, HEAD = 32, 64, 8
STAGE = 16
"""Channels of the first stage of a network whose stages widen; the others are in proportion."""

_WIDTH = ("hidden_size", "dim", "n_embd", "d_model")
_INNER = (
    "intermediate_size",
    "hidden_dim",
    "n_inner",
    "ffn_dim",
    "d_ff",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
)
_HEADS = (
    "num_attention_heads",
    "n_heads",
    "n_head",
    "num_heads",
    "encoder_attention_heads",
    "decoder_attention_heads",
)
_ALONGSIDE = ("embedding_size", "word_embed_proj_dim", "projection_dim")
"""Widths beside the main one: equal to it where they are in the real model, else half of it, so that whatever
projects between the two is there."""


def narrow(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with small widths. Ratios that change the modules, such as grouped queries, are kept."""
    small = dict(config)
    real = next((config[name] for name in _WIDTH if isinstance(config.get(name), int)), None)
    for name in _WIDTH:
        if isinstance(config.get(name), int):
            small[name] = WIDTH
    for name in _INNER:
        if isinstance(config.get(name), int):
            small[name] = INNER
    for name in _ALONGSIDE:
        if isinstance(config.get(name), int):
            small[name] = WIDTH if real in (None, config[name]) else WIDTH // 2
    small.update(_heads(config))
    small.update(_stages(config))
    for name, value in config.items():
        if name in ("text_config", "vision_config") and isinstance(value, dict):
            small[name] = narrow(value)
    return small


def _heads(config: Mapping[str, Any]) -> dict[str, Any]:
    small: dict[str, Any] = {}
    for name in _HEADS:
        heads = config.get(name)
        if not isinstance(heads, int):
            continue
        small[name] = WIDTH // HEAD
        shared = config.get("num_key_value_heads")
        if isinstance(shared, int):
            small["num_key_value_heads"] = max(1, small[name] * shared // heads)
    for name in ("head_dim", "d_kv"):
        if isinstance(config.get(name), int):
            small[name] = HEAD
    return small


def _stages(config: Mapping[str, Any]) -> dict[str, Any]:
    """Convolutional networks and Swin, whose width grows from stage to stage."""
    small: dict[str, Any] = {}
    sizes = config.get("hidden_sizes")
    if isinstance(sizes, list):
        small["hidden_sizes"] = [size * STAGE // sizes[0] for size in sizes]
        if isinstance(config.get("embedding_size"), int):
            # In proportion as well: whether the first stage needs a shortcut's projection hangs on it.
            small["embedding_size"] = config["embedding_size"] * STAGE // sizes[0]
    heads = config.get("num_heads")
    if isinstance(heads, list) and isinstance(config.get("embed_dim"), int):
        small["embed_dim"] = HEAD * heads[0]
    return small
