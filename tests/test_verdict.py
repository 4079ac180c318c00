"""The verdict is one pure function: what the findings allow, and no more."""

from dataclasses import replace

import pytest

from labgate.contract import Bullet, Criterion, load
from labgate.finding import Basis, Finding, Impact, Outcome
from labgate.verdict import Decision, State, decide

READ, RAN, JUDGED = Basis.READ, Basis.RAN, Basis.JUDGED

CONTRACT = replace(
    load("airas-2025-11"),
    criteria=(
        Criterion(
            "c",
            1,
            "Criterion",
            (
                Bullet("c.both", "says", (), True, ("c.easy", "c.hard")),
                Bullet("c.easy", "says", (READ, RAN), True),
                Bullet("c.hard", "says", (RAN,), True),
                Bullet("c.taste", "says", (JUDGED,), False),
            ),
        ),
    ),
)


def a_finding(outcome, *answers, basis=READ, impact=Impact.BREACHES):
    return Finding("family/check", answers, outcome, basis, impact, "says")


def states(*findings):
    return {standing.bullet.id: standing.state for standing in decide(findings, CONTRACT).standings}


EVERYTHING = (a_finding(Outcome.PASS, "c.easy"), a_finding(Outcome.PASS, "c.hard", basis=RAN))


def test_nothing_looked_at_is_undecided():
    verdict = decide((), CONTRACT)
    assert verdict.decision is Decision.UNDECIDED
    assert verdict.decision.exit_code == 3


def test_every_required_line_shown_to_hold_is_ready():
    verdict = decide(EVERYTHING, CONTRACT)
    assert verdict.decision is Decision.READY
    assert not verdict.open


def test_an_advisory_line_is_shown_as_not_judged_and_never_decides():
    assert states(*EVERYTHING)["c.taste"] is State.NOT_JUDGED


def test_what_only_a_run_settles_is_not_settled_by_reading():
    findings = (a_finding(Outcome.PASS, "c.easy"), a_finding(Outcome.PASS, "c.hard", basis=READ))
    verdict = decide(findings, CONTRACT)
    assert verdict.decision is Decision.UNDECIDED
    assert "c.hard" in [standing.bullet.id for standing in verdict.open]


def test_one_failure_is_not_ready_even_among_passes():
    verdict = decide((*EVERYTHING, a_finding(Outcome.FAIL, "c.easy")), CONTRACT)
    assert verdict.decision is Decision.NOT_READY
    assert verdict.decision.exit_code == 1


def test_a_failure_by_reading_refutes_what_a_run_has_shown():
    findings = (*EVERYTHING, a_finding(Outcome.FAIL, "c.hard", basis=READ))
    assert states(*findings)["c.hard"] is State.BROKEN


def test_a_failure_that_belongs_to_no_line_decides_all_the_same():
    assert decide((*EVERYTHING, a_finding(Outcome.FAIL)), CONTRACT).decision is Decision.NOT_READY


def test_a_remark_never_decides():
    remark = a_finding(Outcome.FAIL, "c.easy", impact=Impact.REMARKS)
    assert decide((*EVERYTHING, remark), CONTRACT).decision is Decision.READY


@pytest.mark.parametrize("outcome", [Outcome.SKIP, Outcome.ERROR])
def test_one_unanswered_question_leaves_the_line_open(outcome):
    findings = (EVERYTHING[1], a_finding(Outcome.PASS, "c.easy"), a_finding(outcome, "c.easy"))
    assert states(*findings)["c.easy"] is State.OPEN


def test_what_reading_could_not_tell_a_run_can():
    findings = (
        EVERYTHING[1],
        a_finding(Outcome.SKIP, "c.easy", basis=READ),
        a_finding(Outcome.PASS, "c.easy", basis=RAN),
    )
    assert decide(findings, CONTRACT).decision is Decision.READY


def test_an_error_of_ours_is_never_ready():
    assert decide((*EVERYTHING, a_finding(Outcome.ERROR)), CONTRACT).decision is Decision.UNDECIDED


def test_an_error_of_ours_does_not_hide_a_failure():
    findings = (a_finding(Outcome.ERROR), a_finding(Outcome.FAIL, "c.easy"))
    assert decide(findings, CONTRACT).decision is Decision.NOT_READY


def test_a_heading_stands_where_its_worst_part_stands():
    assert states(*EVERYTHING)["c.both"] is State.HOLDS
    assert states(EVERYTHING[0])["c.both"] is State.OPEN
    assert states(*EVERYTHING, a_finding(Outcome.FAIL, "c.hard"))["c.both"] is State.BROKEN


def test_the_order_of_findings_changes_nothing():
    findings = (*EVERYTHING, a_finding(Outcome.SKIP, "c.easy"), a_finding(Outcome.FAIL, "c.hard"))
    there, back = decide(findings, CONTRACT), decide(findings[::-1], CONTRACT)
    assert there.decision is back.decision
    assert [s.state for s in there.standings] == [s.state for s in back.standings]
