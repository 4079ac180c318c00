"""Whether what the code imports, and what its libraries import for it, is among the declared dependencies."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from labgate.bundle import Bundle
from labgate.bundle.syntax import children
from labgate.checks import Answers, CannotLookError, check
from labgate.finding import Answer, Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.flow import Call, Flow, Known, Use
from labgate.packages import UNKNOWN, Packages
from labgate.packages.requirements import PATH
from labgate.packages.uv import known

CATCHES = frozenset(("ImportError", "ModuleNotFoundError", "Exception", "BaseException"))


@dataclass(frozen=True)
class Site:
    """An import of `module` at a line; `sure` when the contract's commands are bound to get there."""

    module: str
    path: str
    line: int
    sure: bool

    @property
    def root(self) -> str:
        return self.module.partition(".")[0]


@check("files.all-within", "hydra.cli-full", "hydra.cli-evaluate", impact=Impact.BLOCKS)
def imports_are_provided(bundle: Bundle, flow: Flow, packages: Packages) -> Answers:
    """Every third-party package that is imported comes with a declared dependency.

    A package that no dependency brings ends the run at its import. One that comes along with another package
    works today, and stops working when that package drops it.

    Bad:
        import timm  # and pyproject.toml says: dependencies = ["torch"]
    Good:
        import timm  # and pyproject.toml says: dependencies = ["torch", "timm"]
    """
    if packages.requirements.unreadable:
        raise CannotLookError(f"{PATH} {packages.requirements.unreadable}")
    if not packages.requirements.table and "project" not in bundle.toml(PATH):
        raise CannotLookError("there is no [project] table, so nothing is declared")
    by_root: dict[str, list[Site]] = {}
    for site in _sites(bundle, flow):
        by_root.setdefault(site.root, []).append(site)
    if by_root and not packages.requirements.entries and not packages.resolved:
        sites = [sites[0] for _, sites in sorted(by_root.items())]
        places = [bundle.place(site.path, site.line, "imported here") for site in sites[:8]]
        names = ", ".join(sorted(by_root))
        head = bundle.place(PATH, bundle.key_line(PATH, "project"), "declares no dependencies")
        yield failed(
            f"no dependency is declared, and the code imports {names}", head, *places, do="declare them"
        )
        return
    direct: list[tuple[str, Site]] = []
    along: list[tuple[str, Site]] = []
    failures = 0
    stems = {source.module.rpartition(".")[2] for source in bundle.sources.values()}
    for root, sites in sorted(by_root.items()):
        provider = packages.provides(sites[0].module)
        if provider is None and root in stems:
            continue  # a file of its own under a wrong name, which another check speaks of
        if provider is None:
            failures += 1
            yield _unprovided(bundle, packages, root, sites)
        elif provider == UNKNOWN:
            why = packages.problem or ("nothing resolves" if packages.conflict else "no list of names tells")
            says = f"whether a dependency provides {root} cannot be told: {why}"
            yield cannot_tell(says, bundle.place(sites[0].path, sites[0].line))
        else:
            declared = packages.requirements.entry(provider) is not None
            (direct if declared else along).append((provider, sites[0]))
    if along:
        yield _comes_along(bundle, packages, along)
    if not failures:
        places = [
            bundle.place(s.path, s.line, f"provided by {provider}") for provider, s in (*direct, *along)
        ]
        yield passed("every package that is imported is provided", *places)


def _unprovided(bundle: Bundle, packages: Packages, root: str, sites: list[Site]) -> Answer:
    sure = [site for site in sites if site.sure]
    places = [bundle.place(site.path, site.line, "imported here") for site in (sure or sites)[:6]]
    line = bundle.key_line(PATH, *(packages.requirements.table or "project.dependencies").split("."))
    places.append(bundle.place(PATH, line, "declared here, none of which provides it"))
    usual = known()["imports"].get(root)
    wanted = usual[0] if usual else root.replace("_", "-")
    if not sure:
        return cannot_tell(f"no dependency provides {root}, if the code ever gets to the import", *places)
    return failed(f"no dependency provides {root}", *places, do=f'add "{wanted}" to the dependencies')


def _comes_along(bundle: Bundle, packages: Packages, along: list[tuple[str, Site]]) -> Answer:
    places = []
    for provider, site in along:
        via = ", ".join(packages.resolution.needed_by.get(provider, ())[:3])
        places.append(bundle.place(site.path, site.line, f"{provider} comes with {via}" if via else provider))
    names = ", ".join(provider for provider, _ in along)
    does = "is imported and not declared; another package brings it" if len(along) == 1 else ""
    do = f"add {names} to the dependencies"
    return remarked(
        f"{names} {does or 'are imported and not declared; other packages bring them'}", *places, do=do
    )


def _sites(bundle: Bundle, flow: Flow) -> Iterator[Site]:
    """Imports of third-party packages that nothing guards against their absence."""
    sure = {
        (use.place.path, use.place.line)
        for walk in flow.walks
        for use in walk.of(Use)
        if use.imported and use.certain and not use.guarded
    }
    own = {source.module.partition(".")[0] for source in bundle.sources.values()}
    for path, source in bundle.sources.items():
        for module, line in _unguarded(source.tree) if source.tree is not None else ():
            root = module.partition(".")[0]
            if root not in sys.stdlib_module_names and root not in own:
                yield Site(module, path, line, (path, line) in sure)


def _unguarded(tree: ast.Module) -> Iterator[tuple[str, int]]:
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.expr):
            continue  # which holds no statement
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                # `from google import protobuf` names the distribution in its second word.
                yield (f"{module}.{names[0].name}" if "." not in module else module), node.lineno
            case ast.Try(body=body, handlers=handlers) if any(map(_catches, handlers)):
                todo.extend(child for child in children(node) if child not in body)
            case ast.If(test=test) if "TYPE_CHECKING" in ast.unparse(test):
                todo.extend(node.orelse)
            case _:
                todo.extend(children(node))


def _catches(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or ast.unparse(kind).rpartition(".")[2] in CATCHES for kind in caught)


@check("files.all-within", "hydra.cli-full", impact=Impact.BLOCKS)
def optional_packages_are_there_where_used(bundle: Bundle, flow: Flow, packages: Packages) -> Answers:
    """What a library needs only for some of its functions is installed where one of them is called.

    Libraries leave such packages out of their own dependencies and raise when they are missed: transformers
    without accelerate at `device_map=`, pandas without tabulate at `to_markdown`.

    Bad:
        model = AutoModelForCausalLM.from_pretrained(name, device_map="auto")  # no accelerate
    Good:
        model = AutoModelForCausalLM.from_pretrained(name).to(device)
    """
    if packages.problem:
        raise CannotLookError(packages.problem)
    if packages.conflict:
        raise CannotLookError("no versions resolve together, so what is installed cannot be told")
    told: dict[tuple[str, str, int], tuple[bool, dict[str, Any], list[str]]] = {}
    met: list[Evidence] = []
    for call, rule in _soft_calls(flow):
        lacking = _lacking(rule, packages)
        if not lacking:
            met.append(bundle.place(call.place.path, call.place.line, f"needs {', '.join(_wanted(rule))}"))
            continue
        spot = (call.path, call.place.path, call.place.line)
        sure = call.certain and not call.guarded
        told[spot] = (sure or (spot in told and told[spot][0]), rule, lacking)
    for (called, path, line), (sure, rule, lacking) in told.items():
        names = " and ".join(lacking)
        how = f" with {rule['keyword']}" if "keyword" in rule else ""
        how = f" of {' or '.join(rule['first'])}" if "first" in rule else how
        says = f"{called}{how} needs {names}, which no dependency brings"
        where = bundle.place(path, line, "called here")
        if not sure:
            yield cannot_tell(f"{says}; whether the code gets there depends on what it meets", where)
        else:
            table = (packages.requirements.table or "project.dependencies").split(".")
            declared = bundle.place(PATH, bundle.key_line(PATH, *table), "declared here")
            yield failed(says, where, declared, do=f"add {names} to the dependencies")
    if not any(sure for sure, _, _ in told.values()):
        yield passed("what the called functions need beside their library is installed", *dict.fromkeys(met))


def _soft_calls(flow: Flow) -> Iterator[tuple[Call, dict[str, Any]]]:
    rules: list[dict[str, Any]] = known()["soft"]
    for walk in flow.walks:
        for call in walk.of(Call):
            for rule in rules:
                if any(fnmatchcase(call.path, pattern) for pattern in rule["calls"]) and _applies(call, rule):
                    yield call, rule


def _applies(call: Call, rule: dict[str, Any]) -> bool:
    if "keyword" in rule:
        given = call.kwargs.get(rule["keyword"])
        if given is None or (isinstance(given, Known) and given.value in (None, False)):
            return False
        return isinstance(given, Known) or rule["keyword"] == "device_map"
    if "first" in rule:
        first = call.argument(0, "path")
        return isinstance(first, Known) and first.value in rule["first"]
    return True


def _wanted(rule: dict[str, Any]) -> list[str]:
    return list(rule.get("needs") or rule["one_of"][:1])


def _lacking(rule: dict[str, Any], packages: Packages) -> list[str]:
    there = {*packages.resolved, *(entry.name for entry in packages.requirements.entries)}
    if "one_of" in rule:
        return [] if there.intersection(rule["one_of"]) else rule["one_of"][:1]
    return [name for name in rule["needs"] if name not in there]
