"""Criterion 7 and the config half of 2: keys that the code reads and writes against those that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from labgate.bundle import BrokenFileError, Bundle
from labgate.bundle.kept import kept
from labgate.checks import Answers, CannotLookError, check
from labgate.compose import Compositions
from labgate.contract import Contract
from labgate.criteria._faults import FROM_CONFIG, Group, by_key, fault_answers, fault_evidence
from labgate.finding import Evidence, Impact, Outcome, cannot_tell, failed, passed, remarked
from labgate.flow import Call, ConfigRead, ConfigWrite, Fault, Flow, How, Sighting, Started, Walk, options
from labgate.flow.config import ListNode, Node, leaves


@kept
def _writes(walk: Walk) -> set[tuple[str, int, int]]:
    """Places at which the walk writes to a configuration or merges one."""
    return {(w.place.path, w.place.line, w.place.column) for w in walk.of(ConfigWrite)}


def _is_write(fault: Fault, walk: Walk) -> bool:
    """Whether the fault came of writing: an assignment, a merge or an update that struct mode refused."""
    spot = (fault.place.path, fault.place.line, fault.place.column)
    return fault.kind in ("ConfigTypeError", "ReadonlyConfigError") or spot in _writes(walk)


def _run_files(flow: Flow, compositions: Compositions, group: Group) -> list[Evidence]:
    """The config files of the runs in which a key is missing: there, or on the way into the config."""
    key = group.first.event.key
    found = []
    for walk in group.walks:
        path = compositions.run_paths.get(walk.run_id)
        if path and _holds(compositions.run_config(walk.run_id), key):
            line = flow.bundle.key_line(path, *key.split("."))
            found.append(flow.bundle.place(path, line, f"{key} stands here, and does not get there"))
        elif path:
            found.append(flow.bundle.place(path, 0, f"has no {key}", ""))
    return list(dict.fromkeys(found))[:3]


def _holds(value: object, key: str) -> bool:
    """Whether a dotted key stands in a mapping."""
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


@check("hydra.parameters-from-config", "hydra.cli-full", "hydra.cli-trial", impact=Impact.BLOCKS)
def keys_read_exist(flow: Flow, compositions: Compositions) -> Answers:
    """Every config key that a run reads, in each mode, is in that run's own composed config.

    A key that only the proposed method's file has is read for the baseline too, and the baseline dies, often
    after hours: searches and merges of best parameters come late and no trial gets there.

    Bad:
        if name in cfg.my_method: ...
    Good:
        if name in cfg.get("my_method", {}): ...
    """
    if not flow.training:
        raise CannotLookError("no training command could be followed")

    def wanted(fault: Fault, walk: Walk) -> bool:
        return fault.kind in FROM_CONFIG and fault.key != "hydra.main" and not _is_write(fault, walk)

    failures = 0
    for answer in fault_answers(
        flow,
        wanted,
        "read here",
        "add the key to every run config, or read it with a default: cfg.get(...) or OmegaConf.select(...)",
        lambda group: _run_files(flow, compositions, group),
        by_key,
    ):
        failures += answer.outcome is Outcome.FAIL
        yield answer
    if not failures:
        reads = [event for walk in flow.walks for event in walk.of(ConfigRead) if event.present]
        places = {(e.place.path, e.place.line): e.key for e in reads if e.place.line}
        shown = [flow.bundle.place(p, line, f"reads {key}") for (p, line), key in list(places.items())[:3]]
        yield passed(f"{len({e.key for e in reads})} keys read, each present where it is read", *shown)


@check(
    "hydra.manages-run-configs",
    "hydra.trial-sets",
    "hydra.full-sets",
    "hydra.cli-full",
    "hydra.cli-trial",
    impact=Impact.BLOCKS,
)
def writes_respect_struct_mode(flow: Flow) -> Answers:
    """Nothing new is written to, merged onto or popped from the config while struct mode holds.

    Hydra hands over its config in struct mode: keys may be changed and none may be added. Merging a run's
    file onto it, or setting `cfg.training.epochs` where config.yaml has no `training`, raises at once.

    Bad:
        cfg = OmegaConf.merge(cfg, OmegaConf.load(path))
    Good:
        OmegaConf.set_struct(cfg, False)
        cfg = OmegaConf.merge(cfg, OmegaConf.load(path))
    """

    def wanted(fault: Fault, walk: Walk) -> bool:
        return fault.kind in FROM_CONFIG and fault.key != "hydra.main" and _is_write(fault, walk)

    failures = 0
    for answer in fault_answers(
        flow,
        wanted,
        "written here while struct mode holds",
        "declare the key in config/config.yaml, or lift struct mode first: OmegaConf.set_struct(cfg, False)",
    ):
        failures += answer.outcome is Outcome.FAIL
        yield answer
    if not failures:
        sets = {
            (e.place.path, e.place.line): e.key
            for walk in flow.training
            for e in walk.of(ConfigWrite)
            if e.certain and e.place.line
        }
        shown = [flow.bundle.place(p, line, f"sets {key}") for (p, line), key in list(sets.items())[:3]]
        yield passed(f"{len(sets)} places write to the config; struct mode allows each", *shown)


@check("hydra.cli-full", "hydra.cli-trial", "configs.referenced", impact=Impact.BLOCKS)
def children_compose_what_they_are_given(flow: Flow, contract: Contract) -> Answers:
    """A process that the code starts can compose its config from the arguments it is started with.

    What main puts on the command line of its child is an override for that child's own config: a key that
    config.yaml does not have is refused there.

    Bad:
        subprocess.run([sys.executable, "-m", "src.train", f"run={cfg.run}", "training.epochs=1"])
    Good:
        subprocess.run([sys.executable, "-m", "src.train", f"run={cfg.run}", f"mode={cfg.mode}"])
    """
    failures, children = 0, 0
    seen: set[tuple[str, int, str]] = set()
    for walk in flow.training:
        children += sum(1 for _ in walk.of(Started)) - 1
        for fault in walk.of(Fault):
            if fault.key != "hydra.main" or not fault.stack or _contract_words(fault, walk):
                continue
            first = fault.says.partition("\n")[0]
            spot = (fault.place.path, fault.stack[-1].line, first)
            if spot in seen:
                continue
            seen.add(spot)
            evidence = fault_evidence(flow, Sighting(fault, (walk,)), "composed here")
            launch = [step for step in fault.stack if step.path != fault.place.path][-1:]
            places = [flow.bundle.place(step.path, step.line, "started from here") for step in launch]
            if fault.certain and not fault.guarded:
                failures += 1
                yield failed(
                    f"{fault.kind}: {first} ({walk.name})",
                    *places,
                    evidence[0],
                    do="start it with overrides that config/config.yaml knows, or put + before a new key",
                )
            else:
                yield cannot_tell(f"on some path {fault.kind}: {first} ({walk.name})", *places, evidence[0])
    if not failures:
        yield passed(f"{max(children, 0)} child processes compose their config from what they are given")


def _contract_words(fault: Fault, walk: Walk) -> bool:
    """Whether the process that could not compose had just the command's own arguments."""
    own: tuple[str, ...] = walk.argv
    for event in walk.events:
        if isinstance(event, Started):
            own = event.argv
        if event is fault:
            break
    return own == walk.argv


def _read_keys(flow: Flow) -> tuple[set[str], set[str]]:
    """Keys that some walk reads, and nodes that are read whole or looped over."""
    single: set[str] = set()
    whole: set[str] = set()
    for walk in flow.walks:
        for event in walk.of(ConfigRead):
            if event.how is How.WHOLE and isinstance(event.value, Node | ListNode):
                if event.key != "*" and not _only_recorded(event, walk):
                    whole.add(event.key)
            elif event.key.endswith("*"):
                whole.add(event.key.rstrip("*").rstrip("."))
            else:
                single.add(event.key)
                if event.present is False and event.how in (How.ATTRIBUTE, How.ITEM):
                    whole.add(event.key)  # it does not get there; what would be read of it is not seen
                if event.how is How.LOOP and isinstance(event.value, Node | ListNode):
                    whole.add(event.key)
        whole.update(_handed_out(walk))
    return single, whole


_RECORDERS = ("builtins.", "copy.", "json.", "logging.", "omegaconf.", "pprint.", "rich.", "wandb.", "yaml.")
"""What may be given a part of the config without its keys being used: it is shown, tested or copied."""


def _handed_out(walk: Walk) -> Iterator[str]:
    """Parts of the config that are given to a function out of sight, which may read any key of them."""
    for call in walk.of(Call):
        if call.path.startswith(_RECORDERS):
            continue
        for argument in (*call.args, *call.kwargs.values()):
            for option in options(argument):
                if isinstance(option, Node | ListNode) and option.key:
                    yield option.key


def _only_recorded(event: ConfigRead, walk: Walk) -> bool:
    """Whether the whole config was only turned into a container: to log it, say, which uses no key."""
    return "." not in event.key


def _declared(bundle: Bundle, path: str) -> Iterator[tuple[str, int]]:
    """Every dotted leaf of a run config with its line."""
    try:
        data = bundle.yaml(path)
    except BrokenFileError:
        return
    from labgate.flow.config import from_plain

    node = from_plain(data if isinstance(data, dict) else {})
    for key, _ in leaves(node):
        if key:
            yield key, bundle.key_line(path, *key.split("."))


_NAMES = frozenset(("run_id", "method", "name", "description", "notes", "tags", "defaults"))
"""Keys that say what a run is, and need not be read."""


@check("hydra.parameters-from-config", impact=Impact.REMARKS)
def keys_are_read(bundle: Bundle, flow: Flow, compositions: Compositions, contract: Contract) -> Answers:
    """Every key of a run config is read by some command.

    A key that nothing reads looks like a setting and is none: changing it changes nothing.

    Bad:
        optimizer = torch.optim.AdamW(params, lr=cfg.training.learning_rate)  # training.optimizer: sgd
    Good:
        optimizer = OPTIMIZERS[cfg.training.optimizer](params, lr=cfg.training.learning_rate)
    """
    single, whole = _read_keys(flow)
    if not single:
        raise CannotLookError("no command that reads the config could be followed")
    if any(walk.truncated or walk.mended.startswith("unknown") for walk in flow.training):
        yield cannot_tell("not all of the code could be followed, so what reads a key may not have been seen")
        return
    unread: dict[str, list[Evidence]] = {}
    read: set[str] = set()
    count = 0
    for run_id, path in compositions.run_paths.items():
        if path is None:
            continue
        for key, line in _declared(compositions.bundle, path):
            count += 1
            if _is_read(key, single, whole, contract.run_key):
                read.add(key)
            elif key.rpartition(".")[2] not in _NAMES:
                unread.setdefault(key, []).append(compositions.bundle.place(path, line, f"set for {run_id}"))
    sections: dict[str, list[str]] = {}
    for key in unread:
        sections.setdefault(_dead_section(key, read), []).append(key)
    for section, keys in sections.items():
        says = f"{keys[0]} is read by nothing"
        if len(keys) > 1:
            says = f"nothing of {section} is read, which holds {len(keys)} settings"
        evidence = [place for key in keys for place in unread[key]]
        yield remarked(says, *evidence[:3], do="read it where it is meant to act, or drop it")
    yield passed(f"{count - sum(map(len, unread.values()))} of {count} settings of the run configs are read")


def _dead_section(key: str, read: set[str]) -> str:
    """The widest section around `key` of which nothing is read; the key itself when there is none."""
    parts = key.split(".")
    for size in range(1, len(parts)):
        section = ".".join(parts[:size])
        if not any(other == section or other.startswith(f"{section}.") for other in read):
            return section
    return key


def _is_read(key: str, single: set[str], whole: set[str], run_key: str) -> bool:
    for candidate in (key, f"{run_key}.{key}"):
        if candidate in single or candidate in whole:
            return True
        parts = candidate.split(".")
        if any(".".join(parts[:n]) in whole for n in range(1, len(parts))):
            return True
    return False


@check("hydra.parameters-from-config", "integrity.lookups-can-hit", impact=Impact.MISLEADS)
def defaults_hide_no_misspelt_key(bundle: Bundle, flow: Flow, compositions: Compositions) -> Answers:
    """No key that is read with a default is a misspelling of one that is there and read by nothing.

    With a default, a wrong name raises nothing: the setting stands in the run config, the code asks for
    another, and the default holds in every run.

    Bad:
        late_fraction = cfg.sam.get("late_frac", 0.0)  # the config says late_fraction
    Good:
        late_fraction = cfg.sam.get("late_fraction", 0.0)
    """
    single, whole = _read_keys(flow)
    asked: dict[str, list[ConfigRead]] = {}
    answered: set[str] = set()
    for walk in flow.training:
        for read in walk.of(ConfigRead):
            if read.how in (How.GET, How.SELECT) and read.present is False and read.default is not None:
                asked.setdefault(read.key, []).append(read)
            elif read.present is not False:
                answered.add(read.key)
    declared: dict[str, Evidence] = {}
    for path in filter(None, compositions.run_paths.values()):
        for key, line in _declared(compositions.bundle, path):
            declared.setdefault(key, compositions.bundle.place(path, line, "set, and read by nothing"))
    failures = 0
    for key, reads in asked.items():
        if key in answered:
            continue
        section, _, name = key.rpartition(".")
        others = {
            other.rpartition(".")[2]: evidence
            for other, evidence in declared.items()
            if other.rpartition(".")[0] == section and other not in single and other not in whole
        }
        near = get_close_matches(name, others, n=1, cutoff=0.75)
        if near:
            failures += 1
            place = reads[0].place
            yield failed(
                f"{key} is in no run's config, so its default always holds; "
                f"{section}.{near[0]} is there and unread",
                flow.bundle.place(place.path, place.line, "asked for here, with a default"),
                others[near[0]],
                do=f"ask for {near[0]}",
            )
    if not failures:
        yield passed(
            f"{len(asked)} keys are read with a default where they are absent; none is a misspelling"
        )


@check("hydra.parameters-from-config", impact=Impact.REMARKS)
def what_main_sets_reaches_the_training(flow: Flow, contract: Contract) -> Answers:
    """What the first process sets in its config reaches the process that trains.

    A child that is started with the same arguments composes its own config: what was set before is lost, and
    the code that set it only looks as if it did something.

    Bad:
        cfg.wandb.mode = "disabled"
        subprocess.run([sys.executable, "-m", "src.train", f"run={cfg.run}"], check=True)
    Good:
        subprocess.run([sys.executable, "-m", "src.train", f"run={cfg.run}", f"mode={cfg.mode}"], check=True)
    """
    lost: dict[tuple[str, int], str] = {}
    children = 0
    for walk in flow.training:
        starts = [index for index, e in enumerate(walk.events) if isinstance(e, Started)]
        if len(starts) < 2:
            continue
        children += 1
        before = walk.events[starts[0] : starts[1]]
        argv = " ".join(walk.events[starts[1]].argv)  # type: ignore[attr-defined]
        for index, event in enumerate(before):
            if not isinstance(event, ConfigWrite) or not event.certain or event.key in argv:
                continue
            later = {e.key for e in before[index:] if isinstance(e, ConfigRead) and e.how is not How.WHOLE}
            if event.key not in later:
                lost[event.place.path, event.place.line] = event.key
    if lost:
        yield remarked(
            f"{', '.join(dict.fromkeys(lost.values()))}: set in a process that then only starts another, "
            "which composes its own config",
            *(flow.bundle.place(path, line, "set here, and read by nobody") for path, line in sorted(lost)),
            do="set it where it is read, or hand it on as an override",
        )
    if not lost:
        yield passed("nothing is set that a child would need" if children else "no child process trains")


@check("configs.referenced", impact=Impact.BLOCKS)
def config_files_that_are_opened_exist(flow: Flow) -> Answers:
    """Every config file that the code opens by itself lies where it looks.

    Bad:
        OmegaConf.load(f"config/run/{cfg.run}.yaml")
    Good:
        OmegaConf.load(f"config/runs/{cfg.run}.yaml")
    """
    failures = 0
    for answer in fault_answers(
        flow,
        lambda fault, walk: (
            fault.kind in ("FileNotFoundError", "YAMLError") and fault.key.startswith("config")
        ),
        "opened here",
        "open the file where the contract puts it",
    ):
        failures += answer.outcome is Outcome.FAIL
        yield answer
    if not failures:
        yield passed("every config file that the code opens by itself is there")
