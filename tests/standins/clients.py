"""Environments with the official clients in them, made by uv and kept from one test session to the next."""

import fcntl
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import platformdirs

FOLDER = Path(os.environ.get("LABGATE_CLIENTS") or platformdirs.user_cache_path("labgate") / "clients")
"""Where they lie; a few hundred megabytes."""


@lru_cache
def interpreter(name, *requirements, upgrade=False):
    """The Python of an environment that holds these requirements; `upgrade` looks for newer ones."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = FOLDER / name
    python, made = folder / "bin" / "python", folder / ".made"
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test processes want it, too
        if not python.exists():
            _uv("venv", "--python", sys.executable, folder)
        if upgrade or not made.exists():
            _uv("pip", "install", "--python", python, *(["--upgrade"] if upgrade else []), *requirements)
            made.touch()
    return python


def wandb(version):
    """The Python that has this wandb; "newest" is today's."""
    if version == "newest":
        return interpreter("wandb-newest", "wandb", "numpy", "pandas", upgrade=True)
    old = tuple(map(int, version.split("."))) < (0, 18)
    return interpreter(
        f"wandb-{version}", f"wandb=={version}", "numpy<2" if old else "numpy", "setuptools<80"
    )


def environment(folder, *variables):
    """An environment in which a client finds nothing of ours but what it is told, its files in `folder`."""
    home = {"HOME": str(folder), "PATH": os.defpath, "PYTHONIOENCODING": "utf-8", "LANG": "C.UTF-8"}
    home |= {
        name: str(folder / name.lower()) for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
    }
    for path in list(home.values())[-3:]:
        Path(path).mkdir(parents=True, exist_ok=True)
    for each in variables:
        home |= each
    return home


def _uv(*arguments):
    command = ["uv", *map(str, arguments), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
