"""An environment can be built from `pyproject.toml`: metadata, dependencies, backend, versions."""

import pytest

from labgate.bundle import Bundle
from labgate.checks import CannotLookError
from labgate.criteria import packaging
from labgate.finding import Impact, Outcome
from labgate.packages import Packages, Resolution
from labgate.packages.requirements import read

PYPROJECT = """\
[project]
name = "pruning-study"
version = "0.1.0"
requires-python = ">=3.10"
dependencies = [
  "torch>=2.1",
  "wandb>=0.16",
]
"""
HATCHLING = '\n[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
SETUPTOOLS = '\n[build-system]\nrequires = ["setuptools>=61"]\nbuild-backend = "setuptools.build_meta"\n'
READY = Bundle.from_files(
    {"pyproject.toml": PYPROJECT, "src/train.py": "", "src/main.py": "", "config/config.yaml": ""}
)


def with_pyproject(text):
    return READY.with_file("pyproject.toml", text)


def known(bundle, **resolution):
    return Packages(bundle, read(bundle), Resolution(**resolution))


def outcomes(answers):
    return [answer.outcome for answer in answers]


def failures(answers):
    return [answer for answer in answers if answer.outcome is Outcome.FAIL]


def the_failure(answers):
    (failure,) = failures(answers)
    return failure


def lines(answer):
    return [(e.where, e.line) for e in answer.evidence]


# Metadata


def test_valid_metadata_pass_and_show_the_project():
    (answer,) = packaging.metadata_follow_the_standard(READY)
    assert answer.outcome is Outcome.PASS and lines(answer) == [("pyproject.toml", 1)]


def test_toml_that_does_not_parse_fails_at_its_line():
    broken = READY.edit("pyproject.toml", 'version = "0.1.0"', "version = 0.1.0")
    assert lines(the_failure(packaging.metadata_follow_the_standard(broken))) == [("pyproject.toml", 3)]


def test_a_project_that_only_poetry_knows_fails_once_and_shows_both_tables():
    bundle = with_pyproject('[tool.poetry]\nname = "x"\n\n[tool.poetry.dependencies]\ntorch = "^2.1"\n')
    failure = the_failure(packaging.metadata_follow_the_standard(bundle))
    assert lines(failure) == [("pyproject.toml", 1), ("pyproject.toml", 4)]
    with pytest.raises(CannotLookError):
        list(packaging.dependencies_are_requirements(bundle, known(bundle)))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "pruning-study"\n', "", "has no name"),
        ("pruning-study", "pruning study", "is no project name"),
        ('version = "0.1.0"\n', "", "has no version"),
        ("0.1.0", "one", "is no version"),
        ('">=3.10"', '"^3.10"', "only Poetry understands"),
    ],
)
def test_what_uv_cannot_read_blocks(old, new, says):
    failure = the_failure(packaging.metadata_follow_the_standard(READY.edit("pyproject.toml", old, new)))
    assert says in failure.says and failure.impact is None


def test_authors_as_text_block_where_a_backend_reads_them_and_are_a_remark_where_none_does():
    authors = PYPROJECT.replace("requires-python", 'authors = ["A <a@example.org>"]\nrequires-python')
    remark = the_failure(packaging.metadata_follow_the_standard(with_pyproject(authors)))
    assert remark.impact is Impact.REMARKS and lines(remark) == [("pyproject.toml", 4)]
    built = the_failure(packaging.metadata_follow_the_standard(with_pyproject(authors + SETUPTOOLS)))
    assert built.impact is None and lines(built)[1] == ("pyproject.toml", 11)


def test_a_version_may_be_left_to_the_backend():
    dynamic = PYPROJECT.replace('version = "0.1.0"', 'dynamic = ["version"]')
    assert not failures(packaging.metadata_follow_the_standard(with_pyproject(dynamic)))


# Dependencies


def asked(bundle):
    return list(packaging.dependencies_are_requirements(bundle, known(bundle)))


def test_an_array_of_requirements_passes():
    assert outcomes(asked(READY)) == [Outcome.PASS]


def test_a_table_and_its_carets_are_two_failures_each_at_its_lines():
    table = PYPROJECT.partition("dependencies")[0]
    table += '\n[project.dependencies]\ntorch = "^2.1.0"\nwandb = ">=0.16"\noptuna = "^3.4"\n'
    shape, carets = failures(asked(with_pyproject(table)))
    assert lines(shape) == [("pyproject.toml", 6)] and lines(carets) == [
        ("pyproject.toml", 7),
        ("pyproject.toml", 9),
    ]
    assert "2 of 3" in carets.says


def test_a_caret_inside_an_array_fails_at_its_line():
    bundle = READY.edit("pyproject.toml", "torch>=2.1", "torch^2.1")
    assert lines(the_failure(asked(bundle))) == [("pyproject.toml", 6)]


def test_each_entry_that_is_no_requirement_is_a_failure():
    bundle = READY.edit("pyproject.toml", '"torch>=2.1"', '"torch=2.1"').edit(
        "pyproject.toml", ">=0.16", " newest"
    )
    assert [lines(f) for f in failures(asked(bundle))] == [[("pyproject.toml", 6)], [("pyproject.toml", 7)]]


def test_dependencies_beside_the_project_table_are_found_where_they_stand():
    text = PYPROJECT.partition("dependencies")[0] + '\n[tool.poetry.dependencies]\ntorch = "^2.1"\n'
    failure = the_failure(asked(with_pyproject(text)))
    assert lines(failure) == [("pyproject.toml", 6), ("pyproject.toml", 1)]


def test_extras_that_are_no_array_fail():
    text = PYPROJECT + '\n[project.optional-dependencies]\ndev = { pytest = "*" }\n'
    assert lines(the_failure(asked(with_pyproject(text)))) == [("pyproject.toml", 11)]


# Build backends


def built(text, *files):
    bundle = with_pyproject(text)
    for path in files:
        bundle = bundle.with_file(path, "")
    return list(packaging.the_project_can_be_built(bundle))


NOTHING = '\n[build-system]\nrequires = ["{0}"]\nbuild-backend = "{1}"\n'
WITH_SRC = '[tool.hatch.build.targets.wheel]\npackages = ["src"]\n'


@pytest.mark.parametrize(
    ("addition", "files"),
    [
        ("", []),
        (SETUPTOOLS, []),
        (SETUPTOOLS.replace('build-backend = "setuptools.build_meta"\n', ""), []),
        (SETUPTOOLS + '[tool.setuptools]\npackages = ["src"]\n', []),
        (SETUPTOOLS + '[tool.setuptools.packages.find]\nwhere = ["src"]\n', []),
        (SETUPTOOLS, ["models/a.py", "results/b.txt"]),
        (HATCHLING + WITH_SRC, []),
        (HATCHLING, ["pruning_study/__init__.py"]),
        (HATCHLING, ["src/pruning_study/__init__.py"]),
        (HATCHLING + "[tool.uv]\npackage = false\n", []),
        (NOTHING.format("uv_build", "uv_build"), ["src/pruning_study/__init__.py"]),
        (NOTHING.format("poetry-core", "poetry.core.masonry.api"), ["pruning_study/a.py"]),
        (NOTHING.format("flit_core", "flit_core.buildapi"), ["pruning_study.py"]),
    ],
)
def test_a_backend_that_finds_what_it_needs_passes(addition, files):
    assert outcomes(built(PYPROJECT + addition, *files)) == [Outcome.PASS]


@pytest.mark.parametrize(
    ("addition", "line"),
    [
        (HATCHLING, 10),
        (NOTHING.format("uv_build", "uv_build"), 10),
        (NOTHING.format("poetry-core", "poetry.core.masonry.api"), 10),
        (NOTHING.format("flit_core", "flit_core.buildapi"), 10),
        (NOTHING.format("setuptools", "hatchling.build"), 12),
        (SETUPTOOLS + '[tool.setuptools]\npackages = ["lib"]\n', 14),
        (SETUPTOOLS + '[tool.setuptools.packages.find]\nwhere = ["lib"]\n', 14),
    ],
)
def test_a_backend_that_finds_nothing_to_ship_blocks(addition, line):
    failure = the_failure(built(PYPROJECT + addition))
    assert lines(failure)[0] == ("pyproject.toml", line)


def test_setuptools_refuses_to_guess_between_folders_where_there_is_no_src():
    flat = Bundle.from_files({"pyproject.toml": PYPROJECT + SETUPTOOLS, "lab/a.py": "", "config/c.yaml": ""})
    assert "config, lab" in the_failure(packaging.the_project_can_be_built(flat)).says


def test_a_missing_readme_stops_hatchling_and_not_setuptools_and_is_left_alone_in_a_part_of_a_repository():
    text = PYPROJECT.replace("requires-python", 'readme = "README.md"\nrequires-python')
    assert not failures(built(text + HATCHLING + WITH_SRC))
    assert "README.md" in the_failure(built(text + HATCHLING + WITH_SRC, "LICENSE")).says
    assert not failures(built(text + SETUPTOOLS, "LICENSE"))


def test_an_unknown_backend_cannot_be_told():
    assert outcomes(built(PYPROJECT + NOTHING.format("maturin", "maturin"))) == [Outcome.SKIP]


# Versions


def test_versions_that_resolve_pass_and_are_shown_beside_their_requirements():
    packages = known(
        READY, versions={"torch": "2.9.0", "wandb": "0.23.0", "numpy": "2.3.4"}, settled_by="2026-01-01"
    )
    (answer,) = packaging.versions_can_live_together(READY, packages)
    assert [e.label for e in answer.evidence] == [
        "torch 2.9.0",
        "wandb 0.23.0",
    ] and "3 packages" in answer.says


def test_a_conflict_blocks_in_uvs_words_and_shows_the_requirements_it_names():
    packages = known(
        READY, conflict="Because torch>=2.1 depends on a<1 and b needs a>1, …", settled_by="2026-01-01"
    )
    failure = the_failure(packaging.versions_can_live_together(READY, packages))
    assert lines(failure) == [("pyproject.toml", 6), ("uv", 0)] and "torch>=2.1" in failure.evidence[1].shows


def test_a_registry_that_cannot_be_asked_is_no_failure():
    with pytest.raises(CannotLookError, match="offline"):
        list(packaging.versions_can_live_together(READY, known(READY, problem="offline")))


def test_a_decoy_is_told_even_when_nothing_can_be_resolved():
    bundle = READY.edit("pyproject.toml", "torch>=2.1", "sklearn")
    failure = the_failure(
        packaging.versions_can_live_together(bundle, known(bundle, versions={"wandb": "1"}))
    )
    assert lines(failure) == [("pyproject.toml", 6)] and "scikit-learn" in failure.do


def test_a_python_that_is_not_stated_is_a_remark():
    bundle = READY.edit("pyproject.toml", 'requires-python = ">=3.10"\n', "")
    assert the_failure(packaging.the_python_version_is_stated(bundle)).impact is Impact.REMARKS
    assert outcomes(packaging.the_python_version_is_stated(READY)) == [Outcome.PASS]
