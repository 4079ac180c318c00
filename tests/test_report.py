"""Reports: everything that a person or a program needs, in a form that fits it."""

import io
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from labgate.bundle import Bundle
from labgate.checks import Check
from labgate.contract import load
from labgate.examine import examine
from labgate.finding import Basis, Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.report import Detail, Format, Report, summary, write
from labgate.report.json import schema
from labgate.verdict import Decision

CONTRACT = load("airas-2025-11")
BUNDLE = Bundle.from_files({"src/train.py": "import os\n\nrate = cfg.training.rate\n"}, name="mine")
PUBLISHED = Path(__file__).parent.parent / "docs" / "report.schema.json"

CRASHES = failed(
    "train.py reads training.rate, which no run config has",
    BUNDLE.place("src/train.py", 3, "read here"),
    Evidence("config/runs/a.yaml", 0, "", "has no training.rate"),
    do="add training.rate to every run config",
    impact=Impact.BLOCKS,
)


@pytest.fixture(autouse=True)
def no_terminal_of_the_user(monkeypatch):
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def a_check(name, *answers, to=("hydra.parameters-from-config",), basis=Basis.READ):
    return Check(name, lambda bundle: iter(answers), to, Impact.BREACHES, ("bundle",), basis)


def a_report(*checks):
    found = examine(BUNDLE, CONTRACT, checks=checks)
    return Report("mine", "path/to/mine", "0" * 64, None, CONTRACT, found.findings, found.verdict, 0.25)


def everything_holds():
    """One answer on each basis for every required line."""
    by_basis = {basis: [] for basis in Basis}
    for bullet in CONTRACT.bullets():
        if not bullet.parts:
            by_basis[bullet.settled_by[0]].append(bullet.id)
    return a_report(*(a_check(f"x/{b}", passed("it holds"), to=ids, basis=b) for b, ids in by_basis.items()))


NOT_READY = a_report(a_check("hydra/keys-are-there", CRASHES), a_check("hydra/asides", remarked("an aside")))
UNDECIDED = a_report(a_check("hydra/keys-are-there", cannot_tell("the key is computed", CRASHES.evidence[0])))


def text_of(report, width=80, detail=Detail.REPORT, monkeypatch=None):
    out = io.StringIO()
    if monkeypatch:
        monkeypatch.setenv("COLUMNS", str(width))
    write([report], out, detail=detail)
    return out.getvalue()


def test_a_failure_shows_every_place_its_words_and_what_to_do():
    text = text_of(NOT_READY)
    for piece in (
        "hydra/keys-are-there",
        "hydra.parameters-from-config",
        "train.py reads training.rate, which no run config has",
        "src/train.py:3  read here",
        "│ rate = cfg.training.rate",
        "config/runs/a.yaml  has no training.rate",
        "→ add training.rate to every run config",
        "Would crash or hang (1)",
    ):
        assert piece in text


def test_the_verdict_stands_first_and_last():
    lines = text_of(NOT_READY).strip().splitlines()
    assert lines[1] == lines[-1] == "NOT READY: 1 failure: 1 would crash or hang"


def test_no_line_ends_in_spaces():
    for detail in Detail:
        assert all(line == line.rstrip() for line in text_of(UNDECIDED, detail=detail).splitlines())


def test_a_remark_is_shown_apart():
    assert "Worth a look (1)\n  an aside" in text_of(NOT_READY)


def test_failures_stand_in_the_order_of_what_they_cost():
    misleads = a_check("m/leads", failed("wrong science", impact=Impact.MISLEADS))
    breaches = a_check("b/reaches", failed("broken promise"))
    text = text_of(a_report(misleads, breaches, a_check("c/rashes", CRASHES)))
    assert text.index("reads training.rate") < text.index("broken promise") < text.index("wrong science")
    assert "3 failures: 1 would crash or hang, 1 breaks the contract, 1 makes the science wrong" in " ".join(
        text.split()
    )


def test_what_could_not_be_told_is_collapsed_until_asked_for():
    assert "the key is computed" not in text_of(UNDECIDED)
    assert "Could not tell (1)" in text_of(UNDECIDED)
    assert "the key is computed" in text_of(UNDECIDED, detail=Detail.ALL)


def test_what_is_open_is_counted_and_spelled_out_on_demand():
    assert "need a run" in text_of(UNDECIDED)
    whole = " ".join(text_of(UNDECIDED, detail=Detail.ALL).split())
    assert "hydra.cli-full the command for the whole experiment works: only a run shows it" in whole


def test_it_says_plainly_that_nothing_was_run():
    assert "Nothing was run" in text_of(UNDECIDED)


def test_the_table_counts_per_criterion():
    rows = [line.split() for line in text_of(NOT_READY).splitlines()]
    assert ["2", "Hydra", "0", "1", "7"] in rows


def test_one_line_holds_verdict_origin_and_counts():
    assert text_of(NOT_READY, detail=Detail.LINE) == (
        "NOT READY  path/to/mine: 1 failure: 1 would crash or hang\n"
    )


def test_a_narrow_terminal_cuts_quotes_and_nothing_else(monkeypatch):
    long = failed("it is too long", Evidence("src/train.py", 3, "x = " + "y" * 100, "here"), do="shorten it")
    text = text_of(a_report(a_check("a/b", long)), 40, monkeypatch=monkeypatch)
    assert max(map(len, text.splitlines())) <= 40
    assert "src/train.py:3" in text and "…" in text and "→ shorten it" in text
    assert " 2  Hydra" in text and "broken  open" in text


def test_what_a_hostile_file_holds_does_not_steer_the_terminal():
    evil = failed("bad \x1b[2J", Evidence("src/\x1b]0;x\x07.py", 1, "[red]\x1b[31m\udcff [/red]"))
    text = text_of(a_report(a_check("a/b", evil)))
    assert "\x1b" not in text and "\x07" not in text
    assert "[red]" in text


def test_colours_are_left_out_when_told(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out, plain, asked = Terminal(), Terminal(), Terminal()
    write([NOT_READY], out)
    write([NOT_READY], plain, color=False)
    monkeypatch.setenv("NO_COLOR", "1")
    write([NOT_READY], asked)
    assert "\x1b[" in out.getvalue()
    assert "\x1b[" not in plain.getvalue() + asked.getvalue()


def data_of(report, format=Format.JSON):
    out = io.StringIO()
    write([report], out, format)
    return json.loads(out.getvalue())


@pytest.mark.parametrize("report", [NOT_READY, UNDECIDED, everything_holds()])
def test_json_keeps_the_published_schema(report):
    Draft202012Validator(json.loads(PUBLISHED.read_text())).validate(data_of(report))


def test_the_published_schema_is_current():
    assert json.loads(PUBLISHED.read_text()) == schema(), "run `make docs`"


def test_json_tells_decision_findings_and_standings():
    data = data_of(NOT_READY)
    assert (data["schema"], data["decision"], data["exit_code"]) == ("labgate/report/v1", "not ready", 1)
    (finding,) = [finding for finding in data["findings"] if finding["check"] == "hydra/keys-are-there"]
    assert finding["evidence"][0] == {
        "where": "src/train.py",
        "line": 3,
        "shows": "rate = cfg.training.rate",
        "label": "read here",
    }
    bullets = {bullet["id"]: bullet for criterion in data["criteria"] for bullet in criterion["bullets"]}
    assert bullets["hydra.parameters-from-config"]["state"] == "broken"
    assert bullets["hydra.cli-full"]["why_open"] == "only a run shows it"


def test_json_survives_what_utf8_cannot_hold():
    data = data_of(a_report(a_check("a/b", failed("\udcff", Evidence("\udc80.py", 1, "\ud800")))))
    assert data["findings"][0]["says"] == "?"


def test_several_reports_are_a_list():
    out = io.StringIO()
    write([NOT_READY, UNDECIDED], out, Format.JSON, one=False)
    assert [data["decision"] for data in json.loads(out.getvalue())] == ["not ready", "undecided"]


def test_airas_gets_exactly_its_two_keys():
    data = data_of(NOT_READY, Format.AIRAS)
    assert list(data) == ["is_code_ready", "code_issue"]
    assert data["is_code_ready"] is False
    for piece in (
        "src/train.py:3",
        "rate = cfg.training.rate",
        "do: add training.rate",
        "Would crash or hang",
    ):
        assert piece in data["code_issue"]
    assert "an aside" not in data["code_issue"]


def test_airas_hears_that_undecided_is_not_the_codes_fault():
    data = data_of(UNDECIDED, Format.AIRAS)
    assert data["is_code_ready"] is False
    assert data["code_issue"].startswith("not shown to be the code's fault:")


def test_airas_hears_of_no_issue_when_it_is_ready():
    assert data_of(everything_holds(), Format.AIRAS) == {"is_code_ready": True, "code_issue": ""}


def test_ready_says_how_much_was_shown():
    report = everything_holds()
    assert report.decision is Decision.READY
    count = sum(bullet.required and not bullet.parts for bullet in CONTRACT.bullets())
    assert summary(report) == f"all {count} required sub-bullets are shown to hold"


def test_our_own_failure_is_shown_and_named_as_ours():
    def breaks(bundle):
        raise ZeroDivisionError
        yield

    made = (("hydra.sections",), Impact.BREACHES, ("bundle",), Basis.READ)
    report = a_report(Check("a/b", breaks, *made), Check("c/d", breaks, *made))
    text = text_of(report)
    assert "a/b, c/d\n" in text
    assert "labgate's own failures, which say nothing about the experiment (1)" in text
    assert "ZeroDivisionError" in text
    assert "2 of labgate's own questions failed" in " ".join(text.split())
