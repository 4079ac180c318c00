"""How long the hub takes: to stand, to make a twin, to serve it from the store.

`uv run python benchmarks/standins/hub.py --python ENV/bin/python`, where ENV has torch, transformers and
pyarrow. Bounds: first answer 1 s after the start, a twin made in 5 s, served in 0.5 s from the store.
Each time is wall clock, from the first request to the last byte. "Made" includes the start of the interpreter
that makes twins and its import of torch. "Made, beside" is what an experiment waits that imports torch and
transformers itself, for as long, before it asks: the hub's interpreter does so meanwhile (`Hub(warm=True)`).
"Made, warm" is the second twin of a rehearsal.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from labgate.standins.hub import Hub

FILES = {
    "roberta-base": "roberta-base/resolve/main/model.safetensors",
    "gpt2": "gpt2/resolve/main/model.safetensors",
    "Qwen/Qwen2.5-0.5B": "Qwen/Qwen2.5-0.5B/resolve/main/model.safetensors",
    "google/vit-base-patch16-224": "google/vit-base-patch16-224/resolve/main/model.safetensors",
    "microsoft/resnet-50": "microsoft/resnet-50/resolve/main/model.safetensors",
    "imdb": "datasets/imdb/resolve/main/plain_text/train-00000-of-00001.parquet",
    "cifar10": "datasets/cifar10/resolve/main/plain_text/train-00000-of-00001.parquet",
    "glue": "datasets/glue/resolve/main/sst2/train-00000-of-00001.parquet",
}
EXPERIMENT = "import torch, transformers; transformers.AutoModelForSequenceClassification"
# A proxy that is set for this shell is not asked for a server of our own.
OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def fetch(hub: Hub, path: str) -> float:
    """Seconds until all of it is there."""
    start = time.perf_counter()
    with OPEN(f"{hub.url}/{path}") as answer:
        while answer.read(1 << 20):
            pass
    return time.perf_counter() - start


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", required=True, help="an interpreter with torch, transformers and pyarrow")
    python = [parser.parse_args().python]
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        store, starts = Path(folder), []
        for _ in range(5):
            start = time.perf_counter()
            with Hub(store, python) as hub:
                fetch(hub, "spaces/evaluate-metric/accuracy/resolve/main/accuracy.py")
                starts.append(time.perf_counter() - start)
        print(f"start to first answer: {statistics.median(starts):.2f} s (median of 5; load {load:.1f})\n")
        print("| twin | made | made, beside | made, warm | stored |\n|---|---:|---:|---:|---:|")
        with Hub(store / "warm", python) as warm:
            fetch(warm, FILES["gpt2"])
            for name, path in FILES.items():
                with Hub(store / name.replace("/", "-"), python) as hub:
                    made = fetch(hub, path)
                with Hub(store / "beside" / name.replace("/", "-"), python, warm=True) as hub:
                    subprocess.run([*python, "-c", EXPERIMENT], check=True, capture_output=True)
                    beside = fetch(hub, path)
                again = fetch(warm, path)
                with Hub(store / name.replace("/", "-"), python) as hub:
                    stored = fetch(hub, path)
                print(f"| {name} | {made:.2f} | {beside:.2f} | {again:.2f} | {stored:.2f} |", flush=True)


if __name__ == "__main__":
    main()
