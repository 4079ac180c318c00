"""Integrity: the answer is no part of what the model is given when it is scored."""

from __future__ import annotations

import re
from collections.abc import Iterator

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


class _Leak:
    """The field of a row that an input was made from, and the call that turned text into it."""

    def __init__(self, field: str, tokenised: Place) -> None:
        self.field = field
        self.tokenised = tokenised


@check("integrity.no-leaked-answers", impact=Impact.MISLEADS)
def the_answer_is_not_generated_from(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """What `generate` continues is the question, and not the question with its answer.

    Training wants prompt and answer in one sequence; scoring the same sequence shows the model what it is asked
    for. Exact match is then near 1, or, where only what comes after is read, near 0, for every method.

    Bad:
        rows = data.map(lambda row: tokenizer(row["question"] + row["answer"]))
        prediction = model.generate(input_ids=next(iter(DataLoader(rows)))["input_ids"])
    Good:
        rows = data.map(lambda row: tokenizer(row["question"]))
        prediction = model.generate(input_ids=next(iter(DataLoader(rows)))["input_ids"])
    """
    leaks: dict[tuple[str, int], tuple[Call, _Leak]] = {}
    doubtful: dict[tuple[str, int], Call] = {}
    clean: dict[tuple[str, int], Call] = {}
    for walk in flow.training:
        for call in walk.of(Call):
            if not call.path.endswith(".generate") or call.path.startswith("numpy") or not reached(call):
                continue
            spot = (call.place.path, call.place.line)
            given = call.argument(0, "input_ids", "inputs")
            if given is None:
                doubtful.setdefault(spot, call)
                continue
            found = list(_answers_in(given))
            leak = next((one for one in found if isinstance(one, _Leak)), None)
            if leak is not None and call.certain:
                leaks.setdefault(spot, (call, leak))
            elif found or not _questions_in(given):
                doubtful.setdefault(spot, call)
            else:
                clean.setdefault(spot, call)
    for call, leak in leaks.values():
        yield failed(
            f"the model generates from the question and its answer, the field {leak.field!r}",
            evidence(bundle, call.place, "generates from it"),
            evidence(bundle, leak.tokenised, "puts the answer into the input"),
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


def _answers_in(value: Value) -> Iterator[_Leak | None]:
    """Answers that are sure to be part of a batch's tokens; None for each that may be.

    Only what is handed on whole counts: after a slice nobody can tell what is left.
    """
    for option in options(value):
        whole, inner = _field(option)
        if inner is None:
            continue
        for given, key in inner:
            for made in _made(given, key):
                for leak in _tokenised(made):
                    yield leak if whole else None


def _field(value: Value) -> tuple[bool, list[tuple[Value, str]] | None]:
    """The batch and the key that `batch["input_ids"].to(device)` takes; whether it takes it whole."""
    whole = True
    while isinstance(value, External):
        if value.path.endswith("[]") and isinstance(value.key, Known) and isinstance(value.key.value, str):
            return whole, [(value.base, value.key.value)] if value.base is not None else None
        if value.path.endswith(("[]", "[:]")):
            whole = False
        elif value.call is not None and value.path.removesuffix("()").rpartition(".")[2] not in (
            "to",
            "cuda",
            "cpu",
            "long",
            "contiguous",
            "clone",
            "detach",
        ):
            whole = False
        if value.base is None:
            return whole, None
        value = value.base
    return whole, None


def _made(batch: Value, key: str, depth: int = 12) -> Iterator[Value]:
    """What stands under `key` in the rows that a batch was collated from."""
    if depth <= 0:
        return
    if isinstance(batch, Map):
        if key in batch.items:
            yield batch.items[key]
        return
    if isinstance(batch, OneOf):
        for option in batch.options:
            yield from _made(option, key, depth - 1)
        return
    if not isinstance(batch, External):
        return
    call = batch.call
    if call is not None and call.gave:
        for given in call.gave:
            for option in options(given):
                if isinstance(option, Map):
                    yield from _made(option, key, depth - 1)
                    return
    if call is not None and call.path.endswith("DataLoader"):
        data = call.argument(0, "dataset")
        if data is not None:
            yield from _made(data, key, depth - 1)
        return
    if batch.base is not None:
        yield from _made(batch.base, key, depth - 1)


def _tokenised(value: Value, depth: int = 12) -> Iterator[_Leak]:
    """Tokens that a text with an answer in it was turned into."""
    if depth <= 0:
        return
    if isinstance(value, External):
        if value.path.endswith("[:]"):
            return
        call = value.call
        if call is not None and _is_tokenizer(call):
            for argument in call.args[:2]:
                for field in _fields(argument):
                    if _ANSWER.match(field):
                        yield _Leak(field, call.place)
            return
        if value.base is not None:
            yield from _tokenised(value.base, depth - 1)
        if call is not None and call.path.rpartition(".")[2] in ("tensor", "list", "stack", "cat"):
            for argument in call.args[:1]:
                yield from _tokenised(argument, depth - 1)
    elif isinstance(value, Unknown):  # prompt + answer, token list by token list
        for part in value.of:
            yield from _tokenised(part, depth - 1)
    elif isinstance(value, Seq):
        for item in value.items:
            yield from _tokenised(item, depth - 1)


def _is_tokenizer(call: Call) -> bool:
    return "okenizer" in call.path and call.path.rpartition(".")[2] not in ("decode", "batch_decode")


def _fields(value: Value, depth: int = 14) -> Iterator[str]:
    """Names of the row's fields that a text was put together from."""
    if depth <= 0:
        return
    if isinstance(value, External) and value.path.endswith("[]") and isinstance(value.key, Known):
        if ".rows" in value.path or value.path.count("[]"):
            yield str(value.key.value)
            return
    if isinstance(value, External | Text | Unknown | Seq):
        for part in made_from(value):
            yield from _fields(part, depth - 1)


def _questions_in(value: Value) -> bool:
    """Whether it could be followed from the tokens to a text at all."""
    for option in options(value):
        _, inner = _field(option)
        for given, key in inner or ():
            for made in _made(given, key):
                if any(True for _ in _texts(made)):
                    return True
        if any(True for _ in _texts(option)):
            return True
    return False


def _texts(value: Value, depth: int = 10) -> Iterator[str]:
    if depth <= 0:
        return
    if isinstance(value, External) and value.call is not None and _is_tokenizer(value.call):
        for argument in value.call.args[:2]:
            yield from _fields(argument)
        return
    for part in made_from(value):
        yield from _texts(part, depth - 1)
