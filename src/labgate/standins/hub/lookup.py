"""Ids that are not in the catalogue, looked up at a real hub: configs and schemas, never weights or data."""

from __future__ import annotations

import json
import re
import threading
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from labgate.standins.hub.catalogue import CatalogueError, Dataset, Model, dataset
from labgate.standins.hub.tokenizer import SPACE, Kind, TokenizerRecipe

MODEL_FILES = (
    "config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "generation_config.json",
    "preprocessor_config.json",
)
SERVED = ("generation_config.json", "preprocessor_config.json")
"""What a twin has word for word."""
LARGEST = 64 << 20
"""Bytes of a file that are read."""
PATIENCE = 20.0
ROLES = ("unk", "bos", "eos", "pad", "cls", "sep", "mask")


class UnknownError(ValueError):
    """Something in a real repository that has no twin here."""


class Lookup:
    """Asks `upstream`, the address of a hub, and keeps what it said in `folder`; safe among threads."""

    def __init__(self, upstream: str, folder: Path) -> None:
        self._upstream, self._folder = upstream.rstrip("/"), folder
        self._lock = threading.Lock()
        self._found: dict[str, Model | Dataset | None] = {}

    def model(self, name: str) -> Model | None:
        """The model of that name, or None where it is not to be had or has something we know no twin of."""
        with self._lock:
            if name not in self._found:
                self._found[name] = self._understood(name, MODEL_FILES, _model)
            found = self._found[name]
        return found if isinstance(found, Model) else None

    def dataset(self, name: str) -> Dataset | None:
        """The data set of that name, or None."""
        key = f"datasets/{name}"
        with self._lock:
            if key not in self._found:
                self._found[key] = self._understood(key, ("README.md",), _dataset)
            found = self._found[key]
        return found if isinstance(found, Dataset) else None

    def _understood(self, name: str, files: Sequence[str], read: Any) -> Model | Dataset | None:
        if not re.fullmatch(r"(datasets/)?[\w.-]+(/[\w.-]+)?", name):
            return None
        texts = self._texts(name, files)
        if not texts:
            return None
        try:
            found: Model | Dataset = read(name.removeprefix("datasets/"), texts)
        except (UnknownError, CatalogueError, KeyError, TypeError, AttributeError, ValueError):
            return None  # whatever stands there, it is nothing that we can make a twin of
        return found

    def _texts(self, name: str, files: Sequence[str]) -> dict[str, str]:
        """File to text, of those that are there; from the folder if they were asked for before."""
        kept = self._folder / f"{name.replace('/', '--')}.json"
        try:
            texts: dict[str, str] = json.loads(kept.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            texts = {}
            for file in files:
                text = self._get(f"{name}/resolve/main/{file}")
                if text is not None:
                    texts[file] = text
                elif file == files[0]:
                    return {}  # the one without which nothing is known
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(texts), encoding="utf-8")
        return texts

    def _get(self, path: str) -> str | None:
        address = f"{self._upstream}/{urllib.parse.quote(path)}"
        request = urllib.request.Request(address, headers={"User-Agent": "labgate"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                content: bytes = answer.read(LARGEST + 1)
        except (OSError, ValueError):  # HTTPError is an OSError
            return None
        return content.decode("utf-8", "replace") if len(content) <= LARGEST else None


def _model(name: str, texts: Mapping[str, str]) -> Model:
    config = json.loads(texts["config.json"])
    if not config.get("architectures") or not config.get("model_type"):
        raise UnknownError(f"{name} says no architecture")
    config.pop("auto_map", None)  # code that stands in its repository is not served
    recipe = None
    if "tokenizer.json" in texts:
        recipe = tokenizer_recipe(
            json.loads(texts["tokenizer.json"]), json.loads(texts.get("tokenizer_config.json", "{}"))
        )
    elif "tokenizer_config.json" in texts:
        raise UnknownError("a tokenizer without tokenizer.json")
    files = {file: json.loads(texts[file]) for file in SERVED if file in texts}
    return Model(name, config, "looked up", tokenizer=recipe, files=files)


def tokenizer_recipe(fast: Mapping[str, Any], config: Mapping[str, Any]) -> TokenizerRecipe:
    """What must be known of a real tokenizer, from its tokenizer.json and tokenizer_config.json.

    Raises UnknownError where ours cannot be like it.
    """
    model = fast["model"]
    added = {token["content"]: token for token in fast["added_tokens"]}
    specials = {content: int(token["id"]) for content, token in added.items()}
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):
        ids = range(len(vocabulary))
        if model.get("unk_id") is not None:
            specials.setdefault(vocabulary[model["unk_id"]][0], model["unk_id"])
    else:
        ids = vocabulary.values()
        if model.get("unk_token") in vocabulary:
            specials.setdefault(model["unk_token"], vocabulary[model["unk_token"]])
    roles: dict[str, str] = {}
    for role in ROLES:
        token = config.get(f"{role}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str) and token in specials:
            roles[role] = token
    if model["type"] in ("Unigram", "WordPiece") and "unk" not in roles:
        raise UnknownError("no unknown token")
    single, pair = _templates(fast.get("post_processor"))
    return TokenizerRecipe(
        kind=_kind(fast),
        length=max([*ids, *specials.values()]) + 1,
        specials=specials,
        roles=roles,
        config={
            key: value
            for key, value in config.items()
            if key.removesuffix("_token") not in ROLES and key != "auto_map"
        },
        single=single,
        pair=pair,
        lower='"lowercase": true' in json.dumps(fast.get("normalizer")),
        rstrip=tuple(content for content, token in added.items() if token.get("lstrip")),
        plain=tuple(content for content, token in added.items() if not token.get("special")),
    )


def _kind(fast: Mapping[str, Any]) -> Kind:
    model = fast["model"]
    kinds = {"WordPiece": "wordpiece", "Unigram": "unigram"}
    if model["type"] in kinds:
        return kinds[model["type"]]
    if (
        model["type"] == "BPE"
        and model.get("byte_fallback")
        and SPACE in json.dumps(fast, ensure_ascii=False)
    ):
        return "fallback"
    if model["type"] == "BPE" and '"ByteLevel"' in json.dumps(fast.get("pre_tokenizer")):
        return "bytes"
    raise UnknownError(f"a tokenizer of type {model['type']}")


def _templates(processor: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """How one text and two are wrapped, in the catalogue's notation."""
    if processor is None or processor["type"] == "ByteLevel":
        return ("$A",), ("$A", "$B")
    if processor["type"] == "Sequence":
        parts = [part for part in processor["processors"] if part["type"] != "ByteLevel"]
        return _templates(parts[0] if len(parts) == 1 else None)
    if processor["type"] in ("BertProcessing", "RobertaProcessing"):
        start, end = processor["cls"][0], processor["sep"][0]
        if processor["type"] == "BertProcessing":
            return (start, "$A", end), (start, "$A", end, "$B:1", f"{end}:1")
        return (start, "$A", end), (start, "$A", end, end, "$B", end)
    if processor["type"] != "TemplateProcessing":
        raise UnknownError(f"a post-processor of type {processor['type']}")
    return _wrapped(processor["single"]), _wrapped(processor["pair"])


def _wrapped(template: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    pieces = []
    for piece in template:
        ((what, about),) = piece.items()
        name = f"${about['id']}" if what == "Sequence" else about["id"]
        pieces.append(f"{name}:{about['type_id']}" if about["type_id"] else name)
    return tuple(pieces)


def _dataset(name: str, texts: Mapping[str, str]) -> Dataset:
    front = re.match(r"---\s*\n(.*?)\n---", texts["README.md"], re.DOTALL)
    if front is None:
        raise UnknownError("a README without front matter")
    infos = yaml.safe_load(front[1])["dataset_info"]
    table: dict[str, Any] = {"source": "looked up"}
    for info in infos if isinstance(infos, list) else [infos]:
        table[info.get("config_name", "default")] = {
            "splits": {split["name"]: int(split["num_examples"]) for split in info["splits"]},
            "columns": {column["name"]: _written(column) for column in info["features"]},
        }
    return dataset(name, table)


def _written(card: Mapping[str, Any]) -> Any:
    """A column of a README's `dataset_info` as the catalogue would write it."""
    if "sequence" in card or "list" in card:
        item = card.get("sequence", card.get("list"))
        if isinstance(item, list):
            if {field["name"] for field in item} == {"text", "answer_start"}:
                raise UnknownError("answers that stand in some column")
            return {"sequence": {field["name"]: _written(field) for field in item}, "length": 3}
        if isinstance(item, Mapping) and not set(item) & {"sequence", "list", "struct", "dtype"}:
            item = {"dtype": item}
        return {"sequence": _written(item if isinstance(item, Mapping) else {"dtype": item}), "length": 3}
    if "struct" in card:
        return {"struct": {field["name"]: _written(field) for field in card["struct"]}}
    dtype = card["dtype"]
    if isinstance(dtype, Mapping) and "class_label" in dtype:
        names = dtype["class_label"]["names"]
        return [str(names[key]) for key in sorted(names, key=int)] if isinstance(names, dict) else names
    if isinstance(dtype, Mapping) and "translation" in dtype:
        return "translation " + " ".join(dtype["translation"]["languages"])
    if dtype in ("string", "large_string"):
        return "text"
    if dtype == "image":
        return "image 64x64"
    if dtype in ("float32", "float64"):
        return f"{dtype} 0..5"
    return dtype  # numbers and truths go by their own names; the rest is refused by the schema
