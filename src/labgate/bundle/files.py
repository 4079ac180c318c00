"""One file of a bundle, and one Python source: read once, parsed at most once, never executed."""

from __future__ import annotations

import ast
import io
import posixpath
import re
import tokenize
import warnings
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from functools import cached_property

from labgate.bundle.syntax import levels, walked

LARGEST_FILE = 4 * 1024 * 1024
"""Bytes. A larger file is listed with a problem and stays unread."""

LARGEST_HISTORY = 32 * 1024 * 1024
"""Bytes of a research history or a logged call, which hold whole papers."""

MOST_FILES = 5000
MOST_BYTES = 64 * 1024 * 1024
"""What a bundle may list and hold in all."""

LARGEST_SOURCE = 512 * 1024
"""Bytes of Python that are worth a parser's time; hand-written sources are ten times smaller."""

DEEPEST_TREE = 120
"""Levels of a syntax tree that whoever walks it by recursion can rely on; hand-written code has about 30."""

LONGEST_MODULE = 500
"""Dots in one import; CPython's parser takes memory quadratic in them."""

_READ_FOLDERS = ("src", "config", "conf", "configs")
_READ_FILES = ("pyproject.toml", "uv.lock", "requirements*.txt", "setup.py", "setup.cfg", "Dockerfile")
_SKIPPED = (".git", ".venv", "__pycache__", "node_modules", "*_cache", "*.egg-info")
_SKIPPED_AT_TOP = (".cache", "results")

_LINE_END = re.compile(r"\r\n|\r|\n")
_WHOLE_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_IMPORT = re.compile(r"\b(?:import|from)\b[^\n;\\]*(?:\\\r?\n[^\n;\\]*)*")
_LONGEST_QUOTE = 300


class UnreadableError(Exception):
    """There is no experiment to read; the message is one line that says why."""


class BrokenFileError(Exception):
    """A file of the bundle does not parse. `says` is a clause about it, `line` is 1-based, or 0."""

    def __init__(self, path: str, says: str, line: int = 0) -> None:
        super().__init__(f"{path}:{line} {says}" if line else f"{path} {says}")
        self.path = path
        self.says = says
        self.line = line


@dataclass(frozen=True)
class File:
    """A file by its path inside the bundle, with `/` between the parts.

    `problem` is a clause such as "contains NUL bytes". A file that is only `listed` is known by name.
    """

    path: str
    data: bytes = b""
    problem: str | None = None
    listed: bool = False

    @cached_property
    def text(self) -> str | None:
        """The decoded text without a byte-order mark; None for what is unread or no text."""
        if self.listed or (self.problem is not None and not self.data):
            return None
        return decode(self.path, self.data)

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """The lines as Python's tokenizer counts them: a form feed or U+2028 ends none."""
        return tuple(_LINE_END.split(self.text)) if self.text is not None else ()

    def line(self, number: int) -> str:
        """Line `number`, 1-based, without white space around it and cut to a quotable length; "" outside."""
        return quotable(self.lines[number - 1]) if 0 < number <= len(self.lines) else ""


class Attention(Enum):
    """How closely a path is looked at; tools and results leave much that says nothing of the experiment."""

    SKIP = "skip"
    LIST = "list"
    READ = "read"


def attention_to(path: str) -> Attention:
    """What to do with `path`, a file's or a folder's, `/` between its parts."""
    parts = path.split("/")
    if parts[0] in _SKIPPED_AT_TOP or any(fnmatchcase(part, name) for part in parts for name in _SKIPPED):
        return Attention.SKIP
    if parts[0] in _READ_FOLDERS or path == ".research/research_history.json":
        return Attention.READ
    if len(parts) == 1 and any(fnmatchcase(path, name) for name in _READ_FILES):
        return Attention.READ
    if path.endswith(".py") and not parts[0].startswith("."):
        return Attention.READ
    return Attention.LIST


def safe_path(path: str, origin: str) -> str:
    """`path` in its plain form. Raises UnreadableError for one that would lie outside the bundle."""
    plain = posixpath.normpath(path)
    odd = plain.startswith(("/", "../")) or plain in (".", "..") or "\0" in plain or len(plain) > 1000
    if odd:
        raise UnreadableError(f"{origin} names a file that cannot lie in a bundle: {path[:80]!r}")
    return plain


def decode(path: str, data: bytes) -> str | None:
    """UTF-8, or what the coding line of a Python source declares; None when neither fits."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    if path.endswith(".py"):
        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            return data.decode(encoding)
        except (SyntaxError, LookupError, ValueError):
            pass
    return None


def file_from(path: str, data: bytes, most: int = LARGEST_FILE) -> File:
    """A file whose bytes, at most `most`, are at hand, with the problem that they show, if any."""
    if len(data) > most:
        return File(path, problem=f"is larger than {most // 1024 // 1024} MiB")
    if b"\0" in data:
        return File(path, data, "contains NUL bytes")
    if decode(path, data) is None:
        return File(path, data, "is not UTF-8")
    return File(path, data)


def quotable(line: str) -> str:
    line = line.strip()
    return line if len(line) <= _LONGEST_QUOTE else line[: _LONGEST_QUOTE - 1] + "…"


class Source:
    """A Python file. It is parsed when `tree`, `nodes`, `error` or `error_line` is first asked for."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.path = file.path
        self.text = file.text or ""

    def __repr__(self) -> str:
        return f"Source({self.path!r})"

    @cached_property
    def module(self) -> str:
        """The dotted name by which the bundle imports it: `src/train.py` is `src.train`."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def tree(self) -> ast.Module | None:
        """The syntax tree; None when it does not parse, and `error` says why."""
        return self._parsed[0]

    @property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of `tree` in the order of `ast.walk`, gathered once; empty when there is no tree."""
        return self._parsed[1]

    @property
    def error(self) -> str | None:
        """Why there is no tree, as a clause such as "does not parse: invalid syntax"."""
        return self._parsed[2]

    @property
    def error_line(self) -> int:
        """The line, 1-based, that `error` is about, or 0."""
        return self._parsed[3]

    def line(self, number: int) -> str:
        """Line `number`, 1-based, stripped and quotable."""
        return self.file.line(number)

    def segment(self, node: ast.AST) -> str:
        """The words that `node` was parsed from, on one line."""
        return quotable(" ".join(self.words(node).split()))

    def words(self, node: ast.AST) -> str:
        """The very text that `node` was parsed from; "" when it has no place."""
        if getattr(node, "end_lineno", None) is None:
            return ""
        first, last = node.lineno - 1, node.end_lineno - 1  # type: ignore[attr-defined]
        lines = [line.encode() for line in self._whole_lines[first : last + 1]]
        lines[-1] = lines[-1][: node.end_col_offset]  # type: ignore[attr-defined]  # columns count bytes
        lines[0] = lines[0][node.col_offset :]  # type: ignore[attr-defined]
        return b"".join(lines).decode()

    @cached_property
    def _whole_lines(self) -> list[str]:
        return _WHOLE_LINE.findall(self.text)

    @cached_property
    def _parsed(self) -> tuple[ast.Module | None, tuple[ast.AST, ...], str | None, int]:
        if self.file.problem:
            return None, (), self.file.problem, 0
        if len(self.file.data) > LARGEST_SOURCE:
            return None, (), f"is larger than {LARGEST_SOURCE // 1024} KiB, too large to be read as Python", 0
        for found in _IMPORT.finditer(self.text):
            if found[0].count(".") > LONGEST_MODULE:
                line = len(_LINE_END.findall(self.text, 0, found.start())) + 1
                return None, (), f"names a module of more than {LONGEST_MODULE} parts", line
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(self.text, self.path)
        except SyntaxError as error:
            return None, (), f"does not parse: {error.msg}", error.lineno or 0
        except (RecursionError, MemoryError):
            return None, (), "is nested too deep to be read", 0
        except ValueError as error:
            return None, (), f"does not parse: {error}", 0
        too_deep = levels(tree)[DEEPEST_TREE:]
        if too_deep:
            line = getattr(too_deep[0][0], "lineno", 0)
            return None, (), f"is nested more than {DEEPEST_TREE} levels deep", line
        return tree, walked(tree), None, 0
