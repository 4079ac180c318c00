"""The config that was most plausibly meant where Hydra composes none, so that the rest can still be read."""

from __future__ import annotations

import ast
import copy
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from labgate.bundle import BrokenFileError, Bundle, Source
from labgate.bundle.syntax import walked
from labgate.compose.mains import HydraMain
from labgate.contract import Contract

_OF_TEXT = frozenset(dir(str))
"""`cfg.run.split` says that `cfg.run` is a word, not a mapping."""


@dataclass(frozen=True)
class Mended:
    """A config that Hydra did not compose. `how` says in a clause what it is made of."""

    tree: dict[Any, Any]
    how: str


def mended(
    bundle: Bundle,
    contract: Contract,
    main: HydraMain | None,
    run_id: str,
    run_path: str | None,
    overrides: tuple[str, ...],
) -> Mended | None:
    """config.yaml's own keys, the overrides and the run's file where the code looks for it.

    None when neither file holds a mapping. Never a ground to fail the composition itself.
    """
    path = _config_file(bundle, contract, main)
    own = _mapping(bundle, path) if path else None
    run = _mapping(bundle, run_path) if run_path else None
    if own is None and run is None:
        return None
    tree: dict[Any, Any] = copy.deepcopy(dict(own or {}))
    made = [f"the keys of {path}"] if own is not None else []
    places = [contract.run_key]
    folder = posixpath.dirname(path or contract.config_file)
    for group, package, option in _options(tree.pop("defaults", None)):
        file = posixpath.join(folder, group, f"{option}.yaml")
        found = _mapping(bundle, file) if file in bundle.files else None
        if posixpath.join(folder, group) == posixpath.dirname(run_path or "") or "${" in option:
            places.append(package)
        elif found is not None:
            _merge(_node(tree, package.split(".")), found)
            made.append(f"{file} under {package}")
    tree.pop("hydra", None)
    words = [word.lstrip("+").partition("=") for word in overrides if not word.startswith("~")]
    for key, _, text in words:
        if "." not in key:
            _set(tree, key, _value(text))
    made.append("the command's overrides")
    starts = [source for source in bundle.sources.values() if source.module != contract.evaluate_module]
    below = _package(bundle.text(run_path or "") or "")
    if run is not None and below is None and any(map(loads_configs, starts)):
        made.append(f"without {run_path}, which the code loads by itself")
    elif run is not None:
        if below is None:
            below = next((place for place in places if reads_below(starts, place)), None)
        _merge(_node(tree, below.split(".")) if below else tree, run)
        made.append(f"{run_path} {f'under {below}' if below else 'at the root'}")
    for key, _, text in words:
        if "." in key:  # what stands on the command line wins over the file
            _set(tree, key, _value(text))
    return Mended(tree, ", ".join(made))


def _package(text: str) -> str | None:
    """Where a group's file says that its keys belong: "" for the root, None where it does not say."""
    header = re.match(r"(?:\s*#[^\n]*\n)*?\s*#\s*@package[ \t]+([\w.]+)", text)
    if header is None or header[1] in ("_group_", "_name_"):
        return None
    return "" if header[1] == "_global_" else header[1].removeprefix("_global_.")


def reads_below(sources: Iterable[Source], key: str) -> bool:
    """Whether any source reads `cfg.<key>.<attribute>` or `cfg["key"]["item"]`, or does so by an alias."""
    for source in sources:
        if source.tree is None:
            continue
        imported = {
            alias.asname or alias.name.partition(".")[0]
            for node in walked(source.tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        also = {
            node.targets[0].id
            for node in walked(source.tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and _is_at(node.value, key, imported)
        }
        for node in walked(source.tree):
            if isinstance(node, ast.Attribute) and node.attr in _OF_TEXT:
                continue
            if isinstance(node, ast.Attribute | ast.Subscript) and (
                _is_at(node.value, key, imported)
                or (isinstance(node.value, ast.Name) and node.value.id in also)
            ):
                return True
    return False


def loads_configs(source: Source) -> bool:
    """Whether the source reads a config file by itself, past Hydra."""
    if source.tree is None:
        return False
    for node in walked(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            reads = (owner == "OmegaConf" and node.func.attr == "load") or (
                owner == "yaml" and node.func.attr in ("safe_load", "load", "full_load")
            )
            if reads and not _names(node, "config.yaml"):
                return True
    return False


def _names(call: ast.Call, name: str) -> bool:
    """Whether a literal in the call ends with `name`."""
    return any(
        isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(name)
        for node in walked(call)
    )


def _is_at(node: ast.expr, key: str, imported: set[str]) -> bool:
    """Whether `node` is `name.key` or `name["key"]` with a name that holds a config as far as one can see."""
    match node:
        case (
            ast.Attribute(attr=name, value=owner) | ast.Subscript(slice=ast.Constant(value=name), value=owner)
        ):
            if name != key:
                return False
        case _:
            return False
    if isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) and owner.value.id == "self":
        return owner.attr in ("cfg", "config", "conf")
    return isinstance(owner, ast.Name) and owner.id not in imported and owner.id != "self"


def _config_file(bundle: Bundle, contract: Contract, main: HydraMain | None) -> str | None:
    if main is not None and main.config_dir is not None and main.config_name:
        stem = posixpath.join(main.config_dir, main.config_name.removesuffix(".yaml"))
        for path in (f"{stem}.yaml", f"{stem}.yml"):
            if path in bundle.files:
                return path
    return contract.config_file if contract.config_file in bundle.files else None


def _mapping(bundle: Bundle, path: str) -> Mapping[Any, Any] | None:
    """The mapping in a file. A key that stands twice breaks it for Hydra; here the last one counts."""
    try:
        value = bundle.yaml(path)
    except BrokenFileError:
        text = bundle.text(path) or ""
        if len(text) > 1 << 16 or "&" in text:
            return None
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError):
            return None
    return value if isinstance(value, Mapping) else None


def _options(entries: object) -> Iterator[tuple[str, str, str]]:
    """The group, the package and the option of each entry of a defaults list that names them."""
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, Mapping) and len(entry) == 1:
            name, option = (str(part) for part in next(iter(entry.items())))
        elif isinstance(entry, str) and "/" in entry:
            name, _, option = entry.rpartition("/")
        else:
            continue
        group, _, package = name.removeprefix("optional ").removeprefix("override ").partition("@")
        if not group.startswith("hydra"):
            group = group.strip("/")
            yield group, package or group.replace("/", "."), option


def _node(tree: dict[Any, Any], keys: list[str]) -> dict[Any, Any]:
    for key in keys:
        inner = tree.get(key)
        if not isinstance(inner, dict):
            inner = tree[key] = {}
        tree = inner
    return tree


def _set(tree: dict[Any, Any], dotted: str, value: object) -> None:
    *keys, last = dotted.split(".")
    _node(tree, keys)[last] = value


def _merge(into: dict[Any, Any], other: Mapping[Any, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)


def _value(text: str) -> object:
    """The value of an override that is a plain word; the contract's commands have no others."""
    words: dict[str, object] = {"true": True, "false": False, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
