"""What a dotted name leads to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labgate.packages.lazily import griffe
from labgate.packages.modules import Module

Kind = Literal["exists", "missing", "unknown"]


@dataclass(frozen=True)
class Thing:
    """What a name leads to: a module, or an object in one. `objects` are its definitions, the stub's first.

    When it is `opaque`, it is known to exist and not what it is.
    """

    path: str
    module: Module
    objects: tuple[griffe.Object, ...] = ()
    opaque: bool = False

    @property
    def what(self) -> str:
        if self.opaque:
            return ""
        return self.objects[0].kind.value if self.objects else "module"


@dataclass(frozen=True)
class Outside:
    """A name of the standard library, or of a package that is not unpacked."""

    path: str


@dataclass(frozen=True)
class Reached:
    """How far a name could be followed: to `thing` when it exists, else to its deepest ancestor."""

    kind: Kind
    thing: Thing | Outside | None = None
    why: str = ""
    near: tuple[str, ...] = ()
    undefined: bool = False
    """With "unknown": every class was read, none defines the name, and only a `__getattr__` could answer."""
