"""labgate's model of OmegaConf's containers, held against the real library by random programs."""

import copy

import omegaconf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from labgate.flow import config
from labgate.flow.config import ConfigFault, Node, from_plain, merge, set_item, to_plain_value
from labgate.flow.values import NONE, Known, plain

KEYS = st.sampled_from(["a", "b", "c", "deep"])
LEAVES = st.one_of(st.integers(-3, 3), st.sampled_from(["x", "yes", "???"]), st.none(), st.booleans())
TREES = st.recursive(
    st.dictionaries(KEYS, LEAVES, max_size=3),
    lambda inner: st.dictionaries(KEYS, st.one_of(LEAVES, inner, st.lists(LEAVES, max_size=2)), max_size=3),
    max_leaves=6,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("struct"), st.booleans()),
        st.tuples(st.just("set"), KEYS, LEAVES),
        st.tuples(st.just("set"), KEYS, TREES),
        st.tuples(st.just("merge"), TREES, st.booleans()),
        st.tuples(st.just("merged into"), TREES),
        st.tuples(st.just("deepcopy")),
        st.tuples(st.just("down"), KEYS),
    ),
    max_size=6,
)


def real_steps(cfg, steps):
    """What the library does: its containers, or the exception's name."""
    for what, *more in steps:
        if what == "struct":
            OmegaConf.set_struct(cfg, more[0])
        elif what == "set":
            cfg[more[0]] = more[1]
        elif what == "merge":
            other = OmegaConf.create(more[0])
            if more[1]:
                OmegaConf.set_struct(other, True)
            cfg = OmegaConf.merge(cfg, other)
        elif what == "merged into":
            cfg = OmegaConf.merge(OmegaConf.create(more[0]), cfg)
        elif what == "deepcopy":
            cfg = copy.deepcopy(cfg)
        elif what == "down" and isinstance(cfg.get(more[0]), omegaconf.DictConfig):
            cfg = cfg[more[0]]
    return cfg


def our_steps(node, steps):
    for what, *more in steps:
        if what == "struct":
            node.flags["struct"] = more[0]
        elif what == "set":
            value = from_plain(more[1])
            node.assign(more[0], value, set_item, attribute=False)
        elif what == "merge":
            other = from_plain(more[0])
            if more[1]:
                other.flags["struct"] = True
            node, refused = merge(node, [other])
            if refused:
                raise ConfigFault("ConfigKeyError", refused[0])
        elif what == "merged into":
            node, refused = merge(from_plain(more[0]), [node])
            if refused:
                raise ConfigFault("ConfigKeyError", refused[0])
        elif what == "deepcopy":
            node = merge(node, [])[0]
        elif what == "down" and isinstance(node.get(more[0], NONE), Node):
            node = node.read(more[0], attribute=False)
    return node


def outcome(run, *args):
    try:
        return "fine", run(*args)
    except ConfigFault as fault:
        return fault.kind, None
    except omegaconf.errors.OmegaConfBaseException as error:
        return type(error).__name__, None


@given(TREES, STEPS, KEYS)
@example({"c": {}}, [("struct", True), ("merge", {"a": None, "c": []}, False)], "a")
@example({"c": {}}, [("struct", True), ("merge", {"c": [], "a": None}, False)], "a")
def test_random_programs_end_as_with_the_real_library(tree, steps, key):
    real, cfg = outcome(real_steps, OmegaConf.create(copy.deepcopy(tree)), steps)
    ours, node = outcome(our_steps, from_plain(copy.deepcopy(tree)), steps)
    assert ours == real
    if cfg is None:
        return
    assert plain(to_plain_value(node)) == OmegaConf.to_container(cfg)
    assert node.has(key) == (key in cfg)
    assert node.flag("struct") == bool(cfg._get_flag("struct"))
    read = outcome(lambda: cfg[key])
    mine = outcome(lambda: node.read(key, attribute=False))
    assert mine[0] == read[0]
    attribute = outcome(lambda: getattr(cfg, key))
    assert outcome(lambda: node.read(key, attribute=True))[0] == attribute[0]
    got = cfg.get(key, "default")
    assert plain(to_plain_value(node.get(key, Known("default")))) == (
        OmegaConf.to_container(got) if OmegaConf.is_config(got) else got
    )


@pytest.mark.parametrize(
    "text", ["1e-4", "1.0e-4", "1e5", "0.1", "1", "true", "null", "abc", "[1, 2]", "1_000", ".5", "12:30:45"]
)
def test_words_of_the_command_line_become_what_omegaconf_makes_of_them(text):
    assert config.scalar(text) == OmegaConf.from_dotlist([f"key={text}"]).key


def test_select_reaches_through_lists_and_says_when_a_key_is_absent():
    node = from_plain({"a": {"b": [{"c": 3}]}, "d": "${a.b}"})
    assert config.select(node, "a.b[0].c") == (Known(3), True)
    assert config.select(node, "a.x.y") == (None, False)


def test_an_interpolation_is_resolved_against_the_root():
    node = from_plain({"name": "run-1", "path": "out/${name}", "broken": "${nobody}"})
    assert config.resolve(node.items["path"], node) == Known("out/run-1")
    with pytest.raises(ConfigFault, match="nobody"):
        config.resolve(node.items["broken"], node)
