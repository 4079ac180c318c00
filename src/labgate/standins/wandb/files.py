"""The files of runs: rows in the store, contents in a folder beside it, each under the name of its digest."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from labgate.standins.wandb.store import Store


@dataclass(frozen=True)
class File:
    """A file of a run:

    `size` in bytes, `md5` in base64, `content` the name of the file that holds it, `updated` in seconds since
    1970.
    """

    id: int
    run: int
    name: str
    size: int
    md5: str
    content: str
    mimetype: str
    updated: float


async def save(store: Store, run: int, name: str, chunks: AsyncIterator[bytes]) -> File:
    """Keep what is uploaded under `name`, in the place of what was there."""
    store.folder.mkdir(parents=True, exist_ok=True)
    md5, digest, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    descriptor, temporary = tempfile.mkstemp(dir=store.folder, prefix="upload-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            async for chunk in chunks:
                md5.update(chunk)
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
        Path(temporary).replace(store.folder / digest.hexdigest())
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    md5_text = base64.b64encode(md5.digest()).decode()
    return await run_in_threadpool(_enter, store, run, name, size, md5_text, digest.hexdigest())


def _enter(store: Store, run: int, name: str, size: int, md5: str, content: str) -> File:
    mimetype = mimetypes.guess_type(name)[0] or "application/octet-stream"
    with store.transaction():
        store.execute(
            "INSERT INTO file (run, name, size, md5, content, mimetype, updated) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (run, name) DO UPDATE SET size = excluded.size, md5 = excluded.md5,"
            " content = excluded.content, updated = excluded.updated",
            (run, name, size, md5, content, mimetype, time.time()),
        )
        (file,) = of_run(store, run, [name])
        return file


def of_run(store: Store, run: int, names: Sequence[str] = (), pattern: str | None = None) -> list[File]:
    """A run's files by name: those in `names`, or those like `pattern` (SQL's LIKE), or all."""
    rows = store.all("SELECT * FROM file WHERE run = ? ORDER BY name", (run,))
    found = [File(*row) for row in rows]
    if names:
        return [file for file in found if file.name in names]
    if pattern:
        like = "".join({"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in pattern)
        return [file for file in found if re.fullmatch(like, file.name, re.IGNORECASE | re.DOTALL)]
    return found


def path_of(store: Store, file: File) -> Path:
    """Where a file's bytes lie."""
    return store.folder / file.content


def delete(store: Store, ids: Sequence[int]) -> int:
    """Forget files; the bytes stay until the store is removed. Returns how many there were."""
    with store.transaction():
        return sum(store.execute("DELETE FROM file WHERE id = ?", (id,)) for id in ids)
