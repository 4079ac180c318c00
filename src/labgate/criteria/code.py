"""Whether the code can run at all: its own imports, calls and values, followed per run and mode."""

from __future__ import annotations

from labgate.checks import Answers, check
from labgate.criteria._faults import FROM_CONFIG, by_line, fault_answers
from labgate.finding import Impact, Outcome, passed
from labgate.flow import Fault, Flow, Sighting, Started, Walk

_IMPORTS = frozenset(("ModuleNotFoundError", "ImportError"))
_ELSEWHERE = FROM_CONFIG | _IMPORTS | {"NameError"}
"""Kinds that another check speaks of."""
_COMMAND_LINE = frozenset(("SystemExit", "JSONDecodeError"))
"""Kinds that are met where a command line is parsed; the evaluation's has a check of its own."""


@check("files.all-within", "complete.fully-functional", impact=Impact.BLOCKS)
def imports_of_its_own_files_resolve(flow: Flow) -> Answers:
    """Every `src.*` module that is imported exists and holds the name that is asked of it.

    Code is generated file by file; a helper that was planned for one file and never written ends the run on
    its first line.

    Bad:
        from src.losses import focal_loss
    Good:
        from src.model import focal_loss
    """
    failures = 0
    for answer in fault_answers(
        flow,
        lambda fault, walk: fault.kind in _IMPORTS,
        "imported here",
        "write what is missing, or import it from where it stands; under `python -m src.main` modules of src "
        "are imported as src.name",
    ):
        failures += answer.outcome is Outcome.FAIL
        yield answer
    if not failures:
        places = [flow.bundle.place(path, 0, "followed") for path in _followed(flow)]
        yield passed("every import among the bundle's own files resolves", *places)


def _followed(flow: Flow) -> list[str]:
    """Files of the bundle in which something was seen to happen."""
    return sorted({event.place.path for walk in flow.walks for event in walk.events if event.place.path})


def _one_value(sighting: Sighting) -> tuple[object, ...]:
    """Every attribute that is asked of one value which has none is the same defect."""
    if sighting.event.kind == "AttributeError":
        return ("AttributeError", sighting.event.key)
    return by_line(sighting)


@check("complete.fully-functional", impact=Impact.BLOCKS)
def values_are_used_as_what_they_are(flow: Flow) -> Answers:
    """What the code does with values that the config settles does not raise.

    The run's own config decides many values before anything runs: a string that is asked for attributes, a
    `None` that is indexed, a function called without an argument it needs, a key that no branch put there.

    Bad:
        run_id = cfg.run.run_id
    Good:
        run_id = cfg.run
    """

    def wanted(fault: Fault, walk: Walk) -> bool:
        # with a config that we put together ourselves, what a value is depends on how it is mended
        parsed = fault.kind in _COMMAND_LINE and not (walk.mode and fault.key != "raise")
        ours = bool(walk.mended) and fault.kind in ("AttributeError", "TypeError")
        return fault.kind not in _ELSEWHERE and fault.key != "hydra.main" and not (ours or parsed)

    failures = 0
    for answer in fault_answers(
        flow,
        wanted,
        "raised here",
        "use the value as what the config says that it is, or change the config",
        alike=_one_value,
    ):
        failures += answer.outcome is Outcome.FAIL
        yield answer
    if not failures:
        started = [event for walk in flow.walks for event in walk.of(Started)]
        yield passed(
            f"{len(flow.walks)} commands followed through {len(started)} processes: no value is misused",
        )
