"""What this kind of experiment must be, as data: one TOML file per profile in `contracts/`."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date as date_type
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from labgate.finding import Basis

if TYPE_CHECKING:
    from labgate.bundle import Bundle

DEFAULT = "airas-2025-11"


class UnknownContractError(ValueError):
    """No profile bears that name."""


@dataclass(frozen=True)
class Bullet:
    """One line of a criterion.

    `settled_by` lists the bases on which it can be shown to hold. A heading has `parts` and follows them.
    A bullet that is not `required` is advisory: it is shown and never decides.
    """

    id: str
    says: str
    settled_by: tuple[Basis, ...]
    required: bool
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Criterion:
    name: str
    number: int
    title: str
    bullets: tuple[Bullet, ...]


@dataclass(frozen=True)
class Mode:
    """One way to start a run: the overrides it puts on the command line, and what the code must set in it.

    `sets` maps dotted config keys to the values that must hold while training; `tracked` tells whether W&B
    hears of it; `whole` marks the mode that does the whole experiment; `project_suffix` is what the name of
    the W&B project gains, so that such runs stay apart.
    """

    name: str
    overrides: Mapping[str, str]
    sets: Mapping[str, object]
    tracked: bool
    whole: bool
    max_batches: int | None = None
    project_suffix: str = ""


@dataclass(frozen=True)
class Contract:
    name: str
    title: str
    since: date_type
    run_folder: str
    required_files: tuple[str, ...]
    optional_files: tuple[str, ...]
    sections: tuple[str, ...]
    cache_folder: str
    train_command: str
    evaluate_command: str
    run_key: str
    modes: tuple[Mode, ...]
    criteria: tuple[Criterion, ...]
    outputs: Mapping[str, str] = field(default_factory=dict)
    config_file: str = "config/config.yaml"
    main_module: str = "src.main"
    train_module: str = "src.train"
    evaluate_module: str = "src.evaluate"

    def bullets(self) -> Iterator[Bullet]:
        for criterion in self.criteria:
            yield from criterion.bullets

    def mode(self, name: str) -> Mode:
        return next(mode for mode in self.modes if mode.name == name)

    @property
    def full(self) -> Mode:
        """The mode that does the whole experiment."""
        return next(mode for mode in self.modes if mode.whole)

    def train_argv(self, run_id: str, mode: Mode, results_dir: str) -> list[str]:
        """The overrides that `src.main` receives, exactly as a shell would hand them over."""
        words = {"run_id": run_id, "results_dir": results_dir}
        words["mode"] = " ".join(f"{key}={value}" for key, value in mode.overrides.items())
        return _arguments(self.train_command.format(**words))

    def evaluate_argv(self, run_ids: Sequence[str], results_dir: str) -> list[str]:
        """The arguments that `src.evaluate` receives."""
        import json

        text = self.evaluate_command.format(results_dir=results_dir, run_ids=json.dumps(list(run_ids)))
        return _arguments(text)


def _arguments(command: str) -> list[str]:
    """The words of `uv run python … -m module WORD …` that come after the module."""
    words = shlex.split(command)
    return words[words.index("-m") + 2 :]


def names() -> tuple[str, ...]:
    """The profiles that ship with labgate, the oldest first."""
    folder = resources.files("labgate") / "contracts"
    found = [entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return tuple(sorted(found, key=lambda name: load(name).since))


@cache
def load(name: str) -> Contract:
    """The profile of that name. Raises UnknownContractError with the known names."""
    entry = resources.files("labgate") / "contracts" / f"{name}.toml"
    if not entry.is_file():
        folder = resources.files("labgate") / "contracts"
        known = sorted(e.name.removesuffix(".toml") for e in folder.iterdir() if e.name.endswith(".toml"))
        raise UnknownContractError(f"no contract is called {name!r}; there are {', '.join(known)}")
    return _parse(tomllib.loads(entry.read_text(encoding="utf-8")))


def propose(bundle: Bundle) -> Contract:
    """The profile that the bundle's layout speaks for; its commit date, else our default's, breaks ties.

    Layout: the folder that holds its run configs, how a mode is selected and called, and what lies in `src/`.
    """
    date = bundle.date or load(DEFAULT).since

    def rank(contract: Contract) -> tuple[bool, int, int, int]:
        age = (date - contract.since).days
        return (
            bool(bundle.run_configs(contract.run_folder)),
            _modes_spoken_of(bundle, contract),
            -_strangers(bundle, contract),
            -age if age >= 0 else age - 100_000,  # one that was not yet written comes last
        )

    return max(map(load, names()), key=rank)


def _strangers(bundle: Bundle, contract: Contract) -> int:
    """How many sources the contract does not know."""
    known = {*contract.required_files, *contract.optional_files}
    return sum(
        path.startswith("src/") and path.endswith(".py") and path not in known for path in bundle.files
    )


def _modes_spoken_of(bundle: Bundle, contract: Contract) -> int:
    """How much of the contract's way to select a mode stands in the configs and the sources."""
    keys = {key for mode in contract.modes for key in mode.overrides}
    config = bundle.text(contract.config_file) or ""
    points = sum(bool(re.search(rf"^{key}\s*:", config, re.MULTILINE)) for key in keys)
    words = [value for mode in contract.modes if not mode.whole for value in mode.overrides.values()]
    named = [word for word in words if word not in ("true", "false")]
    code = "\n".join(file.text or "" for path, file in bundle.files.items() if path.endswith(".py"))
    return points + sum(bool(re.search(rf"[\"']{word}[\"']", code)) for word in named)


def _parse(data: dict[str, Any]) -> Contract:
    """A profile; one that is `based_on` another states only what differs.

    There, a `criterion` names the bullets to replace or to add, and those to leave out (`without`).
    """
    base = load(data.pop("based_on")) if "based_on" in data else None
    entries = data.pop("criterion", [])
    modes = tuple(_mode(entry) for entry in data.pop("mode", []))
    for key in ("required_files", "optional_files", "sections"):
        if key in data:
            data[key] = tuple(data[key])
    if base is None:
        return Contract(criteria=tuple(_criterion(entry) for entry in entries), modes=modes, **data)
    changed = {entry["name"]: entry for entry in entries}
    criteria = (_changed(criterion, changed.get(criterion.name)) for criterion in base.criteria)
    return replace(base, **data, modes=modes or base.modes, criteria=tuple(criteria))


def _mode(entry: dict[str, Any]) -> Mode:
    return Mode(**entry)


def _criterion(entry: dict[str, Any]) -> Criterion:
    return Criterion(entry["name"], entry["number"], entry["title"], _bullets(entry))


def _changed(criterion: Criterion, entry: dict[str, Any] | None) -> Criterion:
    if entry is None:
        return criterion
    dropped = {f"{criterion.name}.{id}" for id in entry.get("without", ())}
    written = {bullet.id: bullet for bullet in _bullets(entry)}
    kept = [written.pop(b.id, b) for b in criterion.bullets if b.id not in dropped]
    bullets = tuple(replace(b, parts=tuple(p for p in b.parts if p not in dropped)) for b in kept)
    return replace(
        criterion, title=entry.get("title", criterion.title), bullets=(*bullets, *written.values())
    )


def _bullets(entry: dict[str, Any]) -> tuple[Bullet, ...]:
    name = entry["name"]
    return tuple(
        Bullet(
            id=f"{name}.{bullet['id']}",
            says=bullet["says"],
            settled_by=tuple(Basis(basis) for basis in bullet.get("settled_by", ())),
            required=bullet.get("required", True),
            parts=tuple(f"{name}.{part}" for part in bullet.get("parts", ())),
        )
        for bullet in entry.get("bullet", ())
    )
