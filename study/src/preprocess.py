"""What is there before the first step: the task's data, and the encoder with adapters that keep to a budget.

The search trains on `fit` and scores on `tune`, the two sides of a split of the published training data. What
is reported trains on `train`, the whole of it, and is scored on `validation`, the published one: nothing was
tuned, stopped or selected by it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from datasets import ClassLabel, Dataset, DatasetDict, load_dataset
from omegaconf import DictConfig
from peft import AdaLoraConfig, LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from src.main import BadInput
from src.model import AdaLora, FisherPenalty, FisherWeightedLora, Lora, adapted_layers, factors

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Data:
    """Each part is a list of rows with input_ids, attention_mask and labels, kept in memory."""

    train: list[dict]
    fit: list[dict]
    tune: list[dict]
    validation: list[dict]
    class_names: list[str]
    collate: DataCollatorWithPadding


def load_data(cfg: DictConfig) -> Data:
    """All that the run config names, or BadInput: nothing ever stands in for data that cannot be had."""
    raw = download(cfg)
    train = check_split(raw, cfg.dataset.split, cfg)
    validation = check_split(raw, cfg.dataset.eval_split, cfg)
    if cfg.dataset.train_examples is not None:
        train = train.shuffle(seed=cfg.dataset.split_seed).select(range(cfg.dataset.train_examples))
    class_names = names_of_classes(train, cfg)
    tokenizer = load_tokenizer(cfg)
    train = tokenize(train, tokenizer, cfg)
    validation = tokenize(validation, tokenizer, cfg)[: cfg.limits.eval_examples]
    # SST-2's rows are phrases of the same sentences, so parts of `tune` stand in `fit`: good for choosing
    # between hyper-parameters, no estimate of how well they do.
    order = torch.randperm(
        len(train), generator=torch.Generator().manual_seed(cfg.dataset.split_seed)
    ).tolist()
    held_out = max(1, round(cfg.dataset.tuning_fraction * len(train)))
    return Data(
        train=train,
        fit=[train[index] for index in sorted(order[held_out:])],
        tune=[train[index] for index in sorted(order[:held_out])],
        validation=validation,
        class_names=class_names,
        collate=DataCollatorWithPadding(
            tokenizer, padding=cfg.dataset.padding, max_length=cfg.dataset.max_length
        ),
    )


def download(cfg: DictConfig) -> DatasetDict:
    try:
        return load_dataset(cfg.dataset.name, cfg.dataset.subset, cache_dir=cfg.cache_dir)
    except Exception as error:  # the hub's client, HTTP and the parsers each raise their own
        raise BadInput(f"cannot load {cfg.dataset.name} ({cfg.dataset.subset}): {error}") from error


def check_split(raw: DatasetDict, name: str, cfg: DictConfig) -> Dataset:
    """The split, once it is known to have the columns, rows and labels that a training needs."""
    if name not in raw:
        raise BadInput(f"{cfg.dataset.name} has no split {name!r}, only {', '.join(raw)}")
    split = raw[name]
    for column in (cfg.dataset.text_column, cfg.dataset.label_column):
        if column not in split.column_names:
            raise BadInput(f"{cfg.dataset.name}/{name} has no column {column!r}, only {split.column_names}")
    if len(split) == 0:
        raise BadInput(f"{cfg.dataset.name}/{name} is empty")
    labels = split.unique(cfg.dataset.label_column)
    if not all(isinstance(label, int) and label >= 0 for label in labels):
        raise BadInput(f"{cfg.dataset.name}/{name} has the labels {sorted(labels, key=str)}: some are hidden")
    if not all(isinstance(text, str) for text in split[cfg.dataset.text_column]):
        raise BadInput(f"{cfg.dataset.name}/{name}: {cfg.dataset.text_column!r} does not hold text alone")
    return split


def names_of_classes(train: Dataset, cfg: DictConfig) -> list[str]:
    """The names that the data set gives to its labels; their numbers where it gives none."""
    feature = train.features[cfg.dataset.label_column]
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    return [str(label) for label in range(max(train.unique(cfg.dataset.label_column)) + 1)]


def load_tokenizer(cfg: DictConfig) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(cfg.model.pretrained_id, cache_dir=cfg.cache_dir)
    except Exception as error:
        raise BadInput(f"cannot load the tokenizer of {cfg.model.pretrained_id}: {error}") from error


def tokenize(split: Dataset, tokenizer: PreTrainedTokenizerBase, cfg: DictConfig) -> list[dict]:
    """Token ids and labels alone: a text column would not fit into a tensor."""

    def encode(rows: dict[str, list]) -> dict[str, list]:
        encoded = tokenizer(
            rows[cfg.dataset.text_column],
            truncation=cfg.dataset.truncation,
            max_length=cfg.dataset.max_length,
        )
        return {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "labels": rows[cfg.dataset.label_column],
        }

    return list(split.map(encode, batched=True, remove_columns=split.column_names))


def batches(
    split: list[dict], collate: DataCollatorWithPadding, size: int, seed: int | None = None
) -> Iterator[Batch]:
    """The split once, in a random order of that seed, or in its own order."""
    order = range(len(split))
    if seed is not None:
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed)).tolist()
    for start in range(0, len(split), size):
        yield collate([split[index] for index in order[start : start + size]])


# Models under a budget


def spread(count: int, places: Sequence[int]) -> list[int]:
    """`count` of the places, evenly spaced."""
    return [places[(2 * i + 1) * len(places) // (2 * count)] for i in range(count)]


def even_ranks(budget: float, costs: Sequence[int], cap: int) -> list[int]:
    """Ranks (M) whose parameters approach the budget from below: alike, and one more for some.

    The parameters are sum r_m cost_m with cost_m = in + out. Who gets one more depends on depth and shape
    alone: of the choices within half a per cent of the best, the one that treats the shapes most alike.
    """
    base = min(int(budget // sum(costs)), cap)
    ranks = [base] * len(costs)
    left = budget - base * sum(costs)
    if base == cap:
        return ranks
    shapes = [[m for m, cost in enumerate(costs) if cost == shape] for shape in sorted(set(costs))]
    combinations: list[tuple[float, tuple[int, ...]]] = [(left, ())]
    for places in shapes:
        combinations = [
            (rest - n * costs[places[0]], (*counts, n))
            for rest, counts in combinations
            for n in range(len(places) + 1)
            if rest >= n * costs[places[0]]
        ]
    best = min(rest for rest, _ in combinations)
    near = [counts for rest, counts in combinations if rest <= best + 0.005 * budget]

    def unlike(counts: tuple[int, ...]) -> float:
        fractions = [n / len(places) for n, places in zip(counts, shapes, strict=True)]
        return max(fractions) - min(fractions)

    for count, places in zip(min(near, key=unlike), shapes, strict=True):
        for m in spread(count, places):
            ranks[m] += 1
    return ranks


def fisher_ranks(budget: float, costs: Sequence[int], cap: int, fisher: Sequence[float]) -> list[int]:
    """Ranks (M) in proportion to F: the next goes where F_m / (r_m + 1/2) is largest, while it fits.

    Webster's method; close to the largest-remainder allocation proposed for PEFT (huggingface/peft#3203).
    """
    ranks = [0] * len(costs)
    while True:
        fits = [m for m, cost in enumerate(costs) if ranks[m] < cap and cost <= budget]
        if not fits:
            return ranks
        m = max(fits, key=lambda m: fisher[m] / (ranks[m] + 0.5))
        ranks[m] += 1
        budget -= costs[m]


def load_pretrained(cfg: DictConfig, classes: int) -> PreTrainedModel:
    """The pretrained encoder with a new head, in float32: mixed precision is autocast's business."""
    try:
        return AutoModelForSequenceClassification.from_pretrained(
            cfg.model.pretrained_id, num_labels=classes, cache_dir=cfg.cache_dir, dtype=torch.float32
        )
    except Exception as error:  # the hub's client raises its own, HTTP's and the system's errors
        raise BadInput(f"cannot load the model {cfg.model.pretrained_id!r}: {error}") from error


def plan_ranks(
    model: PreTrainedModel, cfg: DictConfig, fisher: Sequence[float] | None = None
) -> tuple[dict[str, int], float]:
    """A rank for each layer that `target_modules` names, 0 included, and the budget in parameters.

    The budget is a share of the encoder as loaded, without the head. Each name is a pattern for the end of a
    layer's full name, as PEFT takes it; unlike PEFT, a name that hits nothing, or no Linear, is refused.
    """
    linears: dict[str, nn.Linear] = {}
    for target in cfg.model.lora.target_modules:
        hits = {n: m for n, m in model.named_modules() if re.fullmatch(rf"(.*\.)?({target})", n)}
        if not hits or not all(isinstance(module, nn.Linear) for module in hits.values()):
            raise BadInput(f"model.lora.target_modules: {target!r} names no Linear layers of the model")
        linears |= hits
    names = [name for name, _ in model.named_modules() if name in linears]  # by depth
    costs = [linears[name].in_features + linears[name].out_features for name in names]
    encoder = sum(parameter.numel() for parameter in model.base_model.parameters())
    budget = cfg.model.parameter_budget_percent / 100 * encoder
    if fisher is None:
        ranks = even_ranks(budget, costs, cfg.model.lora.rank)
    else:
        ranks = fisher_ranks(budget, costs, cfg.model.lora.rank, fisher)
    if not any(ranks):
        ranks[costs.index(min(costs))] = 1
    return dict(zip(names, ranks, strict=True)), budget


def with_lora(
    model: PreTrainedModel, cfg: DictConfig, total_steps: int, fisher: Sequence[float] | None
) -> PeftModel:
    """Every layer's scale is alpha / rank of the config, whatever its own rank, so lambda means the same."""
    ranks, _ = plan_ranks(model, cfg, fisher)
    ranks = {name: rank for name, rank in ranks.items() if rank}  # PEFT refuses rank 0
    scale = cfg.model.lora.alpha / cfg.model.lora.rank
    adapter = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        lora_dropout=cfg.model.lora.dropout,
        target_modules=list(ranks),
        rank_pattern={re.escape(name): rank for name, rank in ranks.items()},
        alpha_pattern={re.escape(name): scale * rank for name, rank in ranks.items()},
    )
    return get_peft_model(model, adapter)


def with_adalora(model: PreTrainedModel, cfg: DictConfig, total_steps: int, fisher: None = None) -> PeftModel:
    """AdaLoRA with a budget that need not be a whole rank per layer.

    PEFT counts ranks, and its `target_r` is whole; here the total is set on its allocator. It starts with
    `init_ratio` times as many ranks (12 for 8 by default) and always more than it ends with: PEFT fails else.
    """
    ranks, budget = plan_ranks(model, cfg)
    layers = dict(model.named_modules())
    costs = [
        layers[name].in_features + layers[name].out_features + 1 for name in ranks
    ]  # one entry of E more
    target = max(1, round(budget * len(costs) / sum(costs)))
    whole = max(1, target // len(costs))
    first = max(math.ceil(cfg.adalora.init_ratio * target / len(costs)), whole + 1)
    # The final allocation needs the scores of a step before it, or PEFT fails: a trial of two steps has just
    # that.
    final = max(0, min(round(cfg.adalora.tfinal_ratio * total_steps), total_steps - 2))
    adapter = AdaLoraConfig(
        task_type=TaskType.SEQ_CLS,
        init_r=first,
        target_r=whole,
        tinit=round(cfg.adalora.tinit_ratio * total_steps),
        tfinal=final,
        deltaT=cfg.adalora.delta_t,
        beta1=cfg.adalora.beta1,
        beta2=cfg.adalora.beta2,
        orth_reg_weight=cfg.adalora.orth_reg_weight,
        total_step=total_steps,
        lora_alpha=first * cfg.model.lora.alpha / cfg.model.lora.rank,  # AdaLoRA divides by its first rank
        lora_dropout=cfg.model.lora.dropout,
        target_modules=list(ranks),
    )
    adapted = get_peft_model(model, adapter)
    adapted.base_model.rankallocator.target_bgt = target
    return adapted


METHODS = {
    "baseline_lora": (with_lora, lambda model, cfg: Lora(model)),
    "baseline_adalora": (with_adalora, lambda model, cfg: AdaLora(model)),
    "proposed_fisher_ranks": (with_lora, lambda model, cfg: Lora(model)),
    "proposed_fw_lora": (
        with_lora,
        lambda model, cfg: FisherWeightedLora(model, FisherPenalty(**cfg.fw_lora)),
    ),
    "control_fw_lora": (
        with_lora,
        lambda model, cfg: FisherWeightedLora(model, FisherPenalty(**cfg.fw_lora)),
    ),
}


def build(
    cfg: DictConfig,
    classes: int,
    total_steps: int,
    device: torch.device,
    fisher: Sequence[float] | None = None,
) -> tuple[PeftModel, Lora]:
    """The adapted model on its device, and the method that trains it. New weights come from torch's seed."""
    if cfg.method not in METHODS:
        raise BadInput(f"there is no method {cfg.method!r}; there are {', '.join(METHODS)}")
    adapt, method = METHODS[cfg.method]
    model = adapt(load_pretrained(cfg, classes), cfg, total_steps, fisher).to(device)
    return model, method(model, cfg)


def count_parameters(model: PeftModel) -> dict[str, float]:
    """What is trained, what is left of it at the end, the head apart, and what percentages are of."""
    encoder = model.get_base_model().base_model
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    adapter = sum(count for name, count in trained.items() if "lora_" in name)
    left = 0
    for layer in adapted_layers(model).values():
        a, b, _ = factors(layer)
        cost = a.shape[1] + b.shape[0] + hasattr(layer, "lora_E")
        left += int((a != 0).any(dim=1).sum()) * cost  # AdaLoRA masks ranks; it does not remove them
    denominator = sum(
        p.numel() for n, p in encoder.named_parameters() if "lora_" not in n and "ranknum" not in n
    )
    return {
        "adapter_parameters_training": adapter,
        "adapter_parameters_final": left,
        "head_parameters": sum(trained.values()) - adapter,
        "encoder_parameters": denominator,
        "adapter_percent_training": 100 * adapter / denominator,
        "adapter_percent_final": 100 * left / denominator,
    }
