"""Branches: `if` and `match`, and what a test tells of the names in it."""

from __future__ import annotations

import ast

from labgate.flow.events import Test
from labgate.flow.machine import Flowing
from labgate.flow.statements import Statements
from labgate.flow.values import (
    External,
    Known,
    OneOf,
    Unknown,
    Value,
    join,
)

NEXT = Flowing.NEXT


class Branches(Statements):
    """Takes the branch that is known, or both."""

    def _if(self, node: ast.If) -> int:
        test = self.evaluate(node.test)
        truth = self.truth(test)
        self.emit(Test(*self.context(node.test), node.test, truth, test))
        if truth is True:
            return self.block(node.body)
        if truth is False:
            return self.block(node.orelse)
        self.doubts.append(test)
        try:
            return self.fork(
                [
                    lambda: self._narrowed(node.test, True, node.body),
                    lambda: self._narrowed(node.test, False, node.orelse),
                ]
            )
        finally:
            self.doubts.pop()

    def _narrowed(self, test: ast.expr, came: bool, body: list[ast.stmt]) -> int:
        """Follow `body` where `test` came out as `came`: a name tested for None is known better."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self._narrowed(test.operand, not came, body)
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) and came:
            for part in test.values:
                self._narrow(part, True)
        else:
            self._narrow(test, came)
        return self.block(body)

    def _narrow(self, test: ast.expr, came: bool) -> None:
        name: str | None = None
        keep_none: bool | None = None
        if isinstance(test, ast.Name):
            name, keep_none = test.id, (None if not came else False)
        elif (
            isinstance(test, ast.Compare)
            and isinstance(test.left, ast.Name)
            and len(test.ops) == 1
            and isinstance(test.comparators[0], ast.Constant)
        ):
            constant = test.comparators[0].value
            if isinstance(test.ops[0], ast.Is | ast.IsNot) and constant is None:
                name, keep_none = test.left.id, isinstance(test.ops[0], ast.Is) is came
            elif isinstance(test.ops[0], ast.Eq | ast.NotEq):
                value = self.scope.names.get(test.left.id)
                if isinstance(test.ops[0], ast.Eq) is came and isinstance(value, OneOf | Unknown):
                    self.put(self.scope.names, test.left.id, Known(constant))
                return
        if name is None or keep_none is None:
            return
        value = self.scope.names.get(name)
        if isinstance(value, OneOf):
            kept = [
                option
                for option in value.options
                if (isinstance(option, Known) and option.value is None) is keep_none
                or isinstance(option, Unknown | External)
            ]
            if kept:
                self.put(self.scope.names, name, join(kept))

    def _match(self, node: ast.Match) -> int:
        subject = self.evaluate(node.subject)
        branches: list[list[ast.stmt]] = []
        for case in node.cases:
            came = self._fits(case.pattern, subject)
            if case.guard is not None and came is not False:
                guard = self.truth(self.evaluate(case.guard))
                came = guard if came else (False if guard is False else None)
            if came is False:
                continue
            if came is True and not branches:
                self._capture(case.pattern, subject)
                return self.block(case.body)
            branches.append(case.body)
            if came is True:
                break
        else:
            branches.append([])
        if not branches:
            return NEXT
        return self.fork([lambda body=body: self.block(body) for body in branches])  # type: ignore[misc]

    def _fits(self, pattern: ast.pattern, subject: Value) -> bool | None:
        if isinstance(pattern, ast.MatchValue):
            return self.compare(subject, ast.Eq(), self.evaluate(pattern.value), pattern)
        if isinstance(pattern, ast.MatchSingleton):
            return self.compare(subject, ast.Is(), Known(pattern.value), pattern)
        if isinstance(pattern, ast.MatchOr):
            came = [self._fits(part, subject) for part in pattern.patterns]
            return True if True in came else (None if None in came else False)
        if isinstance(pattern, ast.MatchAs):
            return True if pattern.pattern is None else self._fits(pattern.pattern, subject)
        return None

    def _capture(self, pattern: ast.pattern, subject: Value) -> None:
        if isinstance(pattern, ast.MatchAs) and pattern.name:
            self.put(self.scope.names, pattern.name, subject)
