"""The process that makes what is heavy in a twin, run by the experiment's own interpreter.

It needs the standard library alone and runs on Python 3.8 and later; what it imports besides (torch,
transformers, pyarrow) is what the experiment will import. One job is one line of JSON on standard input, one
answer one line on standard output: `{"done": ...}`, `{"absent": why}` when the experiment's libraries know no
such thing, or `{"fault": traceback}`. The first line out tells the versions.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from contextlib import suppress
from importlib import metadata
from typing import Any

LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow")


class AbsentError(Exception):
    """The experiment's libraries have no such thing; the same code would not find it either."""


def versions() -> dict[str, str]:
    """What decides the bytes of a twin."""
    found = {"python": "{}.{}".format(*sys.version_info[:2])}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def answer(job: dict[str, Any]) -> dict[str, object]:
    """Do one job: `what` names the module of this folder whose `make` is called; or `import` some."""
    try:
        if "import" in job:
            for name in job["import"]:
                with suppress(ImportError):  # the job that needs it will say so
                    importlib.import_module(name)
            return {"done": {}}
        return {"done": importlib.import_module(job["what"]).make(job)}
    except Exception as error:
        # A job's module finds this class under another name than `__main__` does.
        if type(error).__name__ == AbsentError.__name__:
            return {"absent": str(error)}
        return {"fault": traceback.format_exc()}


def main() -> None:
    """Answer until standard input ends. What libraries print goes to standard error."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(words: dict[str, object]) -> None:
        out.write(json.dumps(words) + "\n")
        out.flush()

    say({"versions": versions()})
    for line in sys.stdin:
        say(answer(json.loads(line)))


if __name__ == "__main__":
    main()
