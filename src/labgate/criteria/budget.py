"""A declared parameter budget, against what the adapters' rank and targets give."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from labgate.bundle import BrokenFileError
from labgate.checks import Answers, check
from labgate.compose import Compositions
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed
from labgate.flow import Call, ConfigRead, Flow, Known, Walk, plain
from labgate.flow.config import from_plain, leaves

_BUDGET = re.compile(
    r"(param\w*_budget|budget)\w*(percent|pct|fraction|ratio)|(percent|pct)\w*budget", re.IGNORECASE
)
_OF_OTHER_THINGS = re.compile(r"comput|flop|mac|time|latency|energy|memory|token|sample|data|label|privacy")
"""Budgets that are not counted in parameters."""
MARGIN = 1.5
"""A budget missed by no more than this factor either way is taken as met."""


@dataclass(frozen=True)
class Encoder:
    """The sizes of a BERT-like encoder, as in its published config; parameters are counted without a head."""

    vocabulary: int
    positions: int
    types: int
    layers: int
    width: int = 768
    inner: int = 3072
    names: tuple[tuple[str, str, str], ...] = (
        ("attention.self.query", "width", "width"),
        ("attention.self.key", "width", "width"),
        ("attention.self.value", "width", "width"),
        ("attention.output.dense", "width", "width"),
        ("intermediate.dense", "width", "inner"),
        ("output.dense", "inner", "width"),
    )

    @property
    def parameters(self) -> int:
        embeddings = (self.vocabulary + self.positions + self.types + 2) * self.width
        attention = 4 * (self.width + 1) * self.width
        feed_forward = (self.width + 1) * self.inner + (self.inner + 1) * self.width
        return embeddings + self.layers * (attention + feed_forward + 4 * self.width)

    def adapter(self, rank: int, targets: list[str]) -> tuple[int, list[str]]:
        """Parameters of LoRA pairs of `rank` on the layers that `targets` name, and the names that hit.

        A pair on a layer from n to m values has rank * (n + m) parameters; a target hits by its last parts.
        """
        total, hit = 0, []
        for name, into, out in self.names:
            wanted = [t for t in targets if name == t or name.endswith(f".{t}")]
            if wanted:
                total += self.layers * rank * (getattr(self, into) + getattr(self, out))
                hit += wanted
        return total, list(dict.fromkeys(hit))


_DISTILBERT = tuple(
    (f"{part}.{name}", into, out)
    for part, name, into, out in (
        ("attention", "q_lin", "width", "width"),
        ("attention", "k_lin", "width", "width"),
        ("attention", "v_lin", "width", "width"),
        ("attention", "out_lin", "width", "width"),
        ("ffn", "lin1", "width", "inner"),
        ("ffn", "lin2", "inner", "width"),
    )
)
ENCODERS: dict[str, Encoder] = {
    "bert-base-uncased": Encoder(30522, 512, 2, 12),
    "bert-base-cased": Encoder(28996, 512, 2, 12),
    "bert-large-uncased": Encoder(30522, 512, 2, 24, 1024, 4096),
    "roberta-base": Encoder(50265, 514, 1, 12),
    "roberta-large": Encoder(50265, 514, 1, 24, 1024, 4096),
    "distilroberta-base": Encoder(50265, 514, 1, 6),
    "distilbert-base-uncased": Encoder(30522, 512, 0, 6, names=_DISTILBERT),
}
"""Sizes from the models' own config.json; the counts agree with those of the loaded models."""


def _declared(compositions: Compositions, run_id: str) -> Iterator[tuple[str, float, Evidence]]:
    """Budgets in a run's config: the key, the share of the backbone (0.002 for 0.2 %), the place."""
    path = compositions.run_paths.get(run_id)
    if path is None:
        return
    try:
        data = compositions.bundle.yaml(path)
    except BrokenFileError:
        return
    for key, value in leaves(from_plain(data if isinstance(data, dict) else {})):
        name = key.rpartition(".")[2]
        if _OF_OTHER_THINGS.search(key.lower()) or not _BUDGET.search(name):
            continue
        if (
            isinstance(value, Known)
            and not isinstance(value.value, bool)
            and isinstance(value.value, int | float)
            and value.value > 0
        ):
            share = value.value / 100 if re.search("percent|pct", name, re.IGNORECASE) else float(value.value)
            line = compositions.bundle.key_line(path, *key.split("."))
            yield key, share, compositions.bundle.place(path, line, f"declared for {run_id}")


def _given(walk: Walk) -> Iterator[tuple[Call, int, list[str], Encoder]]:
    """Adapter configurations of a walk whose rank, targets and backbone are all known."""
    backbones = [
        name.value
        for call in walk.of(Call)
        if call.path.endswith(".from_pretrained") and "Tokenizer" not in call.path
        if isinstance(name := call.argument(0, "pretrained_model_name_or_path"), Known)
    ]
    encoder = next(
        (ENCODERS[name.rpartition("/")[2]] for name in backbones if name.rpartition("/")[2] in ENCODERS), None
    )
    for call in walk.of(Call):
        if call.path.rpartition(".")[2] != "LoraConfig" or encoder is None or not call.certain:
            continue
        try:
            rank, targets = plain(call.kwargs["r"]), plain(call.kwargs["target_modules"])
        except (KeyError, ValueError):
            continue
        if isinstance(rank, int) and isinstance(targets, list):
            yield call, rank, [str(target) for target in targets], encoder


@check("integrity.budget-as-declared", "hydra.parameters-from-config", impact=Impact.MISLEADS)
def declared_budget_is_what_rank_and_targets_give(flow: Flow, compositions: Compositions) -> Answers:
    """A parameter budget in a run config decides the size of the adapters.

    A budget that nothing reads is a label: runs that declare 0.1 % and 0.5 % train the same adapters, and a
    comparison under equal budgets compares whatever the rank happens to give.

    Bad:
        LoraConfig(r=8, target_modules=["query", "key", "value"])  # parameter_budget_percent: 0.2
    Good:
        rank = rank_within(cfg.model.parameter_budget_percent, backbone, targets)
        LoraConfig(r=rank, target_modules=targets)
    """
    read = {
        event.key for walk in flow.training for event in walk.of(ConfigRead) if event.present is not False
    }
    budgets: dict[str, dict[str, tuple[float, Evidence]]] = {}
    for run_id in compositions.run_ids:
        for key, share, place in _declared(compositions, run_id):
            budgets.setdefault(key, {})[run_id] = (share, place)
    if not budgets:
        yield passed("no run declares a parameter budget")
    for key, runs in budgets.items():
        places = [place for _, place in runs.values()][:3]
        heeded = key in read or any(name.endswith(f".{key}") for name in read)
        share = next(iter(runs.values()))[0]
        gives = _measured(flow, runs)
        broken = [source.path for source in flow.bundle.sources.values() if source.tree is None]
        if not heeded and broken:
            yield cannot_tell(f"whether anything reads {key}: {broken[0]} does not parse", *places)
        elif not heeded:
            yield failed(
                f"{key} declares {share:.2%} of the backbone; nothing reads it{gives[0] if gives else ''}",
                *places,
                *(gives[1] if gives else ()),
                do="derive the rank from the budget, or drop the claim",
            )
        elif gives is not None:
            yield failed(
                f"{key} declares {share:.2%}{gives[0]}",
                *places,
                *gives[1],
                do="derive the rank from the budget",
            )
        elif any(True for walk in flow.training for _ in _given(walk)):
            yield passed(f"{key} is read, and rank and targets give it", *places)
        else:
            yield cannot_tell(
                f"{key} is read; what the adapters come to is not known before they are built", *places
            )


def _measured(flow: Flow, runs: dict[str, tuple[float, Evidence]]) -> tuple[str, list[Evidence]] | None:
    """How far the adapters are from the budget, when it is known and too far."""
    for walk in flow.training:
        if walk.run_id not in runs:
            continue
        share = runs[walk.run_id][0]
        for call, rank, targets, encoder in _given(walk):
            count, hit = encoder.adapter(rank, targets)
            partly = len(hit) < len(targets)
            got = count / encoder.parameters
            if not count or (got < share / MARGIN and partly) or share / MARGIN <= got <= share * MARGIN:
                continue
            least = "at least " if partly else ""
            words = f"; rank {rank} on {', '.join(hit)} gives {least}{got:.2%}"
            place = flow.bundle.place(call.place.path, call.place.line, "the adapters are sized here")
            return words, [place]
    return None
