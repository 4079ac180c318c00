"""Where a program says, or shows, that code is missing from it."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from labgate.bundle import Bundle, Source
from labgate.bundle.syntax import FUNCTIONS, every

_CODE = r"(?:code|implementation|logic|file|function|class|script|model|training|method|module|body)"
_LEFT_OUT = re.compile(
    rf"""
    \b(?:omitted|left\ out|skipped|removed|elided|truncated)\ (?:here\ )?for\ (?:the\ sake\ of\ )?brevity
    | \bfor\ brevity,?\ (?:we\ )?(?:omit|skip|leave)
    | \b(?:rest|remainder)\ of\ (?:the\ |your\ |this\ )?
      (?:code|implementation|file|function|class|script|method)
      (?:\s*$|\ ?\.\.\.|\ (?:here|goes|stays|remains|unchanged|follows|is\ (?:the\ same|unchanged|omitted)))
    | \b(?:existing|previous|original|other)\ code\ (?:here|goes|as\ before|as\ is|unchanged)
    | \bcode\ (?:continues\ (?:here|as)|omitted)\b
    | \byour\ {_CODE}\ (?:here|goes)
    | \b{_CODE}\ (?:goes|comes)\ here
    | \badd\ your\ [\w\ ]{{1,30}}\ here
    | \b(?:to\ be|not\ yet)\ implemented\b(?!\ (?:by|in)\b)
    | \b(?:still|yet)\ to\ be\ (?:written|filled\ in|done)\b
    | \bsimplified\ (?:[\w-]+\ ){{0,2}}(?:version|implementation)\b
    | \bplaceholder\ (?:main\ |training\ |dummy\ )?{_CODE}\b
    | \b{_CODE}\ placeholder\b
    | \b(?:this|it|here|below|above)\ (?:is|are)\ (?:just\ |only\ )?a\ placeholder\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_MARK = re.compile(
    r"(?:^[\W_]*|[.;]\s+)(?:TODO|FIXME|PLACEHOLDER)\b|\b(?:TODO|FIXME|PLACEHOLDER)\b\s*[:(]", re.MULTILINE
)
"""Such a word where a remark begins, or as its heading; within a sentence it may be spoken about."""
_HINT = re.compile(
    r"TODO|FIXME|placeholder|brevity|(?:rest|remainder) of|\bcode\b|here\b"
    r"|implemented|filled in|written|simplified",
    re.IGNORECASE,
)

_HOOK = re.compile(
    r"__\w+__$|(?:on|before|after|pre|post|setup|set_up|tear_?down)(?:_|$)|(?:close|reset|flush|start|stop)$"
)
_IDLE_BY_NAME = re.compile(r"(?:^|_)(?:no_?op|nop|null|dummy|identity|nothing|ignore|skip|stub|silent)", re.I)
_STAND_IN = re.compile(r"Null|No_?[Oo]p|Dummy|Stub|Fake|Mock|Silent|Disabled|Empty")
_ABSTRACT = re.compile(r"Base|Abstract|Interface|Protocol|Mixin|ABC")
_MUST_WORK = {"forward", "__call__", "__getitem__", "__iter__", "__next__", "step", "training_step"}
_EXCUSED = {
    "abstractmethod",
    "abstractproperty",
    "overload",
    "singledispatch",
    "singledispatchmethod",
    "group",
}

Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Gap:
    """Between `line` and `end` of `path` code is missing; `says` is a clause about it.

    `admitted` are the lines in between on which a comment or a docstring says so.
    """

    path: str
    line: int
    end: int
    says: str
    admitted: tuple[int, ...] = ()


def gaps(bundle: Bundle, source: Source) -> list[Gap]:
    """All gaps of one source in the order of their lines; what is said inside one belongs to it."""
    shown = list(Idle(bundle).within(source))
    alone = []
    for said in admissions(source):
        for index, gap in enumerate(shown):
            if gap.line <= said.line <= gap.end:
                shown[index] = replace(gap, admitted=(*gap.admitted, said.line))
                break
        else:
            alone.append(said)
    return sorted([*shown, *alone], key=lambda gap: gap.line)


def admissions(source: Source) -> Iterator[Gap]:
    """Comments and docstrings that tell of missing work."""
    if source.tree is None or not _HINT.search(source.text):
        return
    for line, words in (*_comments(source), *_docstrings(source)):
        found = _MARK.search(words) or _LEFT_OUT.search(words)
        if found:
            inside = words[: found.start()].count("\n")
            said = " ".join(found[0].split()).strip("#:(. ")
            yield Gap(source.path, line + inside, line + inside, f"{source.path} says {said!r}")


def marks(text: str) -> Iterator[tuple[int, str]]:
    """TODO and its kin in the comments of YAML or TOML: (line, word)."""
    for number, line in enumerate(text.splitlines(), 1):
        _, sharp, comment = line.partition("#")
        found = _MARK.search(comment) if sharp else None
        if found:
            yield number, found[0].strip("#:(. ")


def _comments(source: Source) -> Iterator[tuple[int, str]]:
    """Comments with their lines; none where no line could hold a telling one, since tokenizing is slow."""
    if not any(map(_may_tell, source.file.lines)):
        return
    try:
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
    except (tokenize.TokenError, SyntaxError):
        return


def _may_tell(line: str) -> bool:
    """Whether a line would tell of missing work if a comment began at one of its `#`."""
    ends = [line[at:] for at, letter in enumerate(line) if letter == "#"] if "#" in line else []
    return any(_MARK.search(words) or _LEFT_OUT.search(words) for words in ends)


def _docstrings(source: Source) -> Iterator[tuple[int, str]]:
    """Every string that stands as a statement, with the line on which it begins."""
    for node in every(source.tree, ast.Expr):
        if _is_text(node):
            yield node.lineno, source.words(node)


def is_idle(body: Sequence[ast.stmt]) -> str:
    """Why a block does nothing: "pass", "...", "a docstring alone", "NotImplementedError"; else ""."""
    rest = [statement for statement in body if not _is_text(statement)]
    if not rest:
        return "a docstring alone"
    if all(isinstance(statement, ast.Pass) or _is_ellipsis(statement) for statement in rest):
        return "..." if any(map(_is_ellipsis, rest)) else "pass"
    first = rest[0]
    if isinstance(first, ast.Raise) and first.exc is not None:
        raised = first.exc.func if isinstance(first.exc, ast.Call) else first.exc
        if isinstance(raised, ast.Name) and raised.id == "NotImplementedError":
            return "NotImplementedError"
    return ""


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_ellipsis(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and statement.value.value is Ellipsis
    )


class Idle:
    """Functions and classes of a bundle that do no work, and have no right to be idle.

    An abstract method, an overload, a protocol, a base class whose subclasses override, a hook and a class
    that stands in for another by doing nothing have that right.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    @cached_property
    def _classes(self) -> dict[str, list[ast.ClassDef]]:
        """The classes of the bundle by the name of a base."""
        found: dict[str, list[ast.ClassDef]] = {}
        for source in self.bundle.sources.values():
            for node in every(source.tree, ast.ClassDef):
                for base in node.bases:
                    found.setdefault(_last(base), []).append(node)
        return found

    def within(self, source: Source) -> Iterator[Gap]:
        """The gaps of one source, in the order of its lines."""
        if source.tree is None:
            return
        found = [*self._definitions(source), *_ellipses(source)]
        yield from sorted(found, key=lambda gap: gap.line)

    def _definitions(self, source: Source) -> Iterator[Gap]:
        owners = {statement: node for node in every(source.tree, ast.ClassDef) for statement in node.body}
        for node in every(source.tree, *FUNCTIONS, ast.ClassDef):
            if isinstance(node, Definition):
                how = is_idle(node.body)
                if how and not self._may_be_idle(node, how, owners.get(node)):
                    end = node.end_lineno or node.lineno
                    yield Gap(source.path, node.lineno, end, f"{node.name}() holds nothing but {how}")
            elif isinstance(node, ast.ClassDef) and _is_network(node) and is_idle(node.body):
                end = node.end_lineno or node.lineno
                if not self._classes.get(node.name):
                    yield Gap(source.path, node.lineno, end, f"{node.name} is empty")

    def _may_be_idle(self, node: Definition, how: str, owner: ast.ClassDef | None) -> bool:
        if any(_last(decorator) in _EXCUSED for decorator in node.decorator_list):
            return True
        if _IDLE_BY_NAME.search(node.name) and how != "NotImplementedError":
            return True
        if owner is None:
            return False
        if self._is_overridden(owner, node.name) or any(
            _ABSTRACT.search(_last(base)) for base in owner.bases
        ):
            return True
        if any(keyword.arg == "metaclass" for keyword in owner.keywords) or _ABSTRACT.search(owner.name):
            return True
        if how == "NotImplementedError":
            return bool(owner.bases) and not _is_network(owner)
        if node.name in _MUST_WORK and _is_network(owner):
            return False
        inherited = any(_last(base) not in ("object", "Module") for base in owner.bases)
        return bool(_HOOK.match(node.name)) or inherited or _stands_in(owner)

    def _is_overridden(self, owner: ast.ClassDef, method: str) -> bool:
        todo, seen = [owner.name], set()
        while todo:
            name = todo.pop()
            for child in self._classes.get(name, ()):
                if child.name in seen:
                    continue
                seen.add(child.name)
                if any(isinstance(s, Definition) and s.name == method for s in child.body):
                    return True
                todo.append(child.name)
        return False


def _ellipses(source: Source) -> Iterator[Gap]:
    """`...` where statements belong: between others, or as the body of a loop or a branch."""
    for node in every(source.tree, *FUNCTIONS, ast.If, ast.For, ast.While, ast.With):
        if isinstance(node, Definition) and not is_idle(node.body):
            bodies = [node.body]
        elif isinstance(node, ast.If | ast.For | ast.While | ast.With):
            bodies = [node.body, getattr(node, "orelse", [])]
        else:
            continue
        for body in bodies:
            for statement in body:
                if _is_ellipsis(statement) and not _is_typing_only(node):
                    yield Gap(
                        source.path, statement.lineno, statement.lineno, "`...` stands where code belongs"
                    )


def _is_typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and _last(node.test) == "TYPE_CHECKING"


def _stands_in(owner: ast.ClassDef) -> bool:
    """Whether a class is idle on purpose, as one that takes the place of a logger is."""
    methods = [s for s in owner.body if isinstance(s, Definition) and not s.name.startswith("__")]
    idle = [method for method in methods if is_idle(method.body)]
    return bool(_STAND_IN.search(owner.name)) or (len(idle) > 1 and len(idle) == len(methods))


def _is_network(owner: ast.ClassDef) -> bool:
    return any(_last(base) in ("Module", "LightningModule") for base in owner.bases)


def _last(node: ast.expr) -> str:
    """The last name of `a.b.c`, of `a.b.c(...)` or of `a.b.c[...]`."""
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
