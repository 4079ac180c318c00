"""`labgate serve`: the stand-ins for a person, so that any script runs without an account."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import platformdirs

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


def standins(store: Path, port: int, ledger: Ledger) -> list[StandIn]:
    """All that labgate has, each with a port of its own."""
    return [
        Wandb(store, port=port, ledger=ledger),
    ]


def serve(store: Path, port: int = PORT, ledger: Path | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM; print the environment that leads a script here. Raises ServeError."""
    record = Ledger(ledger)
    served = standins(store, port, record)
    for standin in served:
        standin.or_any_port = True

    def started() -> None:
        for wanted, standin in enumerate(served, port):
            if port and standin.port != wanted:
                print(f"# port {wanted} is taken; {standin.name} is at {standin.port}", flush=True)
        print("# In the terminal of your script:")
        for standin in served:
            for name, value in standin.env().items():
                print(f"export {name}={shlex.quote(value)}")
        print(f"# Runs are kept in {store}. Ctrl-C ends.", flush=True)

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
