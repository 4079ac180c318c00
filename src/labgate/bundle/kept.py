"""Answers that are kept on the very thing they are about."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
A = TypeVar("A")


def kept(question: Callable[Concatenate[T, P], A]) -> Callable[Concatenate[T, P], A]:
    """Put `question` once to each thing, its first argument, and once for each set of further arguments.

    Many checks ask the same of the same syntax tree, source or walk. The answer lies in the thing's own
    `__dict__`, so it lives as long as the thing. The thing must not change any more, nor must whoever asks
    change the answer; an exception is not kept. Arguments are handed over by position.
    """

    @wraps(question)
    def ask(thing: Any, /, *more: Any) -> Any:
        answers = thing.__dict__.get("_kept")
        if answers is None:
            answers = thing.__dict__["_kept"] = {}
        asked = (question, *more) if more else question
        if asked not in answers:
            answers[asked] = question(thing, *more)  # type: ignore[call-arg]
        return answers[asked]

    return ask  # type: ignore[return-value]
