"""Documentation that is made from code is current, and its examples are real code."""

import ast
import re
import textwrap
from pathlib import Path

import pytest

from labgate import contract
from labgate.checks import all_checks
from labgate.contract import load
from labgate.criteria.__main__ import page, summary_table
from labgate.standins.hub.catalogue import load as catalogue
from labgate.standins.hub.catalogue.__main__ import page as catalogue_page

ROOT = Path(__file__).parent.parent
CHECKS = all_checks()


def examples(doc, title):
    """The indented blocks under `Bad:` or `Good:`."""
    found = re.findall(rf"^{title}:\n((?:[ \t]+.*\n?|\n)+)", doc + "\n", re.MULTILINE)
    return [textwrap.dedent(block).strip("\n") for block in found]


def test_the_page_on_criteria_is_current():
    written = (ROOT / "docs" / "criteria.md").read_text(encoding="utf-8")
    assert written == page(load(contract.DEFAULT)).rstrip() + "\n", "run `make docs`"


def test_the_page_on_the_ids_that_have_twins_is_current():
    written = (ROOT / "docs" / "catalogue.md").read_text(encoding="utf-8")
    assert written == catalogue_page(catalogue()), "run `make docs`"


def test_the_table_in_the_readme_is_current():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "\n".join(summary_table(load(contract.DEFAULT))) in readme, "copy it from docs/criteria.md"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_explains_itself_by_a_bad_and_a_good_example(check):
    assert check.title.endswith("."), "the first line names the good state, as a clause"
    for title in ("Bad", "Good"):
        assert examples(check.doc, title), f"no {title}: example"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_what_a_check_answers_stands_in_some_contract(check):
    plain = {b.id for name in contract.names() for b in load(name).bullets() if not b.parts}
    assert set(check.answers) <= plain, "answer the parts of a heading, not the heading"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_examples_parse(check):
    for title in ("Bad", "Good"):
        for code in examples(check.doc, title):
            ast.parse(code, f"{check.id} {title}")
