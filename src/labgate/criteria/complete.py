"""Criterion 1: the program is whole, and nothing stands in for what is missing."""

from __future__ import annotations

import ast

from labgate.bundle import Bundle, Source
from labgate.bundle.syntax import FUNCTIONS, every, walked
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._gaps import Gap, gaps, marks
from labgate.criteria._ruff import Complaint, complaints
from labgate.finding import Answer, Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Fault, Flow, Sighting
from labgate.flow.events import evidence

MODEL = "src/model.py"
"""Where the fourth criterion asks the same of the model."""


@check("complete.not-truncated", "complete.fully-functional", impact=Impact.BLOCKS)
def sources_are_whole(bundle: Bundle, contract: Contract) -> Answers:
    """Every source can be read to its end as Python.

    A file that was cut off, or written down with its line ends escaped, dies at its first import, and so
    does every program that imports it.

    Bad:
        text = "def train(cfg):\\n    for batch in"
    Good:
        text = "def train(cfg):\\n    for batch in loader:\\n        step(batch)\\n"
    """
    whole = []
    for path, source in bundle.sources.items():
        if source.tree is not None:
            whole.append(path)
            continue
        needed = path in contract.required_files or path in contract.optional_files
        says, line, do = _break(source)
        place = bundle.place(path, line, "reading ends here")
        if needed or _is_imported(bundle, source):
            yield failed(f"{path} {says}", place, do=do)
        else:
            yield remarked(f"{path}, which nothing imports, {says}", place, do=do)
    for path in (contract.config_file, "pyproject.toml"):
        text = bundle.text(path)
        if text and _is_escaped(text):
            yield failed(
                f"{path} is one line with its line ends written as \\n",
                bundle.place(path, 1),
                do="write real line ends",
            )
    if whole:
        yield passed(f"{len(whole)} sources parse to their end", *(bundle.place(p, 1) for p in whole[:8]))
    elif not bundle.sources:
        yield cannot_tell("there is no Python source")


def _break(source: Source) -> tuple[str, int, str]:
    """Why a source has no tree: a clause, the line, and what would mend it."""
    if source.file.problem:
        data = source.file.data
        at = data.find(b"\0") if b"\0" in data else _first_undecodable(data)
        line = data[:at].count(b"\n") + 1 if at >= 0 else 0
        return source.file.problem, line, "write it anew as UTF-8 text"
    if _is_escaped(source.text):
        return "is one line with its line ends written as \\n", 1, "write real line ends"
    error = source.error or "does not parse"
    last = len(source.file.lines)
    if source.error_line >= last - 1 and ("expected an indented block" in error or "never closed" in error):
        return f"is cut off: it {error}", source.error_line, "write the rest of the file"
    return error, source.error_line, "mend the syntax"


def _first_undecodable(data: bytes) -> int:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return -1


def _is_escaped(text: str) -> bool:
    return text.strip().count("\n") < 2 and text.count("\\n") >= 3


def _is_imported(bundle: Bundle, wanted: Source) -> bool:
    name = wanted.module.rpartition(".")[2]
    return any(
        name in (node.module or "").split(".") or any(alias.name == name for alias in node.names)
        if isinstance(node, ast.ImportFrom)
        else any(name in alias.name.split(".") for alias in node.names)
        for source in bundle.sources.values()
        for node in every(source.tree, ast.Import, ast.ImportFrom)
    )


@check("complete.no-placeholders", "complete.all-implemented", impact=Impact.BREACHES)
def no_code_is_missing(bundle: Bundle, contract: Contract) -> Answers:
    """Every function and class has a body, and no comment admits that code was left out or simplified.

    A function of `pass` returns None without a word, and a step that a comment promises does not run: the
    experiment then measures something else than its paper says. An abstract method, an overload, a hook and a
    class that takes a logger's place by doing nothing may be idle. `src/model.py` is asked under Models.

    Bad:
        def collate(batch):
            # TODO: pad to the longest
            pass
    Good:
        def collate(batch):
            return pad_sequence([row["x"] for row in batch])
    """
    sources = [source for path, source in bundle.sources.items() if path != MODEL and _is_ours(path)]
    yield from missing_code(bundle, contract, sources)


def missing_code(bundle: Bundle, contract: Contract, sources: list[Source]) -> Answers:
    """One failure for each gap in the sources, and in the comments of the configuration; else a pass."""
    found = [gap for source in sources for gap in gaps(bundle, source)]
    if MODEL not in [source.path for source in sources]:
        for path in (contract.config_file, "pyproject.toml"):
            said = marks(bundle.text(path) or "")
            found += [Gap(path, line, line, f"{path} says {word!r}") for line, word in said]
    for gap in found:
        places = [bundle.place(gap.path, gap.line, "code is missing here")]
        places += [
            bundle.place(gap.path, line, "and said to be") for line in gap.admitted if line != gap.line
        ]
        do = "write what is missing, and take the words out"
        impact = Impact.REMARKS if gap.path in contract.optional_files else None
        yield failed(gap.says, *places, do=do, impact=impact)
    if not found:
        count = sum(len(every(source.tree, *FUNCTIONS)) for source in sources)
        yield _clean(bundle, sources, f"none of {count} functions is idle, and nothing is said to be missing")


def _clean(bundle: Bundle, sources: list[Source], says: str) -> Answer:
    """A pass, unless there is nothing that could be read."""
    readable = [source for source in sources if source.tree is not None and source.tree.body]
    if not readable:
        return cannot_tell("there is no source that can be read")
    return passed(says, *(_opening(bundle, source) for source in readable[:8]))


def _opening(bundle: Bundle, source: Source) -> Evidence:
    assert source.tree is not None
    return bundle.place(source.path, source.tree.body[-1].lineno, "read to its last statement")


def _is_ours(path: str) -> bool:
    return not path.startswith("tests/")


@check("complete.fully-functional", impact=Impact.BLOCKS)
def names_are_defined(bundle: Bundle, flow: Flow) -> Answers:
    """Every name that the code uses is defined, imported or built in.

    An undefined name is a NameError on the line that uses it, however late in the run that line comes.

    Bad:
        def weight(step):
            return min(1.0, step / ramp_steps)
    Good:
        def weight(step, ramp_steps):
            return min(1.0, step / ramp_steps)
    """
    met = {}
    for sighting in flow.sightings(Fault, lambda event: event.key):
        fault = sighting.event
        if fault.kind == "NameError" and fault.certain and not fault.guarded:
            met[fault.place.path, fault.place.line, fault.key] = sighting
    for sighting in met.values():
        yield _undefined(bundle, sighting)
    others = 0
    for complaint in complaints(bundle):
        where = complaint.path, complaint.line, complaint.name
        if complaint.rule != "F821" or where in met or not _is_ours(complaint.path):
            continue
        others += 1
        yield _unknown_name(bundle, complaint)
    if not met and not others:
        names = [source for source in bundle.sources.values() if source.tree is not None]
        yield _clean(bundle, names, f"no name is undefined in {len(names)} sources")


def _undefined(bundle: Bundle, sighting: Sighting) -> Answer:
    fault = sighting.event
    return failed(
        f"{fault.says}: NameError on {sighting.where}",
        evidence(bundle, fault.place, "used here"),
        do=f"define or import {fault.key}",
    )


def _unknown_name(bundle: Bundle, complaint: Complaint) -> Answer:
    """A name that no walk came by, or one in an annotation, which Python may never look up."""
    place = bundle.place(complaint.path, complaint.line, "used here")
    do = f"define or import {complaint.name}"
    where = _annotation(bundle.sources[complaint.path], complaint)
    if where == "read":
        return failed(f"the annotation names {complaint.name}, which is not defined", place, do=do)
    if where == "unread":
        return remarked(f"the annotation names {complaint.name}, which is not defined", place, do=do)
    says = f"{complaint.name} is not defined: a NameError once this line is reached"
    return failed(says, place, do=do, impact=Impact.BREACHES)


def _annotation(source: Source, complaint: Complaint) -> str:
    """Whether the name stands in an annotation, and one that Python evaluates: "", "read" or "unread"."""
    assert source.tree is not None
    future = any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" and _names(node, "annotations")
        for node in source.tree.body
    )
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            others = (node.args.vararg, node.args.kwarg)
            written = [arg.annotation for arg in (*arguments, *others) if arg is not None] + [node.returns]
            evaluated = node in source.tree.body
        elif isinstance(node, ast.AnnAssign):
            written, evaluated = [node.annotation], node in source.tree.body
        else:
            continue
        for annotation in written:
            if annotation is None or not _covers(annotation, complaint):
                continue
            quoted = any(
                isinstance(part, ast.Constant) and isinstance(part.value, str) and _covers(part, complaint)
                for part in walked(annotation)
            )
            return "unread" if quoted or future or not evaluated else "read"
    return ""


def _names(node: ast.ImportFrom, name: str) -> bool:
    return any(alias.name == name for alias in node.names)


def _covers(node: ast.expr, complaint: Complaint) -> bool:
    end = node.end_lineno or node.lineno
    if not node.lineno <= complaint.line <= end:
        return False
    column = complaint.column - 1
    after = node.lineno < complaint.line or node.col_offset <= column
    return after and (complaint.line < end or column < (node.end_col_offset or 0))


@check("complete.fully-functional", impact=Impact.REMARKS)
def definitions_are_used_as_written(bundle: Bundle) -> Answers:
    """No import goes unused and no definition is replaced by a later one of its name.

    Neither stops a run. An unused import is often what is left of a step that was forgotten, and of two
    functions of one name only the last is ever called.

    Bad:
        def loss(logits, labels):
            return cross_entropy(logits, labels)
        def loss(logits, labels):
            return 0.0
    Good:
        def loss(logits, labels):
            return cross_entropy(logits, labels)
    """
    by_file: dict[tuple[str, str], list[Complaint]] = {}
    for complaint in complaints(bundle):
        if complaint.rule != "F821" and _is_ours(complaint.path):
            by_file.setdefault((complaint.path, complaint.rule), []).append(complaint)
    for (path, rule), found in by_file.items():
        names = ", ".join(dict.fromkeys(complaint.name for complaint in found))
        label = "imported, and not used" if rule == "F401" else "defined a second time, the first unused"
        places = [bundle.place(path, c.line, label) for c in found]
        if rule == "F401":
            yield remarked(f"{path} imports what it does not use: {names}", *places, do="take them out")
        else:
            yield remarked(f"{path} defines again what was not used: {names}", *places, do="keep one of them")
    if not by_file:
        sources = [source for source in bundle.sources.values() if source.tree is not None]
        yield _clean(bundle, sources, "every import is used and no definition is shadowed")
