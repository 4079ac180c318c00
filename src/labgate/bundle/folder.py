"""Reading a folder: what matters is read, what else there is is listed, and nothing outside it is touched."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from labgate.bundle.files import (
    LARGEST_FILE,
    LARGEST_HISTORY,
    MOST_BYTES,
    MOST_FILES,
    Attention,
    File,
    attention_to,
    file_from,
)
from labgate.bundle.promise import HISTORY

# Read before whatever else the folder may be full of, so that the bounds never cost the experiment itself.
_FIRST = ("src", "config")


def read_folder(root: Path) -> tuple[dict[str, File], bool]:
    """Files by path, and whether there were more than a bundle may list. Raises OSError for `root` alone."""
    files: dict[str, File] = {}
    left = MOST_BYTES
    inside = root.resolve()
    for path, entry in _walk(root):
        if len(files) >= MOST_FILES:
            return files, True
        if path in files:
            continue
        file = _read(inside, path, Path(entry.path), min(left, largest(path)))
        left -= len(file.data)
        files[path] = file
    return files, False


def largest(path: str) -> int:
    """Bytes that `path` may have: a research history holds whole papers."""
    return LARGEST_HISTORY if path == HISTORY else LARGEST_FILE


def _walk(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything that is no folder, what matters first; folders are never entered through a link."""

    def rank(entry: os.DirEntry[str]) -> tuple[bool, bool, bool, str]:
        folder = entry.is_dir(follow_symlinks=False)
        return entry.name not in _FIRST, folder, entry.name != ".research", entry.name

    top = sorted(os.scandir(root), key=rank)
    todo = [(entry.name, entry) for entry in reversed(top)]
    while todo:
        path, entry = todo.pop()
        if attention_to(path) is Attention.SKIP:
            continue
        try:
            if not entry.is_dir(follow_symlinks=False):
                yield path, entry
                continue
            inner = sorted(
                os.scandir(entry.path), key=lambda one: (f"{path}/{one.name}" != HISTORY, one.name)
            )
        except OSError:
            yield path, entry
            continue
        if any(one.name == "pyvenv.cfg" for one in inner):
            continue
        todo.extend((f"{path}/{one.name}", one) for one in reversed(inner))


def _read(root: Path, path: str, at: Path, most: int) -> File:
    shown = path.encode("utf-8", "backslashreplace").decode()
    try:
        status = at.lstat()
        if stat.S_ISLNK(status.st_mode):
            target = at.resolve(strict=True)
            if not target.is_relative_to(root):
                return File(shown, problem="is a link out of the tree")
            if target.is_dir():
                return File(shown, problem="is a link to a folder, which is not followed")
            at, status = target, target.lstat()
        if stat.S_ISDIR(status.st_mode):
            return File(shown, problem="is a folder that cannot be opened")
        if not stat.S_ISREG(status.st_mode):
            return File(shown, problem="is no regular file but a pipe, a socket or a device")
        if attention_to(path) is Attention.LIST:
            return File(shown, listed=True)
        if status.st_size > most:
            return File(shown, problem=f"is larger than {most // 1024 // 1024} MiB")
        # Whatever the name has come to mean since it was looked at: no link is followed, no pipe waited for.
        with os.fdopen(os.open(at, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return File(shown, problem="is no regular file but a pipe, a socket or a device")
            return file_from(shown, stream.read(most + 1), most)
    except FileNotFoundError:
        return File(shown, problem="is a link that leads nowhere")
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "its links form a loop"
        return File(shown, problem=f"cannot be read: {reason}")
