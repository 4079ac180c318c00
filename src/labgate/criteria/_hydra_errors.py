"""What Hydra's complaints are about: the places in the bundle and what would mend them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from labgate.bundle import BrokenFileError, Bundle
from labgate.compose import Composition, HydraMain
from labgate.contract import Contract
from labgate.finding import Evidence

_LINE = re.compile(r'in "(?P<path>[^"]+)", line (?P<line>\d+)')
_YAML_ERRORS = {
    "ConstructorError",
    "ScannerError",
    "ParserError",
    "ComposerError",
    "ReaderError",
    "YAMLError",
}
_PLUGIN_GROUPS = ("hydra/launcher/", "hydra/sweeper/", "hydra/hydra_logging/", "hydra/job_logging/")
UNREADABLE_OVERRIDE = ("OverrideParseException", "LexerNoViableAltException")


@dataclass(frozen=True)
class Complaint:
    """A defect that keeps a config from being composed. `unsure` says why it may not be one after all."""

    says: str
    evidence: tuple[Evidence, ...]
    do: str
    unsure: str = ""


def explain(bundle: Bundle, contract: Contract, main: HydraMain, composition: Composition) -> Complaint:
    """The complaint that a failed composition makes, in Hydra's words and with our places."""
    error = composition.error
    assert error is not None
    request = composition.request
    words = _words(error.message, error.kind)
    decorator = bundle.place(main.path, main.line, "Hydra starts here")
    if error.kind in _YAML_ERRORS:
        return Complaint(
            f"Hydra cannot read a config file: {words}", (*_marks(bundle, error.message),), "repair it"
        )
    if "Primary config directory not found" in error.message:
        return _no_folder(bundle, contract, main, words)
    if request.config_name is None and "Could not override" in error.message:
        return _no_name(bundle, contract, main, words)
    if request.config_name and f"Cannot find primary config '{request.config_name}'" in error.message:
        there = [path for path in bundle.files if posixpath.dirname(path) == request.config_dir]
        places = [
            bundle.place(path, 0, "this lies there") for path in there if path.endswith((".yaml", ".yml"))
        ]
        do = f"name a config that exists in {request.config_dir}, or write {request.config_name}.yaml"
        return Complaint(words, (decorator, *places), do)
    path = _primary(bundle, main)
    missing = re.search(r"Could not find '(?P<option>[^']+)'", error.message)
    if missing:
        return _no_option(bundle, contract, path, missing["option"], words, decorator)
    entry = _entry_that_interpolates(bundle, path, error.message)
    if entry:
        return Complaint(
            f"a defaults list cannot choose by a value of the config itself: {words}",
            (entry, decorator),
            f"keep `{contract.run_key}` a plain key and load {contract.run_folder}/<run>.yaml in the code",
        )
    key = re.search(r"Could not override '(?P<key>[^']+)'", error.message)
    if key:
        return _no_key(bundle, contract, path, key["key"], words, decorator)
    choose = re.search(r"You must specify '(?P<group>[^']+)'", error.message)
    if choose:
        return _no_group(bundle, contract, path, choose["group"], words, decorator)
    block = _hydra_block(bundle, path, error.message) if path else None
    return Complaint(f"Hydra refuses the config: {words}", (block, decorator) if block else (decorator,), "")


def _no_folder(bundle: Bundle, contract: Contract, main: HydraMain, words: str) -> Complaint:
    folder = posixpath.dirname(contract.config_file)
    places = [bundle.place(main.path, main.line, f"leads to {main.config_dir}, counted from {main.path}")]
    do = f"create {main.config_dir}"
    if contract.config_file in bundle.files:
        places.append(bundle.place(contract.config_file, 0, "the config lies here"))
        way = posixpath.relpath(folder, posixpath.dirname(main.path) or ".")
        do = f'write config_path="{way}"'
    return Complaint(words, tuple(places), do)


def _no_name(bundle: Bundle, contract: Contract, main: HydraMain, words: str) -> Complaint:
    places = [
        bundle.place(main.path, main.line, "gives no config_name, so Hydra starts from an empty config")
    ]
    do = "give hydra.main the config_name of the primary config"
    if contract.config_file in bundle.files:
        places.append(bundle.place(contract.config_file, 0, "never read"))
        do = f'add config_name="{posixpath.basename(contract.config_file).removesuffix(".yaml")}"'
    return Complaint(f"hydra.main reads no config file: {words}", tuple(places), do)


def _no_option(
    bundle: Bundle, contract: Contract, path: str | None, option: str, words: str, decorator: Evidence
) -> Complaint:
    group = posixpath.dirname(option)
    places = [place for place in (_entry(bundle, path, group), decorator) if place.where]
    if option.startswith(_PLUGIN_GROUPS):
        return Complaint(
            words,
            tuple(places),
            f"add the Hydra plugin that brings {option} to the dependencies, or drop the entry",
            unsure="a Hydra plugin among the dependencies may bring it" if _names_plugin(bundle) else "",
        )
    folder = posixpath.join(posixpath.dirname(path or contract.config_file), group)
    lies = next(iter(bundle.run_configs(contract.run_folder).values()), None)
    if group and not any(file.startswith(f"{folder}/") for file in bundle.files) and lies:
        places.insert(
            1, bundle.place(lies, 0, f"the run configs lie in {contract.run_folder}, not in {folder}")
        )
        return Complaint(
            f"the group `{group}` has no folder {folder}: {words}",
            tuple(places),
            f"keep `{contract.run_key}` a plain key of {path or contract.config_file} and merge "
            f"{contract.run_folder}/<run>.yaml in the code: `{group}=` chooses from {folder} alone",
        )
    return Complaint(words, tuple(places), f"write {posixpath.join(folder, posixpath.basename(option))}.yaml")


def _no_key(
    bundle: Bundle, contract: Contract, path: str | None, key: str, words: str, decorator: Evidence
) -> Complaint:
    folder = posixpath.join(posixpath.dirname(path or contract.config_file), key)
    options = [file for file in bundle.files if file.startswith(f"{folder}/") and file.endswith(".yaml")]
    where = path or contract.config_file
    if options and "No match in the defaults list" in words:
        return Complaint(
            f"the command sets the group `{key}`, which no defaults list names: {words}",
            (
                bundle.place(where, bundle.key_line(where, "defaults"), f"names no `{key}`"),
                bundle.place(options[0], 0, f"makes {folder} a group"),
                decorator,
            ),
            f"add `- {key}: ???` to the defaults list of {where}",
        )
    return Complaint(
        f"the command sets `{key}`, which the config does not have: {words}",
        (bundle.place(where, 0, f"has no key `{key}`"), decorator),
        f"add `{key}: ???` to {where}",
    )


def _no_group(
    bundle: Bundle, contract: Contract, path: str | None, group: str, words: str, decorator: Evidence
) -> Complaint:
    """`- run: ???` where there is no folder for it: the override becomes a key and chooses nothing."""
    place = _entry(bundle, path, group)
    lies = next(iter(bundle.run_configs(contract.run_folder).values()), None)
    folder = posixpath.join(posixpath.dirname(path or contract.config_file), group)
    places = [place, decorator]
    if lies:
        places.insert(
            1, bundle.place(lies, 0, f"the run configs lie in {contract.run_folder}, not in {folder}")
        )
    do = f"rename the folder or the group, so that the command's `{contract.run_key}=` chooses a file"
    says = f"the defaults list asks for a `{group}` that no file offers: {words}"
    return Complaint(says, tuple(p for p in places if p.where), do)


def _words(message: str, kind: str) -> str:
    """Hydra's message on one line, without the search path and the hints on `+`."""
    head = re.split(r"\n\s*(?:Config )?[Ss]earch path:", message)[0]
    lines = [line.strip() for line in head.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("To append", "full_key:", "object_type="))]
    return f"{kind}: {' / '.join(kept[:4])[:300]}"


def _marks(bundle: Bundle, message: str) -> Iterator[Evidence]:
    seen = set()
    for mark in _LINE.finditer(message):
        place = (mark["path"], int(mark["line"]))
        if place not in seen and mark["path"] in bundle.files:
            seen.add(place)
            yield bundle.place(*place, "the parser points here")


def _primary(bundle: Bundle, main: HydraMain) -> str | None:
    if main.config_dir is None or not main.config_name:
        return None
    path = posixpath.join(main.config_dir, f"{main.config_name.removesuffix('.yaml')}.yaml")
    return path if path in bundle.files else None


def _defaults(bundle: Bundle, path: str | None) -> list[object]:
    if path is None:
        return []
    try:
        value = bundle.yaml(path)
    except BrokenFileError:
        return []
    entries = value.get("defaults") if isinstance(value, Mapping) else None
    return entries if isinstance(entries, list) else []


def _entry(bundle: Bundle, path: str | None, group: str) -> Evidence:
    """The entry of the defaults list that names `group`; Evidence of nowhere when there is none."""
    for number, entry in enumerate(_defaults(bundle, path)):
        names = [str(key) for key in entry] if isinstance(entry, Mapping) else [str(entry)]
        if path and any(group and group in name for name in names):
            return bundle.place(
                path, bundle.key_line(path, "defaults", number), f"asks for a file of `{group}`"
            )
    return Evidence("")


def _entry_that_interpolates(bundle: Bundle, path: str | None, message: str) -> Evidence | None:
    if "Error resolving interpolation" not in message:
        return None
    for number, entry in enumerate(_defaults(bundle, path)):
        if path and "${" in str(entry):
            return bundle.place(
                path, bundle.key_line(path, "defaults", number), "interpolates a key of the config"
            )
    return None


def _hydra_block(bundle: Bundle, path: str, message: str) -> Evidence | None:
    """The key of the primary config that the message names in full, or its `hydra:` block."""
    full = re.search(r"full_key: (?P<key>\S+)", message)
    keys = full["key"].split(".") if full else []
    line = bundle.key_line(path, *keys) if keys else 0
    return bundle.place(path, line, "Hydra stumbles here") if line else None


def _names_plugin(bundle: Bundle) -> bool:
    return re.search(r"hydra[-_](?!core\b)\w+", bundle.text("pyproject.toml") or "") is not None
