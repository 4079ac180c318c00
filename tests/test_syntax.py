"""Walking syntax trees, and answers that are kept on what they are about."""

import ast
from pathlib import Path

import pytest

from labgate.bundle.kept import kept
from labgate.bundle.syntax import FUNCTIONS, every, parents, walked

SOURCES = sorted((Path(__file__).parent.parent / "src" / "labgate").rglob("*.py"))
ODD = """
global_ = {**a, "b": c}
def f(a, /, *, b=1, c, **d):
    global x, y
    match a:
        case Point(x=0, y=[1, *_]) | {"k": None, **rest}:
            pass
"""


@pytest.fixture(params=[*SOURCES, ODD], ids=lambda source: getattr(source, "name", "odd"))
def tree(request):
    text = request.param if isinstance(request.param, str) else request.param.read_text(encoding="utf-8")
    return ast.parse(text)


def test_walked_gives_what_ast_walk_gives(tree):
    assert list(map(id, walked(tree))) == list(map(id, ast.walk(tree)))


def test_every_gives_the_nodes_of_its_kinds_in_that_order(tree):
    for part in (tree, *tree.body):
        for kinds in ((ast.Call,), FUNCTIONS, (ast.expr,), (ast.stmt, ast.Name)):
            assert list(every(part, *kinds)) == [node for node in ast.walk(part) if isinstance(node, kinds)]


def test_each_node_stands_in_its_parent(tree):
    for node, parent in parents(tree).items():
        assert isinstance(node, ast.expr_context | ast.operator | ast.boolop | ast.unaryop | ast.cmpop) or (
            node in list(ast.iter_child_nodes(parent))
        )


def test_there_is_nothing_in_no_tree():
    assert every(None, ast.Call) == ()


class Thing:
    asked = 0

    def __init__(self, fails=False):
        self.fails = fails


@kept
def answer(thing, *more):
    thing.asked += 1
    if thing.fails:
        raise ValueError
    return (thing.asked, *more)


def test_a_question_is_put_once_to_each_thing_and_for_each_argument():
    thing, other = Thing(), Thing()
    assert answer(thing) is answer(thing)
    assert answer(thing, "a") is answer(thing, "a")
    assert (answer(thing), answer(thing, "a"), answer(other)) == ((1,), (2, "a"), (1,))


def test_an_exception_is_not_kept():
    thing = Thing(fails=True)
    for _ in range(2):
        with pytest.raises(ValueError):
            answer(thing)
    assert thing.asked == 2
