"""The demo: it knows its defects by place, criterion and cost, and says which were missed."""

from pathlib import Path

import pytest

from labgate import cli, demo
from labgate.finding import Basis, Evidence, Finding, Impact, Outcome

DEFECT = demo.Defect("loss", "src/train.py", 12, "tracking", "breaches", "the loss is never logged")


def a_finding(where="src/train.py", line=12, answers=("tracking.names-match",), **more):
    given = {"outcome": Outcome.FAIL, "impact": Impact.BREACHES, **more}
    return Finding("a/b", answers, basis=Basis.READ, says="", evidence=(Evidence(where, line),), **given)


@pytest.fixture(autouse=True)
def no_terminal_of_the_user(monkeypatch):
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def test_a_failure_at_the_place_and_of_the_criterion_finds_it():
    assert DEFECT.is_found_by(a_finding())


@pytest.mark.parametrize(
    "other",
    [
        a_finding(line=13),
        a_finding(where="src/main.py"),
        a_finding(answers=("modes.trial-light",)),
        a_finding(outcome=Outcome.PASS),
        a_finding(impact=Impact.REMARKS),
    ],
    ids=["line", "file", "criterion", "outcome", "remark"],
)
def test_anything_else_does_not(other):
    assert not DEFECT.is_found_by(other)


def test_what_is_missed_is_named_and_the_demo_fails(monkeypatch, capsys):
    monkeypatch.setattr(demo, "expected", lambda: (DEFECT,))
    monkeypatch.setattr("labgate.examine.all_checks", lambda: ())
    assert cli.main(["demo", "--no-color", "--no-resolve"]) == 1
    assert "missed: loss at src/train.py:12 (tracking, breaches)" in capsys.readouterr().out


@pytest.mark.registry
def test_every_defect_is_found_and_the_readme_shows_what_is_really_printed(capsys):
    code = cli.main(["demo", "--no-color"])
    printed = capsys.readouterr().out.splitlines()
    assert code == 0, "\n".join(line for line in printed if line.startswith("missed"))
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("```console\n")[2].partition("```")[0].splitlines()[1:]
    assert [line for line in shown if line != "…" and line not in printed] == []
