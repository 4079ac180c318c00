"""Whether an environment can be built from `pyproject.toml`, as `uv run` builds it before Python starts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from labgate.bundle import BrokenFileError, Bundle
from labgate.checks import Answers, CannotLookError, check
from labgate.criteria._backends import PROVIDERS, backend_of, obstacles, table
from labgate.finding import Answer, Evidence, Impact, cannot_tell, failed, passed, remarked
from labgate.packages import Fault, Packages
from labgate.packages.requirements import PATH

ENVIRONMENT = ("files.pyproject-toml", "hydra.cli-full", "hydra.cli-trial", "hydra.cli-evaluate")
"""What falls with the environment: the file, and every command of the contract."""

ARRAY = 'write them as an array of strings: dependencies = ["torch>=2.1", "wandb>=0.16"]'


def _document(bundle: Bundle) -> Mapping[str, Any]:
    """The parsed file. Raises CannotLookError: that it does not parse is the first check's to say."""
    try:
        return bundle.toml(PATH)
    except BrokenFileError as error:
        raise CannotLookError(f"{PATH} {error.says}") from None


def _place(bundle: Bundle, *keys: str, label: str = "") -> Evidence:
    return bundle.place(PATH, _line(bundle, *keys), label)


def _line(bundle: Bundle, *keys: str) -> int:
    """The line of `[a.b]`, where there is such a header, else of the key."""
    lines = (bundle.text(PATH) or "").splitlines()
    header = re.compile(r"\s*\[\s*" + r"\s*\.\s*".join(re.escape(key) for key in keys) + r"\s*\]")
    return next((n for n, line in enumerate(lines, 1) if header.match(line)), 0) or bundle.key_line(
        PATH, *keys
    )


@check(*ENVIRONMENT, impact=Impact.BLOCKS)
def metadata_follow_the_standard(bundle: Bundle) -> Answers:
    """`pyproject.toml` parses, and its `[project]` table is what the standard allows.

    uv reads the file before anything else. A table of another tool's installs nothing; a name, version or
    Python demand that it cannot read ends every command; what the build backend cannot read ends them too.

    Bad:
        import tomllib
        tomllib.loads('[tool.poetry]\\nname = "lora-study"\\nversion = "0.1.0"')
    Good:
        import tomllib
        tomllib.loads('[project]\\nname = "lora-study"\\nversion = "0.1.0"\\ndependencies = []')
    """
    if PATH not in bundle.files:
        yield failed(f"there is no {PATH}", Evidence(PATH), do="add one, with a [project] table")
        return
    try:
        document = bundle.toml(PATH)
    except BrokenFileError as error:
        where = bundle.place(PATH, error.line, "read up to here")
        yield failed(f"{PATH} {error.says}", where, do="make it valid TOML")
        return
    if not isinstance(document.get("project"), dict):
        yield _no_project(bundle, document)
        return
    failures = [*_refused_by_uv(bundle, document), *_refused_by_others(bundle, document)]
    yield from failures
    if not any(answer.impact is not Impact.REMARKS for answer in failures):
        yield passed("pyproject.toml is valid, and has a [project] table", _place(bundle, "project"))


def _no_project(bundle: Bundle, document: Mapping[str, Any]) -> Answer:
    poetry = table(document, "tool", "poetry")
    places = (
        [_place(bundle, "tool", "poetry", label="only Poetry reads this")] if poetry else [Evidence(PATH)]
    )
    if table(poetry, "dependencies"):
        places.append(_place(bundle, "tool", "poetry", "dependencies", label="none of these is installed"))
    if "build-system" in document:
        places.append(_place(bundle, "build-system"))
    theirs = "; its metadata are Poetry's" if poetry else ""
    do = "move name, version and dependencies to [project], the dependencies as PEP 508 strings"
    says = f"there is no [project] table{theirs}: uv installs none of them, and the first import fails"
    return failed(says, *places, do=do)


def _refused_by_uv(bundle: Bundle, document: Mapping[str, Any]) -> Iterator[Answer]:
    """What uv itself cannot read, dependencies apart."""
    project = document["project"]
    dynamic = project.get("dynamic") or ()
    head = _place(bundle, "project", label="the project")
    name, version, python = project.get("name"), project.get("version"), project.get("requires-python")
    if not name:
        yield failed("[project] has no name", head, do='add name = "…"')
    elif not _reads(lambda: canonicalize_name(str(name), validate=True)):
        yield failed(
            f"{name!r} is no project name: letters, digits, '-', '_' and '.' only",
            _place(bundle, "project", "name"),
        )
    if version is None and "version" not in dynamic:
        yield failed("[project] has no version", head, do='add version = "0.1.0"')
    elif version is not None and not _reads(lambda: Version(str(version))):
        yield failed(
            f"{version!r} is no version", _place(bundle, "project", "version"), do='write version = "0.1.0"'
        )
    if python is not None and not (isinstance(python, str) and _reads(lambda: SpecifierSet(python))):
        yield failed(
            f"requires-python is {python!r}, which only Poetry understands"
            if isinstance(python, str) and python[:1] in "^~"
            else f"requires-python is {python!r}, which is no version range",
            _place(bundle, "project", "requires-python"),
            do='write requires-python = ">=3.10"',
        )
    system = document.get("build-system")
    if isinstance(system, dict) and not isinstance(system.get("requires"), list):
        do = 'add requires = ["setuptools>=61"], or drop the table'
        yield failed("[build-system] has no array `requires`", _place(bundle, "build-system"), do=do)


def _reads(read: Any) -> bool:
    try:
        read()
    except (InvalidName, InvalidVersion, InvalidSpecifier):
        return False
    return True


def _refused_by_others(bundle: Bundle, document: Mapping[str, Any]) -> Iterator[Answer]:
    """What uv passes over and the standard does not: the build backend stops at it, when there is one."""
    backend = backend_of(document)
    for key, says in _violations(document):
        keys = ("project", *key.split("."))
        place = _place(bundle, *keys)
        strict = backend is not None and (backend.startswith("setuptools") or "must not contain" not in says)
        if backend is not None and strict:
            where = (place, _place(bundle, "build-system", label=f"{backend} reads it before it builds"))
            yield failed(
                f"the standard does not allow this: {says}", *where, do=f"correct or drop project.{key}"
            )
        else:
            yield remarked(
                f"the standard does not allow this: {says}", place, do=f"correct or drop project.{key}"
            )


APART = ("name", "version", "requires-python", "dependencies", "optional-dependencies", "dynamic")
"""Keys that have an answer of their own."""


@cache
def _validator() -> Any:
    """The standard's schema, compiled once in a process."""
    os.environ.setdefault("VALIDATE_PYPROJECT_NO_NETWORK", "1")
    # Half as slow to import as all the rest of reading, so not before it is wanted.
    from validate_pyproject import api

    return api.Validator(plugins=[])


def _violations(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key under `project`, what is wrong), one for each key."""
    from validate_pyproject import errors

    project = {key: value for key, value in document["project"].items() if key not in APART}
    validate = _validator()
    for _ in range(20):
        try:
            validate({"project": {"name": "a", "version": "1", **project}})
            return
        except errors.ValidationError as error:
            says = str(error.summary).partition("\n")[0].strip()
            key = re.match(r"`?project\.([\w-]+)", str(error.name))
            extra = re.search(r"must not contain \{'([^']+)'", says)
            guilty = extra[1] if extra else key[1] if key else ""
            if guilty not in project:
                return
            del project[guilty]
            yield guilty, says


@check(*ENVIRONMENT, impact=Impact.BLOCKS)
def dependencies_are_requirements(bundle: Bundle, packages: Packages) -> Answers:
    """The dependencies are an array of PEP 508 strings under `[project]`.

    A table of names and versions, or a caret, is Poetry's language. uv stops at the first such line, before
    Python starts, and with it every command of the contract.

    Bad:
        dependencies = {"torch": "^2.1.0", "wandb": "^0.16"}
    Good:
        dependencies = ["torch>=2.1.0", "wandb>=0.16"]
    """
    document = _document(bundle)
    requirements = packages.requirements
    if not isinstance(document.get("project"), dict):
        raise CannotLookError("there is no [project] table to hold them")
    failures = [*_told(bundle, packages), *_optional(bundle, document)]
    yield from failures
    if failures:
        return
    if not requirements.table:
        yield passed("the project declares no dependencies", _place(bundle, "project"))
        return
    says = f"all {len(requirements.entries)} dependencies are requirements that an installer reads"
    yield passed(says, _place(bundle, "project", "dependencies"))


def _told(bundle: Bundle, packages: Packages) -> Iterator[Answer]:
    requirements = packages.requirements
    for fault in requirements.faults:
        places = [bundle.place(PATH, fault.line, "a table, where an array is wanted")]
        if fault.kind == "table":
            yield failed(f"{fault.says}: uv stops here, before Python starts", *places, do=ARRAY)
        elif fault.kind == "elsewhere":
            head = _place(bundle, "project", label="uv reads this table, which has no dependencies")
            where = bundle.place(PATH, fault.line, "none of these is installed")
            yield failed(
                f"{fault.says}: uv installs none of them", where, head, do="move them to [project]. " + ARRAY
            )
        elif fault.kind == "shape":
            yield failed(fault.says, bundle.place(PATH, fault.line), do=ARRAY)
        elif fault.kind == "entry":
            where = bundle.place(PATH, fault.line)
            yield failed(
                f"{fault.raw or fault.says!r} is no PEP 508 requirement: {fault.says}", where, do=ARRAY
            )
    carets = [fault for fault in requirements.faults if fault.kind == "caret"]
    if carets and requirements.table == "project.dependencies":
        many = f"{len(carets)} of {len(requirements.entries)}" if len(carets) > 1 else "one"
        do = "write ^1.2 as >=1.2,<2, or as >=1.2 where the next major version will do"
        lines = [bundle.place(PATH, caret.line, _range(caret)) for caret in carets]
        yield failed(f"{many} of the dependencies are ranges that only Poetry understands", *lines, do=do)


def _range(fault: Fault) -> str:
    return "a tilde range" if "~" in fault.raw and "^" not in fault.raw else "a caret range"


def _optional(bundle: Bundle, document: Mapping[str, Any]) -> Iterator[Answer]:
    """uv reads extras and groups too, and stops at one that it cannot read."""
    for keys in (("project", "optional-dependencies"), ("dependency-groups",)):
        groups = table(document, *keys)
        for name, items in groups.items():
            where = _place(bundle, *keys, name)
            if not isinstance(items, list):
                yield failed(f"the extra dependencies {name!r} are not an array", where, do=ARRAY)
                continue
            bad = [item for item in items if isinstance(item, str) and not _is_requirement(item)]
            if bad:
                yield failed(
                    f"{', '.join(map(repr, bad))} in {name!r} is no PEP 508 requirement", where, do=ARRAY
                )


def _is_requirement(item: str) -> bool:
    try:
        Requirement(item)
    except InvalidRequirement:
        return False
    return True


@check(*ENVIRONMENT, impact=Impact.BLOCKS)
def the_project_can_be_built(bundle: Bundle) -> Answers:
    """The build backend finds what it is to build, or nothing has to be built.

    With a `[build-system]`, uv builds and installs the project itself before it runs a command. Most backends
    look for a folder that bears the project's name; an experiment has `src/`.

    Bad:
        build_system = {"requires": ["hatchling"], "build-backend": "hatchling.build"}
    Good:
        build_system = {"requires": ["setuptools>=61"], "build-backend": "setuptools.build_meta"}
    """
    document = _document(bundle)
    if "project" not in document:
        raise CannotLookError("there is no [project] table to build from")
    backend = backend_of(document)
    if backend is None:
        yield passed("there is no [build-system], so uv builds nothing", _place(bundle, "project"))
        return
    where = _place(bundle, "build-system", "build-backend", label="builds the project")
    lacking = _lacking(document, backend)
    if lacking:
        requires = _place(bundle, "build-system", "requires", label="what the build environment holds")
        do = f"add {lacking!r} to `requires`"
        yield failed(
            f"the backend {backend} comes with {lacking}, which is not required", where, requires, do=do
        )
        return
    known = obstacles(bundle, document, backend)
    if known is None:
        yield cannot_tell(f"what the backend {backend} needs is not known", where)
        return
    failures = [failed(o.says, _place(bundle, *o.keys), where, do=o.do) for o in known]
    yield from failures
    if not failures:
        yield passed(f"{backend.partition('.')[0]} finds what it needs", where)


def _lacking(document: Mapping[str, Any], backend: str) -> str:
    """The distribution that holds `backend`, when `requires` does not name it."""
    system = table(document, "build-system")
    requires = system.get("requires")
    providers = PROVIDERS.get(backend.partition(".")[0])
    if not isinstance(requires, list) or providers is None or "backend-path" in system:
        return ""
    names = set()
    for item in requires:
        try:
            names.add(canonicalize_name(Requirement(str(item)).name))
        except InvalidRequirement:
            return ""
    return "" if names & set(providers) else providers[0]


@check(*ENVIRONMENT, impact=Impact.BLOCKS)
def versions_can_live_together(bundle: Bundle, packages: Packages) -> Answers:
    """One set of versions satisfies every requirement, and none of them is a decoy.

    uv resolves before it installs; where no set of versions fits, no command runs. The question is put to uv,
    for the day that decides: the bundle's own `uv.lock`, else the day that was asked for, else today.

    Bad:
        dependencies = ["numpy<2", "pandas>=3"]
    Good:
        dependencies = ["numpy>=2", "pandas>=3"]
    """
    requirements = packages.requirements
    decoys = list(packages.decoys())
    for entry, wanted in decoys:
        where = bundle.place(
            PATH, entry.line, "a name on the index whose only release stops the installation"
        )
        yield failed(
            f"{entry.name} is not the package that it seems to be", where, do=f"require {wanted} instead"
        )
    if packages.problem:
        raise CannotLookError(packages.problem)
    mended = ", read as they were meant," if requirements.mended else ""
    if packages.conflict:
        named = [
            e for e in requirements.entries if re.search(rf"(?<![\w-]){e.name}(?![\w-])", packages.conflict)
        ]
        places = [bundle.place(PATH, entry.line, "takes part") for entry in named]
        said = Evidence("uv", 0, packages.conflict, packages.resolution.settled_by)
        do = "loosen one of the ranges, or drop what is not needed"
        yield failed(
            f"no set of versions satisfies the requirements{mended.rstrip(',')}", *places, said, do=do
        )
        return
    if decoys:
        return
    by = packages.resolution.settled_by
    settled = f"as {by} has them" if by == "uv.lock" else f"on {by}"
    entries = [entry for entry in requirements.registered if entry.name in packages.resolved]
    places = [
        bundle.place(PATH, entry.line, f"{entry.name} {packages.resolved[entry.name]}") for entry in entries
    ]
    says = f"the requirements resolve{mended} to {len(packages.resolved)} packages, {settled}"
    yield passed(says, *places)
    for entry in requirements.entries:
        if entry.reference:
            where = bundle.place(PATH, entry.line, "an address, which is not looked up")
            yield cannot_tell(f"{entry.name} comes from an address of its own", where)


@check("files.pyproject-toml", impact=Impact.REMARKS)
def the_python_version_is_stated(bundle: Bundle) -> Answers:
    """`requires-python` says which Python the experiment is for.

    Without it uv takes the Python it happens to run under, and the same file resolves to other versions on
    another machine.

    Bad:
        project = {"name": "lora-study", "version": "0.1.0"}
    Good:
        project = {"name": "lora-study", "version": "0.1.0", "requires-python": ">=3.10"}
    """
    document = _document(bundle)
    project = document.get("project")
    if not isinstance(project, dict):
        raise CannotLookError("there is no [project] table to state it")
    if project.get("requires-python"):
        yield passed("requires-python is stated", _place(bundle, "project", "requires-python"))
    else:
        do = 'add requires-python = ">=3.10"'
        yield remarked("requires-python is not stated", _place(bundle, "project"), do=do)
