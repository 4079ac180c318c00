"""Integrity: the answer is no part of what the model is given when it is scored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from labgate.bundle import Bundle
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._samples import reached
from labgate.finding import Impact, cannot_tell, failed, passed
from labgate.flow import Flow
from labgate.flow.events import Call, Place, evidence
from labgate.flow.values import External, Known, Map, OneOf, Seq, Text, Unknown, Value, made_from, options

_ANSWER = re.compile(
    r"^(answers?|labels?|targets?|solutions?|rationale|gold|completions?|summary|highlights|output|response"
    r"|answerkey|answer_key|correct_answer|final_answer)$",
    re.IGNORECASE,
)
_WHOLE = frozenset(("to", "cuda", "cpu", "long", "contiguous", "clone", "detach", "copy"))
"""Calls that hand on all of a tensor."""


@dataclass(frozen=True)
class _Tokens:
    """Tokens made by a call at `place` from `fields` of rows; `whole` when nothing was cut off since."""

    fields: tuple[tuple[str, Value], ...]
    place: Place
    whole: bool

    @property
    def answers(self) -> tuple[str, ...]:
        """Fields that hold answers, be it those of other rows, as in a prompt with examples."""
        return tuple(name for name, _ in self.fields if _ANSWER.match(name))

    @property
    def own_answer(self) -> str:
        """The field with the answer of the very row that is asked about; "" when there is none."""
        asked = [row for name, row in self.fields if not _ANSWER.match(name)]
        for name, row in self.fields:
            if _ANSWER.match(name) and asked and all(row == other for other in asked):
                return name
        return ""


@check("integrity.no-leaked-answers", impact=Impact.MISLEADS)
def the_answer_is_not_generated_from(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """What `generate` continues is the question, and not the question with its answer.

    Training wants prompt and answer in one sequence; scoring that same sequence shows the model what it is
    asked for. Exact match is then near 1, or, where only what comes after is read, near 0, for every method.

    Bad:
        rows = data.map(lambda row: tokenizer(row["question"] + row["answer"]))
        prediction = model.generate(input_ids=next(iter(DataLoader(rows)))["input_ids"])
    Good:
        rows = data.map(lambda row: tokenizer(row["question"]))
        prediction = model.generate(input_ids=next(iter(DataLoader(rows)))["input_ids"])
    """
    leaks: dict[tuple[str, int], tuple[Call, _Tokens]] = {}
    doubtful: dict[tuple[str, int], Call] = {}
    clean: dict[tuple[str, int], Call] = {}
    for walk in flow.training:
        for call in walk.of(Call):
            if not call.path.endswith(".generate") or call.path.startswith("numpy") or not reached(call):
                continue
            spot = (call.place.path, call.place.line)
            given = call.argument(0, "input_ids", "inputs")
            tokens = [] if given is None else list(_given(given))
            leak = next((one for one in tokens if one.own_answer and one.whole), None)
            if leak is not None and call.certain:
                leaks.setdefault(spot, (call, leak))
            elif tokens and all(one.fields and not one.answers for one in tokens):
                clean.setdefault(spot, call)
            else:
                doubtful.setdefault(spot, call)
    for call, leak in leaks.values():
        yield failed(
            f"the model generates from the question and its answer, the field {leak.own_answer!r}",
            evidence(bundle, call.place, "generates from it"),
            evidence(bundle, leak.place, "puts the answer into the input"),
            do="tokenise the prompt alone for the examples that are scored",
        )
    if leaks:
        return
    if doubtful:
        call = next(iter(doubtful.values()))
        yield cannot_tell(
            "whether the answer is part of what is generated from is not settled by reading",
            evidence(bundle, call.place, "generates"),
        )
    elif clean:
        yield passed(
            "what is generated from holds no answer",
            *(evidence(bundle, call.place, "generates") for call in clean.values()),
        )
    elif any(walk.truncated for walk in flow.training):
        yield cannot_tell("the training could not be followed to its end")
    else:
        yield passed("nothing is generated")


def _given(value: Value) -> Iterator[_Tokens]:
    """The tokens that a model is given, as far as they can be followed back to a tokenizer."""
    for option in options(value):
        whole, batch, key = _field(option)
        if batch is not None:
            for made in _made(batch, key):
                yield from _tokenised(made, whole)


def _field(value: Value) -> tuple[bool, Value | None, str]:
    """What `batch["input_ids"].to(device)` takes: the whole of it or a part, the batch, and the key."""
    whole = True
    while isinstance(value, External):
        if value.path.endswith("[]") and isinstance(value.key, Known) and isinstance(value.key.value, str):
            return whole, value.base, value.key.value
        if value.path.endswith(".input_ids"):
            return whole, value.base, "input_ids"
        name = value.path.removesuffix("()").rpartition(".")[2]
        if value.path.endswith(("[]", "[:]")) or (value.call is not None and name not in _WHOLE):
            whole = False
        if value.base is None:
            break
        value = value.base
    return whole, None, ""


def _made(batch: Value, key: str, depth: int = 12) -> Iterator[Value]:
    """What stands under `key` in the rows that a batch was put together from."""
    if depth <= 0:
        return
    if isinstance(batch, Map) and key in batch.items:
        yield batch.items[key]
    elif isinstance(batch, Map) and batch.of is not None:
        yield from _made(batch.of, key, depth - 1)
    elif isinstance(batch, OneOf):
        for option in batch.options:
            yield from _made(option, key, depth - 1)
    elif isinstance(batch, Seq):
        for item in batch.items[:4]:
            yield from _made(item, key, depth - 1)
    elif isinstance(batch, External):
        call = batch.call
        if call is not None and _is_tokenizer(call):
            yield batch
        elif call is not None and call.gave:
            for given in call.gave:
                yield from _made(given, key, depth - 1)
        elif call is not None and call.path.rpartition(".")[2] in ("DataLoader", "pad", "default_collate"):
            data = call.argument(0, "dataset", "encoded_inputs", "batch")
            if data is not None:
                yield from _made(data, key, depth - 1)
        elif batch.base is not None:
            yield from _made(batch.base, key, depth - 1)


def _tokenised(value: Value, whole: bool, depth: int = 12) -> Iterator[_Tokens]:
    """Tokens, with the fields that their text was put together from."""
    if depth <= 0:
        return
    if isinstance(value, External):
        call = value.call
        if call is not None and _is_tokenizer(call):
            fields = tuple(field for argument in call.args[:2] for field in _fields(argument))
            yield _Tokens(fields, call.place, whole)
            return
        name = value.path.removesuffix("()").rpartition(".")[2]
        inner = call.args[:1] if call is not None and name in ("tensor", "list", "stack", "cat") else ()
        cut = value.path.endswith("[:]") or (call is not None and not inner and name not in _WHOLE)
        for part in (*inner, *((value.base,) if value.base is not None else ())):
            yield from _tokenised(part, whole and not cut, depth - 1)
    elif isinstance(value, Unknown | Seq):  # one token list after the other
        for part in made_from(value):
            yield from _tokenised(part, whole, depth - 1)


def _is_tokenizer(call: Call) -> bool:
    """Whether a call turns text into tokens."""
    last = call.path.rpartition(".")[2]
    if last in ("encode", "encode_plus", "batch_encode_plus", "__call__"):
        return True
    return "okenizer" in call.path and last.startswith("from_pretrained()")


def _fields(value: Value, depth: int = 14) -> Iterator[tuple[str, Value]]:
    """Names of the fields that a text was put together from, each with its row."""
    if depth <= 0:
        return
    if isinstance(value, External) and value.path.endswith("[]") and isinstance(value.key, Known):
        if value.base is not None:
            yield str(value.key.value), value.base
    elif isinstance(value, External | Text | Unknown | Seq):
        for part in made_from(value):
            yield from _fields(part, depth - 1)
