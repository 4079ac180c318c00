"""How long does reading take? Run as `uv run python benchmarks/speed [PATH]`.

Prints, for one bundle (the demo's by default, or PATH): the examination in process without and with composing
configs, the whole cold command without resolution, and beside it `ruff check` plus `python -m compileall` on
the same files, with the ratios. Medians over several runs, on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

DEMO = Path(__file__).parents[2] / "src" / "labgate" / "demo" / "experiment"


def in_process(path: str, runs: int) -> tuple[float, float]:
    """Seconds to read and examine, without and with composing configs.

    Composing goes on in a child beside the reading. For the time without it, the compositions of an earlier
    run are answered from memory, and no child is started.
    """
    from labgate import contract
    from labgate.bundle import read
    from labgate.compose import Composer, Composition, Request
    from labgate.examine import examine

    def seconds() -> float:
        start = time.perf_counter()
        bundle = read(path)
        examine(bundle, contract.propose(bundle), resolve=False)
        return time.perf_counter() - start

    known: dict[Request, Composition] = {}
    ask, warm = Composer._ask, Composer.warm

    def remembered(self: Composer, request: Request) -> Composition:
        if request not in known:
            known[request] = ask(self, request)
        return known[request]

    whole = [seconds() for _ in range(runs + 1)]
    Composer._ask, Composer.warm = remembered, lambda self: None  # type: ignore[method-assign]
    try:
        without = [seconds() for _ in range(runs + 1)]
    finally:
        Composer._ask, Composer.warm = ask, warm  # type: ignore[method-assign]
    return statistics.median(without[1:]), statistics.median(whole[1:])


def command(words: list[str], runs: int, before: Callable[[], object] = lambda: None) -> float:
    """Median seconds of a whole process; the first run, which fills caches, is not counted."""
    took = []
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(runs + 1):
        before()
        start = time.perf_counter()
        subprocess.run(words, check=False, capture_output=True, env=environment)
        took.append(time.perf_counter() - start)
    return statistics.median(took[1:])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", nargs="?", default=str(DEMO))
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    without, whole = in_process(arguments.path, arguments.runs)
    labgate = [sys.executable, "-m", "labgate", "check", arguments.path, "--no-resolve", "--no-color"]
    cold = command(labgate, arguments.runs)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "bundle"
        shutil.copytree(arguments.path, copy)
        ruff = command(["ruff", "check", "--isolated", "--no-cache", str(copy)], arguments.runs)

        def forget() -> None:
            for cache in copy.rglob("__pycache__"):
                shutil.rmtree(cache)

        compileall = command([sys.executable, "-m", "compileall", "-q", str(copy)], arguments.runs, forget)
    other = ruff + compileall
    print(f"bundle                                   {arguments.path}")
    print(f"in process, besides composing configs    {1000 * without:7.0f} ms")
    print(f"in process, with composing configs       {1000 * whole:7.0f} ms")
    print(f"cold command, without resolution         {1000 * cold:7.0f} ms")
    print(
        f"ruff check + compileall, same files      {1000 * other:7.0f} ms ({ruff:.3f} s + {compileall:.3f} s)"
    )
    print(f"ratio, cold command to ruff + compileall {cold / other:7.1f}")
    print(f"ratio, in process to ruff + compileall   {without / other:7.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
