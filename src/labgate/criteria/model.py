"""Criterion 4: the model that the config names is the one that is built, whole, and by its own settings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from labgate.bundle import Bundle
from labgate.bundle.syntax import every
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._loading import Load, loads
from labgate.criteria.complete import MODEL, missing_code
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed
from labgate.flow import ConfigRead, Flow, How, Known, Walk
from labgate.flow.events import evidence

_NAMES = re.compile(
    r"(^|\.)(name|id|model_name|model_id|pretrained\w*|hf_\w+|hub_\w+|base\w*|backbone\w*|checkpoint|path"
    r"|model_name_or_path|repo\w*|architecture|arch|encoder)$"
)
_LABELS = {
    "name",
    "description",
    "label",
    "display_name",
    "size",
    "parameters",
    "params",
    "family",
    "type",
    "notes",
}


@check(
    "model.no-placeholders", "complete.no-placeholders", "complete.all-implemented", impact=Impact.BREACHES
)
def no_model_code_is_missing(bundle: Bundle, contract: Contract) -> Answers:
    """Every class and function of `src/model.py` does its work, and no comment says that some is missing.

    A layer of `pass` gives None, a "simplified version" is another model than the one that is written about.

    Bad:
        class Gate(nn.Module):
            def forward(self, x):
                pass
    Good:
        class Gate(nn.Module):
            def forward(self, x):
                return torch.sigmoid(self.scale) * x
    """
    source = bundle.sources.get(MODEL)
    if source is None or source.tree is None:
        yield cannot_tell(f"{MODEL} cannot be read" if source else f"{MODEL} is not there")
        return
    yield from missing_code(bundle, contract, [source])


@check("model.external-models-used", impact=Impact.MISLEADS)
def the_named_model_is_loaded(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """The pretrained model that a run's config names is the one that its code loads.

    A literal id that was left in the code wins over the config without a word, and every table then bears the
    name of a model that was never there.

    Bad:
        model = AutoModel.from_pretrained("prajjwal1/bert-tiny", cache_dir=".cache")
    Good:
        model = AutoModel.from_pretrained(cfg.model.name, cache_dir=".cache")
    """
    wrong: dict[tuple[str, int], tuple[Load, str, str, list[Walk]]] = {}
    right: dict[tuple[str, int], Evidence] = {}
    doubt: dict[tuple[str, int], Evidence] = {}
    for walk in flow.training:
        named = dict(_named(walk))
        for load in loads(walk, contract.cache_folder):
            if load.loader.kind != "model" or not load.call.certain:
                continue
            key = (load.call.place.path, load.call.place.line)
            where = evidence(bundle, load.call.place, f"loads {load.what or 'what is not known'}")
            meant = {name: of for name, of in named.items() if _is_hub_like(name)}
            if not load.what:
                doubt[key] = where
            elif _among(load.what, named) or not meant:
                right[key] = where
            elif _is_literal(load):
                name, of = next(iter(meant.items()))
                wrong.setdefault(key, (load, name, of, []))[3].append(walk)
            else:
                right[key] = where
    for load, name, of, walks in wrong.values():
        place = evidence(bundle, load.call.place, f"loads {load.what}")
        path = f"{contract.run_folder}/{walks[0].run_id}.yaml"
        line = bundle.key_line(path, *of.split(".")) if path in bundle.files else 0
        told = [bundle.place(path, line, f"names {name}")] if line else []
        runs = ", ".join(dict.fromkeys(walk.run_id for walk in walks))
        says = f"the config of {runs} names the model {name!r} and the code loads {load.what!r}"
        yield failed(says, place, *told, do=f"load cfg.{of}")
    if doubt and not wrong:
        yield cannot_tell("which model is loaded cannot be told", *list(doubt.values())[:3])
    elif right and not wrong:
        yield passed(
            "the pretrained model that is loaded is the one that the config names", *list(right.values())[:4]
        )
    elif not wrong:
        yield from _none_loaded(bundle, flow)


def _none_loaded(bundle: Bundle, flow: Flow) -> Answers:
    """No run loads a pretrained model: right where none is named."""
    for walk in flow.training:
        for name, of in _named(walk):
            if "/" in name and _is_hub_like(name):
                yield cannot_tell(
                    f"the config names {name!r} ({of}), and no call that loads a model is certain"
                )
                return
    built = list(_networks(bundle))
    if built:
        yield passed("no pretrained model is named, and none is loaded", *built[:2])
    else:
        yield cannot_tell("no call that loads a model is certain")


def _named(walk: Walk) -> Iterator[tuple[str, str]]:
    """The strings of the config's model section that the run has: (value, dotted key)."""
    for read in walk.of(ConfigRead):
        if isinstance(read.value, Known) and isinstance(read.value.value, str):
            parts = read.key.split(".")
            by_itself = parts[-1] in ("model_name", "model_id", "pretrained_model", "base_model")
            if by_itself or ("model" in parts[:-1] and _NAMES.search(read.key)):
                yield read.value.value, read.key


def _is_hub_like(name: str) -> bool:
    """An id of the Hub: a namespace, or a bare name such as `roberta-base`, with a dash or a digit."""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+|[a-z][\w.]*(-[\w.]+)+|gpt2", name))


def _among(loaded: str, named: dict[str, str]) -> bool:
    """Whether one of the names means what is loaded; a namespace, dashes and case aside."""
    plain = _plain(loaded)
    return any(_plain(name) in plain or plain in _plain(name) for name in named if _plain(name))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.rpartition("/")[2].lower())


def _is_literal(load: Load) -> bool:
    """Whether the id stands in the code, at the call itself."""
    node = load.call.node
    return node is not None and any(
        isinstance(argument, ast.Constant) and argument.value == load.what
        for argument in (*node.args, *(keyword.value for keyword in node.keywords))
    )


@check("model.from-scratch", impact=Impact.BREACHES)
def architectures_are_written_out_or_loaded(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """What is not loaded as a pretrained model is written in PyTorch, from its layers to its forward pass.

    A model that comes ready-made and untrained from a library can be neither changed nor looked into where
    the method says that it should.

    Bad:
        model = None
    Good:
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(8, 2)
            def forward(self, x):
                return self.layer(x)
    """
    loaded: dict[str, Evidence] = {}
    without = []
    for walk in flow.training:
        sure = [x for x in loads(walk, contract.cache_folder) if x.loader.kind == "model" and x.call.certain]
        if not sure:
            without.append(walk)
        for load in sure:
            place = evidence(bundle, load.call.place, f"loads {load.what or 'a pretrained model'}")
            loaded.setdefault(str(place), place)
    built = list(_networks(bundle))
    if flow.training and not without:
        yield passed(
            "every run loads a pretrained model, which it may build on",
            *list(loaded.values())[:3],
            *built[:2],
        )
    elif built:
        yield passed(f"{len(built)} architectures are written out in PyTorch", *built[:6])
    else:
        yield cannot_tell("no module with a forward pass is written, and no certain call loads a model")


def _networks(bundle: Bundle) -> Iterator[Evidence]:
    """The modules of PyTorch that are written in the bundle, with a forward pass of their own."""
    for source in bundle.sources.values():
        for node in every(source.tree, ast.ClassDef):
            module = any(
                ast.unparse(base) in ("nn.Module", "torch.nn.Module", "Module") for base in node.bases
            )
            if module and any(isinstance(s, ast.FunctionDef) and s.name == "forward" for s in node.body):
                yield bundle.place(source.path, node.lineno, "an architecture")


@check("model.configuration-applied", impact=Impact.REMARKS)
def model_settings_are_read(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """What a run's config says under `model` is read while its model is built.

    A setting that nothing reads has no effect; the run differs on paper from one that leaves it out, and
    nowhere else. Labels such as a name or a description need not be read.

    Bad:
        dropout = nn.Dropout(0.1)
    Good:
        dropout = nn.Dropout(cfg.model.dropout)
    """
    read: dict[str, Evidence] = {}
    unread: dict[str, Evidence] = {}
    runs = 0
    for run_id, path in bundle.run_configs(contract.run_folder).items():
        walks = [walk for walk in flow.training if walk.run_id == run_id]
        keys = list(_leaves(bundle, path))
        if not walks or not keys:
            continue
        runs += 1
        seen = _reads(walks)
        for key in keys:
            line = bundle.key_line(path, *key)
            place = bundle.place(path, line, "")
            if _is_read(".".join(key), seen):
                read[str(place)] = place
            elif key[-1] not in _LABELS:
                unread[".".join(key)] = bundle.place(path, line, f"nothing that {run_id} runs reads it")
    truncated = next((walk.truncated for walk in flow.training if walk.truncated), "")
    if not runs:
        yield cannot_tell("no run config has a model section that could be followed")
    elif unread and truncated:
        yield cannot_tell(f"not every model setting was seen to be read: {truncated}")
    elif unread:
        names = ", ".join(unread)
        yield cannot_tell(f"model settings that nothing reads: {names}", *list(unread.values())[:6])
    elif read:
        yield passed(f"the model settings of {runs} runs are read", *list(read.values())[:4])
    else:
        yield cannot_tell("the model sections hold nothing but labels")


def _leaves(bundle: Bundle, path: str) -> Iterator[tuple[str, ...]]:
    """The dotted keys under `model` in a run config."""
    try:
        data = bundle.yaml(path)
    except Exception:
        return
    section = data.get("model") if isinstance(data, dict) else None

    def below(value: object, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if isinstance(value, dict):
            for key, item in value.items():
                yield from below(item, (*above, str(key)))
        else:
            yield above

    if isinstance(section, dict):
        yield from below(section, ("model",))


def _reads(walks: list[Walk]) -> set[tuple[str, bool]]:
    """What was read: dotted key, and whether the whole section below it was taken."""
    seen = set()
    for walk in walks:
        for event in walk.of(ConfigRead):
            whole = event.how in (How.WHOLE, How.LOOP)
            if not (whole and event.key in ("*", "", "root")):
                seen.add((event.key.removesuffix(".*"), whole))
    return seen


def _is_read(key: str, seen: set[tuple[str, bool]]) -> bool:
    """Whether `key` was read, by itself or with its section, wherever the run's config was put."""
    for known, whole in seen:
        if known == key or known.endswith(f".{key}"):
            return True
        if whole and (key.startswith(f"{known}.") or any(known.endswith(f".{up}") for up in _above(key))):
            return True
    return False


def _above(key: str) -> Iterator[str]:
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


@check("model.complete-architectures", impact=Impact.MISLEADS)
def every_promised_method_is_there(bundle: Bundle, contract: Contract) -> Answers:
    """Each method that the design compares with is named somewhere in the code or in a run config.

    A baseline that is promised and never built leaves a hole in the table, or another takes its place there
    without a word. Comments do not count: they run nothing.

    Bad:
        promised, methods = ["AdaLoRA"], {"proposed": build_ours, "baseline": build_lora}
    Good:
        promised, methods = ["AdaLoRA"], {"proposed": build_ours, "adalora": build_adalora}
    """
    promise = bundle.promise
    named = [(method, _marks_of(method)) for method in promise.comparative_methods] if promise else []
    telling = [(method, marks) for method, marks in named if marks]
    if promise is None or not telling:
        yield cannot_tell("no promise names a method to compare with by a name of its own")
        return
    words = _words(bundle, contract)
    configs = [bundle.place(path, 1, "a run") for path in bundle.run_configs(contract.run_folder).values()]
    missing = [
        (method, marks) for method, marks in telling if not any(_plain(mark) in words for mark in marks)
    ]
    for method, marks in missing:
        origin = Evidence(promise.origin or "promise", 0, method[:200], "promised as a baseline")
        yield failed(
            f"{marks[0]} is promised and stands nowhere: no run, no class, no function, no setting names it",
            origin,
            *configs[:4],
            do="build it and give it a run, or say in the design that it is left out",
        )
    if not missing:
        yield passed(f"{len(telling)} promised baselines are named in the code or in a run", *configs[:3])


def _marks_of(method: str) -> list[str]:
    """The words of a method's name that could mean nothing else, such as `AdaLoRA` or `SAT-LoRA`."""
    head = re.split(r"[:;.,–—]|\s-\s", method)[0]
    words = re.findall(r"[A-Za-z][\w+-]*", head)
    return [
        word
        for word in words
        if re.search(r"[A-Z]{2}[A-Za-z]|[A-Za-z][a-z][A-Z]", word) and len(_plain(word)) > 3
    ]


def _words(bundle: Bundle, contract: Contract) -> str:
    """All names and strings of the code, and all that the configs hold, made plain; comments left out."""
    said: list[str] = []
    for source in bundle.sources.values():
        for node in source.nodes:
            for field in ("id", "attr", "name", "arg", "value"):
                value = getattr(node, field, None)
                if isinstance(value, str):
                    said.append(value)
    for path in (contract.config_file, *bundle.run_configs(contract.run_folder).values()):
        said.append(path)
        said += [line.split("#")[0] for line in (bundle.text(path) or "").splitlines()]
    return re.sub(r"[^a-z0-9]", "", " ".join(said).lower())
