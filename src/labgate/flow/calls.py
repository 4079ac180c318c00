"""Calls: of the bundle's functions and classes, of values, and of what is outside."""

from __future__ import annotations

import ast
import re
import string
from typing import Any

from labgate.flow.attributes import Attributes, bind
from labgate.flow.events import Call, Entered
from labgate.flow.machine import DEPTH
from labgate.flow.operators import SAFE, formatted
from labgate.flow.registry import CALLS, METHODS, Method, Super
from labgate.flow.values import (
    ABSENT,
    UNKNOWN,
    Class,
    External,
    Function,
    Instance,
    Known,
    Map,
    OneOf,
    Scope,
    Seq,
    Text,
    Unknown,
    Value,
    concat,
    join,
    unknown_of,
)

_TELLING = ("builtins.len", "builtins.isinstance", "builtins.hasattr", "builtins.type")
"""Calls that tell about their argument and hold nothing of it."""


class Calls(Attributes):
    """Calls values, wherever they are from."""

    # -- calls

    def _call(self, node: ast.Call) -> Value:
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
            return self._super()
        func = self.evaluate(node.func)
        args: list[Value] = []
        kwargs: dict[str, Value] = {}
        spread = False
        for part in node.args:
            if isinstance(part, ast.Starred):
                items = self.iterate(self.evaluate(part.value))
                if items is None:
                    spread = True
                else:
                    args.extend(items)
            else:
                args.append(self.evaluate(part))
        for keyword in node.keywords:
            value = self.evaluate(keyword.value)
            if keyword.arg is not None:
                kwargs[keyword.arg] = value
            else:
                made = Map()
                self.spread(made, value)
                kwargs.update({k: v for k, v in made.items.items() if isinstance(k, str)})
                spread = spread or made.open
        return self.call(func, args, kwargs, node, spread)

    def _super(self) -> Value:
        scope: Scope | None = self.scope
        while scope is not None:
            owner = scope.names.get("<class>")
            instance = scope.names.get("<self>")
            if isinstance(owner, Class) and instance is not None:
                return Super(owner, instance)
            scope = scope.outer
        return UNKNOWN

    def call(
        self,
        func: Value,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call | None,
        spread: bool = False,
    ) -> Value:
        """Call `func`, wherever it is from."""
        if isinstance(func, Function):
            return self.enter(func, args, kwargs, node, spread)
        if isinstance(func, External):
            return self.outside(func, args, kwargs, node, spread)
        if isinstance(func, Class):
            return self.construct(func, args, kwargs, node, spread)
        if isinstance(func, Method):
            call = Call(*self.context(node), func.name, tuple(args), kwargs, node, spread)
            return self.method(func, call)
        if isinstance(func, Instance):
            found = func.cls.find("__call__") or func.cls.find("forward")
            if isinstance(found, Function):
                return self.enter(bind(found, func), args, kwargs, node, spread)
            outside = func.cls.outside_base()
            if outside is not None:
                return self.outside(External(f"{outside.path}()", func), args, kwargs, node, spread)
            return UNKNOWN
        if isinstance(func, OneOf):
            found_all = []
            with self.perhaps():
                for option in func.options:
                    if option is not ABSENT and not (isinstance(option, Known) and option.value is None):
                        found_all.append(self.call(option, list(args), dict(kwargs), node, spread))
            return join(found_all)
        if isinstance(func, Known):
            kind = type(func.value).__name__
            self.fault(node, "TypeError", f"'{kind}' object is not callable")
            return UNKNOWN
        self.callbacks(args, kwargs)
        return unknown_of(func, *args, *kwargs.values())

    def method(self, func: Method, call: Call) -> Value:
        kind: type = type(func.of)
        model = METHODS.get((kind, func.name)) or METHODS.get((Value, func.name))
        value: Value = UNKNOWN
        if model is not None:
            value = model(self, func.of, call)
        elif isinstance(func.of, Known):
            value = known_method(self, func.of.value, func.name, call)
        return _derived(value, call, func.of)

    def outside(
        self,
        func: External,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call | None,
        spread: bool = False,
    ) -> Value:
        """Call something from outside the bundle."""
        call = Call(*self.context(node), func.path, tuple(args), kwargs, node, spread, of=func.base)
        self.emit(call)
        if func.path.endswith("().__init__") and isinstance(func.base, Instance):
            func.base.attrs["<base>"] = External(func.path.removesuffix(".__init__"), None, call)
        model = CALLS.get(func.path) or CALLS.get(f"{func.path.rpartition('.')[0]}.*")
        if model is not None:
            value = model(self, call)
            if value is not None:
                return _derived(value, call)
        else:
            tail = func.path.rpartition(".")[2]
            shared = CALLS.get(f"*.{tail}")
            if shared is not None and func.base is not None:
                value = shared(self, _with_base(call, func.base))
                if value is not None:
                    return _derived(value, call, func.base)
            self.callbacks(args, kwargs)
        return External(f"{func.path}()", func.base, call)

    def callbacks(self, args: list[Value], kwargs: dict[str, Value]) -> None:
        """Functions that are handed out may be called."""
        for value in (*args, *kwargs.values()):
            if isinstance(value, Function) and len(self.stack) < DEPTH:
                with self.perhaps():
                    self.try_out(value)

    def try_out(self, func: Function, *given: Value) -> Value:
        """Call `func` with arguments of which nothing is known beyond `given`."""
        names = [a.arg for a in (*func.node.args.posonlyargs, *func.node.args.args)]
        if func.bound is not None and names:
            names = names[1:]
        needed = len(names) - len(func.defaults)
        count = max(len(given), needed)
        args: list[Value] = [given[i] if i < len(given) else Unknown(n) for i, n in enumerate(names[:count])]
        return self.enter(func, args, {}, None, spread=True)

    def construct(
        self,
        cls: Class,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call | None,
        spread: bool = False,
    ) -> Value:
        """Make an object of a class of the bundle."""
        made = Instance(cls)
        init = cls.find("__init__")
        if isinstance(init, Function):
            self.enter(bind(init, made), args, kwargs, node, spread)
        elif cls.dataclass:
            fields = [
                part.target.id
                for part in cls.node.body
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
            ]
            given = {**dict(zip(fields, args, strict=False)), **kwargs}
            for name in fields:
                made.attrs[name] = given.get(name, cls.attrs.get(name, UNKNOWN))
        elif (outside := cls.outside_base()) is not None:
            call = Call(*self.context(node), outside.path, tuple(args), kwargs, node, True)
            self.emit(call)
            made.attrs["<base>"] = External(f"{outside.path}()", None, call)
        return made

    def enter(
        self,
        func: Function,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call | None,
        spread: bool = False,
    ) -> Value:
        """Call a function of the bundle. Statements are needed for it."""
        raise NotImplementedError

    def arguments(
        self,
        func: Function,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call | None,
        spread: bool,
    ) -> dict[str, Value]:
        """What each parameter is bound to; a call that does not fit is a fault."""
        spec = func.node.args
        given = [func.bound, *args] if func.bound is not None else list(args)
        names = [a.arg for a in (*spec.posonlyargs, *spec.args)]
        keyword_only = [a.arg for a in spec.kwonlyargs]
        bound: dict[str, Value] = dict(zip(names, given, strict=False))
        rest = given[len(names) :]
        if spec.vararg is not None:
            bound[spec.vararg.arg] = Seq(rest, "tuple", spread)
        elif rest and not spread:
            takes = len(names) - (func.bound is not None)
            says = f"{func.name}() takes {takes} positional arguments but {len(args)} were given"
            self.fault(node, "TypeError", says, func.name)
        extra: dict[Any, Value] = {}
        for name, value in kwargs.items():
            if name in names[len(spec.posonlyargs) :] or name in keyword_only or name in names:
                bound[name] = value
            else:
                extra[name] = value
        if spec.kwarg is not None:
            bound[spec.kwarg.arg] = Map(extra, spread)
        elif extra and not spread:
            name = next(iter(extra))
            says = f"{func.name}() got an unexpected keyword argument '{name}'"
            self.fault(node, "TypeError", says, name)
        missing = []
        for name in (*names, *keyword_only):
            if name not in bound:
                if name in func.defaults:
                    bound[name] = func.defaults[name]
                else:
                    missing.append(name)
                    bound[name] = Unknown(name)
        if missing and not spread and node is not None:
            says = f"{func.name}() missing {len(missing)} required argument(s): {', '.join(missing)}"
            self.fault(node, "TypeError", says, missing[0])
        return bound

    def record_entry(self, func: Function, bound: dict[str, Value], node: ast.AST | None) -> None:
        self.emit(Entered(*self.context(node), func.name, func.scope.module.name, bound))


def _derived(value: Value, call: Call, *more: Value) -> Value:
    """What a call gave; when that is not known, at least what it was made from."""
    if value is UNKNOWN and call.path not in _TELLING:
        return unknown_of(*more, *call.args, *call.kwargs.values())
    if isinstance(value, Text) and not value.of and None in value.parts:
        return Text(value.parts, (*more, *call.args))
    return value


def _with_base(call: Call, base: Value) -> Call:
    """The call with the object that the method belongs to in front of its arguments."""
    return Call(
        call.place,
        call.certain,
        call.guarded,
        call.stack,
        call.path,
        (base, *call.args),
        call.kwargs,
        call.node,
        call.spread,
        call.gave,
    )


def known_method(walker: Calls, value: Any, name: str, call: Call) -> Value:
    """A method of a plain immutable value, run for real when its arguments are plain too."""
    from labgate.flow.values import lift, plain

    if name not in SAFE:
        return UNKNOWN
    if name == "join" and len(call.args) == 1:
        holder = call.args[0]
        if isinstance(holder, Seq) and not holder.open:
            parts: list[Value] = []
            for index, item in enumerate(holder.items):
                if index:
                    parts.append(Known(value))
                parts.append(item)
            return concat(*parts)
        return Text((None,), call.args)
    if name == "format" and isinstance(value, str) and not call.spread:
        return format_text(walker, value, call)
    try:
        args = [plain(argument) for argument in call.args]
        kwargs = {key: plain(argument) for key, argument in call.kwargs.items()}
        if any(isinstance(argument, int) and abs(argument) > 10_000 for argument in args):
            return UNKNOWN
        made = getattr(value, name)(*args, **kwargs)
    except ValueError:
        return Text((None,)) if isinstance(value, str) and name not in ("split", "startswith") else UNKNOWN
    except Exception:
        return UNKNOWN
    if isinstance(made, str) and len(made) > 100_000:
        return Text((None,))
    return lift(made)


def format_text(walker: Calls, template: str, call: Call) -> Value:
    """`template.format(...)` with some arguments unknown; a field that nothing was given for is a fault."""
    parts: list[Value] = []
    position = 0
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError as error:
        walker.fault(call.node, "ValueError", str(error))
        return Text((None,))
    for literal, field, spec, _ in fields:
        parts.append(Known(literal))
        if field is None:
            continue
        name = re.split(r"[.\[]", field, maxsplit=1)[0]
        value: Value | None
        if name == "":
            value = call.args[position] if position < len(call.args) else None
            position += 1
        elif name.isdigit():
            value = call.args[int(name)] if int(name) < len(call.args) else None
        else:
            value = call.kwargs.get(name)
        if value is None and not call.spread:
            kind = "IndexError" if name == "" or name.isdigit() else "KeyError"
            words = f"{name!r} is a field of the template, and format() is given no such argument"
            walker.fault(call.node, kind, words, name)
        plain_spec = Known(spec) if spec else None
        parts.append(Text((None,)) if value is None or name != field else formatted(value, plain_spec, -1))
    return concat(*parts)
