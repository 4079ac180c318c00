"""The process that makes what is heavy in twins, as the gate holds it: one child, one job after the other."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

WORKER = Path(__file__).parent / "making" / "worker.py"
PASSED = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""What the child sees of our environment; no keys, no proxies."""


HEAVY = ("torch", "transformers.models.auto.modeling_auto", "pyarrow.parquet")
"""What takes seconds to import."""


class AbsentError(Exception):
    """The experiment's libraries have no such class, or are not installed: its own code would fail too."""


class BuilderError(RuntimeError):
    """Our own failure: the child did not start, died, or could not do what it should."""


class Builder:
    """`python` is the command that starts the experiment's interpreter; nothing starts before it is needed.

    Safe among threads, which take turns.
    """

    def __init__(self, python: Sequence[str]) -> None:
        self._python = tuple(python)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stderr: IO[bytes] | None = None
        self._versions: Mapping[str, str] | None = None
        self._closed = False

    def warm(self) -> None:
        """Start the child and have it import what takes long, without waiting for it."""

        def begin() -> None:
            with suppress(BuilderError), self._lock:  # whoever asks for a twin will be told
                if not self._closed:
                    self._ask({"import": HEAVY})

        threading.Thread(target=begin, daemon=True).start()

    def versions(self) -> Mapping[str, str]:
        """Versions of what decides the bytes of a twin, by name. Raises BuilderError."""
        if self._versions is None:
            with self._lock:
                if self._versions is None:
                    self._start()
        assert self._versions is not None
        return self._versions

    def make(self, job: Mapping[str, object]) -> Mapping[str, Any]:
        """Do `job`, described in the modules of `making/`. Raises AbsentError and BuilderError."""
        with self._lock:
            answer = self._ask(job)
        if "absent" in answer:
            raise AbsentError(answer["absent"])
        if "fault" in answer:
            raise BuilderError(f"a twin could not be made: {answer['fault']}")
        done: Mapping[str, Any] = answer["done"]
        return done

    def close(self) -> None:
        """End the child; a later job would start another."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()  # before the lock: a job may be under way
        with self._lock:
            self._end()

    def _ask(self, job: Mapping[str, object]) -> dict[str, Any]:
        if self._process is None:
            self._start()
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        return self._read()

    def _start(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        environment = {name: os.environ[name] for name in PASSED if name in os.environ}
        try:
            self._process = subprocess.Popen(
                [*self._python, "-I", "-B", "-X", "utf8", str(WORKER)],
                cwd="/",
                env={**environment, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
        except OSError as error:
            raise BuilderError(f"{self._python[0]} cannot be started: {error.strerror or error}") from error
        self._versions = self._read()["versions"]

    def _read(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise self._died() from None
        return answer

    def _died(self) -> BuilderError:
        process = self._process
        status = None
        if process is not None:
            with suppress(subprocess.TimeoutExpired):
                status = process.wait(2)
        complaint = ""
        if self._stderr is not None:
            self._stderr.seek(0)
            complaint = self._stderr.read().decode("utf-8", "replace").strip()[-500:]
        self._end()
        return BuilderError(f"the process that makes twins ended with status {status}: {complaint}")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None
