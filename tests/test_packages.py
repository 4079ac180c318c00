"""The fact `packages`: requirements as written or mended, versions that resolve, APIs read from wheels."""

import json
from datetime import date
from pathlib import Path

import pytest

from labgate import packages
from labgate.bundle import Bundle
from labgate.packages import Packages, Resolution, resolution, uv, wheels
from labgate.packages.apis import Library
from labgate.packages.requirements import lower_bound
from labgate.packages.requirements import read as requirements_of
from labgate.packages.signatures import signature_of

ARRAY = '[project]\nname = "pruning"\nversion = "1"\ndependencies = [\n  "torch>=2.1",\n  "PyYAML",\n]\n'
POETRY = """\
[project]
name = "pruning"
version = "1"

[project.dependencies]
torch = "^2.1.0"
timm = { version = "~0.9", extras = ["all"] }
numpy = "*"
odd = { git = "somewhere" }
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LABGATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def requirements(text):
    return requirements_of(Bundle.from_files({"pyproject.toml": text}))


def test_an_array_of_requirements_is_read_with_its_lines():
    found = requirements(ARRAY)
    assert [(e.name, e.specifier, e.line) for e in found.entries] == [
        ("torch", ">=2.1", 5),
        ("pyyaml", "", 6),
    ]
    assert not found.mended


def test_a_table_of_caret_ranges_is_read_as_its_lower_bounds_and_says_so():
    found = requirements(POETRY)
    assert [str(e) for e in found.entries] == ["torch>=2.1.0", "timm[all]>=0.9", "numpy", "odd"]
    assert found.mended and [(f.kind, f.line) for f in found.faults] == [
        ("table", 5),
        ("caret", 6),
        ("caret", 7),
    ]
    assert [e.name for e in found.registered] == ["torch", "timm", "numpy"]


def test_a_caret_inside_an_array_is_a_fault_on_its_line():
    found = requirements(ARRAY.replace("torch>=2.1", "torch ^2.1"))
    assert [(f.kind, f.line) for f in found.faults] == [("caret", 5)]
    assert str(found.entry("torch")) == "torch>=2.1"


def test_dependencies_that_only_poetry_would_read_are_told_from_those_that_uv_reads():
    found = requirements('[tool.poetry.dependencies]\npython = "^3.10"\ntorch = "2.1.0"\n')
    assert [(f.kind, f.line) for f in found.faults] == [("elsewhere", 1)]
    assert str(found.entry("torch")) == "torch==2.1.0" and found.requires_python == "^3.10"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("^1.2.3", ">=1.2.3"),
        ("~1.2", ">=1.2"),
        ("*", ""),
        (">=1,<2", "<2,>=1"),
        ("1.2.*", "==1.2.*"),
        ("^1 || ^2", ">=1"),
    ],
)
def test_poetrys_ranges_become_pep_440(written, read):
    assert lower_bound(written) == read


def test_a_broken_file_says_why_and_never_raises():
    assert "does not parse" in requirements("[project\n").unreadable


# Resolution


def said(code, err="", out=""):
    return resolution._understood(uv.Said(code, out, err), date(2026, 1, 1), "3.11")


def test_requirements_that_contradict_each_other_are_the_bundles_failure_in_uvs_words():
    words = (
        "error: No solution found when resolving dependencies\n  cause: Because you require a<1 and a>2, no."
    )
    assert said(1, words) == Resolution(
        conflict="Because you require a<1 and a>2, no.", settled_by="2026-01-01", python="3.11"
    )


@pytest.mark.parametrize(
    "words",
    [
        "error: Request failed after 3 retries in 7.4s\n  cause: Failed to fetch: <the registry>",
        "error: No solution found when resolving dependencies\n  cause: Because numpy was not found in the "
        "cache\nhint: Packages were unavailable because the network was disabled.",
    ],
)
def test_a_registry_that_cannot_be_reached_is_our_failure(words):
    answer = said(1, words)
    assert not answer.conflict and "could not be asked" in answer.problem


def test_a_package_without_wheels_makes_versions_unknown_and_nothing_is_built():
    answer = said(
        1,
        "error: No solution found when resolving dependencies\n  cause: Because all versions of odd have no "
        "usable wheels\nhint: Wheels are required for `odd` because building from source is disabled",
    )
    assert answer.problem == "odd comes as source only, and nothing is built while reading"


def test_versions_are_those_whose_markers_hold_for_the_python_that_is_read_for():
    out = "numpy==2.0.2 ; python_full_version < '3.10'\n    # via pandas\n"
    out += "numpy==2.4.0 ; python_full_version >= '3.10'\n    # via\n    #   pandas\n"
    out += "    #   scipy\npywin32==300 ; sys_platform == 'win32'\n"
    answer = said(0, out=out)
    assert answer.versions == {"numpy": "2.4.0"} and answer.needed_by == {"numpy": ("pandas", "scipy")}


@pytest.mark.parametrize(
    ("demand", "lowest", "chosen"),
    [
        ("", "3.11", "3.11"),
        (">=3.9", "3.9", "3.11"),
        (">=3.9,<3.11", "3.9", "3.10"),
        (">=3.12", "3.12", "3.12"),
    ],
)
def test_python_is_the_lowest_admitted_for_resolving_and_3_11_for_reading(demand, lowest, chosen):
    assert resolution.python_for(demand) == (lowest, chosen)


def test_addresses_and_paths_are_cut_out_of_what_uv_says():
    assert (
        uv.without_addresses("at https://host/simple/x and /home/me/x.whl")
        == "at <the registry> and <a path>"
    )


def test_a_lock_file_decides_before_anything_is_asked(cache):
    lock = '[[package]]\nname = "pruning"\nversion = "1"\nsource = { editable = "." }\n'
    lock += 'dependencies = [{ name = "torch" }]\n[[package]]\nname = "torch"\nversion = "2.5.0"\n'
    found = packages.read(Bundle.from_files({"pyproject.toml": ARRAY, "uv.lock": lock}))
    assert found.resolved == {"torch": "2.5.0"} and found.resolution.settled_by == "uv.lock"


def test_leaving_resolution_out_is_said_and_lookups_are_unknown(cache):
    found = packages.read(Bundle.from_files({"pyproject.toml": ARRAY}), resolve=False)
    assert found.problem and found.lookup("torch.zeros").kind == "unknown"
    assert found.declares("yaml").line == 6


def test_an_unreachable_registry_is_a_problem_and_no_conflict(cache, monkeypatch):
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(cache / "uv"))
    found = packages.read(Bundle.from_files({"pyproject.toml": ARRAY}))
    assert "could not be asked" in found.problem and not found.conflict


@pytest.mark.registry
def test_the_registry_settles_versions_and_a_conflict(cache):
    small = ARRAY.replace('"torch>=2.1",\n  "PyYAML"', '"hydra-core==1.3.2"')
    found = packages.read(Bundle.from_files({"pyproject.toml": small}), as_of=date(2025, 11, 10))
    assert found.resolved["hydra-core"] == "1.3.2" and found.resolved["antlr4-python3-runtime"] == "4.9.3"
    torn = small.replace('"hydra-core==1.3.2"', '"hydra-core==1.3.2", "omegaconf<2"')
    assert "omegaconf" in packages.read(Bundle.from_files({"pyproject.toml": torn})).conflict


@pytest.mark.registry
def test_a_wheel_is_fetched_and_its_api_read_without_importing_it(cache):
    text = ARRAY.replace('"torch>=2.1",\n  "PyYAML"', '"omegaconf==2.3.0"')
    bundle = Bundle.from_files({"pyproject.toml": text, "src/train.py": "from omegaconf import OmegaConf\n"})
    found = packages.read(bundle)
    assert found.lookup("omegaconf.OmegaConf.merge").kind == "exists"
    gone = found.lookup("omegaconf.OmegaConf.deepcopy")
    assert (gone.kind, gone.version, gone.parent) == ("missing", "2.3.0", "omegaconf.omegaconf.OmegaConf")
    assert found.signature("omegaconf.OmegaConf.to_container").takes("resolve")
    again = packages.read(bundle)
    assert again.lookup("omegaconf.OmegaConf.deepcopy") == gone
    assert json.loads(next((cache / "answers").iterdir()).read_text())


# Which distribution provides an import


def having(names, text=ARRAY):
    bundle = Bundle.from_files({"pyproject.toml": text})
    return Packages(bundle, requirements_of(bundle), Resolution(dict.fromkeys(names, "1")))


def test_an_import_is_provided_by_the_distribution_of_another_name():
    found = having(["scikit-learn", "torch", "pyyaml", "python-dateutil"])
    assert [found.provides(n) for n in ("sklearn", "yaml", "torch.nn", "dateutil", "functorch")] == [
        "scikit-learn",
        "pyyaml",
        "torch",
        "python-dateutil",
        "torch",
    ]


def test_an_import_that_nothing_provides_is_told_from_one_that_cannot_be_told():
    found = having(["torch", "pyyaml", "opentelemetry-api", "my-odd-thing"])
    assert found.provides("timm") is None
    assert found.provides("odd_thing") == packages.UNKNOWN
    assert found.provides("opentelemetry.trace") == packages.UNKNOWN
    assert found.provides("thing") == packages.UNKNOWN
    assert having([]).provides("timm") == packages.UNKNOWN


# APIs, on a package of our own


PACKAGE = {
    "__init__.py": """
from typing import TYPE_CHECKING
from .shapes import *
from .shapes import Square as Box
from .runs import Run
import os
try:
    from .fast import speed
except ImportError:
    speed = None
if os.name == "nt":
    def only_there(): ...
run: "Run | None" = None
start = Box
""",
    "shapes.py": """
from dataclasses import dataclass, field
from enum import Enum
import elsewhere

__all__ = ["Shape", "Square", "area"]

class Shape:
    def __init__(self, name, *, scale=1): self.name = name
    def paint(self): self.colour = "red"
    @property
    def label(self): return self.name

class Square(Shape):
    def grow(self, by, *rest, **more): return self

class Foreign(elsewhere.Base): ...

class Wild(Shape):
    def __getattr__(self, name): return 1

@dataclass
class Plan:
    epochs: int
    rate: float = 0.1
    tags: list = field(default_factory=list)

@dataclass
class LongPlan(Plan):
    patience: int = 3

class Kind(Enum):
    FULL = 1

def area(shape, /, unit, *, digits=2) -> float: ...
def _hidden(): ...
""",
    "runs.py": """
from __future__ import annotations
class Run:
    url: str
    def history(self, keys=None) -> "History": ...
    @property
    def best(self) -> Run | None: ...
    def copy(self) -> Self: ...
class History:
    def mean(self): ...
""",
    "dynamic.py": "for name in ('a', 'b'):\n    globals()[name] = 1\n",
    "removed.py": """
_gone = {"old": "use new"}
new = 1
def __getattr__(name):
    if name in _gone:
        raise AttributeError(_gone[name])
    if name == "later":
        import json
        return json
    raise AttributeError(name)
""",
    "any.py": "def __getattr__(name):\n    return look_up(name)\n",
    "patched.py": "from . import shapes\nshapes.Square.stamp = lambda self: 1\n",
    "typed.py": "def load(path): ...\n",
    "typed.pyi": """
from typing import overload
@overload
def load(path: str) -> int: ...
@overload
def load(path: str, *, lazy: bool) -> str: ...
extra: int
""",
    "lazy/__init__.py": """
import sys
_import_structure = {"models": ["Model"]}
sys.modules[__name__] = _LazyModule(__name__, _import_structure)
""",
    "lazy/models.py": """
__all__ = ["Model", "Other"]
class Model:
    def fit(self): ...
class Other: ...
class Inner: ...
""",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    for name, text in PACKAGE.items():
        path = folder / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Library([wheels.Wheel("shop", "1.0", folder, frozenset({"shop.native"}), frozenset({"shop"}))])


@pytest.mark.parametrize(
    ("dotted", "kind"),
    [
        ("shop.area", "exists"),  # through a wildcard
        ("shop.Box.grow", "exists"),  # renamed on import
        ("shop.Box.paint", "exists"),  # inherited
        ("shop.Box.name", "exists"),  # set in __init__
        ("shop.Box.colour", "exists"),  # set in another method
        ("shop.Box.label", "exists"),  # a property
        ("shop.start.grow", "exists"),  # an attribute that is another name for a class
        ("shop.speed", "exists"),  # in either branch of try
        ("shop.only_there", "exists"),  # under if
        ("shop.shapes", "exists"),  # a submodule
        ("shop.run.history", "exists"),  # by annotation
        ("shop.run.best.url", "exists"),  # by a property's annotation
        ("shop.shapes.Kind.FULL", "exists"),
        ("shop.shapes.Kind.__members__", "exists"),
        ("shop.typed.extra", "exists"),  # in the stub alone
        ("shop.native", "exists"),  # compiled
        ("shop.removed.later", "exists"),
        ("shop.lazy.Model.fit", "exists"),
        ("shop.perimeter", "missing"),
        ("shop._hidden", "missing"),  # a wildcard brings no private names
        ("shop.Plan", "missing"),  # nor what __all__ leaves out
        ("shop.Box.shrink", "missing"),
        ("shop.run.get_url", "missing"),
        ("shop.removed.old", "missing"),  # its __getattr__ raises for it
        ("shop.removed.never", "missing"),
        ("shop.lazy.Nowhere", "missing"),
        ("shop.dynamic.a", "unknown"),
        ("shop.any.thing", "unknown"),
        ("shop.shapes.Foreign.thing", "unknown"),  # a base out of sight
        ("shop.shapes.Wild.thing", "unknown"),  # __getattr__
        ("shop.Box.stamp", "unknown"),  # assigned from another file
        ("shop.native.thing", "unknown"),
        ("shop.lazy.Inner", "unknown"),  # defined, and not named by the table
        ("shop.area.thing", "unknown"),
        ("other.thing", "unknown"),
    ],
)
def test_a_name_exists_is_missing_or_cannot_be_told(library, dotted, kind):
    reached = library.find(dotted)
    assert reached.kind == kind, reached.why


def test_a_missing_name_comes_with_its_parent_and_near_names(library):
    reached = library.find("shop.Box.gorw")
    assert reached.thing.path == "shop.shapes.Square" and reached.near == ("grow",)


def test_a_name_that_only_a_getattr_could_answer_for_is_marked(library):
    assert library.find("shop.shapes.Wild.thing").undefined
    assert not library.find("shop.shapes.Foreign.thing").undefined


def taken(library, dotted):
    return signature_of(library, library.find(dotted).thing)


def test_a_class_takes_what_its_inherited_construction_takes(library):
    signature = taken(library, "shop.Box")
    assert signature.keywords == ("name", "scale") and signature.lacking(0, ()) == ("name",)
    assert signature.takes("scale") and not signature.takes("colour")


def test_a_dataclass_takes_its_fields_and_those_it_inherits(library):
    signature = taken(library, "shop.shapes.LongPlan")
    assert signature.keywords == ("epochs", "rate", "tags", "patience") and signature.lacking(
        0, ["rate"]
    ) == ("epochs",)


def test_methods_leave_self_out_and_catch_alls_take_anything(library):
    signature = taken(library, "shop.Box.grow")
    assert signature.keywords == ("by",) and signature.takes("anything") and signature.takes_any_position


def test_positional_only_parameters_are_no_keywords(library):
    signature = taken(library, "shop.area")
    assert signature.keywords == ("unit", "digits") and signature.lacking(1, ()) == ("unit",)


def test_overloads_together_say_what_may_be_given_and_nothing_of_what_must(library):
    signature = taken(library, "shop.typed.load")
    assert signature.keywords == ("path", "lazy") and signature.lacking(0, ()) == ()
    assert signature.takes_any_position


@pytest.mark.parametrize("dotted", ["shop.shapes.Kind", "shop.shapes.Foreign", "shop.speed", "shop.native"])
def test_a_construction_that_cannot_be_read_gives_no_signature(library, dotted):
    assert taken(library, dotted) is None


def test_wheels_keep_sources_and_the_names_of_what_was_compiled(tmp_path):
    for name in (
        "pkg/core.cpython-311-darwin.so",
        "pkg/__init__.py",
        "pkg/data/big.bin",
        "pkg-1.dist-info/METADATA",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    wheels._strip(tmp_path)
    wheel = wheels._opened("pkg", "1", tmp_path)
    assert wheel.compiled == {"pkg.core"} and wheel.roots == {"pkg"}
    assert sorted(p.name for p in Path(tmp_path, "pkg").iterdir()) == ["__init__.py"]
