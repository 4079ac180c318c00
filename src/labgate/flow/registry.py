"""What calls and methods that labgate knows from inside do: filled by `labgate.flow.models`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labgate.flow.events import Call
from labgate.flow.values import (
    Class,
    Map,
    Seq,
    Value,
)

LONGEST = 64
"""Items of a known sequence that a loop takes one by one."""

Model = Callable[[Any, Call], Value | None]
"""What a call from outside does to the walk; None stands for the ordinary outside value."""

CALLS: dict[str, Model] = {}

METHODS: dict[tuple[type, str], Callable[[Any, Any, Call], Value]] = {}


def models(*paths: str) -> Callable[[Model], Model]:
    """Register what calling one of these outside paths does."""

    def register(model: Model) -> Model:
        for path in paths:
            CALLS[path] = model
        return model

    return register


def methods(kind: type, *names: str) -> Callable[[Any], Any]:
    """Register what calling a method of a value of this kind does."""

    def register(model: Any) -> Any:
        for name in names:
            METHODS[kind, name] = model
        return model

    return register


class Method(Value):
    """A method of a value that labgate knows from inside, not yet called."""

    __slots__ = ("name", "of")

    def __init__(self, of: Value, name: str) -> None:
        self.of = of
        self.name = name


class Super(Value):
    """`super()` inside a method."""

    __slots__ = ("cls", "instance")

    def __init__(self, cls: Class, instance: Value) -> None:
        self.cls = cls
        self.instance = instance


PYTHON = {Seq: {"list": list, "tuple": tuple, "set": set}, Map: dict}
