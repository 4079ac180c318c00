"""A module's own `__getattr__`, followed for one name: does it answer, does it raise, or is it untold?

Only comparisons with what is written out are followed. That is enough for the way libraries use it, which is
to load a submodule late or to refuse a name that was removed.
"""

from __future__ import annotations

import ast


def answers(getter: ast.FunctionDef, name: str, literals: dict[str, frozenset[str]]) -> bool | None:
    """Whether a module's `__getattr__` answers `name`: True, False (it raises), or None when untold.

    `literals` are the string collections that the function may test against, by the name it uses.
    """
    parameters = getter.args.args
    if len(parameters) != 1:
        return None
    answer = _run(getter.body, parameters[0].arg, name, literals)[0]
    # A `return` that is reached by any name may raise further down.
    return None if answer and not mentions(getter, name, literals) else answer


def mentions(getter: ast.FunctionDef, name: str, literals: dict[str, frozenset[str]]) -> bool:
    """Whether a `__getattr__` compares with `name`, by itself or in a collection."""
    used = {part.id for part in ast.walk(getter) if isinstance(part, ast.Name)}
    spelt = {part.value for part in ast.walk(getter) if isinstance(part, ast.Constant)}
    return name in spelt or any(name in literals.get(collection, ()) for collection in used)


def _run(
    body: list[ast.stmt], parameter: str, name: str, literals: dict[str, frozenset[str]]
) -> tuple[bool | None, bool]:
    """(answer, whether the end of `body` is reached)."""
    maybe: set[bool | None] = set()  # what branches answer that may be taken
    for statement in body:
        match statement:
            case ast.Raise():
                return _agreed(maybe, False), False
            case ast.Return():
                return _agreed(maybe, None if _names_namespace(statement.value) else True), False
            case ast.If():
                holds = _test(statement.test, parameter, name, literals)
                if holds is None:
                    branches = (statement.body, statement.orelse)
                    ends = [_run(branch, parameter, name, literals) for branch in branches]
                    maybe.update(answer for answer, reached in ends if not reached)
                    if not any(reached for _, reached in ends):
                        return _agreed(maybe, None), False
                    continue
                answer, reached = _run(
                    statement.body if holds else statement.orelse, parameter, name, literals
                )
                if not reached:
                    return _agreed(maybe, answer), False
            case ast.Try(body=[ast.Return(value=value)], handlers=[handler]) if _names_namespace(value):
                return _agreed(maybe, _run(handler.body, parameter, name, literals)[0]), False
            case ast.Expr() | ast.Import() | ast.ImportFrom() | ast.Assign() | ast.AnnAssign():
                continue
            case _:
                return None, False
    return _agreed(maybe, None), True


def _agreed(maybe: set[bool | None], answer: bool | None) -> bool | None:
    return answer if maybe <= {answer} else None


def _names_namespace(value: ast.expr | None) -> bool:
    """`globals()[name]`: what is there already, which a missing name is not."""
    return isinstance(value, ast.Subscript) and ast.unparse(value.value) == "globals()"


def _test(test: ast.expr, parameter: str, name: str, literals: dict[str, frozenset[str]]) -> bool | None:
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _test(operand, parameter, name, literals)
            return None if inner is None else not inner
        case ast.BoolOp(op=op, values=values):
            held = [_test(value, parameter, name, literals) for value in values]
            decisive = isinstance(op, ast.Or)
            if decisive in held:
                return decisive
            return None if None in held else not decisive
        case ast.Compare(left=ast.Name(id=left), ops=[op], comparators=[other]) if left == parameter:
            if isinstance(op, (ast.Eq, ast.NotEq)) and isinstance(other, ast.Constant):
                return (other.value == name) is isinstance(op, ast.Eq)
            members = literals.get(other.id) if isinstance(other, ast.Name) else words_of(other)
            if isinstance(op, (ast.In, ast.NotIn)) and members is not None:
                return (name in members) is isinstance(op, ast.In)
    return None


def collections_in(tree: ast.Module) -> dict[str, frozenset[str]]:
    """The literal collections of strings that `tree` assigns outside functions, by name."""
    found: dict[str, frozenset[str]] = {}
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            words = words_of(node.value)
            for target in targets:
                if isinstance(target, ast.Name) and words is not None:
                    found[target.id] = words
        todo.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))
    return found


def words_of(node: ast.expr | None) -> frozenset[str] | None:
    """The strings of a literal list, tuple, set or dict (its keys); None when it is anything else."""
    match node:
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            parts: list[ast.expr | None] = list(items)
        case ast.Dict(keys=keys):
            parts = list(keys)
        case ast.Call(
            func=ast.Name(id="set" | "frozenset" | "list" | "tuple" | "dict"), args=[inner], keywords=[]
        ):
            return words_of(inner)
        case _:
            return None
    if not all(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in parts):
        return None
    return frozenset(str(part.value) for part in parts if isinstance(part, ast.Constant))
