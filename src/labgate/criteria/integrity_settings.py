"""Integrity: a setting that is asked for with a default is one that the configs have."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from labgate.bundle import BrokenFileError, Bundle
from labgate.checks import Answers, check
from labgate.compose import Compositions
from labgate.contract import Contract
from labgate.finding import Evidence, Impact, failed, passed
from labgate.flow import Flow
from labgate.flow.events import ConfigRead, How, evidence


@check("integrity.lookups-can-hit", impact=Impact.MISLEADS)
def settings_with_a_default_are_found(
    bundle: Bundle, contract: Contract, flow: Flow, compositions: Compositions
) -> Answers:
    """A setting that is asked for with a default is called that in a config.

    `cfg.get("late_frac", 0.0)` with a config that says `late_fraction` raises nothing: the default holds in
    every run, and the value in the config is decoration.

    Bad:
        cfg = OmegaConf.create({"sam": {"late_fraction": 0.3}})
        fraction = cfg.sam.get("late_frac", 0.0)
    Good:
        cfg = OmegaConf.create({"sam": {"late_fraction": 0.3}})
        fraction = cfg.sam.get("late_fraction", 0.0)
    """
    asked: dict[str, list[tuple[ConfigRead, str]]] = {}
    read: set[str] = set()
    for walk in flow.walks:
        reads: Iterator[ConfigRead] = walk.of(ConfigRead)
        for event in reads:
            if event.how is How.GET and event.present is not True and event.default is not None:
                asked.setdefault(event.key, []).append((event, walk.run_id))
            else:
                read.add(event.key)
    found = False
    for key, events in asked.items():
        settled = all(event.present is False for event, _ in events)
        if key in read or not settled or not any(event.certain for event, _ in events):
            continue
        meant = _meant(compositions, key, read, contract.run_key)
        if meant is None:
            continue
        found = True
        event, place = events[0][0], meant
        name = key.rpartition(".")[2]
        yield failed(
            f"no config has {key}, so its default always holds; nothing reads {_word(place)}",
            evidence(bundle, event.place, f"asks for {name}"),
            place,
            do="use the same name in both places, and no default",
        )
    if not found:
        yield passed("no setting is asked for under another name than the configs give it")


def _meant(compositions: Compositions, key: str, read: set[str], run_key: str) -> Evidence | None:
    """The key of a run config, in the same section, that nothing reads and that is called nearly the same."""
    above, _, name = key.removeprefix(f"{run_key}.").rpartition(".")
    for path in compositions.run_paths.values():
        try:
            part: Any = compositions.bundle.yaml(path) if path else None
        except BrokenFileError:
            continue
        for step in above.split(".") if above else ():
            part = part.get(step) if isinstance(part, dict) else None
        if not isinstance(part, dict) or path is None:
            continue
        for other in part:
            dotted = f"{above}.{other}" if above else str(other)
            if str(other) == name or {dotted, f"{run_key}.{dotted}"} & read or not _alike(name, str(other)):
                continue
            line = compositions.bundle.key_line(path, *dotted.split("."))
            return compositions.bundle.place(path, line, "is called this")
    return None


def _word(place: Evidence) -> str:
    """The key that a line of YAML sets."""
    return place.shows.partition(":")[0].strip()


def _alike(one: str, other: str) -> bool:
    """Whether one name is short for the other, or misspelt."""
    if min(len(one), len(other)) < 4:
        return False
    words, others = one.split("_"), other.split("_")
    if len(words) == len(others) and all(
        a.startswith(b) or b.startswith(a) for a, b in zip(words, others, strict=True)
    ):
        return True
    return difflib.SequenceMatcher(None, one, other).ratio() >= 0.9
