"""Examining: every check is asked, and nothing that goes wrong in one gets out."""

import gc

import pytest

from labgate import facts
from labgate.bundle import Bundle
from labgate.checks import READ, CannotLookError, Check
from labgate.contract import load
from labgate.examine import examine
from labgate.facts import Facts
from labgate.finding import Basis, Evidence, Impact, Outcome, cannot_tell, failed, passed, remarked
from labgate.verdict import Decision

CONTRACT = load("airas-2025-11")
BUNDLE = Bundle.from_files({"src/train.py": "a = 1\nb = 2\n"})


def a_check(question, *answers, needs=("bundle",), impact=Impact.BREACHES):
    name = question.__name__.replace("_", "-")
    return Check(f"family/{name}", question, answers or ("files.train-py",), impact, needs, Basis.READ)


def found_by(*checks):
    return examine(BUNDLE, CONTRACT, checks=checks).findings


def test_an_answer_becomes_a_finding_that_says_who_spoke_and_how_it_is_known():
    def train_is_short(bundle):
        yield failed("too long", bundle.place("src/train.py", 2, "here"), do="shorten it")

    (finding,) = found_by(a_check(train_is_short, "files.train-py", "files.exact-nonsense"))
    assert finding.check == "family/train-is-short"
    assert finding.answers == ("files.train-py",)
    assert (finding.outcome, finding.basis, finding.impact) == (Outcome.FAIL, Basis.READ, Impact.BREACHES)
    assert finding.evidence == (Evidence("src/train.py", 2, "b = 2", "here"),)


def test_a_check_that_cannot_look_is_skipped_with_its_reason():
    def needs_more(bundle):
        raise CannotLookError("no network")
        yield

    (finding,) = found_by(a_check(needs_more))
    assert (finding.outcome, finding.says) == (Outcome.SKIP, "no network")


def test_a_check_that_crashes_is_our_error_and_says_where():
    def breaks(bundle):
        yield passed("first part holds")
        raise KeyError("x")

    error, holds = sorted(found_by(a_check(breaks)), key=lambda finding: finding.outcome)
    assert holds.outcome is Outcome.PASS
    assert error.outcome is Outcome.ERROR
    assert error.says.startswith("labgate's own failure: KeyError")
    assert error.evidence[0].where == "test_examine.py"
    assert error.evidence[0].shows == 'raise KeyError("x")'


def test_silence_is_our_error():
    def says_nothing(bundle):
        yield from ()

    (finding,) = found_by(a_check(says_nothing))
    assert finding.outcome is Outcome.ERROR
    assert "said nothing" in finding.says


def test_our_error_leaves_the_verdict_undecided():
    def breaks(bundle):
        raise RuntimeError
        yield

    assert examine(BUNDLE, CONTRACT, checks=[a_check(breaks)]).verdict.decision is Decision.UNDECIDED


def test_what_needs_no_configs_is_asked_first_and_reported_in_its_place(monkeypatch):
    monkeypatch.setitem(facts._MAKERS, "compositions", lambda facts: "compositions")
    turns = []

    def needs_configs(compositions):
        turns.append("configs")
        yield passed("first")

    def needs_files(bundle):
        turns.append("files")
        yield passed("second")

    findings = found_by(a_check(needs_configs, needs=("compositions",)), a_check(needs_files))
    assert turns == ["files", "configs"]
    assert [finding.says for finding in findings] == ["first", "second"]


def test_garbage_is_looked_for_again_afterwards():
    def breaks(bundle):
        assert not gc.isenabled()
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        found_by(a_check(breaks))
    assert gc.isenabled()


def test_interruption_gets_out():
    def is_interrupted(bundle):
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        found_by(a_check(is_interrupted))


def test_a_check_that_speaks_to_another_contract_is_not_asked():
    def never(bundle):
        raise AssertionError
        yield

    assert found_by(a_check(never, "modes.sanity-light")) == ()


def test_the_same_thing_said_of_the_same_places_is_said_once():
    def repeats(bundle):
        place = bundle.place("src/train.py", 1)
        yield failed("run a lacks it", place)
        yield failed("run b lacks it", place, do="add it")
        yield failed("run a lacks it", place)
        yield failed("another", bundle.place("src/train.py", 2))
        yield remarked("an aside", place)
        yield cannot_tell("no place")
        yield cannot_tell("no place either")

    findings = found_by(a_check(repeats))
    failures = [finding for finding in findings if finding.weighs]
    assert [(finding.says, finding.do) for finding in failures] == [
        ("run a lacks it; run b lacks it", "add it"),
        ("another", ""),
    ]
    assert len(findings) == 5


def test_findings_come_in_the_order_of_the_contract_then_of_their_places():
    def second(bundle):
        yield failed("b", bundle.place("src/train.py", 2))
        yield failed("a", bundle.place("src/train.py", 1))

    def first(bundle):
        yield passed("whole")

    findings = found_by(a_check(second, "modes.trial-light"), a_check(first, "complete.not-truncated"))
    assert [finding.says for finding in findings] == ["whole", "a", "b"]


def test_a_fact_is_made_once_and_only_when_asked_for(monkeypatch):
    made = []
    monkeypatch.setitem(facts._MAKERS, "flow", lambda facts: made.append(1) or "flow")

    def one(flow):
        yield passed(flow)

    def other(flow):
        yield passed(flow)

    def none(bundle):
        yield passed("nothing")

    examination = examine(BUNDLE, CONTRACT, checks=[a_check(none)])
    assert not made and not examination.facts
    examination = examine(BUNDLE, CONTRACT, checks=[a_check(q, needs=("flow",)) for q in (one, other)])
    assert made == [1] and list(examination.facts) == ["flow"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(CannotLookError("no uv"), Outcome.SKIP), (ValueError("bad"), Outcome.ERROR)],
)
def test_a_fact_that_cannot_be_made_answers_for_every_check_that_wants_it(monkeypatch, error, outcome):
    def make(facts):
        raise error

    monkeypatch.setitem(facts._MAKERS, "packages", make)

    def one(packages):
        yield passed("")

    def other(packages):
        yield passed("")

    findings = found_by(a_check(one, needs=("packages",)), a_check(other, needs=("packages",)))
    assert [finding.outcome for finding in findings] == [outcome, outcome]
    assert all(str(error) in finding.says for finding in findings)


def test_what_a_fact_holds_open_is_closed_even_when_a_check_breaks(monkeypatch):
    closed = []

    def make(facts):
        facts.open.callback(closed.append, True)
        return "compositions"

    def breaks(compositions):
        assert not closed
        raise ValueError
        yield

    monkeypatch.setitem(facts._MAKERS, "compositions", make)
    examine(BUNDLE, CONTRACT, checks=[a_check(breaks, needs=("compositions",))])
    assert closed


def test_every_fact_that_checks_may_ask_for_can_be_made():
    with Facts(BUNDLE, CONTRACT, resolve=False) as made:
        assert all(made[name] is not None for name in READ)
