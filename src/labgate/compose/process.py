"""The child process that composes configs: started when needed, watched by a clock, killed without regret."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

START = 30.0
"""Seconds that a child may take to import Hydra on a busy machine."""
OUT_OF_MEMORY = 77


class ComposerError(RuntimeError):
    """Our own child failed: nothing is known about the bundle."""


class GaveUpError(Exception):
    """The child was killed, or died, over a request. `kind` is "Timeout", "Memory" or "Crash"."""

    def __init__(self, kind: str, says: str) -> None:
        super().__init__(says)
        self.kind = kind


class Child:
    """A process that composes; a context manager. One may serve many bundles, one request after the other.

    It has no environment, `memory` bytes, and `timeout` seconds for a request; after a request that cost it
    its life the next one gets a fresh process.
    """

    def __init__(self, timeout: float = 10.0, memory: int = 1 << 30) -> None:
        self.timeout = timeout
        self.memory = memory
        self.hydra_version = ""
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._pending = b""
        self._greeted = False

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; a later request would start another."""
        with self._lock:
            self._end()

    def kill(self) -> None:
        """End the process at once, even while somebody waits for its answer, who then gets a GaveUpError."""
        child = self._process
        if child is not None:
            child.kill()

    def start(self) -> None:
        """Start the process without waiting for it: importing Hydra takes a while."""
        with self._lock:
            if self._process is None:
                self._start()

    def ask(self, request: Mapping[str, object]) -> dict[str, Any]:
        """The child's answer. Raises GaveUpError when the request killed it, ComposerError when we failed."""
        with self._lock:
            self.start()
            try:
                if not self._greeted:
                    self._greet()
                assert self._process is not None and self._process.stdin is not None
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
                answer: dict[str, Any] = json.loads(self._read(self.timeout))
            except TimeoutError:
                self._end()
                raise GaveUpError("Timeout", f"still busy after {self.timeout:g} s") from None
            except (EOFError, BrokenPipeError):
                raise self._died() from None
            except RecursionError:
                raise GaveUpError("RecursionError", "nested too deeply") from None
            except ValueError as error:
                self._end()
                raise ComposerError(f"the composing child answered what cannot be read: {error}") from error
            return answer

    def _start(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-I", "-X", "utf8", str(Path(__file__).with_name("child.py"))]
        command += [str(self.memory), str(int(self.timeout) + 1)]
        try:
            self._process = subprocess.Popen(
                command,
                cwd="/",
                env={},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,
            )
        except OSError as error:
            raise ComposerError(f"the composing child cannot be started: {error}") from error
        self._pending, self._greeted = b"", False

    def _end(self) -> int | None:
        """Kill the child; its exit status if it had ended by itself."""
        child, self._process = self._process, None
        if child is None:
            return None
        status = child.poll()
        if status is None:
            child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        return status

    def _greet(self) -> None:
        try:
            hello = json.loads(self._read(START))
        except (TimeoutError, EOFError, ValueError) as error:
            self._end()
            raise ComposerError(
                f"the child that composes configs did not start: {self._complaint()}"
            ) from error
        self.hydra_version, self._greeted = hello["hydra"], True

    def _died(self) -> GaveUpError:
        child = self._process
        if child is not None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(1)
        status = self._end()
        if status in (OUT_OF_MEMORY, -signal.SIGKILL):
            return GaveUpError("Memory", f"needs more than {self.memory >> 20} MiB")
        if status == -signal.SIGXCPU:
            return GaveUpError("Timeout", f"still busy after {self.timeout:g} s")
        return GaveUpError("Crash", f"the composing process ended with status {status}: {self._complaint()}")

    def _complaint(self) -> str:
        """The last line that the child wrote to its standard error."""
        if self._stderr is None:
            return ""
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _read(self, seconds: float) -> bytes:
        """The next line of the child. Raises TimeoutError, or EOFError when the child has ended."""
        assert self._process is not None and self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            chunks = [self._pending]
            while b"\n" not in chunks[-1]:
                left = until - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise TimeoutError
                chunk = os.read(descriptor, 1 << 16)
                if not chunk:
                    raise EOFError
                chunks.append(chunk)
        line, _, self._pending = b"".join(chunks).partition(b"\n")
        return line
