"""The command line: it parses, calls, prints and returns an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import labgate
from labgate.contract import DEFAULT, UnknownContractError, load, names, propose
from labgate.report import Detail, Format, Report, write
from labgate.verdict import Decision

if TYPE_CHECKING:
    from labgate.examine import Examination

USAGE, INTERRUPTED, BROKEN_PIPE = 2, 130, 141
NOT_READY, UNDECIDED = Decision.NOT_READY.exit_code, Decision.UNDECIDED.exit_code
WORST_FIRST = (USAGE, NOT_READY, UNDECIDED, Decision.READY.exit_code)


class UsageError(ValueError):
    """Arguments that cannot be followed, in one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def run() -> None:
    """The installed program."""
    sys.exit(main(sys.argv[1:]))


def main(argv: list[str]) -> int:
    """Run one command. Returns 0 ready, 1 not ready, 2 wrong usage, 3 undecided; 130 when interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        options = _parser().parse_args(argv or ["--help"])
        code: int = options.command(options)
        sys.stdout.flush()
        return code
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered must not complain at exit
        return BROKEN_PIPE
    except UsageError as error:
        return _refuse(str(error))
    except Exception as error:
        return _own_failure(error)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="labgate",
        allow_abbrev=False,
        description="Decides whether an experiment is ready to spend GPU hours, and shows the evidence.",
    )
    parser.add_argument("--version", action="version", version=f"labgate {labgate.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _check_options(commands.add_parser("check", help="check experiments", allow_abbrev=False))

    other = commands.add_parser("explain", help="say what a check or a sub-bullet means", allow_abbrev=False)
    other.add_argument("id", nargs="?", default="", metavar="ID", help="all of them without")
    other.add_argument("--contract", default=DEFAULT, metavar="NAME", help="whose sub-bullets")
    other.set_defaults(command=_explain)

    other = commands.add_parser(
        "contracts", help="list what an experiment can be held to", allow_abbrev=False
    )
    other.set_defaults(command=_contracts)

    other = commands.add_parser(
        "demo", help="check an experiment of ours with known defects", allow_abbrev=False
    )
    other.add_argument("--no-resolve", action="store_true", help="do not ask a package index")
    other.add_argument("--no-color", action="store_true", help="no colours")
    other.set_defaults(command=_demo)
    _serve_options(
        commands.add_parser("serve", help="stand in for W&B, without an account", allow_abbrev=False)
    )
    return parser


def _serve_options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Serves W&B on 127.0.0.1, and prints what to export for a script to find it."
    add = parser.add_argument
    add("--store", type=Path, metavar="FILE", help="where runs are kept; else in your data folder")
    add("--port", type=int, metavar="PORT", help="the first port; another is taken if it is not free")
    add("--ledger", type=Path, metavar="FILE", help="keep every exchange there, as lines of JSON")
    add("--export", metavar="RUN", help="write a run as CSV and JSON, and end: [[ENTITY/]PROJECT/]RUN")
    add("--output", type=Path, default=Path(), metavar="DIR", help="where to export it to; else here")
    parser.set_defaults(command=_serve)


def _check_options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Exit code: 0 ready, 1 not ready, 3 undecided, of several the worst; 2 wrong usage."
    add = parser.add_argument
    add(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a folder, REPO@REV, AIRAS's JSON, a logged reviewer call, or a folder of such folders",
    )
    add("--contract", default="", metavar="NAME", help="hold it to this contract; else one is proposed")
    add("--promise", type=Path, metavar="FILE", help="hypothesis, design and runs, if not in the bundle")
    add("--format", choices=[str(format) for format in Format], default=Format.TEXT, help="of the report")
    add("--as-of", type=_day, metavar="DATE", help="resolve packages as of this day, YYYY-MM-DD")
    add("--no-resolve", action="store_true", help="do not ask a package index")
    add("--read-only", action="store_true", help="run nothing of it; so far nothing is run in any case")
    add("-v", "--verbose", action="store_true", help="spell out what is open and what holds")
    add("-q", "--quiet", action="store_true", help="one line")
    add("--no-color", action="store_true", help="no colours")
    add("--output", type=Path, metavar="FILE", help="write the report there, and one line here")
    parser.set_defaults(command=_check)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day; write YYYY-MM-DD") from None


def _refuse(reason: str) -> int:
    print(f"labgate: {' '.join(reason.split())}", file=sys.stderr)
    return USAGE


def _own_failure(error: Exception) -> int:
    import traceback

    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    print(f"labgate: its own failure: {type(error).__name__}: {error} ({place})", file=sys.stderr)
    return UNDECIDED


def _check(options: argparse.Namespace) -> int:
    from labgate.bundle import UnreadableError, read
    from labgate.examine import examine

    try:
        contract = load(options.contract) if options.contract else None
        paths = [inner for path in options.paths for inner in _bundles_at(path)]
    except (UnknownContractError, UnreadableError) as error:
        return _refuse(str(error))
    codes: list[int] = []

    def reports() -> Iterator[Report]:
        for path in paths:
            try:
                bundle = read(path, options.promise)
            except UnreadableError as error:
                codes.append(_refuse(str(error)))
                continue
            held_to = contract or propose(bundle)
            found = examine(bundle, held_to, as_of=options.as_of, resolve=not options.no_resolve)
            codes.append(found.verdict.decision.exit_code)
            yield _report(found)

    one = len(paths) == 1
    detail = Detail.ALL if options.verbose else Detail.LINE if options.quiet or not one else Detail.REPORT
    format, color = Format(options.format), not options.no_color
    if options.output is None:
        write(reports(), sys.stdout, format, detail=detail, color=color, one=one)
    else:
        try:
            with options.output.open("w", encoding="utf-8", errors="replace") as file:
                found = list(reports())
                write(found, file, format, detail=detail, color=False, one=one)
        except OSError as error:
            return _refuse(f"{options.output}: {error.strerror}")
        write(found, sys.stdout, detail=Detail.LINE, color=color)
    return min(codes, key=WORST_FIRST.index)


def _bundles_at(path: str) -> list[str]:
    """The experiment at `path`, or those that lie in that folder."""
    from labgate.bundle import UnreadableError, find_bundles, is_bundle

    if not path.strip():
        raise UnreadableError("an empty path names no experiment")
    if "\0" in path:
        raise UnreadableError(f"{path!r} is no path")
    inner = find_bundles(path) if Path(path).is_dir() and not is_bundle(path) else ()
    return [str(bundle) for bundle in inner] or [path]


def _report(found: Examination) -> Report:
    bundle = found.bundle
    return Report(
        name=bundle.name,
        origin=bundle.origin,
        digest=bundle.digest,
        date=bundle.date.isoformat() if bundle.date else None,
        contract=found.contract,
        findings=found.findings,
        verdict=found.verdict,
        seconds=found.seconds,
    )


def _explain(options: argparse.Namespace) -> int:
    from labgate import explain

    try:
        contract = load(options.contract)
        print(explain.about(options.id, contract) if options.id else explain.overview(contract))
    except (UnknownContractError, explain.UnknownIdError) as error:
        return _refuse(str(error))
    return 0


def _contracts(_: argparse.Namespace) -> int:
    for name in names():
        contract = load(name)
        default = "  (default)" if name == DEFAULT else ""
        print(f"{name}  since {contract.since}  {contract.title}{default}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    """Exit code 0 when the verdict is the expected one and every defect is found."""
    from labgate import demo
    from labgate.examine import examine

    found = examine(demo.bundle(), load(DEFAULT), as_of=demo.AS_OF, resolve=not options.no_resolve)
    report = replace(_report(found), origin="the demo's experiment")
    write([report], sys.stdout, color=not options.no_color)
    missed, expected = demo.missed(found.findings), len(demo.expected())
    print()
    for defect in missed:
        print(f"missed: {defect}")
    if missed or found.verdict.decision is not Decision.NOT_READY:
        print(f"The demo did not come out as it should: {len(missed)} of {expected} defects were not found.")
        return 1
    print(f"This is the demo: all {expected} defects that were put there are found, each in its place.")
    return 0


def _serve(options: argparse.Namespace) -> int:
    from labgate import serve

    store = options.store or serve.default_store()
    try:
        if options.export is not None:
            serve.export(store, options.export, options.output)
        else:
            serve.serve(store, serve.PORT if options.port is None else options.port, options.ledger)
    except serve.ServeError as error:
        return _refuse(str(error))
    return 0
