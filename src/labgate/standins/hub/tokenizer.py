"""Tokenizers of a twin: the real one's class, length and special ids, in the plain JSON that tokenizers read.

Nothing is trained. Every word of `words.ALL` is one token; other text falls to characters or bytes; what is
left of the real vocabulary is filled with entries that no text can reach.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labgate.standins.hub import words

Kind = str
"""How text is cut: "bytes" (GPT-2's byte-level BPE), "wordpiece" (BERT), "unigram" (T5, XLM-R) or "fallback"
(SentencePiece BPE with bytes for what is unknown, as Llama 2)."""

SPACE = "▁"  # SentencePiece's visible space
BYTE_SPACE = "Ġ"  # GPT-2's


@dataclass(frozen=True)
class TokenizerRecipe:
    """What is known of a real tokenizer."""

    kind: Kind
    length: int
    """What `len(tokenizer)` says."""
    specials: Mapping[str, int]
    """Each special token and its real id."""
    roles: Mapping[str, str]
    """Which of them is `unk`, `bos`, `eos`, `pad`, `cls`, `sep`, `mask`."""
    config: Mapping[str, Any]
    """What tokenizer_config.json says besides: the class, `model_max_length`, `model_input_names`."""
    single: tuple[str, ...] = ("$A",)
    """How one text is wrapped, in the notation of the tokenizers library; `$B:1` has token type 1."""
    pair: tuple[str, ...] = ("$A", "$B")
    lower: bool = False
    files: tuple[str, ...] = ()
    """Which of vocab.json, merges.txt and vocab.txt the real one has beside tokenizer.json."""
    rstrip: tuple[str, ...] = ()
    """Special tokens that eat the space before them, as `<mask>` does in RoBERTa."""
    lacks: tuple[str, ...] = ()
    """Files of the real one that no twin has: SentencePiece's own models, which slow tokenizers read."""
    plain: tuple[str, ...] = ()
    """Added tokens that are not special: they survive `skip_special_tokens`."""


def vocabulary(recipe: TokenizerRecipe) -> dict[str, int]:
    """Token to id, in the order of ids. Raises ValueError when the real length leaves no room."""
    taken = {number: token for token, number in recipe.specials.items()}
    wanted = iter(dict.fromkeys(token for token in _tokens(recipe) if token not in recipe.specials))
    made = {}
    for number in range(recipe.length):
        token = taken.get(number) or next(wanted, None) or _filler(recipe.kind, number)
        made[token] = number
    if next(wanted, None) is not None or len(made) != recipe.length or max(taken, default=0) >= recipe.length:
        raise ValueError(f"a vocabulary of {recipe.length} tokens cannot hold what it must")
    return made


def word_id(recipe: TokenizerRecipe, known: Mapping[str, int], word: str) -> int:
    """The token of a word that stands after a space."""
    return known[{"bytes": BYTE_SPACE, "wordpiece": ""}.get(recipe.kind, SPACE) + word]


def files(recipe: TokenizerRecipe, otherwise: Mapping[str, Any]) -> dict[str, str]:
    """File name to text: tokenizer.json, tokenizer_config.json and what the real one has besides.

    `otherwise` is what this model's tokenizer_config.json says differently.
    """
    known = vocabulary(recipe)
    written = {
        "tokenizer.json": _json(_tokenizer(recipe, known)),
        "tokenizer_config.json": _json({**recipe.config, **_roles(recipe), **otherwise}, indent=2),
        "special_tokens_map.json": _json(
            {f"{role}_token": token for role, token in recipe.roles.items()}, indent=2
        ),
    }
    if "vocab.json" in recipe.files:
        written["vocab.json"] = _json(known)
    if "merges.txt" in recipe.files:
        written["merges.txt"] = "\n".join(["#version: 0.2", *(" ".join(m) for m in _merges(BYTE_SPACE)), ""])
    if "vocab.txt" in recipe.files:
        written["vocab.txt"] = "\n".join([*known, ""])
    return written


def _tokens(recipe: TokenizerRecipe) -> Iterator[str]:
    """What a twin must be able to say, in the order in which ids are given out."""
    if recipe.kind == "wordpiece":
        letters = [*words.DIGITS, *words.MARKS, *map(chr, range(ord("a"), ord("z") + 1))]
        if not recipe.lower:
            letters += map(chr, range(ord("A"), ord("Z") + 1))
        yield from words.ALL
        yield from letters
        yield from (f"##{letter}" for letter in letters)
        return
    if recipe.kind == "bytes":
        yield from _byte_alphabet()
        yield from (left + right for left, right in _merges(BYTE_SPACE))
        return
    if recipe.kind == "fallback":
        yield from (f"<0x{number:02X}>" for number in range(256))
        yield from dict.fromkeys(char for merge in _merges(SPACE) for char in "".join(merge))
        yield from (left + right for left, right in _merges(SPACE))
        return
    yield SPACE
    yield from (SPACE + word for word in words.ALL)
    yield from (*words.DIGITS, *words.MARKS)
    yield from (chr(number) for number in range(ord("A"), ord("z") + 1) if chr(number).isalpha())


def _filler(kind: Kind, number: int) -> str:
    # A space inside, which every pre-tokenizer here has cut or replaced by then, keeps text from reaching it;
    # merges.txt and vocab.txt readers strip none.
    return f"[unused {number}]" if kind != "bytes" else f"unused{number}"


def _merges(space: str) -> list[tuple[str, str]]:
    """Pairs that grow each word from its leading space, letter by letter.

    Every left side begins with the space, so that no merge can start inside a word.
    """
    pairs: dict[tuple[str, str], None] = {}
    for word in words.ALL:
        grown = space
        for letter in word:
            pairs[grown, letter] = None
            grown += letter
    return list(pairs)


def _byte_alphabet() -> list[str]:
    """The printable characters that stand for the 256 bytes in byte-level BPE, in its own order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [number for number in range(256) if number not in printable]
    return [chr(number) for number in printable] + [chr(0x100 + place) for place in range(len(rest))]


def _roles(recipe: TokenizerRecipe) -> dict[str, object]:
    return {
        f"{role}_token": _added(recipe, token) if token in recipe.rstrip else token
        for role, token in recipe.roles.items()
    }


def _added(recipe: TokenizerRecipe, token: str) -> dict[str, object]:
    return {
        "__type": "AddedToken",
        "content": token,
        "lstrip": token in recipe.rstrip,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
    }


def _tokenizer(recipe: TokenizerRecipe, known: Mapping[str, int]) -> dict[str, object]:
    """The content of tokenizer.json."""
    added = [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": token in recipe.rstrip,
            "rstrip": False,
            "normalized": False,
            "special": token not in recipe.plain,
        }
        for token, number in sorted(recipe.specials.items(), key=lambda pair: pair[1])
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        **_pipeline(recipe),
        "post_processor": _template(recipe),
        "model": _model(recipe, known),
    }


def _pipeline(recipe: TokenizerRecipe) -> dict[str, object]:
    """What happens to a text before and after the model."""
    if recipe.kind == "bytes":
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        return {"normalizer": None, "pre_tokenizer": level, "decoder": level}
    if recipe.kind == "wordpiece":
        normal = {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": recipe.lower,
        }
        decoder = {"type": "WordPiece", "prefix": "##", "cleanup": True}
        return {"normalizer": normal, "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": decoder}
    if recipe.kind == "fallback":
        prepend = {"type": "Prepend", "prepend": SPACE}
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
        decoders = [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]
        return {
            "normalizer": {"type": "Sequence", "normalizers": [prepend, replace]},
            "pre_tokenizer": None,
            "decoder": {"type": "Sequence", "decoders": decoders},
        }
    space = {"type": "Metaspace", "replacement": SPACE, "add_prefix_space": True}
    lower = {"type": "Lowercase"} if recipe.lower else None
    pieces = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, space]}
    return {"normalizer": lower, "pre_tokenizer": pieces, "decoder": space}


def _template(recipe: TokenizerRecipe) -> dict[str, object] | None:
    if recipe.single == ("$A",) and recipe.pair == ("$A", "$B"):
        return {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}

    def piece(written: str) -> dict[str, object]:
        name, _, kind = written.partition(":")
        if name in ("$A", "$B"):
            return {"Sequence": {"id": name[1], "type_id": int(kind or 0)}}
        return {"SpecialToken": {"id": name, "type_id": int(kind or 0)}}

    used = {
        written.partition(":")[0] for written in (*recipe.single, *recipe.pair) if not written.startswith("$")
    }
    return {
        "type": "TemplateProcessing",
        "single": [piece(written) for written in recipe.single],
        "pair": [piece(written) for written in recipe.pair],
        "special_tokens": {
            token: {"id": token, "ids": [recipe.specials[token]], "tokens": [token]} for token in sorted(used)
        },
    }


def _model(recipe: TokenizerRecipe, known: Mapping[str, int]) -> dict[str, object]:
    unknown = recipe.roles.get("unk")
    if recipe.kind == "wordpiece":
        return {
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": known,
        }
    if recipe.kind == "unigram":
        scores = [[token, 0.0 if token in recipe.specials else -10.0] for token in known]
        return {"type": "Unigram", "unk_id": recipe.specials[unknown or ""], "vocab": scores}
    fallback = recipe.kind == "fallback"
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown if fallback else None,
        "continuing_subword_prefix": None if fallback else "",
        "end_of_word_suffix": None if fallback else "",
        "fuse_unk": fallback,
        "byte_fallback": fallback,
        "vocab": known,
        "merges": [" ".join(pair) for pair in _merges(SPACE if fallback else BYTE_SPACE)],
    }


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
