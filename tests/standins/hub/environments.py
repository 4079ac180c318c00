"""Environments with real clients, made by uv once and kept."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

TORCH = "torch==2.13.0"
GENERATIONS = {
    "newest": [
        *(TORCH, "transformers", "datasets", "evaluate", "huggingface_hub", "peft", "accelerate"),
        *("scikit-learn", "scipy", "pillow", "rouge_score", "sacrebleu"),
    ],
    "2024": [
        *(TORCH, "transformers==4.44.2", "datasets==2.21.0", "evaluate==0.4.3", "huggingface_hub==0.24.7"),
        *("peft==0.12.0", "accelerate==0.33.0", "numpy<2", "pyarrow<18", "scikit-learn<1.6", "pillow"),
        *("scipy<1.15", "rouge_score", "sacrebleu"),
    ],
}


def interpreter(generation):
    """The Python of that generation's environment; made now if it is not there."""
    packages = GENERATIONS[generation]
    key = hashlib.sha256("\n".join(packages).encode()).hexdigest()[:12]
    cache = os.environ.get("LABGATE_CLIENTS") or Path.home() / ".cache" / "labgate" / "clients"
    folder = Path(cache) / f"hub-{generation}-{key}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        # A machine may have its own wheels, of a torch without CUDA for one; pip is told where by this name.
        links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")
        environment = {**os.environ, **({"UV_FIND_LINKS": links} if links else {})}
        environment.pop("VIRTUAL_ENV", None)
        for command in (
            ["uv", "venv", "--quiet", "--python", "3.11", str(folder)],
            ["uv", "pip", "install", "--quiet", "--python", str(python), *packages],
        ):
            subprocess.run(command, check=True, env=environment)
        (folder / "complete").touch()
    return python
