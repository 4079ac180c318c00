"""Calls that fetch data sets, models and metrics, and where each keeps what it fetched."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from labgate.bundle.kept import kept
from labgate.flow import Call, Known, Map, Started, Text, Use, Value, Walk, options
from labgate.flow.events import Event, Place, Put
from labgate.flow.machine import ROOT
from labgate.flow.values import PathLike

HUB = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
TORCH = ("TORCH_HOME", "XDG_CACHE_HOME")
READ_AT_IMPORT = {"datasets", "transformers", "huggingface_hub", "diffusers", "peft", "evaluate", "timm",
                  "sentence_transformers", "accelerate", "tokenizers"}  # fmt: skip
"""Importing any of these settles where the Hub's libraries keep their files."""

LOCAL_BUILDERS = frozenset(
    [
        "csv",
        "json",
        "parquet",
        "text",
        "arrow",
        "pandas",
        "imagefolder",
        "audiofolder",
        "webdataset",
        "generator",
        "xml",
        "sql",
    ]
)
"""What `load_dataset` builds from files at hand."""

NOT_FETCHED = {
    "ImageFolder",
    "DatasetFolder",
    "FakeData",
    "VisionDataset",
    "TUDatasetLocal",
    "wrap_dataset_for_transforms_v2",
}
_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


@dataclass(frozen=True)
class Loader:
    """How one function is told where to keep its files: arguments by name, or a position, or variables."""

    kind: str
    """"data set", "model" or "metric"."""
    names: tuple[str, ...] = ()
    position: int | None = None
    variables: tuple[str, ...] = ()
    subject: tuple[int | None, tuple[str, ...]] = (0, ())
    """Where the argument stands that says what is loaded."""


_HUB_MODEL = Loader("model", ("cache_dir",), None, (*HUB, "TRANSFORMERS_CACHE"),
                    (0, ("pretrained_model_name_or_path", "pretrained_model_or_path")))  # fmt: skip
_KNOWN = {
    "datasets.load_dataset": Loader(
        "data set", ("cache_dir",), 5, ("HF_DATASETS_CACHE", *HUB), (0, ("path",))
    ),
    "datasets.load_dataset_builder": Loader(
        "data set", ("cache_dir",), 4, ("HF_DATASETS_CACHE", *HUB), (0, ("path",))
    ),
    "evaluate.load": Loader("metric", ("cache_dir",), None, HUB, (0, ("path",))),
    "huggingface_hub.snapshot_download": Loader(
        "model", ("cache_dir", "local_dir"), None, HUB, (0, ("repo_id",))
    ),
    "huggingface_hub.hf_hub_download": Loader(
        "model", ("cache_dir", "local_dir"), None, HUB, (0, ("repo_id",))
    ),
    "sentence_transformers.SentenceTransformer": Loader(
        "model", ("cache_folder",), None, (*HUB, "SENTENCE_TRANSFORMERS_HOME"), (0, ("model_name_or_path",))
    ),
    "sentence_transformers.CrossEncoder": Loader("model", ("cache_folder",), None, HUB, (0, ("model_name",))),
    "timm.create_model": Loader("model", ("cache_dir",), None, (*HUB, *TORCH), (0, ("model_name",))),
    "torch.hub.load": Loader("model", (), None, TORCH, (1, ("model",))),
    "clip.load": Loader("model", ("download_root",), None, (), (0, ("name",))),
}
_ROOTED = ("torchvision.datasets.", "torchaudio.datasets.", "torch_geometric.datasets.", "medmnist.")


def loader_of(call: Call) -> Loader | None:
    """The loader that `call` is; None when it fetches nothing."""
    path = call.path
    if path in _KNOWN:
        loader = _KNOWN[path]
        if path.startswith("datasets.") and _plain_text(call.argument(0, "path")) in LOCAL_BUILDERS:
            return None
        if path == "timm.create_model" and not _may_be_true(call.argument(1, "pretrained")):
            return None
        return loader
    root, _, rest = path.partition(".")
    last = path.rpartition(".")[2]
    if last == "from_pretrained" and root in ("transformers", "diffusers") and "()" not in path:
        return _HUB_MODEL
    if path.startswith(_ROOTED) and last[:1].isupper() and "()" not in rest and last not in NOT_FETCHED:
        return Loader("data set", ("root",), 0, (), (None, ()))
    if path.startswith("ogb.") and last.endswith("Dataset"):
        return Loader("data set", ("root",), None, (), (0, ("name",)))
    if path.startswith("sklearn.datasets.fetch_"):
        return Loader("data set", ("data_home",), 0, ("SCIKIT_LEARN_DATA",), (None, ()))
    if path.startswith("torchvision.models.") and last.islower() and "()" not in rest:
        pretrained = call.argument(None, "weights", "pretrained")
        if last == "get_model" or pretrained is None or not _may_be_true(pretrained):
            return None
        return Loader("model", (), None, TORCH, (None, ()))
    return None


@dataclass
class Setting:
    """A variable of the environment that the code sets; `late` where a library had read it before."""

    value: Value
    place: Place
    late: bool


@dataclass
class Load:
    """One call that fetches, and where it keeps what it fetches.

    `kept` is "in" the contract's folder, "out" or "unknown"; `why` is a clause on it, `places` what decided.
    """

    call: Call
    loader: Loader
    kept: str
    why: str
    places: list[tuple[Place, str]] = field(default_factory=list)

    @property
    def what(self) -> str:
        """What is loaded, as far as it is known; "" when it is not."""
        return _plain_text(self.call.argument(self.loader.subject[0], *self.loader.subject[1])) or ""


@kept
def loads(walk: Walk, folder: str) -> tuple[Load, ...]:
    """Every call on the walk that fetches, in order. `folder` is the contract's cache folder."""
    return tuple(_loads(walk, folder))


def _loads(walk: Walk, folder: str) -> Iterator[Load]:
    settings: dict[str, Setting] = {}
    imported = False
    for event in walk.events:
        if isinstance(event, Started):
            imported = False
        elif isinstance(event, Use) and event.imported:
            imported = imported or event.path.partition(".")[0] in READ_AT_IMPORT
        elif isinstance(event, Put | Call):
            for name, value in _variables(event):
                if event.certain:
                    settings[name] = Setting(value, event.place, imported and name not in TORCH)
            if isinstance(event, Call):
                loader = loader_of(event)
                if loader is not None:
                    load = _load(event, loader, settings, folder)
                    if load is not None:
                        yield load


def _variables(event: Event) -> Iterator[tuple[str, Value]]:
    """The variables of the environment that an event sets."""
    if isinstance(event, Put) and event.path == "os.environ" and isinstance(event.key, Known):
        yield str(event.key.value), event.value
    elif (
        isinstance(event, Call)
        and event.path in ("os.environ.setdefault", "os.putenv")
        and len(event.args) > 1
    ):
        if isinstance(event.args[0], Known):
            yield str(event.args[0].value), event.args[1]
    elif isinstance(event, Call) and event.path == "os.environ.update":
        given = event.args[0] if event.args else None
        entries = given.items if isinstance(given, Map) else {}
        yield from ((str(key), value) for key, value in {**entries, **event.kwargs}.items())
    elif isinstance(event, Call) and event.path == "torch.hub.set_dir" and event.args:
        yield "TORCH_HOME", event.args[0]


def _load(call: Call, loader: Loader, settings: dict[str, Setting], folder: str) -> Load | None:
    subject = call.argument(loader.subject[0], *loader.subject[1]) if loader.subject != (None, ()) else None
    if loader.subject != (None, ()) and subject is not None and is_local(subject):
        return None
    given = call.argument(loader.position, *loader.names)
    if given is not None and not (isinstance(given, Known) and given.value is None):
        kept = whereabouts(given, folder)
        name = loader.names[0]
        shown = spelled(given)
        why = {
            "in": f"keeps it in {shown}",
            "out": f"keeps it in {shown}",
            "unknown": f"keeps it where `{name}` says, which reading does not tell",
        }[kept]
        return Load(call, loader, kept, why)
    for variable in loader.variables:
        setting = settings.get(variable)
        if setting is None:
            continue
        kept = whereabouts(setting.value, folder)
        if kept == "in" and setting.late:
            why = f"has no {_argument(loader)}, and {variable} is set after what reads it was imported"
            return Load(call, loader, "out", why, [(setting.place, "set too late")])
        return Load(call, loader, kept, f"follows {variable}", [(setting.place, f"sets {variable}")])
    if call.spread:
        return Load(call, loader, "unknown", "is handed arguments that reading does not tell")
    if subject is not None and not _is_hub_id(subject):
        return Load(call, loader, "unknown", f"has no {_argument(loader)}, and may load from a folder")
    return Load(call, loader, "out", f"has no {_argument(loader)}, so it keeps it in the user's own cache")


def _argument(loader: Loader) -> str:
    return f"`{loader.names[0]}`" if loader.names else loader.variables[0]


def whereabouts(value: Value, folder: str) -> str:
    """ "in" the folder, "out" of it, or "unknown"."""
    found = {_whereabouts(option, folder) for option in options(value)}
    return found.pop() if len(found) == 1 else "unknown"


def _whereabouts(value: Value, folder: str) -> str:
    text: Value = value.text if isinstance(value, PathLike) else value
    if isinstance(text, Known):
        if not isinstance(text.value, str):
            return "unknown"
        path = posixpath.normpath(text.value)
        if path.startswith(f"{ROOT}/"):
            path = path[len(ROOT) + 1 :]
        return "in" if path == folder or path.startswith(f"{folder}/") else "out"
    if isinstance(text, Text) and text.parts and isinstance(text.parts[0], str):
        head = posixpath.normpath(text.parts[0]).removeprefix(f"{ROOT}/")
        if head == folder or head.startswith(f"{folder}/"):
            return "in"
        first = head.partition("/")
        return "out" if first[1] and first[0] not in (".", "..", "") else "unknown"
    return "unknown"


def spelled(value: Value) -> str:
    """A path as one would write it in the bundle's root."""
    text = value.text if isinstance(value, PathLike) else value
    said = str(text.value) if isinstance(text, Known) else str(text)
    return said.removeprefix(f"{ROOT}/") or "."


def is_local(value: Value) -> bool:
    """Whether what is loaded is sure to lie in a folder: a path, or a string that can be no id of the Hub."""
    if isinstance(value, PathLike):
        return True
    if isinstance(value, Known) and isinstance(value.value, str):
        return not _HUB_ID.fullmatch(value.value)
    return isinstance(value, Text) and (
        str(value).startswith(("/", "./", "results")) or str(value).count("/") > 1
    )


def _is_hub_id(value: Value) -> bool:
    return isinstance(value, Known) and isinstance(value.value, str) and bool(_HUB_ID.fullmatch(value.value))


def _plain_text(value: Value | None) -> str | None:
    return value.value if isinstance(value, Known) and isinstance(value.value, str) else None


def _may_be_true(value: Value | None) -> bool:
    if value is None:
        return False
    return any(not isinstance(option, Known) or bool(option.value) for option in options(value))
