"""`labgate serve`: the stand-ins for a person, so that any script runs without an account."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from labgate.standins.hub import Hub
from labgate.standins.ledger import Ledger
from labgate.standins.standin import StandIn, stand
from labgate.standins.wandb import Wandb
from labgate.standins.wandb.export import NoSuchRunError, write
from labgate.standins.wandb.store import Store, StoreError

PORT = 7720
"""Where the first stand-in is found unless that port is taken; the others follow."""


class ServeError(ValueError):
    """What keeps stand-ins from being served, or a run from being exported, in one line."""


def default_store() -> Path:
    """The file that keeps a person's own runs."""
    return platformdirs.user_data_path("labgate") / "runs.db"


@dataclass(frozen=True)
class Twins:
    """What the hub is to serve.

    `python` is the interpreter that makes twins, `maps` are real folders by id, and other ids are looked up
    at the real hub `upstream`.
    """

    python: str = ""
    maps: dict[str, Path] = field(default_factory=dict)
    upstream: str | None = None


def active_python() -> str:
    """The interpreter of the environment that is active where labgate was started; "" when there is none."""
    active = os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX")
    found = shutil.which("python", path=str(Path(active) / "bin")) if active else None
    return found or shutil.which("python3") or shutil.which("python") or ""


def maps_from(pairs: Sequence[str]) -> dict[str, Path]:
    """`ID=FOLDER`, several times. Raises ServeError."""
    found = {}
    for pair in pairs:
        id, equals, folder = pair.partition("=")
        if not id or not equals or not Path(folder).is_dir():
            raise ServeError(f"--map takes ID=FOLDER with a folder that is there, not {pair!r}")
        found[id] = Path(folder).resolve()
    return found


def standins(store: Path, port: int, ledger: Ledger, twins: Twins) -> list[StandIn]:
    """All that labgate has, each with a port of its own."""
    return [
        Wandb(store, port=port, ledger=ledger),
        Hub(
            platformdirs.user_cache_path("labgate") / "twins",
            [twins.python] if twins.python else None,
            maps=twins.maps,
            upstream=twins.upstream,
            port=port + 1 if port else 0,
            ledger=ledger,
        ),
    ]


MEANS = {
    "wandb": "W&B runs of your script come here:",
    "hub": "And where these are set, models and data sets are tiny twins of the real ones:",
}


def serve(store: Path, twins: Twins, port: int = PORT, ledger: Path | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM; print the environment that leads a script here. Raises ServeError."""
    record = Ledger(ledger)
    served = standins(store, port, record, twins)
    for standin in served:
        standin.or_any_port = True

    def started() -> None:
        for wanted, standin in enumerate(served, port):
            if port and standin.port != wanted:
                print(f"# port {wanted} is taken; {standin.name} is at {standin.port}", flush=True)
        for standin in served:
            print(f"# {MEANS[standin.name]}")
            for name, value in standin.env().items():
                print(f"export {name}={shlex.quote(value)}")
        print(
            f"# Runs are kept in {store}. Twins are made by {twins.python or 'nobody: no Python is found'}."
        )
        print("# Ctrl-C ends.", flush=True)

    try:
        stand(served, started)
    except OSError as error:
        raise ServeError(str(error)) from error
    finally:
        record.close()
    unanswered = record.unanswered()
    print(f"\n{len(record)} exchanges, {len(unanswered)} of them unanswered")
    for exchange in unanswered[:20]:
        print(f"  {exchange}")


def export(store: Path, run: str, folder: Path) -> None:
    """Write a run as CSV and JSON, and say where. Raises ServeError."""
    if not store.exists():
        raise ServeError(f"there are no runs in {store}")
    try:
        opened = Store(store)
    except StoreError as error:
        raise ServeError(str(error)) from error
    try:
        for file in write(opened, run, folder):
            print(file)
    except (NoSuchRunError, OSError) as error:
        raise ServeError(str(error)) from error
    finally:
        opened.close()
    sys.stdout.flush()
