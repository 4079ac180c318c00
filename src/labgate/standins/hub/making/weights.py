"""Weights of a twin: the experiment's own class for the architecture, narrow, from a fixed seed."""

from __future__ import annotations

import inspect
import os
import warnings
from typing import Any

from worker import AbsentError

STEPS, WARM, BATCH, LENGTH = 80, 10, 32, 12
"""Of the conditioning: most steps, those with a rising rate, and texts and words in a batch."""
PEAK, SMALL, ENOUGH = 1e-2, 0.5, 0.05
"""Its learning rate, the size of a planted word, and the loss at which it ends."""
GAIN = 4.0
"""By how much an encoder's output is enlarged."""


def make(job: dict[str, Any]) -> dict[str, object]:
    """Save `model.safetensors` to `folder`. Returns how many parameters there are.

    `architecture` is a class of transformers and `config` what config.json says; `dtype` names a torch type.
    With `probe` the encoder is conditioned. Raises AbsentError when this transformers has no such class.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.filterwarnings("ignore")
    try:
        import torch
        import transformers
    except ImportError as error:
        raise AbsentError(f"the experiment's environment has no {error.name}") from error

    torch.set_num_threads(1)  # sums in one order, and quicker for what is so small
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    try:
        architecture = getattr(transformers, job["architecture"])
    except AttributeError:
        says = f"transformers {transformers.__version__} has no {job['architecture']}"
        raise AbsentError(says) from None
    config = architecture.config_class.from_dict(dict(job["config"]))
    torch.manual_seed(job["seed"])
    model = architecture(config)
    if job.get("probe"):
        condition(model, job["probe"], torch.Generator().manual_seed(job["seed"]))
    model.to(getattr(torch, job.get("dtype") or "float32"))
    model.eval()
    options = {}
    if "safe_serialization" in inspect.signature(model.save_pretrained).parameters:
        options["safe_serialization"] = True
    model.save_pretrained(job["folder"], **options)
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def condition(model: Any, probe: dict[str, Any], chance: Any) -> None:
    """Teach an encoder to say which group of cue words a text has, in each vector that classifiers read.

    A random narrow encoder keeps next to nothing of a word by its last layer; fine-tuning of fifty steps
    would show no progress. Here each group has a code, a vector of as many ones as minus ones, opposite to
    its neighbour's; cue words begin as their group's code, and the layers learn to end with it. `probe` has
    `cues` (token ids, a list per group), `words`, `open` and `close` (ids around a text). It knows nothing of
    any data set.
    """
    import torch
    from torch import nn

    encoder = model.base_model
    encoder.eval()  # without dropout
    cues, words = torch.tensor(probe["cues"]), torch.tensor(probe["words"])
    start, end = torch.tensor(probe["open"]), torch.tensor(probe["close"])
    groups, choices = cues.shape

    def draw() -> tuple[Any, Any]:
        """Token ids, (BATCH, length), and their groups, (BATCH,)."""
        group = torch.randint(groups, (BATCH,), generator=chance)
        text = words[torch.randint(len(words), (BATCH, LENGTH), generator=chance)]
        for _ in range(2):
            place = torch.randint(LENGTH, (BATCH,), generator=chance)
            which = torch.randint(choices, (BATCH,), generator=chance)
            text[torch.arange(BATCH), place] = cues[group, which]
        return torch.cat([start.expand(BATCH, -1), text, end.expand(BATCH, -1)], 1), group

    def read(ids: Any) -> list[Any]:
        """The vectors that a classifier may stand on, each (BATCH, width)."""
        seen = encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
        pooled = getattr(seen, "pooler_output", None)
        vectors = [seen.last_hidden_state[:, 0], seen.last_hidden_state.mean(1)]
        return vectors if pooled is None else [*vectors, pooled]

    def codes(width: int) -> Any:
        """A code for each group, (groups, width)."""
        half = torch.cat([torch.ones(width // 2), -torch.ones(width - width // 2)])
        drawn = [half[torch.randperm(width, generator=chance)] for _ in range((groups + 1) // 2)]
        return torch.stack([code for positive in drawn for code in (positive, -positive)])[:groups]

    table = encoder.get_input_embeddings().weight
    with torch.no_grad():
        for words_of_group, code in zip(cues, codes(table.shape[1])):
            table[words_of_group] = SMALL * code
    # It stays as it is from here: most of a narrow model's weights are there.
    learned = [parameter for parameter in encoder.parameters() if parameter is not table]
    optimizer = torch.optim.Adam(learned, lr=PEAK)
    ends = codes(encoder(input_ids=draw()[0]).last_hidden_state.shape[2])
    for step in range(STEPS):
        for settings in optimizer.param_groups:
            settings["lr"] = PEAK * min(1, (step + 1) / WARM) * (1 - step / STEPS)
        ids, group = draw()
        losses = [nn.functional.cross_entropy(vector @ ends.T / 2, group) for vector in read(ids)]
        loss = sum(losses) / len(losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < ENOUGH:
            break
    model.zero_grad()
    _amplify(encoder, draw()[0])


def _amplify(encoder: Any, ids: Any) -> None:
    """Enlarge what the last layer says, where a normalisation of its own says it.

    A step moves a classifier's answer by learning rate times the size of its input, and the real model is
    many times wider.
    """
    import torch

    said: dict[int, list[Any]] = {}

    def listen(module: Any, _inputs: Any, output: Any) -> None:
        said.setdefault(id(module), []).append(output)

    norms = [module for module in encoder.modules() if type(module).__name__.endswith("Norm")]
    hooks = [module.register_forward_hook(listen) for module in norms]
    with torch.no_grad():
        last = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        for module in norms:
            outputs = said.get(id(module), [])
            if len(outputs) == 1 and outputs[0] is last:  # one that is shared by all layers is left alone
                for parameter in module.parameters():
                    parameter.mul_(GAIN)
    for hook in hooks:
        hook.remove()
