"""Contracts: data that covers the seed's text line by line, and a proposal that fits the bundle."""

import os
import re
from datetime import date
from pathlib import Path

import pytest

from labgate import contract
from labgate.bundle import Bundle
from labgate.contract import UnknownContractError, load, names, propose
from labgate.finding import Basis

NINE = ["complete", "hydra", "data", "model", "files", "tracking", "configs", "evaluation", "modes"]


def a_bundle(folder="config/runs", *, config="mode: ???\n", main="", date=None, **more):
    files = {"src/main.py": main, "config/config.yaml": config, f"{folder}/run-1.yaml": "run_id: run-1\n"}
    return Bundle.from_files({**files, **more}, date=date)


def lines_asked_for():
    """Per criterion, the bullet lines of the seed's text."""
    folder = os.environ.get("LABGATE_SEED")
    if not folder:
        pytest.skip("LABGATE_SEED names no folder: the lines of the original text are not counted")
    text = next(Path(folder).glob("*.txt")).read_text(encoding="utf-8")
    counts: dict[int, int] = {}
    criterion = 0
    for line in text[text.index("## Core Validation") : text.index("## Output Format")].splitlines():
        if heading := re.match(r"(\d)\. \*\*", line):
            criterion = int(heading[1])
        elif re.match(r"\s+[-*] ", line):
            counts[criterion] = counts.get(criterion, 0) + 1
    return counts


def test_every_line_of_the_original_text_has_an_id():
    criteria = load("airas-2025-11").criteria[:9]
    assert {criterion.number: len(criterion.bullets) for criterion in criteria} == lines_asked_for()


def test_the_nine_criteria_come_in_order_and_ours_is_the_tenth():
    assert [criterion.name for criterion in load("airas-2025-11").criteria] == [*NINE, "integrity"]
    assert [criterion.number for criterion in load("airas-2025-11").criteria] == list(range(1, 11))


@pytest.mark.parametrize("name", names())
def test_a_profile_is_whole(name):
    profile = load(name)
    ids = [bullet.id for bullet in profile.bullets()]
    assert len(ids) == len(set(ids))
    for bullet in profile.bullets():
        assert set(bullet.parts) <= set(ids), bullet.id
        assert bool(bullet.parts) != bool(bullet.settled_by), (
            f"{bullet.id} is a heading or is settled by something"
        )
        assert not (bullet.required and bullet.settled_by == (Basis.JUDGED,)), bullet.id
        assert bullet.says and not bullet.says.endswith(".")
    assert sum(mode.whole for mode in profile.modes) == 1


@pytest.mark.parametrize("name", names())
def test_a_part_is_no_heading_itself(name):
    headings = {bullet.id for bullet in load(name).bullets() if bullet.parts}
    assert not headings & {part for bullet in load(name).bullets() for part in bullet.parts}


def test_the_commands_are_handed_over_as_a_shell_would():
    profile = load("airas-2025-11")
    assert profile.train_argv("run-1", profile.full, "out") == ["run=run-1", "results_dir=out", "mode=full"]
    assert profile.evaluate_argv(["a", "b c"], "out") == ["results_dir=out", 'run_ids=["a", "b c"]']


def test_the_oldest_profile_has_a_flag_for_the_trial_and_none_for_the_whole():
    profile = load("airas-2025-10-16")
    assert profile.train_argv("r", profile.mode("trial"), "out") == [
        "run=r",
        "results_dir=out",
        "trial_mode=true",
    ]
    assert profile.train_argv("r", profile.full, "out") == ["run=r", "results_dir=out"]
    assert profile.evaluate_argv(["r"], "out") == ["results_dir=out"]


def test_the_newest_profile_tracks_every_mode_in_a_project_of_its_own():
    modes = {mode.name: mode for mode in load("airas-2026-08").modes}
    assert {name: mode.project_suffix for name, mode in modes.items()} == {
        "sanity": "-sanity",
        "pilot": "-pilot",
        "full": "",
    }
    assert all(mode.tracked and mode.sets["wandb.mode"] == "online" for mode in modes.values())


def test_a_profile_based_on_another_states_only_what_differs():
    base, derived = load("airas-2025-10-23"), load("airas-2025-10-16")
    ids = {bullet.id for bullet in derived.bullets()}
    assert "evaluation.significance" not in ids
    assert "evaluation.data-exported" in ids
    assert derived.cache_folder == base.cache_folder
    assert {bullet.id for bullet in base.bullets()} >= {id for id in ids if id.startswith("model.")}


def test_a_part_left_out_leaves_its_heading_too():
    heading = next(b for b in load("airas-2026-08").bullets() if b.id == "evaluation.aggregated")
    assert heading.parts == (
        "evaluation.aggregated-metrics",
        "evaluation.derived-metrics",
        "evaluation.comparison-figures",
    )


def test_an_unknown_contract_is_refused_with_the_known_names():
    with pytest.raises(UnknownContractError, match="airas-2025-11"):
        load("airas-1999")


def test_names_come_oldest_first():
    assert list(names()) == sorted(names(), key=lambda name: load(name).since)
    assert contract.DEFAULT in names()


@pytest.mark.parametrize(
    ("bundle", "name"),
    [
        (a_bundle("config/runs", main='if cfg.mode == "trial": ...'), "airas-2025-11"),
        (a_bundle("config/run", main='if cfg.mode == "trial": ...'), "airas-2025-10-23"),
        (a_bundle("config/run", config="trial_mode: false\n"), "airas-2025-10-16"),
        (a_bundle("config/run", main="if cfg.mode in ('sanity', 'pilot'): ..."), "airas-2026-08"),
        (a_bundle("config/run", **{"src/inference.py": ""}), "airas-2026-08"),
        (a_bundle("config/run", date=date(2026, 9, 1)), "airas-2026-08"),
        (a_bundle("config/run", date=date(2025, 10, 30)), "airas-2025-10-23"),
        (a_bundle("config/run", config="", date=date(2025, 10, 17)), "airas-2025-10-16"),
        (Bundle.from_files({}), "airas-2025-11"),
    ],
    ids=[
        "runs",
        "run-and-mode",
        "run-and-flag",
        "three-modes",
        "a-new-file",
        "late",
        "autumn",
        "early",
        "empty",
    ],
)
def test_the_proposed_contract_fits_layout_and_date(bundle, name):
    assert propose(bundle).name == name


def test_layout_outweighs_the_date():
    assert propose(a_bundle("config/runs", date=date(2026, 9, 1))).name == "airas-2025-11"
