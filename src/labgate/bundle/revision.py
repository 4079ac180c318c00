"""Reading a git revision from the object store: nothing is checked out, fetched or run."""

from __future__ import annotations

import os
import posixpath
import subprocess
from datetime import date as Date
from pathlib import Path

from labgate.bundle.files import (
    MOST_BYTES,
    MOST_FILES,
    Attention,
    File,
    UnreadableError,
    attention_to,
    file_from,
    safe_path,
)
from labgate.bundle.folder import largest

_SECONDS = 60
_REGULAR = ("100644", "100755", "100664")
_LINK = "120000"


def split_spec(spec: str) -> tuple[Path, str] | None:
    """`repo@rev` in two, when what stands before some `@` is a folder; the longest such folder wins."""
    cuts = [at for at, letter in enumerate(spec) if letter == "@"]
    for at in reversed(cuts):
        folder = Path(spec[:at])
        if at and spec[at + 1 :] and folder.is_dir():
            return folder, spec[at + 1 :]
    return None


def read_revision(repository: Path, revision: str) -> tuple[dict[str, File], bool, Date]:
    """Files by path, whether there were more than may be listed, and the commit's date.

    `repository` is a work tree, a folder inside one, or a git directory. Raises UnreadableError.
    """
    git_dir, prefix = _git_dir(repository)
    # A revision that begins with a dash would be an option.
    if revision.startswith("-"):
        raise UnreadableError(f"{repository} has no revision {revision!r}")
    asked = f"{revision}^{{commit}}"
    commit = _git(git_dir, "rev-parse", "--verify", "--quiet", "--end-of-options", asked).decode().strip()
    if not commit:
        raise UnreadableError(f"{repository} has no revision {revision!r}")
    day = Date.fromisoformat(_git(git_dir, "log", "-1", "--format=%cs", commit).decode().strip())
    tree = f"{commit}:{prefix}"
    listing = _git(git_dir, "ls-tree", "-r", "-z", "-l", tree)
    if not listing:
        raise UnreadableError(f"{repository} holds no files at {revision!r}")
    entries: dict[str, tuple[str, str, str]] = {}
    files: dict[str, File] = {}
    cut = False
    for line in listing.split(b"\0")[:-1]:
        about, _, raw = line.partition(b"\t")
        mode, kind, object_id, size = about.decode().split()
        path = safe_path(raw.decode("utf-8", "backslashreplace"), str(repository))
        if attention_to(path) is Attention.SKIP:
            continue
        if len(entries) >= MOST_FILES:
            cut = True
            break
        entries[path] = (mode if kind == "blob" else kind, object_id, size)
    links = [object_id for mode, object_id, _ in entries.values() if mode == _LINK]
    targets = _blobs(git_dir, links)
    wanted: dict[str, str] = {}
    left = MOST_BYTES
    for path, (mode, object_id, size) in entries.items():
        at = path
        if mode == _LINK:
            at = _target(path, targets.get(object_id, b""))
            if at not in entries or entries[at][0] not in _REGULAR:
                out = at.startswith(("../", "/")) or at == ".."
                files[path] = File(
                    path, problem="is a link out of the tree" if out else "is a link that is not followed"
                )
                continue
            mode, object_id, size = entries[at]
        if mode not in _REGULAR or attention_to(path) is Attention.LIST:
            files[path] = File(path, listed=True)
        elif int(size) > min(left, largest(path)):
            files[path] = File(path, problem=f"is larger than {min(left, largest(path)) // 1024 // 1024} MiB")
        else:
            wanted[path] = object_id
            left -= int(size)
    blobs = _blobs(git_dir, list(wanted.values()))
    for path, object_id in wanted.items():
        data = blobs.get(object_id)
        missing = File(path, problem="is absent from the repository's objects")
        files[path] = missing if data is None else file_from(path, data, largest(path))
    return files, cut, day


def _target(path: str, target: bytes) -> str:
    told = target.decode("utf-8", "backslashreplace")
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), told))


def _git_dir(folder: Path) -> tuple[Path, str]:
    """The git directory that `folder` belongs to, and where in its tree `folder` lies."""
    if (folder / "HEAD").is_file() and (folder / "objects").is_dir():
        return folder, ""
    whole = folder.resolve()
    for parent in (whole, *whole.parents):
        if (parent / ".git").exists():
            prefix = whole.relative_to(parent).as_posix()
            return parent / ".git", "" if prefix == "." else prefix
    raise UnreadableError(f"{folder} is no git repository")


def _blobs(git_dir: Path, object_ids: list[str]) -> dict[str, bytes]:
    if not object_ids:
        return {}
    asked = "".join(f"{object_id}\n" for object_id in dict.fromkeys(object_ids)).encode()
    out = _git(git_dir, "cat-file", "--batch", send=asked)
    found: dict[str, bytes] = {}
    position = 0
    while (end := out.find(b"\n", position)) >= 0:
        words = out[position:end].decode("ascii", "replace").split()
        position = end + 1
        if len(words) == 3 and words[2].isdigit():
            size = int(words[2])
            found[words[0]] = out[position : position + size]
            position += size + 1
    return found


def _git(git_dir: Path, *arguments: str, send: bytes = b"") -> bytes:
    """What git prints, nothing where it refuses quietly. Raises UnreadableError with its first line."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    # Objects that a partial clone lacks must not be fetched: reading reaches for no network.
    quiet = {"GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    command = [
        "git",
        "--no-replace-objects",
        "-c",
        "protocol.allow=never",
        f"--git-dir={git_dir}",
        *arguments,
    ]
    try:
        done = subprocess.run(
            command, input=send, capture_output=True, env={**kept, **quiet}, timeout=_SECONDS, check=False
        )
    except FileNotFoundError:
        raise UnreadableError("git is not installed, and a revision needs it") from None
    except subprocess.TimeoutExpired:
        raise UnreadableError(f"git gave no answer about {git_dir} within {_SECONDS} seconds") from None
    if done.returncode and done.stderr:
        reason = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise UnreadableError(f"{git_dir}: {reason}")
    return b"" if done.returncode else done.stdout
