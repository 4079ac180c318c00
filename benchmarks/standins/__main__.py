"""How fast the W&B stand-in is: `uv run python benchmarks/standins`. Needs uv, and the package index once."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "standins"))

import clients  # noqa: E402
from servers import Process  # noqa: E402

LONG = """
import json, sys, time
import wandb
steps, metrics = int(sys.argv[1]), int(sys.argv[2])
start = time.time()
run = wandb.init(project="bench", entity="team", id="long")
for step in range(steps):
    wandb.log({f"m{number}": step / (number + 3) for number in range(metrics)})
logged = time.time()
wandb.finish()
print(json.dumps({"log": logged - start, "finish": time.time() - logged}))
"""
SCAN = """
import json, sys, time
import wandb
run = wandb.Api().run("team/bench/long")
start = time.time()
rows = sum(1 for _ in run.scan_history())
scanned = time.time()
sampled = len(run.history(pandas=False))
print(json.dumps({"rows": rows, "scan": scanned - start, "history": time.time() - scanned}))
"""
RUNS = """
import json, sys, time
import wandb
spent = []
for number in range(int(sys.argv[1])):
    start = time.time()
    run = wandb.init(project="bench", entity="team", id=f"r{number}", mode=sys.argv[2])
    for step in range(100):
        wandb.log({"loss": step / 7})
    wandb.finish()
    spent.append(time.time() - start)
print(json.dumps(spent))
"""


def main() -> int:
    """Measure and print. Returns 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", default="newest", help="of wandb")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--metrics", type=int, default=20)
    options = parser.parse_args()
    python = clients.wandb(options.version)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        starts = [_start(folder / f"start{number}.db") for number in range(5)]
        server = Process(folder / "runs.db")
        env = clients.environment(folder, server.env())

        def run(script: str, *arguments: object) -> object:
            command = [python, "-c", script, *map(str, arguments)]
            done = subprocess.run(
                command, env=env, cwd=folder, capture_output=True, text=True, timeout=600, check=True
            )
            return json.loads(done.stdout.splitlines()[-1])

        written = run(LONG, options.steps, options.metrics)
        scans = [run(SCAN) for _ in range(3)]
        online, offline = run(RUNS, 8, "online"), run(RUNS, 8, "offline")
        server.end()
    assert all(scan["rows"] == options.steps for scan in scans), scans
    scan = statistics.median(each["scan"] for each in scans)
    # The first run of a process starts the client's own service.
    overhead = statistics.median(online[1:]) - statistics.median(offline[1:])
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"wandb {options.version}, Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {load}")
    print(f"start to first answer        {statistics.median(starts):6.2f} s  (target 1.0)")
    print(f"log {options.steps} x {options.metrics}              {written['log']:6.2f} s, the client's own")
    print(f"finish                       {written['finish']:6.2f} s")
    print(f"scan_history                 {scan:6.2f} s  (target 3.0)")
    print(f"history                      {statistics.median(each['history'] for each in scans):6.2f} s")
    print(f"a run online beyond offline  {overhead:6.2f} s  (target 0.3)")
    return int(statistics.median(starts) > 1 or scan > 3 or overhead > 0.3)


def _start(store: Path) -> float:
    """Seconds from starting the process to its first answer."""
    start = time.monotonic()
    server = Process(store)
    body = json.dumps({"query": "{ viewer { id } }"}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}/graphql", body)) as answer:
        answer.read()
    spent = time.monotonic() - start
    server.end()
    return spent


if __name__ == "__main__":
    sys.exit(main())
