"""Criterion 5: the files that the contract names, no others, and nothing asked of files that are missing."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from labgate.bundle import Bundle, Source
from labgate.bundle.syntax import every, walked
from labgate.checks import Answers, check
from labgate.contract import Contract
from labgate.criteria._gaps import is_idle
from labgate.finding import Answer, Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Fault, Flow

_PROGRAMS = ("src/main.py", "src/train.py", "src/evaluate.py")
_BUILD_FILES = ("setup.py", "setup.cfg", "MANIFEST.in")
_TOOLS = re.compile(r"(^|/)(\.[^/]+|__pycache__)(/|$)|(^|/)\.DS_Store$|\.pyc$")
_RUN_FOLDERS = ("config/runs/", "config/run/")


def _required(path: str) -> Callable[..., Answers]:
    """The check that `path` is there and holds something."""
    stem = path.rpartition("/")[2]
    name = stem.replace(".", "_")
    kind = {".toml": "a table", ".yaml": "a setting"}.get(path[-5:], "code")

    def question(bundle: Bundle, contract: Contract) -> Answers:
        return _holds_something(bundle, contract, path)

    question.__name__ = question.__qualname__ = f"{name}_is_there"
    question.__doc__ = f"""`{path}` is there and holds {kind}.

    An experiment with an empty program ends with exit code 0, in a second, and proves nothing; an experiment
    whose file is missing does not begin.

    Bad:
        files = {{"{path}": ""}}
    Good:
        files = {{"{path}": open("{path}").read()}}
    """
    bullet = {"config.yaml": "config-yaml", "pyproject.toml": "pyproject-toml"}.get(stem)
    bullet = bullet or stem.replace(".", "-")
    return check(f"files.{bullet}", "files.none-missing", impact=Impact.BLOCKS)(question)


for _path in (*_PROGRAMS, "src/preprocess.py", "src/model.py", "pyproject.toml", "config/config.yaml"):
    _required(_path)


def _holds_something(bundle: Bundle, contract: Contract, path: str) -> Answers:
    file = bundle.files.get(path)
    users = list(_importers(bundle, path)) if path.endswith(".py") else []
    vital = _is_started(bundle, path) or path == "pyproject.toml" or bool(users) or _is_composed(bundle, path)
    impact = Impact.BLOCKS if vital else Impact.BREACHES
    if path not in contract.required_files and (file is None or _emptiness(bundle, path)) and not users:
        known = [bundle.place(other) for other in contract.required_files if other in bundle.files]
        yield passed(f"{path} is not required, and nothing asks for it", *known[:1])
        return
    if file is None:
        near = [bundle.place(other, 0, "lies elsewhere") for other in _same_name(bundle, path)]
        yield failed(f"{path} is missing", *users[:3], *near, do=f"write {path}", impact=impact)
        return
    if file.listed or (file.problem and not file.data):
        yield cannot_tell(f"{path} was not read: {file.problem or 'it is only listed'}", bundle.place(path))
        return
    says = _emptiness(bundle, path)
    if says:
        yield failed(
            f"{path} {says}" + (": it ends with exit code 0 and proves nothing" if path in _PROGRAMS else ""),
            bundle.place(path, 0, "holds nothing that runs"),
            *users[:3],
            do=f"write {path}",
            impact=impact,
        )
        return
    idle = _never_starts(bundle, path)
    if idle is not None:
        yield failed(
            f"{path} defines functions and calls none: `python -m` ends at once and proves nothing",
            idle,
            do='end it with `if __name__ == "__main__": main()`',
        )
        return
    source = bundle.sources.get(path)
    line = (
        source.tree.body[-1].lineno
        if source is not None and source.tree is not None
        else _first(bundle, path)
    )
    yield passed(f"{path} is there, {len(file.lines)} lines", bundle.place(path, line, "holds this"))


def _is_started(bundle: Bundle, path: str) -> bool:
    """Whether a command of the contract, or another source, runs it as a program."""
    module = path.removesuffix(".py").replace("/", ".")
    return path in ("src/main.py", "src/evaluate.py") or any(
        isinstance(node.value, str) and module in node.value.split()
        for source in bundle.sources.values()
        if source.path != path
        for node in every(source.tree, ast.Constant)
    )


def _is_composed(bundle: Bundle, path: str) -> bool:
    """Whether some program hands the config of that name to Hydra."""
    stem = path.rpartition("/")[2].removesuffix(".yaml")
    return path.endswith(".yaml") and any(
        node.arg == "config_name"
        and isinstance(node.value, ast.Constant)
        and str(node.value.value).removesuffix(".yaml") == stem
        for source in bundle.sources.values()
        for node in every(source.tree, ast.keyword)
    )


def _first(bundle: Bundle, path: str) -> int:
    lines = bundle.files[path].lines
    return next((n for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")), 1)


def _emptiness(bundle: Bundle, path: str) -> str:
    """A clause that says in what way a file is empty; "" when it is not."""
    data = bundle.files[path].data
    if not data:
        return "is empty, 0 bytes"
    if not data.strip():
        return "holds nothing but white space"
    source = bundle.sources.get(path)
    if source is None:
        text = bundle.text(path)
        lines = [line.strip() for line in (text or "").splitlines()]
        bare = text is not None and all(not line or line.startswith("#") or line == "---" for line in lines)
        return "holds nothing but comments" if bare else ""
    if source.tree is None:
        return ""
    if not source.tree.body:
        return "holds nothing but comments"
    how = is_idle(source.tree.body)
    if how and how != "NotImplementedError":
        return f"holds nothing but {how}"
    if path in _PROGRAMS:
        rest = [s for s in source.tree.body if not isinstance(s, ast.Import | ast.ImportFrom)]
        return "holds nothing but imports" if is_idle(rest) else ""
    return ""


def _never_starts(bundle: Bundle, path: str) -> Evidence | None:
    """The last line of a program that defines and never does, when nobody else imports what it defines."""
    source = bundle.sources.get(path)
    if (
        source is None
        or source.tree is None
        or not _is_started(bundle, path)
        or any(_importers(bundle, path))
    ):
        return None
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    quiet = (*definitions, ast.Assign, ast.AnnAssign)
    for statement in source.tree.body:
        if not isinstance(statement, quiet) and any(isinstance(p, ast.Call) for p in walked(statement)):
            return None
    return bundle.place(path, source.tree.body[-1].lineno, "the last statement, and only a definition")


def _importers(bundle: Bundle, path: str) -> Iterator[Evidence]:
    """The lines of other sources that import from `path`."""
    module = path.removesuffix(".py").replace("/", ".")
    for source in bundle.sources.values():
        if source.path == path:
            continue
        for node in every(source.tree, ast.Import, ast.ImportFrom):
            if any(name == module or name.startswith(f"{module}.") for name in imported(source, node)):
                yield bundle.place(source.path, node.lineno, "imports it")


def imported(source: Source, node: ast.Import | ast.ImportFrom) -> list[str]:
    """The dotted names that an import statement reaches for, relative ones made absolute."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parts = source.module.split(".")
        above = parts[: max(0, len(parts) - node.level)]
        base = ".".join([*above, node.module] if node.module else above)
    return [f"{base}.{alias.name}" if alias.name != "*" else base for alias in node.names]


def _same_name(bundle: Bundle, path: str) -> list[str]:
    name = path.rpartition("/")[2]
    return [other for other in bundle.files if other.rpartition("/")[2] == name][:2]


@check("files.no-others", impact=Impact.BREACHES)
def no_other_files_are_there(bundle: Bundle, contract: Contract) -> Answers:
    """`src/`, `config/` and the build files hold the contract's files and the run configs, nothing else.

    Whoever takes the experiment over copies the named files; what the others do is then lost. READMEs,
    `.github`, results and what tools write are no matter of this check.

    Bad:
        files = ["src/train.py", "src/utils.py", "setup.py"]
    Good:
        files = ["src/train.py", "pyproject.toml"]
    """
    allowed = {*contract.required_files, *contract.optional_files}
    extra: list[str] = []
    tests: list[str] = []
    for path in bundle.files:
        if path in allowed or _TOOLS.search(path) or not _counts(path, contract):
            continue
        (tests if path.startswith("tests/") else extra).append(path)
    if extra:
        named = ", ".join(extra[:6]) + (f" and {len(extra) - 6} more" if len(extra) > 6 else "")
        places = [bundle.place(path, 0, "is not one of the contract's files") for path in extra[:12]]
        yield failed(f"there are other files: {named}", *places, do="move what they do into the named files")
    if tests:
        yield remarked(f"there are {len(tests)} test files", *(bundle.place(path) for path in tests[:3]))
    if not extra:
        places = [
            bundle.place(path, 0, "one of the contract's files") for path in allowed if path in bundle.files
        ]
        if not places:
            yield cannot_tell("none of the contract's files is there")
        else:
            yield passed("src/, config/ and the build files hold nothing else", *sorted(places))


def _counts(path: str, contract: Contract) -> bool:
    """Whether the contract's "no other files" speaks of `path`."""
    if path.startswith((f"{contract.run_folder}/", *_RUN_FOLDERS)):
        return False
    if path.startswith(("src/", "config/")) or path in _BUILD_FILES:
        return True
    return path.endswith(".py") and not path.startswith(("results/", "outputs/", "docs/", "data/"))


@check("files.all-within", impact=Impact.BREACHES)
def imports_that_no_run_reaches_are_met(bundle: Bundle, flow: Flow) -> Answers:
    """What one source imports from another is there, on paths too that no run of the contract takes.

    Of `from src.metrics import f1` where no file defines it, only the line that is reached fails. What the
    runs reach is asked by another check; this one reads the rest.

    Bad:
        from src.helpers import f1
    Good:
        from src.preprocess import build_loaders
    """
    met = {
        (fault.place.path, fault.place.line)
        for walk in flow.walks
        for fault in walk.of(Fault)
        if fault.kind in ("ImportError", "ModuleNotFoundError") and fault.certain
    }
    broken: dict[tuple[str, int, str], Answer] = {}
    fine: list[Evidence] = []
    for source in bundle.sources.values():
        for node in every(source.tree, ast.Import, ast.ImportFrom):
            for name in imported(source, node):
                if name.partition(".")[0] != "src":
                    continue
                place = bundle.place(source.path, node.lineno, "imported here")
                if _exists(bundle, name):
                    fine.append(place)
                elif (source.path, node.lineno) not in met:  # what a run comes by is said in `code`
                    broken[source.path, node.lineno, name] = _unreached(bundle, source, node, name, place)
    yield from broken.values()
    if not broken and met:
        yield cannot_tell("what the runs import is not all there")
    elif not broken and fine:
        yield passed(f"all {len(fine)} imports from src are met", *fine[:6])
    elif not broken:
        kept = [bundle.place(path, 1) for path, source in bundle.sources.items() if source.tree is not None]
        if kept:
            yield passed("no source asks another for anything", *kept[:3])
        else:
            yield cannot_tell("there is no source that can be read")


def _unreached(
    bundle: Bundle, source: Source, node: ast.Import | ast.ImportFrom, name: str, place: Evidence
) -> Answer:
    """An import that fails, on no path that is certain to be taken."""
    if source.path.startswith("tests/") or _is_tried(source, node):
        return remarked(f"there is no {name}", place)
    says = f"there is no {name}: an ImportError once this line is reached"
    module, _, last = name.rpartition(".")
    asked = bundle.module(module)
    there = [bundle.place(asked.path, 0, f"has no {last}")] if asked is not None else []
    return failed(says, place, *there, do=f"write {name}, or import what there is")


def _is_tried(source: Source, wanted: ast.AST) -> bool:
    return any(
        wanted in walked(statement)
        for node in source.nodes
        if isinstance(node, ast.Try) and node.handlers
        for statement in node.body
    )


def _exists(bundle: Bundle, dotted: str) -> bool:
    """Whether the bundle has a module or a folder of that name, or a module that binds its last part."""
    folder = dotted.replace(".", "/") + "/"
    if bundle.module(dotted) is not None or any(path.startswith(folder) for path in bundle.sources):
        return True
    module, _, name = dotted.rpartition(".")
    source = bundle.module(module)
    if source is None:
        return False
    return source.tree is None or _binds(source, name)


def _binds(source: Source, name: str) -> bool:
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            return True
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
            return True
        if isinstance(node, ast.alias) and name in (node.asname, node.name, node.name.partition(".")[0]):
            return True
        if isinstance(node, ast.alias) and node.name == "*":
            return True
        if isinstance(node, ast.FunctionDef) and node.name == "__getattr__":
            return True
    return False
