"""What was asked of a stand-in and what it answered: every exchange numbered, kept, and free of secrets."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

TEXT = 2_000
"""Characters of a request or an answer that are kept."""
KEPT = 50_000
"""Exchanges held in memory, the newest; a file holds them all."""

_SECRETS = re.compile(
    r"""(?ix)
    \b ( hf_[a-z0-9]{16,} | wandb_v\d_[a-z0-9_]{16,} | sk-[a-z0-9_-]{16,} | gh[pousr]_[a-z0-9]{16,} ) \b
    | (?<= :// ) [^/@\s"']+ (?= @ )
    | (?<= \b bearer \s ) \S+ | (?<= \b basic \s ) \S+
    """
)
_NAMED = re.compile(
    r"""(?ix)
    ( [\w.-]* (?: api[_-]?key | passw(?:or)?d | secret | authorization | (?: access | auth )[_-]?token ) \w*
      \\? ["']? \s* [:=] \s* )
    ( \\" [^"\\]* \\" | " (?: [^"\\] | \\. )* " | ' [^']* ' | [^\s,&}"'\\]+ )
    """
)


@dataclass(frozen=True)
class Exchange:
    """One request and its answer.

    `time` is when the request came, in seconds since 1970; `standin` names who answered ("wandb", "hub");
    `client` is the User-Agent; `target` a path with its query, or host and port of a CONNECT. `asked` says in
    the protocol's words what was wanted, such as a GraphQL operation; `request` and `answer` are the first
    characters of the bodies. `status` is 0 when the client went away. `answered` is false where labgate has
    no answer: then nothing may be concluded about the code.
    """

    number: int
    time: float
    standin: str
    client: str
    method: str
    target: str
    request: str
    status: int
    answer: str
    answered: bool = True
    note: str = ""
    asked: str = ""

    def __str__(self) -> str:
        line = " ".join(part for part in (f"#{self.number}", self.method, self.target, self.asked) if part)
        line = f"{line} -> {self.status or 'client went away'}"
        if not self.answered:
            line += ", unanswered"
        return f"{line} ({self.note})" if self.note else line


class Ledger:
    """The exchanges of one or several stand-ins, in the order of their answers; safe among threads.

    With a `path`, each is appended to that file as a line of JSON as soon as it is over.
    """

    def __init__(self, path: Path | None = None, keep: int = KEPT) -> None:
        self._lock = threading.Lock()
        self._exchanges: deque[Exchange] = deque(maxlen=keep)
        self._unanswered: deque[Exchange] = deque(maxlen=keep)
        self._count = 0
        self._file: IO[str] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")

    def record(
        self,
        standin: str,
        method: str,
        target: str,
        *,
        at: float | None = None,
        client: str = "",
        asked: str = "",
        request: str = "",
        status: int = 0,
        answer: str = "",
        answered: bool = True,
        note: str = "",
        secrets: tuple[str, ...] = (),
    ) -> Exchange:
        """Number and keep an exchange. What `secrets` holds, and what looks like a key, is blacked out."""

        def clean(text: str, length: int = TEXT) -> str:
            return bounded(without_secrets(text, secrets), length)

        with self._lock:
            self._count += 1
            exchange = Exchange(
                number=self._count,
                time=time.time() if at is None else at,
                standin=standin,
                client=clean(client, 200),
                method=clean(method, 20),
                target=clean(target, 500),
                request=clean(request),
                status=status,
                answer=clean(answer),
                answered=answered,
                note=clean(note),
                asked=clean(asked, 200),
            )
            self._exchanges.append(exchange)
            if not answered:
                self._unanswered.append(exchange)
            if self._file is not None:
                self._file.write(json.dumps(asdict(exchange), ensure_ascii=False) + "\n")
                self._file.flush()
        return exchange

    def __iter__(self) -> Iterator[Exchange]:
        with self._lock:
            return iter(tuple(self._exchanges))

    def __len__(self) -> int:
        """How many there were, those no longer held in memory included."""
        return self._count

    def unanswered(self) -> tuple[Exchange, ...]:
        """Those to which labgate had no answer."""
        with self._lock:
            return tuple(self._unanswered)

    def close(self) -> None:
        """Close the file; a later `record` is kept in memory only."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def read(path: Path) -> tuple[Exchange, ...]:
    """The exchanges of a ledger's file. A last line that was cut short, by a kill, is left out."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        return tuple(Exchange(**json.loads(line)) for line in lines if line.endswith("\n"))


def without_secrets(text: str, secrets: tuple[str, ...] = ()) -> str:
    """`text` with known secrets, well-known kinds of keys and the values of telling names blacked out."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return _NAMED.sub(r"\1***", _SECRETS.sub("***", text))


def bounded(text: str, length: int = TEXT) -> str:
    """`text`, or its beginning and how much was left out."""
    if len(text) <= length:
        return text
    return f"{text[:length]}… (+{len(text) - length} characters)"
