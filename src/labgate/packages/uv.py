"""The one door to the package registry: `uv`, run as a child, with the user's own settings for indexes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any


class UvMissingError(RuntimeError):
    """The `uv` program is not there, or cannot be started."""


@dataclass(frozen=True)
class Said:
    """What a `uv` command answered. `code` is None when it ran out of time."""

    code: int | None
    out: str
    err: str


def cache_folder() -> Path:
    """Where labgate keeps what it has looked up: `LABGATE_CACHE`, else the user's cache folder."""
    import platformdirs  # which who looks nothing up need not wait for

    return Path(os.environ.get("LABGATE_CACHE") or platformdirs.user_cache_dir("labgate"))


@cache
def known() -> Mapping[str, Any]:
    """The tables of `known.toml`."""
    return tomllib.loads((resources.files(__package__) / "known.toml").read_text(encoding="utf-8"))


def ask(arguments: Sequence[str], *, stdin: str = "", timeout: float, **environment: str) -> Said:
    """Run `uv` in an empty folder, so that no project's settings apply. Raises UvMissingError."""
    words = [
        program(),
        *arguments,
        "--quiet",
        "--no-progress",
        "--color",
        "never",
        "--python",
        sys.executable,
    ]
    surroundings = {
        k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "UV_PROJECT", "UV_WORKING_DIR")
    }
    with tempfile.TemporaryDirectory(prefix="labgate-uv-") as empty:
        try:
            done = subprocess.run(
                words,
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                cwd=empty,
                env={**surroundings, **environment},
                timeout=max(timeout, 0.1),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Said(None, "", f"no answer within {timeout:.0f} s")
        except OSError as error:
            raise UvMissingError(f"uv cannot be started: {error.strerror or error}") from None
    return Said(done.returncode, done.stdout, without_addresses(done.stderr))


def without_addresses(text: str) -> str:
    """`text` with each URL and each absolute path cut out: reports travel further than settings should."""
    text = re.sub(r"\b(?:https?|file)://[^\s`'\"),]+", "<the registry>", text)
    return re.sub(r"(?<![\w.<])/(?:[\w.+@-]+/)+[\w.+@-]*", "<a path>", text)


@cache
def program() -> str:
    """The path of `uv`. Raises UvMissingError."""
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise UvMissingError("the uv program is not installed beside labgate") from None
