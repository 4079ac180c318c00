"""The report for programs, `labgate/report/v1`; its schema is published as docs/report.schema.json."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

import labgate
from labgate import finding, report, verdict


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Evidence(_Model):
    """A place and the words that stand there."""

    where: str = Field(description="a path inside the bundle, or the name of another source")
    line: int = Field(ge=0, description="1-based; 0 when the whole file is meant")
    shows: str = Field(description="the words that stand there")
    label: str = Field(description="what the place has to do with the finding")


class Finding(_Model):
    """One check's answer."""

    check: str
    answers: list[str] = Field(description="ids of the sub-bullets that it speaks to")
    outcome: finding.Outcome = Field(description="skip: it could not tell; error: labgate itself failed")
    basis: finding.Basis = Field(description="how it is known")
    impact: finding.Impact = Field(description="what a failure costs; remarks never decide")
    says: str
    do: str = Field(description="what would mend it")
    evidence: list[Evidence]


class Bullet(_Model):
    """One sub-bullet of a criterion, and where it stands."""

    id: str
    says: str
    required: bool
    settled_by: list[finding.Basis] = Field(description="empty for a heading, which follows its parts")
    parts: list[str]
    state: verdict.State
    why_open: str = Field(description="empty unless the state is open")
    checks: list[str] = Field(description="the checks that spoke to it")


class Criterion(_Model):
    """One criterion of the contract."""

    name: str
    number: int
    title: str
    bullets: list[Bullet]


class Bundle(_Model):
    """What was examined."""

    name: str
    origin: str
    digest: str = Field(description="SHA-256 over what was read")
    date: str | None = Field(description="of its commit, YYYY-MM-DD")


class Report(_Model):
    """What labgate found about one experiment, and what follows."""

    schema_: Literal["labgate/report/v1"] = Field(alias="schema")
    labgate: str = Field(description="the version that wrote this")
    bundle: Bundle
    contract: str
    decision: verdict.Decision
    exit_code: int
    ran: bool = Field(description="whether the experiment was run, and not only read")
    seconds: float
    findings: list[Finding]
    criteria: list[Criterion]


def model(found: report.Report) -> Report:
    """The report as data."""
    standings = {standing.bullet.id: standing for standing in found.verdict.standings}
    return Report(
        schema="labgate/report/v1",
        labgate=labgate.__version__,
        bundle=Bundle(
            name=_clean(found.name), origin=_clean(found.origin), digest=found.digest, date=found.date
        ),
        contract=found.contract.name,
        decision=found.decision,
        exit_code=found.decision.exit_code,
        ran=found.ran,
        seconds=round(found.seconds, 3),
        findings=[_finding(one) for one in found.findings],
        criteria=[
            Criterion(
                name=criterion.name,
                number=criterion.number,
                title=criterion.title,
                bullets=[_bullet(found, standings[bullet.id]) for bullet in criterion.bullets],
            )
            for criterion in found.contract.criteria
        ],
    )


def _finding(one: finding.Finding) -> Finding:
    return Finding(
        check=one.check,
        answers=list(one.answers),
        outcome=one.outcome,
        basis=one.basis,
        impact=one.impact,
        says=_clean(one.says),
        do=_clean(one.do),
        evidence=[
            Evidence(where=_clean(e.where), line=e.line, shows=_clean(e.shows), label=_clean(e.label))
            for e in one.evidence
        ],
    )


def _bullet(found: report.Report, standing: verdict.Standing) -> Bullet:
    bullet = standing.bullet
    is_open = standing.state is verdict.State.OPEN and not bullet.parts
    return Bullet(
        id=bullet.id,
        says=bullet.says,
        required=bullet.required,
        settled_by=list(bullet.settled_by),
        parts=list(bullet.parts),
        state=standing.state,
        why_open=_clean(found.why_open(standing)) if is_open else "",
        checks=list(dict.fromkeys(one.check for one in standing.findings)),
    )


def _clean(text: str) -> str:
    """Without lone surrogates, which file names and broken sources can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def data(found: report.Report) -> dict[str, object]:
    """The report as plain values, in the order of the schema."""
    return model(found).model_dump(mode="json", by_alias=True)


def schema() -> dict[str, object]:
    """The JSON schema of a report."""
    made = Report.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "labgate/report/v1", **made}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))
