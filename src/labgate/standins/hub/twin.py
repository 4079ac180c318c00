"""What a twin consists of: the files of a repository, some written here, some made by the builder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from labgate.standins.hub import tokenizer, words
from labgate.standins.hub.builder import AbsentError
from labgate.standins.hub.catalogue import Dataset, Model, Table
from labgate.standins.hub.narrow import narrow
from labgate.standins.hub.schema import cards, features

MARK = "7e577e57"
"""Every revision of a twin begins so: "testtest", as near as hexadecimal digits come."""
MOST = 100_000
"""Rows of a split that are served; a longer one is cut."""
MOST_IMAGES = 2_000
"""Rows of a split with images of more than PIXELS that are served."""
PIXELS = 64 * 64

Make = Callable[[Mapping[str, object]], Mapping[str, Any]]
"""Has the experiment's interpreter do a job. Raises AbsentError and BuilderError."""


class Twin:
    """A repository to be made: text files, and jobs for the experiment's interpreter.

    What is costly to work out is worked out when it is asked for: a twin that is stored needs none of it.
    """

    kind: Literal["models", "datasets"]

    def __init__(self, entry: Model | Dataset, lacks: tuple[str, ...] = ()) -> None:
        self.id, self.gated = entry.id, entry.gated
        self._entry, self._lacks = entry, lacks

    @cached_property
    def recipe(self) -> str:
        """A digest of all that decides its content, apart from the libraries' versions."""
        return hashlib.sha256(f"{self.kind} {self._entry!r}".encode() + _makers()).hexdigest()

    @property
    def texts(self) -> Mapping[str, str]:
        """Files that are written here, by name."""
        raise NotImplementedError

    @property
    def jobs(self) -> Mapping[str, Mapping[str, object]]:
        """File to the job that makes it, but for the folder."""
        raise NotImplementedError

    def make(self, folder: Path, make: Make) -> list[str]:
        """Write every file into `folder`. Returns what could not be had and why, in words.

        Raises BuilderError. A job that says AbsentError leaves its file out: the experiment's own libraries
        could not read it either.
        """
        missing = [f"{file}: the real one has it, and a twin cannot" for file in self._lacks]
        for file, job in self.jobs.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                make({**job, "folder": str(folder), "path": str(path)})
            except AbsentError as error:
                missing.append(f"{file}: {error}")
        # After the library's own config.json and generation_config.json, which ours take the place of.
        for stray in folder.glob("*config.json"):
            stray.unlink()
        for file, text in self.texts.items():
            (folder / file).write_text(text, encoding="utf-8", newline="")
        return missing


class ModelTwin(Twin):
    """The twin of a model: its own tokenizer and classes, at a narrow width."""

    kind = "models"

    def __init__(self, model: Model) -> None:
        super().__init__(model, model.tokenizer.lacks if model.tokenizer is not None else ())
        self._model = model
        self._config = {**narrow(model.config), "twin_of": model.id}

    @property
    def texts(self) -> Mapping[str, str]:
        texts = {"config.json": _json(self._config), "README.md": _model_card(self._model)}
        for name, content in (self._model.files or {}).items():
            texts[name] = _json(content)
        if self._model.tokenizer is not None:
            texts.update(tokenizer.files(self._model.tokenizer, self._model.tokenizer_config or {}))
        return texts

    @property
    def jobs(self) -> Mapping[str, Mapping[str, object]]:
        job = {
            "what": "weights",
            "architecture": self._model.architecture,
            "config": self._config,
            "dtype": self._config.get("torch_dtype") or self._config.get("dtype") or "float32",
            "seed": int.from_bytes(hashlib.sha256(self.id.encode()).digest()[:4], "big"),
            "probe": _probe(self._model) if self._model.encoder else None,
        }
        return {"model.safetensors": job}


class DatasetTwin(Twin):
    """The twin of a data set: its own columns, made-up rows."""

    kind = "datasets"

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self._dataset = dataset

    @property
    def texts(self) -> Mapping[str, str]:
        return {"README.md": _dataset_card(self._dataset)}

    @property
    def jobs(self) -> Mapping[str, Mapping[str, object]]:
        jobs: dict[str, Mapping[str, object]] = {}
        for config, table in self._dataset.tables.items():
            for split in table.splits:
                jobs[path_of(config, split)] = {
                    "what": "tables",
                    "columns": {name: column.row for name, column in table.columns.items()},
                    "features": json.dumps({"info": {"features": features(table.columns)}}),
                    "rows": served(table, split),
                    "hidden": split in table.hidden,
                    "gaps": table.gaps,
                    "seed": f"{self.id} {config} {split}",
                    "look": self.id,
                    "words": words.COMMON,
                    "cues": words.CUES,
                }
        return jobs


def path_of(config: str, split: str) -> str:
    """Where the rows of a split stand in the repository."""
    return f"{config}/{split}-00000-of-00001.parquet"


def served(table: Table, split: str) -> int:
    """How many rows of the real number a twin has."""
    sizes = [
        column.row["width"] * column.row["height"]
        for column in table.columns.values()
        if column.row["is"] == "image"
    ]
    return min(table.splits[split], MOST_IMAGES if max(sizes, default=0) > PIXELS else MOST)


def _probe(model: Model) -> Mapping[str, object] | None:
    """Token ids that an encoder is conditioned with."""
    recipe = model.tokenizer
    if recipe is None:
        return None
    known = tokenizer.vocabulary(recipe)
    around = _around(recipe.single, recipe.specials)
    return {
        "cues": [[tokenizer.word_id(recipe, known, word) for word in group] for group in words.CUES],
        "words": [tokenizer.word_id(recipe, known, word) for word in words.COMMON],
        "open": around[0],
        "close": around[1],
    }


def _around(single: tuple[str, ...], specials: Mapping[str, int]) -> list[list[int]]:
    place = single.index("$A")
    return [
        [specials[token.partition(":")[0]] for token in side]
        for side in (single[:place], single[place + 1 :])
    ]


@cache
def _makers() -> bytes:
    """The code that makes twins: another recipe when it changes."""
    here = Path(__file__).parent
    written = [here / f"{name}.py" for name in ("narrow", "schema", "tokenizer", "twin", "words")]
    return b"".join(path.read_bytes() for path in (*written, *sorted((here / "making").glob("*.py"))))


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _model_card(model: Model) -> str:
    return (
        f"# A twin of {model.id}\n\n"
        "Random weights at a narrow width, for rehearsing code. Its scores say nothing of the real one.\n"
    )


def _dataset_card(dataset: Dataset) -> str:
    """A README whose front matter says what the datasets library asks. It is JSON, which is YAML as well."""
    front = {
        "configs": [
            {
                "config_name": config,
                "data_files": [{"split": split, "path": path_of(config, split)} for split in table.splits],
            }
            for config, table in dataset.tables.items()
        ],
        "dataset_info": list(_infos(dataset)),
    }
    return (
        f"---\n{json.dumps(front, indent=1, ensure_ascii=False)}\n---\n\n# A twin of {dataset.id}\n\n"
        "Made-up rows in the real columns, for rehearsing code. What is scored on them says nothing.\n"
    )


def _infos(dataset: Dataset) -> Iterator[dict[str, object]]:
    for config, table in dataset.tables.items():
        # The sizes in bytes are asked for and, by default, checked by nobody.
        yield {
            "config_name": config,
            "features": cards(table.columns),
            "splits": [
                {"name": split, "num_bytes": 0, "num_examples": served(table, split)}
                for split in table.splits
            ],
            "download_size": 0,
            "dataset_size": 0,
        }
