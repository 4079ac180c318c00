"""Names of models on a hub: whether they can be names at all. Whether they exist is for the hub to say."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labgate.bundle import Bundle
from labgate.checks import Answers, check
from labgate.compose import Compositions
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed
from labgate.flow import Call, ConfigRead, Flow, Known, Walk

_LOADERS = re.compile(
    r"(^|\.)(Auto\w*|\w+(Model|Tokenizer|TokenizerFast|Config|Processor|Pipeline|ForCausalLM"
    r"|For\w+Classification|For\w+Generation|LMHeadModel|ImageProcessor|FeatureExtractor))\.from_pretrained$"
    r"|^huggingface_hub\.(snapshot_download|hf_hub_download)$"
)
_NAME = re.compile(r"[\w.\-]{1,96}")


def impossible(name: str) -> str:
    """Why `name` can be neither a repository id nor a local path; "" when it can.

    The rules are those of `huggingface_hub.utils.validate_repo_id`: `name` or `namespace/name`, of letters,
    digits, `-`, `_` and `.`, without `--`, `..` or a closing `.git`.
    """
    if name.startswith((".", "/", "~")):
        return ""
    if "://" in name:
        return "an id has no scheme"
    parts = name.split("/")
    if len(parts) > 2:
        return ""  # a local path, as far as one can see
    if not all(_NAME.fullmatch(part) for part in parts):
        return "an id is made of letters, digits, '-', '_' and '.'"
    if "--" in name or ".." in name or name.endswith(".git"):
        return "an id has no '--', no '..' and no closing '.git'"
    return ""


def _loads(walk: Walk) -> Iterator[tuple[Call, str]]:
    for call in walk.of(Call):
        name = call.argument(0, "pretrained_model_name_or_path", "repo_id")
        if _LOADERS.search(call.path) and isinstance(name, Known) and isinstance(name.value, str):
            yield call, name.value


@check("model.external-models-used", "model.complete-architectures", impact=Impact.BLOCKS)
def model_ids_are_possible(bundle: Bundle, flow: Flow, compositions: Compositions) -> Answers:
    """Every model that is loaded from a hub has a name that a hub takes.

    Descriptions of models get into the place of their ids: a scheme, a size in parentheses, a space. The
    client refuses such a name before it asks the hub.

    Bad:
        AutoModel.from_pretrained("hf://Qwen/Qwen3-0.6B")
    Good:
        AutoModel.from_pretrained("Qwen/Qwen3-0.6B")
    """
    names: set[str] = set()
    bad: dict[str, list[tuple[Call, Walk]]] = {}
    for walk in flow.training:
        for call, name in _loads(walk):
            names.add(name)
            if impossible(name):
                bad.setdefault(name, []).append((call, walk))
    for name, loads in bad.items():
        sure = [call for call, _ in loads if call.certain and not call.guarded]
        lines = {(call.place.path, call.place.line) for call in sure or [call for call, _ in loads]}
        places = [bundle.place(path, line, "loaded here") for path, line in sorted(lines)]
        places += _written(compositions, [walk for _, walk in loads], name)
        says = f"{name!r} is no id that a hub takes: {impossible(name)}"
        if sure:
            yield failed(says, *places, do="write the id as namespace/name")
        else:
            yield cannot_tell(f"if it is loaded, {says}", *places)
    if not bad:
        says = (
            f"{len(names)} model ids, each of a form that a hub takes"
            if names
            else "no model id is known here"
        )
        yield passed(says)


def _written(compositions: Compositions, walks: list[Walk], name: str) -> list[Evidence]:
    """The config lines that hold `name`."""
    found = []
    for walk in walks:
        path = compositions.run_paths.get(walk.run_id)
        keys = [r.key for r in walk.of(ConfigRead) if isinstance(r.value, Known) and r.value.value == name]
        if path and keys:
            line = compositions.bundle.key_line(path, *keys[0].split("."))
            found.append(compositions.bundle.place(path, line, "the id stands here"))
    return list(dict.fromkeys(found))[:3]
