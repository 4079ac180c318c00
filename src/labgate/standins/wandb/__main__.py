"""`python -m labgate.standins.wandb`: the server alone, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from labgate.standins.ledger import Ledger
from labgate.standins.standin import stand
from labgate.standins.wandb import Wandb
from labgate.standins.wandb.store import SILENT


def main() -> int:
    """Serve; once started, say in one line where."""
    parser = argparse.ArgumentParser(prog="python -m labgate.standins.wandb", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="any free one without")
    parser.add_argument("--store", type=Path, help="the file that keeps the runs")
    parser.add_argument("--ledger", type=Path, help="the file that keeps the exchanges, as lines of JSON")
    parser.add_argument("--silent", type=float, default=SILENT, help="seconds after which a run has crashed")
    options = parser.parse_args()
    ledger = Ledger(options.ledger)
    wandb = Wandb(options.store, port=options.port, ledger=ledger, silent=options.silent)
    try:
        stand([wandb], lambda: print(wandb.url, flush=True))
    except OSError as error:
        print(f"labgate: {error}", file=sys.stderr)
        return 2
    finally:
        ledger.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
