"""Criterion 4, adapters: what LoRA is put on are layers that the pretrained model has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labgate.bundle import Bundle
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._architectures import Part, family_of, matched, parts_of, targeted
from labgate.finding import Answer, Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Call, ConfigRead, External, Flow, Known, Seq, Value, Walk, options, plain, sources
from labgate.flow.config import ListNode
from labgate.flow.events import evidence
from labgate.packages import Packages, wheels

_CONFIGS = ("peft.LoraConfig", "peft.AdaLoraConfig")
_PRETRAINED = re.compile(r"transformers\.(\w+)\.from_pretrained\(\)")


@dataclass(frozen=True)
class _Adapter:
    """One adapter and the model that it is put on, as far as reading tells."""

    config: Call
    put: Call
    targets: list[str] | str
    auto_class: str
    model_id: str
    loaded: Call
    walk: Walk


@check("model.complete-architectures", impact=Impact.BLOCKS)
def adapters_are_put_on_layers(bundle: Bundle, contract: Contract, flow: Flow, packages: Packages) -> Answers:
    """The `target_modules` of an adapter name layers that the pretrained model has.

    PEFT puts LoRA on linear, embedding and convolution layers. A name such as `output` that means a block in
    BERT's kin, or one that the architecture does not use at all, ends the run while the model is built.

    Bad:
        config = LoraConfig(target_modules=["query", "intermediate", "output"])
    Good:
        config = LoraConfig(target_modules=["query", "intermediate.dense", "output.dense"])
    """
    adapters = list(_adapters(flow))
    if not adapters:
        yield cannot_tell("no adapter with known targets is put on a model with a known id")
        return
    version = packages.version("transformers")
    if version is None:
        why = packages.problem or packages.conflict or "it is no requirement"
        yield cannot_tell(f"the version of transformers is not known: {why}", _put(bundle, adapters[0]))
        return
    wheel = wheels.fetch({"transformers": version})["transformers"]
    if wheel.problem:
        yield cannot_tell(f"transformers was not to be had: {wheel.problem}", _put(bundle, adapters[0]))
        return
    said: dict[tuple[object, ...], list[_Adapter]] = {}
    for adapter in adapters:
        key = (adapter.config.place, adapter.model_id, adapter.auto_class, repr(adapter.targets))
        said.setdefault(key, []).append(adapter)
    for same in said.values():
        yield _judged(bundle, contract, same, wheel.folder, version)


def _adapters(flow: Flow) -> Iterator[_Adapter]:
    """The adapters on all walks that are sure to be put on a pretrained model with a known id."""
    for walk in flow.training:
        for put in walk.of(Call):
            if not put.certain or put.path != "peft.get_peft_model":
                continue
            model, config = put.argument(0, "model"), put.argument(1, "peft_config")
            made = [found for found in sources(model) if _PRETRAINED.fullmatch(found.path)] if model else []
            if not isinstance(config, External) or config.call is None or config.call.path not in _CONFIGS:
                continue
            ids = {
                id(found.call): found
                for found in made
                if found.call is not None and "Config" not in found.path
            }
            targets = _targets(config.call.argument(None, "target_modules"))
            if targets is None or len(ids) != 1:
                continue
            loaded = next(iter(ids.values()))
            assert loaded.call is not None
            name = loaded.call.argument(0, "pretrained_model_name_or_path")
            match = _PRETRAINED.fullmatch(loaded.path)
            if isinstance(name, Known) and isinstance(name.value, str) and match:
                yield _Adapter(config.call, put, targets, match[1], name.value, loaded.call, walk)


def _targets(value: Value | None) -> list[str] | str | None:
    """The names, or one expression; None when they are not wholly known."""
    if isinstance(value, Seq | ListNode | Known):
        try:
            found = plain(value)
        except ValueError:
            return None
        if isinstance(found, str):
            return None if found == "all-linear" else found
        if isinstance(found, list | tuple) and found and all(isinstance(name, str) for name in found):
            return [str(name) for name in found]
    return None


def _judged(bundle: Bundle, contract: Contract, same: list[_Adapter], folder: Path, version: str) -> Answer:
    adapter = same[0]
    place = _put(bundle, adapter)
    family = family_of(adapter.model_id)
    if family is None:
        return cannot_tell(f"what {adapter.model_id} is built of is not in our table", place)
    parts = parts_of(folder, family, adapter.auto_class)
    if not parts:
        return cannot_tell(
            f"the modules of {adapter.model_id} could not be read from transformers {version}", place
        )
    hidden = [part for part in parts if not part.kind]
    try:
        hits = _hits(parts, adapter.targets)
    except re.error as error:
        return failed(f"target_modules is no regular expression: {error}", place, do="mend the expression")
    blocks = {name: [p for p in found if p.adaptable is False] for name, found in hits.items()}
    blocks = {name: found for name, found in blocks.items() if found}
    nowhere = [name for name, found in hits.items() if not found]
    places = [place, evidence(bundle, adapter.loaded.place, f"loads {adapter.model_id}")]
    places[1:1] = _told_where(bundle, contract, same, [*blocks, *nowhere])
    source = Evidence(f"transformers {version}", 0, f"models/{family}/modeling_{family}.py", "its modules")
    walks = ", ".join(dict.fromkeys(one.walk.run_id for one in same if one.walk.run_id))
    if blocks:
        named = "; ".join(
            f"{name!r} is a {found[0].kind} ({found[0].path})" for name, found in blocks.items()
        )
        return failed(
            f"LoRA is put on blocks of {adapter.model_id}, which PEFT refuses: {named} ({walks})",
            *places,
            source,
            do=_instead(parts, list(blocks)),
        )
    if len(nowhere) == len(hits) and not hidden:
        names = ", ".join(repr(name) for name in nowhere)
        return failed(
            f"{adapter.model_id} has no module called {names}, so PEFT finds nothing to adapt ({walks})",
            *places,
            source,
            do=f"name layers that it has: {', '.join(_layers(parts)[:8])}",
        )
    if nowhere and not hidden:
        names = ", ".join(repr(name) for name in nowhere)
        return remarked(
            f"{adapter.model_id} has no module called {names}; PEFT passes over it", *places, source
        )
    return passed(f"all target_modules are layers of {adapter.model_id}", place, source)


def _hits(parts: tuple[Part, ...], targets: list[str] | str) -> dict[str, list[Part]]:
    if isinstance(targets, str):
        return {targets: matched(parts, targets)}
    return {name: targeted(parts, name) for name in targets}


def _instead(parts: tuple[Part, ...], names: list[str]) -> str:
    """The layers inside the blocks that were named."""
    inner = [
        f"{name}.{part.path.rpartition('.')[2]}"
        for name in names
        for block in targeted(parts, name)
        for part in parts
        if part.adaptable and part.path.rpartition(".")[0] == block.path
    ]
    found = ", ".join(dict.fromkeys(inner))
    return f"name the layers inside: {found}" if found else f"name layers: {', '.join(_layers(parts)[:8])}"


def _layers(parts: tuple[Part, ...]) -> list[str]:
    names = [
        part.path.rpartition(".")[2]
        for part in parts
        if part.kind in ("Linear", "Conv1D") and "*" in part.path
    ]
    return list(dict.fromkeys(names))


def _put(bundle: Bundle, adapter: _Adapter) -> Evidence:
    """Where the targets are handed over: the argument's own line when it can be told."""
    place = adapter.config.place
    node = adapter.config.node
    line = (
        next((k.value.lineno for k in node.keywords if k.arg == "target_modules"), place.line)
        if node
        else place.line
    )
    return bundle.place(place.path, line, "names the modules to adapt")


def _told_where(bundle: Bundle, contract: Contract, same: list[_Adapter], names: list[str]) -> list[Evidence]:
    """The lines of the run configs that the targets come from."""
    found = {}
    for adapter in same:
        path = f"{contract.run_folder}/{adapter.walk.run_id}.yaml"
        for read in adapter.walk.of(ConfigRead):
            if path in bundle.files and any(_is(option, adapter.targets) for option in options(read.value)):
                line = bundle.key_line(path, *read.key.split("."))
                if line:
                    lines = bundle.files[path].lines[line:]
                    for offset, text in enumerate(lines[: len(adapter.targets) + 1], line + 1):
                        if text.strip().lstrip("- ").strip("'\"") in names:
                            found[path, offset] = bundle.place(path, offset, "such a name")
                    found.setdefault((path, line), bundle.place(path, line, "they come from here"))
    return list(found.values())[:6]


def _is(value: Value, targets: list[str] | str) -> bool:
    return isinstance(value, ListNode | Known) and _targets(value) == targets
