"""Criterion 2: names and arguments taken from third-party packages, in the versions that resolve.

The packages here are made up and lie where fetched wheels would lie; one test asks the registry
for a real one.
"""

import json
from datetime import date

import pytest

from labgate import packages
from labgate.bundle import Bundle
from labgate.checks import CannotLookError
from labgate.compose import Child, Compositions
from labgate.contract import load
from labgate.criteria import apis
from labgate.finding import Outcome
from labgate.flow import Flow
from labgate.packages import uv

CONTRACT = load("airas-2025-11")
WHEEL = {
    "__init__.py": "from .grids import Grid, Lot, prune\nfrom . import extra, filled\n"
    "from ._kiosk import Kiosk\n_kiosk: Kiosk = None\n",
    "_kiosk.py": """
from .compat import lazily

class Goods:
    apples = 1

class Kiosk:
    @lazily
    def goods(self) -> Goods: ...
""",
    "grids.py": """
from typing import Optional, Tuple
class Grid:
    def __init__(self, rows, *, share=0.5): self.rows = rows
    def cut(self, share: float) -> "Grid": return self
    def loose(self, *rest, **more): return self

def prune(grid, share=0.5, /, *, seed=0) -> Grid: ...
def untold(grid): ...
def any_number(*grids, **more): ...
def corners(grid) -> "tuple[int, int, int]": ...
def rows(grid) -> tuple[int, ...]: ...
def maybe(grid) -> Optional[Tuple[int, int]]: ...
class Lot:
    @staticmethod
    def params(grid) -> Tuple[int, int, int, int, Grid]: ...
""",
    "extra.py": "def soften(logits, temperature): ...\n",
    "filled.py": "for name in ('a', 'b'):\n    globals()[name] = 1\n",
}
PYPROJECT = """\
[project]
name = "study"
version = "0"
dependencies = [
  "hydra-core",
  "gridlib>=1.0",
]
"""
LOCK = """\
[[package]]
name = "study"
version = "0"
source = { editable = "." }
dependencies = [{ name = "gridlib" }]

[[package]]
name = "gridlib"
version = "2.4"
"""
MAIN = """\
import hydra
from gridlib import Grid, prune
from gridlib.extra import soften


@hydra.main(config_path="../config", config_name="config", version_base="1.3")
def main(cfg):
    grid = Grid(8, share=0.5)
    grid = grid.cut(0.1)
    grid = prune(grid, 0.3, seed=1)
    print(soften(grid, temperature=2.0), grid)


if __name__ == "__main__":
    main()
"""
READY = Bundle.from_files(
    {
        "src/main.py": MAIN,
        "pyproject.toml": PYPROJECT,
        "uv.lock": LOCK,
        "config/config.yaml": "defaults: [_self_]\nrun: null\nmode: full\nresults_dir: results\n",
        "config/runs/magnitude.yaml": "run_id: magnitude\n",
    }
)
CHILD = Child()
KEPT = {}


@pytest.fixture(scope="module", autouse=True)
def child():
    """One child for all bundles of this file: importing Hydra is what takes the time."""
    with CHILD:
        yield
        for composer in KEPT.values():
            composer.close()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A cache in which the made-up release lies unpacked, as if it had been fetched."""
    cache = tmp_path_factory.mktemp("cache")
    for name, text in WHEEL.items():
        path = cache / "wheels" / "gridlib-2.4" / "gridlib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    note = {"compiled": ["gridlib.native"], "roots": ["gridlib"]}
    (cache / "wheels" / "gridlib-2.4" / "wheel.json").write_text(json.dumps(note), encoding="utf-8")
    return cache


@pytest.fixture(autouse=True)
def cache(shelf, monkeypatch):
    monkeypatch.setenv("LABGATE_CACHE", str(shelf))


def asked(question, bundle, **how):
    compositions = Compositions(bundle, CONTRACT, CHILD)
    # The config is the same in every bundle of this file.
    compositions.composer = KEPT.setdefault("all", compositions.composer)
    flow = Flow(bundle, CONTRACT, compositions)
    return list(question(bundle, flow, packages.read(bundle, **how)))


def the_failure(question, bundle):
    (answer,) = [answer for answer in asked(question, bundle) if answer.outcome is not Outcome.PASS]
    assert answer.outcome is Outcome.FAIL, answer
    return answer


def outcomes(question, bundle):
    return {answer.outcome for answer in asked(question, bundle)}


def places(answer):
    return [str(place) for place in answer.evidence]


names = apis.names_exist_in_the_resolved_versions
arguments = apis.arguments_fit_the_resolved_versions
LAST = "    print(soften"


@pytest.mark.parametrize("question", [names, arguments])
def test_an_experiment_that_uses_what_is_there_passes(question):
    (answer,) = asked(question, READY)
    assert answer.outcome is Outcome.PASS
    assert answer.says.startswith(("4 names found", "4 calls agree"))


@pytest.mark.parametrize("question", [names, arguments])
def test_without_versions_nothing_can_be_looked_up_and_the_reason_is_told(question):
    unlocked = READY.without("uv.lock")
    with pytest.raises(CannotLookError, match="left out"):
        asked(question, unlocked, resolve=False)


# Names


def test_a_name_that_the_release_lacks_fails_at_the_import_and_shows_the_requirement():
    bundle = READY.edit("src/main.py", "import Grid, prune", "import Grid, prune, prunes")
    answer = the_failure(names, bundle)
    assert answer.says.startswith("gridlib 2.4 has no gridlib.prunes (magnitude, mode ")
    assert places(answer) == ["src/main.py:2", "pyproject.toml:6"]
    assert "gridlib has prune" in answer.do and "pin a version" in answer.do


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("grid.shrink()", "no gridlib.grids.Grid.shrink"),
        ("Grid(4).cut(0.5).shrink()", "no gridlib.grids.Grid.shrink"),
        ("prune(grid).shrink()", "no gridlib.grids.Grid.shrink"),
        ("Grid.shrink(grid)", "no gridlib.Grid.shrink"),
    ],
)
def test_a_method_is_looked_for_in_the_class_that_is_written_down(written, says):
    answer = the_failure(names, READY.edit("src/main.py", LAST, f"    {written}\n{LAST}"))
    assert says in answer.says and places(answer)[0] == "src/main.py:11"


def test_a_module_that_the_release_lacks_fails_once_whatever_is_taken_from_it():
    bundle = READY.edit("src/main.py", "from gridlib.extra import soften", "import gridlib")
    bundle = bundle.edit("src/main.py", "soften(grid", "gridlib.losses.soften(grid")
    answer = the_failure(names, bundle)
    assert "has no gridlib.losses" in answer.says and "soften" not in answer.says


def test_the_same_name_at_two_places_shows_both():
    bundle = READY.edit("src/main.py", LAST, f"    grid.shrink()\n    grid.cut(1).shrink()\n{LAST}")
    shown = {place for answer in asked(names, bundle) for place in places(answer)}
    assert {"src/main.py:11", "src/main.py:12"} <= shown


@pytest.mark.parametrize(
    "written",
    [
        "gridlib.filled.a()",
        "gridlib.native.step()",
        "gridlib.grids.untold(grid).shrink()",
        "grid.rows[0].shrink()",
        "getattr(gridlib, input())()",
        "gridlib.Kiosk().goods.apples",
        "grid.rows",
    ],
)
def test_a_name_that_reading_cannot_settle_never_fails(written):
    bundle = READY.edit("src/main.py", "import hydra\n", "import gridlib\nimport hydra\n")
    bundle = bundle.edit("src/main.py", LAST, f"    {written}\n{LAST}")
    assert outcomes(names, bundle) == {Outcome.PASS}


@pytest.mark.parametrize(
    "lines",
    [
        "    if hasattr(grid, 'shrink'):\n        grid.shrink()\n",
        "    try:\n        grid.shrink()\n    except AttributeError:\n        pass\n",
        "    if input():\n        grid.shrink()\n",
    ],
    ids=["asked for first", "caught", "on some path"],
)
def test_a_missing_name_that_is_guarded_or_may_not_be_reached_never_fails(lines):
    assert Outcome.FAIL not in outcomes(names, READY.edit("src/main.py", LAST, f"{lines}{LAST}"))


def test_an_import_that_is_tried_never_fails():
    tried = "try:\n    from gridlib import fast\nexcept ImportError:\n    fast = None\n"
    bundle = READY.edit("src/main.py", "from gridlib import Grid", f"{tried}from gridlib import Grid")
    assert Outcome.FAIL not in outcomes(names, bundle)


# Arguments


@pytest.mark.parametrize(
    ("old", "new", "says", "line"),
    [
        ("Grid(8, share=0.5)", "Grid(8, ratio=0.5)", "takes no argument 'ratio'", 8),
        ("Grid(8, share=0.5)", "Grid()", "is not given rows", 8),
        ("Grid(8, share=0.5)", "Grid(8, 0.5)", "takes 1 positional arguments and is given 2", 8),
        ("grid.cut(0.1)", "grid.cut(ratio=0.1, share=1)", "takes no argument 'ratio'", 9),
        ("prune(grid, 0.3, seed=1)", "prune(grid, share=0.3)", "takes no argument 'share'", 10),
        ("temperature=2.0", "temp=2.0, temperature=1", "takes no argument 'temp'", 11),
        ("soften(grid, temperature=2.0)", "soften(grid)", "is not given temperature", 11),
        ("grid.cut(0.1)", "grid.cut(**{'ratio': 1, 'share': 2})", "takes no argument 'ratio'", 9),
    ],
)
def test_a_call_that_does_not_fit_fails_and_tells_what_is_taken(old, new, says, line):
    answer = the_failure(arguments, READY.edit("src/main.py", old, new))
    assert answer.says.startswith("TypeError: gridlib.") and f"of gridlib 2.4 {says}" in answer.says
    assert places(answer) == [f"src/main.py:{line}", "pyproject.toml:6"]
    assert answer.do.startswith("it takes ")


def test_the_calls_that_do_not_fit_fail_each_for_itself():
    bundle = READY.edit("src/main.py", "Grid(8, share=0.5)", "Grid(8, ratio=0.5)")
    bundle = bundle.edit("src/main.py", "temperature=2.0", "temp=2.0")
    lines = [places(a)[0] for a in asked(arguments, bundle) if a.outcome is Outcome.FAIL]
    assert set(lines) == {"src/main.py:8", "src/main.py:11"}


@pytest.mark.parametrize(
    "written",
    [
        "grid.loose(1, 2, ratio=3)",
        "gridlib.grids.any_number(1, 2, ratio=3)",
        "gridlib.native.step(ratio=3)",
        "gridlib.filled.a(ratio=3)",
        "grid.cut(*[float(word) for word in input().split()])",
        "grid.cut(**dict(input()))",
        "gridlib.grids.untold(grid).cut(ratio=3)",
    ],
)
def test_what_takes_anything_or_cannot_be_read_never_fails(written):
    bundle = READY.edit("src/main.py", "import hydra\n", "import gridlib\nimport hydra\n")
    bundle = bundle.edit("src/main.py", LAST, f"    {written}\n{LAST}")
    assert outcomes(arguments, bundle) == {Outcome.PASS}


def test_a_call_that_does_not_fit_on_some_path_only_is_not_told():
    bundle = READY.edit("src/main.py", LAST, f"    if input():\n        grid.cut(ratio=1, share=2)\n{LAST}")
    assert outcomes(arguments, bundle) == {Outcome.SKIP, Outcome.PASS}


# Results


unpacking = apis.results_are_unpacked_as_they_come


def with_line(line):
    bundle = READY.edit("src/main.py", "import hydra\n", "import gridlib\nimport hydra\n")
    return bundle.edit("src/main.py", LAST, f"    {line}\n{LAST}")


@pytest.mark.parametrize(
    ("line", "gives", "taken"),
    [
        ("a, b = gridlib.grids.corners(grid)", 3, 2),
        ("a, (b, c) = gridlib.grids.corners(grid)", 3, 2),
        ("a, b, c, d = gridlib.Lot.params(grid)", 5, 4),
    ],
)
def test_a_result_that_is_unpacked_into_another_number_of_names_fails(line, gives, taken):
    answer = the_failure(unpacking, with_line(line))
    assert f"gives {gives} values, and {taken} are taken" in answer.says
    assert places(answer) == ["src/main.py:12", "pyproject.toml:6"]


@pytest.mark.parametrize(
    "line",
    [
        "a, b, c = gridlib.grids.corners(grid)",
        "a, *rest = gridlib.grids.corners(grid)",
        "a, b = gridlib.grids.rows(grid)",
        "a, b, c = gridlib.grids.maybe(grid)",
        "a, b = gridlib.grids.untold(grid)",
        "a, b = gridlib.grids.corners(grid)[:2]",
    ],
)
def test_a_result_of_fitting_or_unknown_length_passes(line):
    assert outcomes(unpacking, with_line(line)) == {Outcome.PASS}


def test_an_unpacking_on_some_path_only_is_not_told():
    bundle = with_line("a, b = gridlib.grids.corners(grid) if input() else (1, 2)")
    assert Outcome.FAIL not in outcomes(unpacking, bundle)
    bundle = with_line("if input():\n        a, b = gridlib.grids.corners(grid)")
    assert outcomes(unpacking, bundle) == {Outcome.SKIP, Outcome.PASS}


# Registries

registered = apis.registered_names_exist


@pytest.fixture
def registry(monkeypatch):
    """`gridlib.prune` looks its first argument up among what the library registers."""
    tables = {**uv.known()}
    tables["registry"] = [
        {"calls": ["gridlib.prune"], "argument": "grid", "tag": ".", "elsewhere": ":/", "registers": "enter"}
    ]
    monkeypatch.setattr(uv, "known", lambda: tables)


@pytest.mark.usefixtures("registry")
def test_a_name_that_the_library_nowhere_spells_fails():
    answer = the_failure(registered, with_line("prune('softer.v2')"))
    assert "gridlib 2.4 registers nothing called 'softer'" in answer.says
    assert places(answer) == ["src/main.py:12", "pyproject.toml:6"]


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    "line", ["prune('soften')", "prune('soften.v2')", "prune('hub:softer')", "prune(input())", "prune(grid)"]
)
def test_a_name_that_is_spelt_lies_elsewhere_or_is_not_known_passes(line):
    assert outcomes(registered, with_line(line)) == {Outcome.PASS}


@pytest.mark.usefixtures("registry")
def test_an_experiment_that_registers_names_itself_passes():
    own = with_line("prune('softer')").edit("src/main.py", "import Grid, prune", "import Grid, enter, prune")
    assert outcomes(registered, own) == {Outcome.PASS}


@pytest.mark.registry
def test_a_real_release_is_resolved_fetched_and_read(tmp_path, monkeypatch):
    monkeypatch.setenv("LABGATE_CACHE", str(tmp_path))
    text = PYPROJECT.replace('  "hydra-core",\n  "gridlib>=1.0",', '  "omegaconf>=2.1",')
    lines = "import omegaconf\nfrom omegaconf import OmegaConf\n\n"
    lines += "kept = OmegaConf.create({})\nOmegaConf.clone(kept)\nOmegaConf.to_yaml(kept, resolved=True)\n"
    bundle = READY.without("uv.lock").with_file("pyproject.toml", text).with_file("src/evaluate.py", lines)
    bundle = bundle.with_file("src/main.py", "")
    how = {"as_of": date(2025, 11, 10)}
    (missing,) = [a for a in asked(names, bundle, **how) if a.outcome is Outcome.FAIL]
    assert "omegaconf 2.3.0 has no omegaconf.OmegaConf.clone (evaluate)" in missing.says
    assert places(missing) == ["src/evaluate.py:5", "pyproject.toml:5"]
    (refused,) = [a for a in asked(arguments, bundle, **how) if a.outcome is Outcome.FAIL]
    assert "takes no argument 'resolved'" in refused.says and places(refused)[0] == "src/evaluate.py:6"
