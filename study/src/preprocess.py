"""GLUE's single-sentence tasks: downloaded, checked, split, turned into token ids, put into batches.

Three parts come out. `fit` and `tune` are the two sides of a split of the published training data: the search
trains on the one and scores on the other. Everything that is reported trains on `train`, the whole of it, and is
scored on `validation`, the published one, which therefore nothing was tuned, stopped or selected by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from datasets import ClassLabel, Dataset, DatasetDict, load_dataset
from omegaconf import DictConfig
from transformers import AutoTokenizer, DataCollatorWithPadding, PreTrainedTokenizerBase

from src.main import BadInput

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
    """Everything that the run config names, or BadInput: nothing ever stands in for data that cannot be had."""
    raw = download(cfg)
    train = check_split(raw, cfg.dataset.split, cfg)
    validation = check_split(raw, cfg.dataset.eval_split, cfg)
    if cfg.dataset.train_examples is not None:
        train = train.shuffle(seed=cfg.dataset.split_seed).select(range(cfg.dataset.train_examples))
    class_names = names_of_classes(train, cfg)
    tokenizer = load_tokenizer(cfg)
    train = tokenize(train, tokenizer, cfg)
    validation = tokenize(validation, tokenizer, cfg)[: cfg.limits.eval_examples]
    # SST-2's rows are phrases of the same sentences, so `tune` has seen parts of `fit`: a fair ground for choosing
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
