"""Text classification data: download, honest splits, batches."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from datasets import ClassLabel, Dataset, DatasetDict, load_dataset
from omegaconf import DictConfig
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

Batch = dict[str, torch.Tensor]


class DataError(RuntimeError):
    """The data cannot be had, or are not what the run config says."""


@dataclass(frozen=True)
class Splits:
    """`validation` is cut out of the published training split; `test` is the published test split."""

    train: Dataset
    validation: Dataset
    test: Dataset
    class_names: list[str]
    collate: Callable[[list[dict]], Batch]


def load_splits(cfg: DictConfig) -> Splits:
    """Downloads what the run config names and checks it. Nothing stands in for data that are not there."""
    raw = _download(cfg)
    for name in ("train", "test"):
        _check_split(raw, name, cfg)
    label = raw["train"].features[cfg.dataset.label_column]

    held_out = raw["train"].train_test_split(
        test_size=cfg.dataset.validation_fraction,
        seed=cfg.dataset.split_seed,
        stratify_by_column=cfg.dataset.label_column,
    )
    return Splits(
        train=held_out["train"],
        validation=_first(held_out["test"], cfg.limits.eval_examples),
        test=_first(raw["test"], cfg.limits.eval_examples),
        class_names=list(label.names),
        collate=Collator(cfg),
    )


def make_loader(
    dataset: Dataset, splits: Splits, batch_size: int, shuffle_seed: int | None = None
) -> DataLoader:
    """Batches of a split: in a seeded random order when a seed is given, else in the split's own order."""
    if shuffle_seed is None:
        return DataLoader(dataset, batch_size=batch_size, collate_fn=splits.collate)
    generator = torch.Generator().manual_seed(shuffle_seed)
    return DataLoader(
        dataset, batch_size=batch_size, shuffle=True, generator=generator, collate_fn=splits.collate
    )


class Collator:
    """Tokenises the texts of a batch and pads them to the longest."""

    def __init__(self, cfg: DictConfig) -> None:
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(cfg.model.name, cache_dir=cfg.cache_dir)
        except (OSError, ValueError) as error:
            raise DataError(f"no tokenizer for {cfg.model.name!r}: {error}") from error
        self.text_column = cfg.dataset.text_column
        self.label_column = cfg.dataset.label_column
        self.max_length = cfg.dataset.max_length

    def __call__(self, rows: list[dict]) -> Batch:
        encoded = self.tokenizer(
            [row[self.text_column] for row in rows],
            truncation=True,
            max_length=self.max_length,
            padding=True,
            return_tensors="pt",
        )
        labels = torch.tensor([row[self.label_column] for row in rows], dtype=torch.long)
        return {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "labels": labels,
        }


def _download(cfg: DictConfig) -> DatasetDict:
    try:
        return load_dataset(cfg.dataset.name, cache_dir=cfg.cache_dir)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot load the data set {cfg.dataset.name!r}: {error}") from error


def _check_split(raw: DatasetDict, name: str, cfg: DictConfig) -> None:
    if name not in raw:
        raise DataError(f"{cfg.dataset.name} has no split {name!r}, only {', '.join(raw)}")
    split = raw[name]
    for column in (cfg.dataset.text_column, cfg.dataset.label_column):
        if column not in split.column_names:
            raise DataError(f"{cfg.dataset.name}/{name} has no column {column!r}, only {split.column_names}")
    label = split.features[cfg.dataset.label_column]
    if not isinstance(label, ClassLabel):
        raise DataError(f"{cfg.dataset.name}/{name}: {cfg.dataset.label_column!r} holds {label}, not classes")
    if len(split) == 0:
        raise DataError(f"{cfg.dataset.name}/{name} is empty")
    found = set(split[cfg.dataset.label_column])
    if not found <= set(range(label.num_classes)):
        raise DataError(f"{cfg.dataset.name}/{name} has labels outside its classes: {sorted(found)}")


def _first(split: Dataset, limit: int | None) -> Dataset:
    return split if limit is None else split.select(range(min(limit, len(split))))
