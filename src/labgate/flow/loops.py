"""Loops: over what is known round by round, over anything else once."""

from __future__ import annotations

import ast

from labgate.bundle.kept import kept
from labgate.bundle.syntax import own
from labgate.flow.branches import Branches
from labgate.flow.machine import Flowing
from labgate.flow.registry import LONGEST
from labgate.flow.values import (
    Map,
    Rounds,
    Seq,
    Value,
    join,
)

NEXT = Flowing.NEXT


class Loops(Branches):
    """Goes through the bodies of loops."""

    def _for(self, node: ast.For | ast.AsyncFor) -> int:
        holder = self.evaluate(node.iter)
        items = self.iterate(holder)
        if items is not None and not items:
            return self.block(node.orelse)
        if items is not None and len(items) <= LONGEST:
            return self._known_loop(node, items)
        element = self.element(holder) if items is None else join(items)
        maybe_empty = isinstance(holder, Seq | Map) and holder.open and not isinstance(holder, Rounds)
        return self._open_loop(node.body, node.orelse, node, element, maybe_empty)

    def _known_loop(self, node: ast.For | ast.AsyncFor, items: list[Value]) -> int:
        left = 0
        certain = self.certain
        try:
            for item in items:
                self.bind_target(node.target, item)
                end = self.block(node.body)
                left |= end & (Flowing.RETURN | Flowing.RAISE)
                if not end & (NEXT | Flowing.CONTINUE):
                    if end & Flowing.BREAK:
                        break
                    return left
                if end & Flowing.BREAK or end & Flowing.RETURN:
                    self.certain = False
            else:
                self.block(node.orelse)
        finally:
            self.certain = certain
        return left | NEXT

    def _open_loop(
        self,
        body: list[ast.stmt],
        orelse: list[ast.stmt],
        node: ast.For | ast.AsyncFor | ast.While,
        element: Value | None,
        maybe_empty: bool = False,
    ) -> int:
        """The body once, standing for any number of rounds."""
        self.forget(_rebound(node), self.scope.names)
        certain = self.certain
        self.looping += 1
        if maybe_empty:
            self.certain = False
        try:
            if element is not None and not isinstance(node, ast.While):
                self.bind_target(node.target, element)
            end = self.block(body)
        finally:
            self.looping -= 1
            self.certain = certain
        self.block(orelse)
        left = end & (Flowing.RETURN | Flowing.RAISE)
        if end & (NEXT | Flowing.CONTINUE | Flowing.BREAK) or maybe_empty:
            left |= NEXT
        return left

    def _while(self, node: ast.While) -> int:
        self.forget(_rebound(node), self.scope.names)
        truth = self.truth(self.evaluate(node.test))
        if truth is False:
            return self.block(node.orelse)
        return self._open_loop(node.body, node.orelse, node, None, truth is None)

    def _break(self, node: ast.stmt) -> int:
        return Flowing.BREAK

    def _continue(self, node: ast.stmt) -> int:
        return Flowing.CONTINUE


@kept
def _rebound(loop: ast.For | ast.AsyncFor | ast.While) -> set[str]:
    """Names that the body of a loop assigns."""
    return {
        node.id for node in own(loop.body) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
