"""What `ruff` says of the sources: undefined names, unused imports, definitions that shadow others."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from labgate.bundle import Bundle
from labgate.checks import CannotLookError

RULES = "F401,F811,F821"
LONGEST_S = 20.0


@dataclass(frozen=True)
class Complaint:
    """One line of ruff's: `rule` at `path`, 1-based `line` and `column`; `name` is what it is about."""

    rule: str
    path: str
    line: int
    column: int
    name: str


@lru_cache(maxsize=4)
def complaints(bundle: Bundle) -> tuple[Complaint, ...]:
    """The complaints about all sources that parse, by one call. Raises CannotLookError without ruff."""
    texts = {source.path: source.text for source in bundle.sources.values() if source.tree is not None}
    if not texts:
        return ()
    try:
        import ruff  # type: ignore[import-untyped]

        program = ruff.find_ruff_bin()
    except (ImportError, FileNotFoundError) as error:
        raise CannotLookError(f"ruff is not there to look for undefined names: {error}") from error
    with tempfile.TemporaryDirectory(prefix="labgate-") as folder:
        root = Path(folder).resolve()
        for path, text in texts.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8", newline="")
        words = [program, "check", "--isolated", "--no-cache", "--no-respect-gitignore", "--exit-zero"]
        words += ["--select", RULES, "--target-version", "py311", "--output-format", "json", str(root)]
        try:
            said = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST_S, check=False)
            entries = json.loads(said.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise CannotLookError(f"ruff could not look for undefined names: {error}") from error
    return tuple(
        Complaint(
            str(entry["code"]),
            Path(entry["filename"]).relative_to(root).as_posix(),
            entry["location"]["row"],
            entry["location"]["column"],
            _named(entry["message"]),
        )
        for entry in entries
        if entry.get("code") in RULES.split(",")
    )


def _named(message: str) -> str:
    """What stands between the first pair of backticks."""
    found = re.search(r"`([^`]*)`", message)
    return found[1] if found else message
