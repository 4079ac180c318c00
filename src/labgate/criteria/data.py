"""Criterion 3: data sets are fetched into the cache folder, failures are met, batches hold numbers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from packaging.version import InvalidVersion, Version

from labgate.bundle import Bundle, Source
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._columns import Batching, batchings
from labgate.criteria._loading import Load, loads
from labgate.finding import Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Call, ConfigRead, Flow, Known, Walk
from labgate.flow.events import evidence
from labgate.packages import Packages

PREPROCESS = "src/preprocess.py"

STRICT_HUB = Version("1.16.0")
"""From this huggingface_hub on, `hf://datasets/NAME` without a namespace is refused (hf_file_system.py)."""


@check("data.cache-folder", impact=Impact.BREACHES)
def everything_fetched_is_cached_where_it_belongs(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """Every call that fetches a data set or a model keeps it in the contract's cache folder.

    What goes to the user's home instead is not there when the experiment moves to another machine, and fills
    a disk that the experiment does not own. A folder by argument counts, and so does a variable of the
    environment that is set before the library that reads it is imported.

    Bad:
        model = AutoModel.from_pretrained("distilbert-base-uncased")
    Good:
        model = AutoModel.from_pretrained("distilbert-base-uncased", cache_dir=".cache")
    """
    met = _merged((load, walk) for walk in flow.training for load in loads(walk, contract.cache_folder))
    kept, doubtful, lost = [], [], 0
    for load, walks in met:
        place = evidence(bundle, load.call.place, f"loads {load.what or 'a ' + load.loader.kind}")
        others = [evidence(bundle, where, label) for where, label in load.places]
        if load.kept == "in":
            kept.append(place)
        elif load.loader.kind == "metric":
            yield remarked(f"{load.call.path}() {load.why}", place, *others)
        elif load.kept == "out" and load.call.certain:
            lost += 1
            yield failed(
                f"{load.call.path}() {load.why}, not in {contract.cache_folder}/ ({_names(walks)})",
                place,
                *others,
                do=f'say {(load.loader.names or load.loader.variables)[0]}="{contract.cache_folder}"',
            )
        else:
            doubtful.append((load, place))
    for load, place in doubtful:
        maybe = "" if load.call.certain else "may be called, and "
        yield cannot_tell(f"{load.call.path}() {maybe}{load.why}", place)
    if kept and not lost and not doubtful:
        yield passed(f"{len(kept)} calls that load keep their files in {contract.cache_folder}/", *kept[:8])
    elif not kept and not lost and not doubtful:
        yield cannot_tell("no call was met that fetches a data set or a model")


def _merged(found: Iterator[tuple[Load, Walk]]) -> list[tuple[Load, list[Walk]]]:
    """The same call with the same outcome once; a call that is certain on some walk is certain."""
    met: dict[tuple[object, ...], tuple[Load, list[Walk]]] = {}
    for load, walk in found:
        place = load.call.place
        key = (place.path, place.line, place.column, load.kept)
        first, walks = met.setdefault(key, (load, []))
        if load.call.certain and not first.call.certain:
            walks = [walk]
            met[key] = (load, walks)
        elif load.call.certain or not first.call.certain:
            walks.append(walk)
    sure = {key[:3] for key, (load, _) in met.items() if load.call.certain}
    return [found for key, found in met.items() if found[0].call.certain or key[:3] not in sure]


def _names(walks: list[Walk]) -> str:
    names = list(dict.fromkeys(walk.name for walk in walks))
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


@check("data.error-handling", impact=Impact.BREACHES)
def failing_data_operations_are_met(bundle: Bundle, contract: Contract, flow: Flow) -> Answers:
    """What can go wrong while data are loaded is caught, tested for, or refused with a message.

    A data set may be gone, a split may bear another name, a column may be missing. Code that looks for none
    of these dies somewhere later, with a message about something else.

    Bad:
        train = load_dataset(cfg.dataset.name, cache_dir=".cache")[cfg.dataset.split]
    Good:
        data = load_dataset(cfg.dataset.name, cache_dir=".cache")
        if cfg.dataset.split not in data:
            raise KeyError(f"{cfg.dataset.name} has no split {cfg.dataset.split}")
    """
    calls = [
        load.call
        for walk in flow.training
        for load in loads(walk, contract.cache_folder)
        if load.loader.kind == "data set"
    ]
    paths = dict.fromkeys([PREPROCESS, *(call.place.path for call in calls)])
    sources = [bundle.sources[path] for path in paths if path in bundle.sources]
    met = [place for source in sources for place in _handling(bundle, source)]
    met += [evidence(bundle, call.place, "an exception here is caught") for call in calls if call.guarded]
    if met:
        yield passed("data operations that fail are met", *met[:5])
        return
    sure = {(call.place.path, call.place.line): call for call in calls if call.certain}
    if not sure or any(source.tree is None for source in sources):
        yield cannot_tell("no call that fetches a data set was met, and nothing that handles a failure")
        return
    places = [evidence(bundle, call.place, "fails without a word of ours") for call in sure.values()]
    yield failed(
        f"nothing in {', '.join(source.path for source in sources)} catches, tests or refuses: "
        "no try, no raise, no assert around the data",
        *places[:4],
        do="catch what loading raises, and check splits and columns before they are used",
    )


_LOUD = re.compile(
    r"(sys|os)\._?exit|(warnings|logging|logger|log|LOG)\.(warn|warning|error|exception|critical)"
)


def _handling(bundle: Bundle, source: Source) -> Iterator[Evidence]:
    """Where a source catches an exception and does something about it, raises one, or asserts."""
    for node in source.nodes:
        if isinstance(node, ast.Try):
            idle = all(all(isinstance(s, ast.Pass) for s in handler.body) for handler in node.handlers)
            if node.handlers and not idle:
                yield bundle.place(source.path, node.handlers[0].lineno, "caught here")
        elif isinstance(node, ast.Raise) and node.exc is not None:
            yield bundle.place(source.path, node.lineno, "refused here")
        elif isinstance(node, ast.Assert):
            yield bundle.place(source.path, node.lineno, "tested here")
        elif isinstance(node, ast.Call) and _LOUD.fullmatch(ast.unparse(node.func)):
            yield bundle.place(source.path, node.lineno, "reported here")


@check("data.complete", impact=Impact.BLOCKS)
def no_text_reaches_a_padding_collator(bundle: Bundle, flow: Flow) -> Answers:
    """The columns that are left for a padding collator hold numbers.

    `DataCollatorWithPadding` and its kin make a tensor of every column. One column of text that was kept
    beside the token ids ends the run at its first batch.

    Bad:
        keep = {"sentence", "label"}
        rows = rows.map(encode, remove_columns=[c for c in rows.column_names if c not in keep])
        loader = DataLoader(rows, collate_fn=DataCollatorWithPadding(tokenizer))
    Good:
        rows = rows.map(encode, remove_columns=["sentence"])
        loader = DataLoader(rows, collate_fn=DataCollatorWithPadding(tokenizer))
    """
    kept: dict[tuple[str, str], list[tuple[Batching, Walk]]] = {}
    gone: dict[str, Evidence] = {}
    unknown: list[Evidence] = []
    for walk in flow.training:
        for found in batchings(walk):
            place = evidence(bundle, found.settled.place, f"settles what becomes of {found.text!r}")
            if found.state == "kept":
                key = (found.text, found.collator.path)
                kept.setdefault(key, []).append((found, walk))
            elif found.state == "gone":
                gone.setdefault(str(place), place)
            else:
                unknown.append(place)
    for (text, collator), cases in kept.items():
        name = collator.removesuffix("()").rpartition(".")[2]
        walks = list({id(walk): walk for _, walk in cases}.values())
        yield failed(
            f"the text column {text!r} is still there when {name} makes tensors of every column: "
            f"it dies at the first batch of {_names(walks)}",
            *_story(bundle, [case for case, _ in cases]),
            do=f"remove {text!r} when the rows are tokenized, or choose columns with set_format(columns=...)",
        )
    if kept:
        return
    if unknown:
        yield cannot_tell("whether a text column reaches the collator cannot be told", unknown[0])
    elif gone:
        yield passed("no text column is left where a collator pads", *list(gone.values())[:4])
    else:
        yield cannot_tell("no loader was met that pads rows which a tokenizer made")


def _story(bundle: Bundle, cases: list[Batching]) -> list[Evidence]:
    """Where the text is kept, read, and batched."""
    places: dict[tuple[str, int], Evidence] = {}
    for case in cases:
        chosen = _assigned(bundle, case.mapped, "remove_columns")
        if chosen is not None:
            places.setdefault((chosen.where, chosen.line), chosen)
    for case in cases:
        for place, label in (
            (case.settled.place, f"leaves {case.text!r} in the rows"),
            (case.read, f"reads {case.text!r} as text"),
            (case.loader.place, "batches those rows"),
        ):
            places.setdefault((place.path, place.line), evidence(bundle, place, label))
    return list(places.values())[:8]


def _assigned(bundle: Bundle, call: Call, keyword: str) -> Evidence | None:
    """The line on which the name that is handed over as `keyword` got its value."""
    source = bundle.sources.get(call.place.path)
    given = (
        next((k.value for k in call.node.keywords if k.arg == keyword), None)
        if call.node is not None
        else None
    )
    if source is None or not isinstance(given, ast.Name):
        return None
    lines = [
        node.lineno
        for node in source.nodes
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and node.lineno < call.place.line
        and any(
            isinstance(t, ast.Name) and t.id == given.id
            for t in getattr(node, "targets", [node.target] if isinstance(node, ast.AnnAssign) else [])
        )
    ]
    return (
        bundle.place(call.place.path, max(lines), "these columns are removed, and no others")
        if lines
        else None
    )


@check("data.complete", impact=Impact.BLOCKS)
def data_set_ids_are_accepted(bundle: Bundle, contract: Contract, flow: Flow, packages: Packages) -> Answers:
    """Every data set is named in a form that the resolved client of the Hub accepts.

    Data sets that once had a bare name, such as `imdb`, live under a namespace now. From huggingface_hub 1.16
    on, a bare name of a data set is refused; bare names of models are not.

    Bad:
        data = load_dataset("imdb", cache_dir=".cache")
    Good:
        data = load_dataset("stanfordnlp/imdb", cache_dir=".cache")
    """
    bare: dict[tuple[str, int, str], tuple[Load, list[Walk]]] = {}
    full: dict[str, Evidence] = {}
    for walk in flow.training:
        for load in loads(walk, contract.cache_folder):
            if (
                not load.call.path.startswith("datasets.load_dataset")
                or not load.what
                or not load.call.certain
            ):
                continue
            place = load.call.place
            if "/" in load.what:
                full.setdefault(load.what, evidence(bundle, place, f"loads {load.what}"))
            elif not any(path.startswith(f"{load.what}/") for path in bundle.files):
                bare.setdefault((place.path, place.line, load.what), (load, []))[1].append(walk)
    version = _version(packages, "huggingface_hub")
    for load, walks in bare.values():
        places = [
            evidence(bundle, load.call.place, "asks the Hub for it"),
            *_told_where(bundle, contract, load, walks),
        ]
        if version is None:
            why = packages.problem or packages.conflict or "it is no requirement"
            yield cannot_tell(
                f"{load.what!r} has no namespace; the version of huggingface_hub is not known: {why}", *places
            )
        elif version >= STRICT_HUB:
            yield failed(
                f"huggingface_hub {version} refuses the data set id {load.what!r}: it has no namespace",
                *places,
                do=f"name the namespace that {load.what!r} lives under",
            )
        else:
            yield remarked(
                f"{load.what!r} has no namespace, which huggingface_hub {STRICT_HUB} and later refuse",
                *places,
            )
    if not bare and full:
        yield passed("every data set is named with its namespace", *list(full.values())[:4])
    elif not bare:
        yield cannot_tell("no data set of the Hub is loaded by a name that is known")


def _version(packages: Packages, name: str) -> Version | None:
    try:
        return Version(packages.version(name) or packages.resolved.get(name.replace("_", "-"), ""))
    except InvalidVersion:
        return None


def _told_where(bundle: Bundle, contract: Contract, load: Load, walks: list[Walk]) -> list[Evidence]:
    """The lines of the run configs that the id comes from."""
    found: dict[tuple[str, int], Evidence] = {}
    for walk in walks:
        path = f"{contract.run_folder}/{walk.run_id}.yaml"
        for read in walk.of(ConfigRead) if path in bundle.files else ():
            line = bundle.key_line(path, *read.key.split(".")) if read.value == Known(load.what) else 0
            if line and read.certain:
                found[path, line] = bundle.place(path, line, "names it")
    return list(found.values())[:4]
