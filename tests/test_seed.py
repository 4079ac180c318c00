"""The logged reviewer call that began all this: what it missed is found, and what is harmless is left alone.

LABGATE_SEED names a folder with the log (`*.txt`), `unpack`, `repaired.patch`, and `defects.json`, which
tells for each defect its place, its cost and whether reading can see it. None of it is part of the project.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatch
from pathlib import Path

import pytest

from labgate.bundle import read
from labgate.contract import load
from labgate.examine import Examination, examine
from labgate.finding import Basis, Evidence, Finding, Impact, Outcome
from labgate.verdict import Decision

SEED = Path(os.environ.get("LABGATE_SEED", ""))
pytestmark = [
    pytest.mark.registry,
    pytest.mark.skipif("LABGATE_SEED" not in os.environ, reason="LABGATE_SEED names no folder"),
]
TODAY = date(2026, 11, 20)
NEAR = 3
"""Lines by which a finding's place may differ from the place that is written down for a defect."""

EXPECTED = {
    "D01": "packaging/dependencies-are-requirements",
    "D02": "packaging/dependencies-are-requirements",
    "D04": "configs/writes-respect-struct-mode",
    "D05": "configs/writes-respect-struct-mode",
    "D07": "data/no-text-reaches-a-padding-collator",
    "D08": "apis/names-exist-in-the-resolved-versions",
    "D09": "apis/names-exist-in-the-resolved-versions",
    "D11": "configs/keys-read-exist",
    "D12": "data/data-set-ids-are-accepted",
    "D13": "apis/names-exist-in-the-resolved-versions",
    "D14": "evaluation/command-line-is-understood",
    "D15": "evaluation/retrieved-data-can-be-written",
    "D16": "tracking/training-dumps-no-json",
    "D17": "modes/the-search-trains-what-it-judges",
    "D19": "figures/bars-and-boxes-compare-runs",
    "D21": "figures/figures-can-be-read",
    "D24": "tracking/summary-holds-final-and-best",
    "D25": "tracking/recorded-config-is-the-trained-one",
    "D27": "data/failing-data-operations-are-met",
    "D28": "budget/declared-budget-is-what-rank-and-targets-give",
    "D29": "configs/keys-are-read",
    "D30": "pytorch/precision-is-the-configured-one",
    "D37": "integrity_gradients/gradients-that-are-read-are-cleared",
    "D38": "integrity_gradients/scaled-gradients-are-unscaled-first",
    "D40": "pytorch/frozen-weights-stay-frozen",
    "D49": "integrity_search/the-search-is-seeded",
    "D51": "configs/what-main-sets-reaches-the-training",
    "D53": "",  # no check asks whether the training keeps anything in the results folder
    "D58": "complete/definitions-are-used-as-written",
    "D60": "imports/imports-are-provided packaging/the-python-version-is-stated",
}
"""The check that must find each defect that reading can see; of several, one is enough."""


@dataclass(frozen=True)
class Alarm:
    """A finding that weighs, by `check` (a pattern), saying `says` (a regex), with evidence `at` a place."""

    check: str = "*"
    says: str = ""
    at: str = ""

    def is_raised_by(self, finding: Finding) -> bool:
        return (
            finding.weighs
            and fnmatch(finding.check, self.check)
            and bool(re.search(self.says, finding.says, re.IGNORECASE))
            and (not self.at or any(str(place) == self.at for place in finding.evidence))
        )


HARMLESS = {
    "N01": [Alarm(says="__init__")],
    "N02": [Alarm(says="shadow"), Alarm("*/*imports*", r"\bevaluate\b")],
    "N03": [Alarm("working_directory/*"), Alarm("hydra/*"), Alarm("data/*", "relative")],
    "N04": [Alarm("run_configs/run-ids-survive-the-command-line")],
    "N05": [
        Alarm("hydra/*"),
        Alarm("run_configs/*"),
        Alarm("configs/config-files-that-are-opened-exist"),
        Alarm("configs/keys-read-exist", at="src/main.py:21"),
    ],
    "N06": [Alarm("co*/*", at=f"src/train.py:{line}") for line in (134, 136, 141, 142, 161)],
    "N07": [Alarm("search/*"), Alarm("code/*")],
    "N08": [Alarm("apis/*", r"cuda\.amp"), Alarm(says="deprecat")],
    "N09": [Alarm(says="original_module|modules_to_save")],
    "N10": [Alarm(says="max_length|pad_to_multiple_of")],
    "N11": [Alarm(says="add_batch|one (predicted )?class"), Alarm("apis/*", r"\bevaluate\.")],
    "N12": [
        Alarm("tracking/*", r"\blists?\b|too (long|large)|not a number"),
        Alarm("figures/*", "heat ?map|fmt"),
    ],
    "N13": [Alarm(says="mcnemar|binomtest|unpaired"), Alarm("results/differences-are-tested")],
    "N14": [Alarm("tracking/evaluation-asks-for-*")],
    "N15": [Alarm("tracking/training-logs-as-it-goes")],
    "N16": [Alarm("tracking/search-trials-stay-out-of-wandb")],
    "N17": [
        Alarm("tracking/settings-are-present"),
        Alarm(at="config/config.yaml:10"),
        Alarm(at="config/config.yaml:11"),
    ],
    "N18": [Alarm("complete/no-code-is-missing"), Alarm("model/no-model-code-is-missing")],
    "N19": [Alarm("files/*")],
    "N20": [
        Alarm("tracking/search-trials-stay-out-of-wandb"),
        Alarm("tracking/*tracked-modes-*"),
        Alarm("figures/training-draws-nothing"),
        Alarm("figures/*-are-called-so"),
        Alarm("figures/run-figures-bear-the-run-id"),
        Alarm("evaluation/main-never-evaluates"),
        Alarm("evaluation/wandb-project-comes-from-the-config"),
        Alarm("modes/a-trial-keeps-to-its-tracking"),
        Alarm("modes/the-whole-experiment-is-tracked"),
    ],
    "N21": [
        Alarm(says="downloads|tokeni[sz]es"),
        Alarm("trials/a-trial-stops-*"),
        Alarm("trials/a-trial-trains-*"),
    ],
    "N22": [
        Alarm("imports/*"),
        Alarm("packaging/the-python-version-is-stated"),
        Alarm("packaging/the-project-can-be-built"),
    ],
    "N23": [Alarm(says="synchroni[sz]")],
    "N24": [Alarm("pytorch/*", "penalty|regulari[sz]"), Alarm("pytorch/*", at="src/train.py:67")],
    "N25": [Alarm("integrity_splits/*", r"-1|\btest\b")],
    "N26": [Alarm("tracking/the-key-comes-from-the-environment"), Alarm(says="api[ _]key")],
    "N27": [Alarm(at="config/config.yaml:7")],
    "N28": [Alarm(says="id 'roberta-base'"), Alarm("model/the-named-model-is-loaded")],
    "N29": [Alarm(says=r"sums? to (one|1\b)|nearly uniform")],
}
"""What would be a false alarm: claims about this experiment that were tried and found harmless."""


@pytest.fixture(scope="module")
def told() -> dict[str, list[dict[str, str]]]:
    return json.loads((SEED / "defects.json").read_text(encoding="utf-8"))


def unpacked(folder: Path, *options: str) -> Path:
    subprocess.run([sys.executable, SEED / "unpack", folder, *options], check=True, capture_output=True)
    return folder


def looked_at(path: Path) -> Examination:
    return examine(read(str(path)), load("airas-2025-11"), as_of=TODAY)


@pytest.fixture(scope="module", params=["log", "folder"])
def seed(request, tmp_path_factory) -> Examination:
    """The experiment as generated: as it stands in the log, and unpacked."""
    if request.param == "log":
        (log,) = SEED.glob("*.txt")
        return looked_at(log)
    return looked_at(unpacked(tmp_path_factory.mktemp("seed")))


@pytest.fixture(scope="module")
def repaired(tmp_path_factory) -> Examination:
    """The same, mended as far as it takes to run."""
    if shutil.which("patch") is None:
        pytest.skip("there is no `patch` to mend it with")
    return looked_at(unpacked(tmp_path_factory.mktemp("repaired"), "--repaired"))


def spots(where: str) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Files, which may be patterns, and the ranges of lines in each; none where the whole file is meant."""
    for part in re.split(r";| with ", where):
        found = re.match(r"\s*([\w./*-]+\.\w+)(?::([\d,-]+))?", part)
        if found is None:
            continue
        ranges = (item.partition("-") for item in (found[2] or "").split(",") if item)
        yield found[1], [(int(first), int(last or first)) for first, _, last in ranges]


def stands_at(place: Evidence, where: str) -> bool:
    return any(
        fnmatch(place.where, path)
        and (not ranges or any(first - NEAR <= place.line <= last + NEAR for first, last in ranges))
        for path, ranges in spots(where)
    )


def finds(finding: Finding, defect: dict[str, str]) -> bool:
    """Whether this is the right check's failure, at the defect's place."""
    light = defect["severity"] == "quality" and finding.outcome is Outcome.FAIL
    return (
        (finding.weighs or light)
        and finding.check in EXPECTED[defect["id"]].split()
        and any(stands_at(place, defect["where"]) for place in finding.evidence)
    )


def can_be_read(told) -> list[dict[str, str]]:
    return [defect for defect in told["defects"] if "static" in defect["detect"]]


def missed(seed, defects) -> list[str]:
    return [d["id"] for d in defects if not any(finds(finding, d) for finding in seed.findings)]


def test_the_table_of_expected_checks_knows_every_defect_that_reading_can_see(told):
    assert {defect["id"] for defect in can_be_read(told)} == EXPECTED.keys()
    assert {entry["id"] for entry in told["not_defects"]} == HARMLESS.keys()


def test_what_the_reviewer_called_ready_is_not_ready(seed):
    assert seed.verdict.decision is Decision.NOT_READY
    assert [f"{f.check}: {f.says}" for f in seed.findings if f.outcome is Outcome.ERROR] == []


def test_every_defect_that_stops_it_is_found_by_the_right_check_at_the_right_place(seed, told):
    blocking = [d for d in can_be_read(told) if d["severity"] == "blocks execution"]
    assert len(blocking) == 12
    assert missed(seed, blocking) == []


def test_nearly_every_defect_that_reading_can_see_is_found(seed, told):
    defects = can_be_read(told)
    found = len(defects) - len(missed(seed, defects))
    assert found >= 24, f"missed: {missed(seed, defects)}"


@pytest.mark.parametrize("claim", HARMLESS)
def test_what_was_tried_and_found_harmless_is_no_failure(seed, claim):
    raised = [f for f in seed.findings if any(alarm.is_raised_by(f) for alarm in HARMLESS[claim])]
    assert [f"{f.check}: {f.says} at {', '.join(map(str, f.evidence[:2]))}" for f in raised] == []


def test_nothing_that_really_runs_is_said_to_be_blocked(repaired):
    blocks = [
        f for f in repaired.findings if f.weighs and f.impact is Impact.BLOCKS and f.basis is Basis.READ
    ]
    assert [f"{f.check}: {f.says}" for f in blocks] == []


def test_what_was_mended_only_to_run_is_still_not_ready(repaired):
    assert repaired.verdict.decision is Decision.NOT_READY
