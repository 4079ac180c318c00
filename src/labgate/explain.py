"""What a check or a sub-bullet means, told from the checks' docstrings and the contract."""

from __future__ import annotations

from difflib import get_close_matches

from labgate.checks import Check, all_checks
from labgate.contract import Bullet, Contract


class UnknownIdError(ValueError):
    """No check and no sub-bullet bears that name."""


def about(id: str, contract: Contract) -> str:
    """All there is to say about one check or one sub-bullet. Raises UnknownIdError with what comes close."""
    for check in all_checks():
        if check.id == id:
            return _check(check)
    for bullet in contract.bullets():
        if bullet.id == id:
            return _bullet(bullet)
    known = [check.id for check in all_checks()] + [bullet.id for bullet in contract.bullets()]
    close = get_close_matches(id, known, n=3, cutoff=0.4)
    hint = f"; perhaps {' or '.join(close)}" if close else ""
    raise UnknownIdError(f"no check and no sub-bullet of {contract.name} is called {id!r}{hint}")


def overview(contract: Contract) -> str:
    """Every sub-bullet of the contract with the checks that answer it, then the checks that answer none."""
    lines: list[str] = []
    for criterion in contract.criteria:
        lines += ["", f"{criterion.number}. {criterion.title}"]
        for bullet in criterion.bullets:
            lines.append(f"  {bullet.id}: {bullet.says}")
            lines += [f"      {check.id}" for check in answering(bullet)]
    known = {bullet.id for bullet in contract.bullets()}
    others = [check for check in all_checks() if not known & {*check.answers}]
    if others:
        lines += ["", "Checks that answer no sub-bullet of this contract"]
        lines += [f"  {check.id}: {check.title}" for check in others]
    return "\n".join(lines[1:])


def answering(bullet: Bullet) -> list[Check]:
    """The checks that speak to it."""
    return [check for check in all_checks() if bullet.id in check.answers]


def _check(check: Check) -> str:
    facts = [
        f"answers   {', '.join(check.answers) or 'no sub-bullet'}",
        f"costs     {check.impact.words}",
        f"known by  {check.basis.words} ({', '.join(check.needs)})",
    ]
    return "\n".join([check.id, "", *facts, "", check.doc])


def _bullet(bullet: Bullet) -> str:
    lines = [f"{bullet.id}: {bullet.says}", ""]
    if bullet.parts:
        return "\n".join(
            [*lines, "A heading; it stands where its parts stand:", *(f"  {p}" for p in bullet.parts)]
        )
    lines.append(f"settled by  {settled_by(bullet)}")
    lines.append(f"required    {'yes' if bullet.required else 'no, it is advisory'}")
    lines.append("checks      " + (", ".join(check.id for check in answering(bullet)) or "not yet"))
    return "\n".join(lines)


def settled_by(bullet: Bullet) -> str:
    """The bases on which a sub-bullet can be shown to hold, in words; those without a check are to come."""
    have = {check.basis for check in answering(bullet)}
    ways = (basis.words + ("" if basis in have else " (to come)") for basis in bullet.settled_by)
    return " or ".join(ways)
