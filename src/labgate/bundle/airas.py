"""AIRAS's own JSON of an experiment, and the logged call of the reviewer that read it."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice, zip_longest
from typing import Any

from labgate.bundle.bundle import Bundle
from labgate.bundle.files import LARGEST_FILE, UnreadableError, safe_path
from labgate.bundle.promise import Promise, PromisedRun, promise_from, role_of

PATHS = {
    "train_py": "src/train.py",
    "evaluate_py": "src/evaluate.py",
    "preprocess_py": "src/preprocess.py",
    "model_py": "src/model.py",
    "main_py": "src/main.py",
    "pyproject_toml": "pyproject.toml",
    "config_yaml": "config/config.yaml",
}

_SECTIONS = (
    "# Hypothesis",
    "# Current Research Method",
    "# Experimental Design",
    "# Experiment Runs",
    "# Generated Experiment Code",
)
_RUN = re.compile(r"^- Run ID:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_FENCED = re.compile(r"^[ \t]*```ya?ml[ \t]*\n(.*?)^[ \t]*```[ \t]*$", re.MULTILINE | re.DOTALL)


def looks_logged(text: str) -> bool:
    """Whether `text` is a logged reviewer call: a prompt under `Input:` that ends in an experiment's code."""
    return (
        len(text) <= LARGEST_FILE
        and bool(re.search(r"^Input:[ \t]*$", text, re.MULTILINE))
        and _code_at(text) is not None
    )


def from_json(record: object, name: str, origin: str) -> Bundle:
    """The bundle in a decoded JSON document. Raises UnreadableError when no experiment's code is in it."""
    code = _code_in(record)
    if code is None:
        raise UnreadableError(f"{origin}: no experiment in this JSON: it has neither `train_py` nor `files`")
    promise = promise_from(record, origin)
    if promise is not None and _circular(promise):
        promise = None
    configs = {run.run_id: run.config for run in promise.runs if run.config} if promise else {}
    return Bundle.from_files(_files(code, configs, origin), name=name, origin=origin, promise=promise)


def from_call(text: str, name: str, origin: str) -> Bundle:
    """The bundle in a logged reviewer call, with its promise. Raises UnreadableError when the log is cut."""
    code = _code_at(text)
    if code is None:
        raise UnreadableError(f"{origin}: a logged call without the experiment's code, or cut inside it")
    told = text[: text.index("{", code[1])]
    promise = promise_in_call(told, origin)
    asked = told[: _section_starts(told).get("# Current Research Method", len(told))]
    folder = "config/run" if "config/run/" in asked and "config/runs/" not in asked else "config/runs"
    configs = {run.run_id: run.config for run in promise.runs if run.config}
    return Bundle.from_files(
        _files(code[0], configs, origin, folder), name=name, origin=origin, promise=promise
    )


def promise_in_call(text: str, origin: str) -> Promise:
    """Hypothesis, method, design and runs as the prompt of a logged call lays them out."""
    sections = _sections(text)
    design = sections.get("# Experimental Design", "")
    runs = tuple(_run(run_id, told) for run_id, told in _runs(sections.get("# Experiment Runs", "")))
    return Promise(
        hypothesis=_hypothesis(sections.get("# Hypothesis", "")),
        method=sections.get("# Current Research Method", ""),
        design=_item(design, "Strategy"),
        metrics=_list(_item(design, "Evaluation Metrics")),
        runs=runs,
        proposed_method=_item(design, "Proposed Method"),
        comparative_methods=_list(_item(design, "Comparative Methods")),
        models=tuple(dict.fromkeys(run.model for run in runs if run.model)),
        datasets=tuple(dict.fromkeys(run.dataset for run in runs if run.dataset)),
        origin=origin,
    )


def _files(
    code: Mapping[str, Any], configs: Mapping[str, str], origin: str, folder: str = ""
) -> dict[str, str]:
    """Paths and texts. A `null` is a file that is not there; whatever else is no text cannot be read."""
    listed = code.get("files")
    found: dict[str, Any] = dict(listed) if isinstance(listed, Mapping) else {}
    found.update({path: code[key] for key, path in PATHS.items() if key in code})
    own = code.get("run_configs")
    runs = {**configs, **(own if isinstance(own, Mapping) else {})}
    folder = folder or _run_folder(found)
    for run_id, config in runs.items():
        found.setdefault(f"{folder}/{run_id}.yaml", config)
    files: dict[str, str] = {}
    for path, text in found.items():
        if text is None:
            continue
        if not isinstance(text, str):
            raise UnreadableError(f"{origin}: {path} is no text in this JSON")
        files[safe_path(str(path), origin)] = text
    folders = {path[:at] for path in files for at, letter in enumerate(path) if letter == "/"}
    for path in sorted(folders & files.keys()):
        raise UnreadableError(f"{origin}: {path} is both a file and a folder in this JSON")
    return files


def _run_folder(files: Mapping[str, Any]) -> str:
    """Where the code looks for run configs; AIRAS's writer used `config/run` before November 2025."""
    texts = [text for text in files.values() if isinstance(text, str)]
    old = any("config/run/" in text for text in texts) and not any("config/runs" in text for text in texts)
    return "config/run" if old else "config/runs"


def _code_in(record: object, depth: int = 0) -> Mapping[str, Any] | None:
    """The object with the seven files, or with `files`: the document itself, or the last one inside it."""
    if isinstance(record, Mapping):
        if "train_py" in record or "main_py" in record:
            return record
        files = record.get("files")
        if isinstance(files, Mapping) and any(str(path).endswith((".py", ".yaml")) for path in files):
            return record
    inner = record.values() if isinstance(record, Mapping) else record if isinstance(record, list) else ()
    if depth < 8:
        for value in reversed(list(inner)):
            if (found := _code_in(value, depth + 1)) is not None:
                return found
    return None


def _circular(promise: Promise) -> bool:
    """Runs that are known only by the generated configs promise nothing that the bundle could break."""
    return replace(promise, runs=(), origin="") == Promise() and not any(run.method for run in promise.runs)


def _code_at(text: str) -> tuple[Mapping[str, Any], int] | None:
    """The JSON object of the code in a log, and where it begins."""
    heading = text.rfind("\n# Generated Experiment Code")
    decoder = json.JSONDecoder()
    openings = re.compile(r"^[ \t]*(?=\{)", re.MULTILINE).finditer(text, max(heading, 0))
    for match in islice(openings, 20):  # each try may read to the end
        try:
            value, _ = decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            continue
        if _code_in(value, depth=8) is not None:
            return value, match.end()
    return None


def _section_starts(text: str) -> dict[str, int]:
    """Headings in their order: one that a later text happens to repeat is not taken for it."""
    found: dict[str, int] = {}
    position = 0
    for heading in _SECTIONS:
        match = re.compile(rf"^{re.escape(heading)}\b.*$", re.MULTILINE).search(text, position)
        if match:
            found[heading] = match.start()
            position = match.end()
    return found


def _sections(text: str) -> dict[str, str]:
    starts = list(_section_starts(text).items())
    ends = [start for _, start in starts[1:]]
    return {
        heading: text[start:end].partition("\n")[2].strip()
        for (heading, start), end in zip_longest(starts, ends)
    }


def _item(section: str, label: str) -> str:
    """The text of `- Label: …` up to the next item of the prompt's own."""
    following = r"(?=^- (?:Strategy|Proposed Method|Comparative Methods|Evaluation Metrics): ?|\Z)"
    match = re.search(rf"^- {label}: ?(.*?){following}", section, re.MULTILINE | re.DOTALL)
    return match[1].strip() if match else ""


def _list(told: str) -> tuple[str, ...]:
    """A list as Python prints it: of texts, or of objects with a `name`."""
    named = re.findall(r"\bname=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")", told)
    try:
        items = [ast.literal_eval(name) for name in named] if named else ast.literal_eval(told or "[]")
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return (told,)
    return tuple(str(item) for item in items) if isinstance(items, (list, tuple)) else (str(items),)


def _hypothesis(told: str) -> str:
    """The fields of a printed object, one paragraph each; any other text as it is."""
    fields = re.findall(r"\b(\w+)=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")(?= \w+=|\s*$)", told)
    try:
        return "\n\n".join(f"{key}: {ast.literal_eval(text).strip()}" for key, text in fields) or told
    except (ValueError, SyntaxError):
        return told


def _runs(section: str) -> Iterator[tuple[str, str]]:
    starts = list(_RUN.finditer(section))
    for match, following in zip_longest(starts, starts[1:]):
        yield match[1], section[match.end() : following.start() if following else len(section)]


def _run(run_id: str, told: str) -> PromisedRun:
    def field(label: str) -> str:
        match = re.search(rf"^[ \t]*{label}:[ \t]*(.*?)[ \t]*$", told.partition("```")[0], re.MULTILINE)
        return match[1] if match and match[1] != "None" else ""

    method = field("Method")
    fenced = _FENCED.search(told)
    config = _unindented(fenced[1]) if fenced else None
    return PromisedRun(run_id, method, field("Model"), field("Dataset"), role_of(method, run_id), config)


def _unindented(block: str) -> str:
    """A template indents the first line of what it inserts and none of the others."""
    text = textwrap.dedent(block).strip("\n").rstrip()
    first, newline, rest = text.partition("\n")
    return f"{first.lstrip()}{newline}{rest}\n"
