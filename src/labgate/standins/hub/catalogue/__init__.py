"""What is known of real models and data sets: an entry is a few lines of TOML and says its source."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from labgate.standins.hub.schema import Column, SchemaError, columns
from labgate.standins.hub.tokenizer import TokenizerRecipe

Kind = Literal["models", "datasets"]


class CatalogueError(ValueError):
    """An entry that does not say what it must."""


@dataclass(frozen=True)
class Model:
    """A real model: its id, what its config.json says, and what stands beside that file."""

    id: str
    config: Mapping[str, Any]
    source: str
    tokenizer: TokenizerRecipe | None = None
    tokenizer_config: Mapping[str, Any] | None = None
    """What this model's tokenizer_config.json says otherwise than others with the same tokenizer."""
    weights: str = ""
    """The class that the checkpoint's keys are named by, where it is not the first of `architectures`."""
    files: Mapping[str, Any] | None = None
    """JSON files beside config.json, by name: preprocessor_config.json, generation_config.json."""
    gated: bool = False

    @property
    def architecture(self) -> str:
        """The class of transformers that the weights are saved from."""
        return self.weights or str(self.config["architectures"][0])

    @property
    def encoder(self) -> bool:
        """Whether it is one that classifiers are made of; such a twin is conditioned."""
        roles = self.tokenizer.roles if self.tokenizer is not None else {}
        return "cls" in roles and not self.config.get("is_encoder_decoder")


@dataclass(frozen=True)
class Table:
    """One configuration of a data set."""

    columns: Mapping[str, Column]
    splits: Mapping[str, int]
    """Split to the number of rows in the real one."""
    hidden: tuple[str, ...] = ()
    """Splits whose labels are withheld."""
    gaps: bool = False
    """Whether rows without a label stand among the others."""


@dataclass(frozen=True)
class Dataset:
    """A real data set: its id and its configurations, by name."""

    id: str
    tables: Mapping[str, Table]
    source: str
    gated: bool = False


@dataclass(frozen=True)
class Catalogue:
    """Entries by their full ids, and the other names under which they go."""

    models: Mapping[str, Model]
    datasets: Mapping[str, Dataset]
    names: Mapping[Kind, Mapping[str, str]]
    """Each name, in lower case, to the full id."""

    def model(self, name: str) -> Model | None:
        """The entry of that name."""
        return self.models.get(self.names["models"].get(name.lower(), ""))

    def dataset(self, name: str) -> Dataset | None:
        """The entry of that name."""
        return self.datasets.get(self.names["datasets"].get(name.lower(), ""))


@cache
def load() -> Catalogue:
    """The catalogue that comes with labgate. Raises CatalogueError."""
    models, datasets, tokenizers = _tables("models"), _tables("datasets"), _tables("tokenizers")
    recipes = {name: recipe(name, _like(name, tokenizers)) for name in tokenizers}
    return Catalogue(
        {name: model(name, _like(name, models), recipes) for name in models},
        {name: dataset(name, table) for name, table in datasets.items()},
        {"models": _names(models), "datasets": _names(datasets)},
    )


def model(name: str, table: Mapping[str, Any], recipes: Mapping[str, TokenizerRecipe]) -> Model:
    """An entry of `models.*.toml`. Raises CatalogueError."""
    known = {"also", "config", "files", "gated", "source", "tokenizer", "weights"}
    _check(name, table, known | {"tokenizer_config"}, required={"config", "source"})
    config = table["config"]
    if not config.get("model_type") or not config.get("architectures"):
        raise CatalogueError(f"{name}: config says no model_type or no architectures")
    try:
        tokenizer = recipes[table["tokenizer"]] if "tokenizer" in table else None
    except KeyError as error:
        raise CatalogueError(f"{name}: there is no tokenizer {error}") from None
    rest = {key: value for key, value in table.items() if key not in ("also", "tokenizer")}
    return Model(name, tokenizer=tokenizer, **rest)


def dataset(name: str, table: Mapping[str, Any]) -> Dataset:
    """An entry of `datasets.*.toml`: every table in it is a configuration. Raises CatalogueError."""
    tables = {key: value for key, value in table.items() if isinstance(value, dict)}
    rest = {key: value for key, value in table.items() if key not in tables}
    _check(name, rest, {"also", "source", "gated"}, required={"source"})
    if not tables:
        raise CatalogueError(f"{name}: there is no configuration")
    made = {}
    for config, value in tables.items():
        _check(
            f"{name} {config}", value, {"columns", "splits", "hidden", "gaps"}, required={"columns", "splits"}
        )
        if strange := set(value.get("hidden", ())) - set(value["splits"]):
            raise CatalogueError(f"{name} {config}: no split {sorted(strange)}")
        try:
            made[config] = Table(
                columns(value["columns"]),
                value["splits"],
                tuple(value.get("hidden", ())),
                value.get("gaps", False),
            )
        except SchemaError as error:
            raise CatalogueError(f"{name} {config}: {error}") from None
    rest.pop("also", None)
    return Dataset(name, made, **rest)


def recipe(name: str, table: Mapping[str, Any]) -> TokenizerRecipe:
    """An entry of `tokenizers.toml`. `range` names many specials at once. Raises CatalogueError."""
    known = {"kind", "length", "specials", "range", "roles", "config", "single", "pair", "lower", "files"}
    needed = {"kind", "length", "specials", "roles", "config", "source"}
    _check(name, table, known | needed | {"rstrip", "plain", "lacks"}, required=needed)
    specials = dict(table["specials"])
    for pattern, (first, last) in table.get("range", {}).items():
        step = 1 if first <= last else -1
        for place, number in enumerate(range(first, last + step, step)):
            specials[pattern.replace("{}", str(place))] = number
    rest: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in table.items()
        if key not in ("specials", "range", "source")
    }
    return TokenizerRecipe(specials=specials, **rest)


def _tables(kind: str) -> dict[str, dict[str, Any]]:
    """All entries of one kind, from every file whose name begins with it."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(resources.files(__package__).iterdir(), key=lambda one: one.name):
        if file.name.startswith(kind) and file.name.endswith(".toml"):
            for name, table in tomllib.loads(file.read_text(encoding="utf-8")).items():
                if name in found:
                    raise CatalogueError(f"{name} stands there twice")
                found[name] = table
    return found


def _like(name: str, tables: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """An entry with what it takes over from the one that it is `like`: all but its other names."""
    own = dict(tables[name])
    other = own.pop("like", None)
    if other is None:
        return own
    if other not in tables:
        raise CatalogueError(f"{name} is like {other}, which is not there")
    base = _like(other, tables)
    base.pop("also", None)
    for key, value in own.items():
        merged = {**base.get(key, {}), **value} if isinstance(value, dict) else value
        base[key] = merged
    return base


def _names(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    names: dict[str, str] = {}
    for name, table in tables.items():
        for one in (name, *table.get("also", ())):
            if names.setdefault(one.lower(), name) != name:
                raise CatalogueError(f"{one} is the name of two")
    return names


def _check(name: str, table: Mapping[str, Any], known: set[str], required: set[str]) -> None:
    if strange := set(table) - known:
        raise CatalogueError(f"{name}: nothing is called {sorted(strange)}")
    if missing := required - set(table):
        raise CatalogueError(f"{name}: {sorted(missing)} is missing")
