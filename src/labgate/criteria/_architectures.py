"""What the modules of a pretrained model are called, read from the transformers that resolves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from labgate.bundle.syntax import walked

FAMILIES: Mapping[str, str] = {
    r"(FacebookAI/)?roberta-(base|large)|(distilbert/)?distilroberta-base": "roberta",
    r"(FacebookAI/)?xlm-roberta-(base|large)": "xlm_roberta",
    r"(google-bert/)?bert-(base|large)-(un)?cased|prajjwal1/bert-(tiny|mini|small|medium)": "bert",
    r"(distilbert/)?distilbert-base-(un)?cased": "distilbert",
    r"(albert/)?albert-(base|large|xlarge|xxlarge)-v[12]": "albert",
    r"google/electra-(small|base|large)-(discriminator|generator)": "electra",
    r"microsoft/deberta-v3-(xsmall|small|base|large)|microsoft/mdeberta-v3-base": "deberta_v2",
    r"microsoft/deberta-(base|large)": "deberta",
    r"(openai-community/)?gpt2(-medium|-large|-xl)?|(distilbert/)?distilgpt2": "gpt2",
    r"facebook/opt-(125m|350m|1\.3b|2\.7b|6\.7b|13b|30b|66b)": "opt",
    r"(google-t5/)?t5-(small|base|large|3b|11b)|google/(flan-t5|t5-v1_1)-(small|base|large|xl|xxl)": "t5",
    r"facebook/bart-(base|large)": "bart",
    r"meta-llama/(Llama-2-\d+b(-chat)?-hf|(Meta-)?Llama-3(\.\d)?-\d+B(-Instruct)?)|TinyLlama/TinyLlama-1\.1B-\S+"
    r"|HuggingFaceTB/SmolLM2?-\d+(\.\d+)?[MB](-Instruct)?": "llama",
    r"mistralai/Mistral-7B-(Instruct-)?v0\.\d": "mistral",
    r"Qwen/Qwen2(\.5)?-(\d+(\.\d+)?)B(-Instruct)?": "qwen2",
    r"Qwen/Qwen3-(0\.6|1\.7|4|8|14|32)B(-Base)?": "qwen3",
    r"EleutherAI/pythia-\d+(\.\d+)?[mb](-deduped)?": "gpt_neox",
    r"EleutherAI/gpt-neo-\d+(\.\d+)?[MB]": "gpt_neo",
    r"microsoft/phi-(1|1_5|2)": "phi",
    r"bigscience/bloomz?(-\d+[mb]\d?)?": "bloom",
    r"google/vit-(base|large|huge)-patch\d+-\d+(-in21k)?": "vit",
}
"""Ids of the Hub, as whole expressions, and the folder of transformers that has their modules."""

TASKS = {
    "AutoModelForSequenceClassification": ("ForSequenceClassification",),
    "AutoModelForTokenClassification": ("ForTokenClassification",),
    "AutoModelForCausalLM": ("ForCausalLM", "LMHeadModel"),
    "AutoModelForSeq2SeqLM": ("ForConditionalGeneration",),
    "AutoModelForMaskedLM": ("ForMaskedLM",),
    "AutoModelForImageClassification": ("ForImageClassification",),
    "AutoModel": ("Model",),
}
ADAPTABLE = {"Linear", "Embedding", "Conv1d", "Conv2d", "Conv3d", "Conv1D", "MultiheadAttention"}
"""Modules that PEFT puts a LoRA adapter on."""
DEEPEST = 12


@dataclass(frozen=True)
class Part:
    """A module: its dotted path with `*` for an index, and its class; "" when that cannot be read."""

    path: str
    kind: str

    @property
    def adaptable(self) -> bool | None:
        return (self.kind in ADAPTABLE) if self.kind else None


def family_of(model_id: str) -> str | None:
    """The folder of transformers that has the model of that id; None when the table does not tell."""
    return next((family for ids, family in FAMILIES.items() if re.fullmatch(ids, model_id)), None)


@cache
def parts_of(transformers: Path, family: str, auto_class: str) -> tuple[Part, ...]:
    """All modules of the family's model for a task, below the unpacked package; () when it cannot be read."""
    path = transformers / "transformers" / "models" / family / f"modeling_{family}.py"
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ()
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    endings = TASKS.get(auto_class, (auto_class,))
    tops = [name for name in classes if name.endswith(endings) and not name.endswith("PreTrainedModel")]
    top = min(tops, key=len, default=None)
    if top is None:
        return ()
    tables = {
        target.id: [value.id for value in node.value.values if isinstance(value, ast.Name)]
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return tuple(dict.fromkeys(_expanded(top, "", classes, tables, DEEPEST)))


def _expanded(
    name: str, prefix: str, classes: dict[str, ast.ClassDef], tables: dict[str, list[str]], depth: int
) -> Iterator[Part]:
    for attribute, kind in _attributes(name, classes, tables, set()):
        path = f"{prefix}{attribute}"
        yield Part(path, kind)
        if kind in classes and depth:
            yield from _expanded(kind, f"{path}.", classes, tables, depth - 1)


def _attributes(
    name: str, classes: dict[str, ast.ClassDef], tables: dict[str, list[str]], seen: set[str]
) -> Iterator[tuple[str, str]]:
    """The modules that a class makes itself, those of its bases first: (attribute, class)."""
    if name in seen or name not in classes:
        return
    seen.add(name)
    for base in classes[name].bases:
        if isinstance(base, ast.Name):
            yield from _attributes(base.id, classes, tables, seen)
    aliases = dict(tables)
    for node in walked(classes[name]):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            chosen = [
                part.id for part in walked(node.value) if isinstance(part, ast.Name) and part.id in classes
            ]
            if isinstance(node.value, ast.IfExp | ast.Name) and chosen:
                aliases[node.targets[0].id] = chosen
    for node in walked(classes[name]):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if own := _own(target):
                    yield from ((own + suffix, kind) for suffix, kind in _made(node.value, classes, aliases))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            own = _own(node.func.value) if node.func.attr == "append" else ""
            if own:
                made = _made(node.args[0], classes, aliases)
                yield from ((f"{own}.*{suffix}", kind) for suffix, kind in made)


def _own(node: ast.expr) -> str:
    """The `x` of `self.x`."""
    mine = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    return node.attr if mine and isinstance(node, ast.Attribute) else ""


def _made(
    node: ast.expr, classes: dict[str, ast.ClassDef], aliases: dict[str, list[str]]
) -> Iterator[tuple[str, str]]:
    """What an expression makes: the class of a module, with the index under which a list keeps it.

    `aliases` are the classes that a name or a table of classes may stand for.
    """
    if isinstance(node, ast.IfExp):
        yield from _made(node.body, classes, aliases)
        yield from _made(node.orelse, classes, aliases)
        return
    if not isinstance(node, ast.Call):
        return
    func = node.func
    if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name):
        if func.value.id == "nn" and func.attr in ("ModuleList", "Sequential"):
            yield "", func.attr
            for item in _items(node):
                for suffix, kind in _made(item, classes, aliases):
                    yield f".*{suffix}", kind
        elif func.value.id == "nn" and func.attr not in ("Parameter", "Buffer"):
            yield "", func.attr
        elif func.value.id in classes:
            yield "", func.value.id  # Class._from_config(config)
        elif func.value.id.startswith("Auto"):
            yield "", ""
    elif isinstance(func, ast.Name):
        if func.id in classes or func.id in ADAPTABLE:
            yield "", func.id
        elif func.id in aliases:
            yield from (("", name) for name in aliases[func.id])
        elif func.id.endswith("_class"):
            yield "", ""
    elif isinstance(func, ast.Subscript) and isinstance(func.value, ast.Name):
        if func.value.id in aliases:
            yield from (("", name) for name in aliases[func.value.id])
        else:
            yield "", "activation" if func.value.id.startswith("ACT2") else ""


def _items(node: ast.Call) -> Iterator[ast.expr]:
    for argument in node.args:
        if isinstance(argument, ast.List | ast.Tuple):
            yield from argument.elts
        elif isinstance(argument, ast.ListComp | ast.GeneratorExp):
            yield argument.elt
        else:
            yield argument


def targeted(parts: tuple[Part, ...], target: str) -> list[Part]:
    """The modules that PEFT would take for `target` of a list: those whose path ends with it."""
    wanted = target.split(".")
    found = []
    for part in parts:
        names = part.path.split(".")[-len(wanted) :]
        if len(names) == len(wanted) and all(
            name == want or (name == "*" and want.isdigit()) for name, want in zip(names, wanted, strict=True)
        ):
            found.append(part)
    return found


def matched(parts: tuple[Part, ...], pattern: str) -> list[Part]:
    """The modules whose whole path a `target_modules` string, a regular expression, matches.

    Raises re.error.
    """
    compiled = re.compile(pattern)
    return [part for part in parts if compiled.fullmatch(part.path.replace("*", "0"))]
