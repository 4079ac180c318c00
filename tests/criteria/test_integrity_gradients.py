"""Integrity: gradients that belong to the step, and lookups by the names of parameters."""

import pytest
from adapting import (
    CHILD,
    MODEL_PY,
    READY,
    TRAIN_PY,
    asked,
    at,
    lines,
    outcomes,
    the_failure,
    versions,
)

from labgate.criteria import _names as names_of
from labgate.criteria.integrity_gradients import gradients_that_are_read_are_cleared as cleared
from labgate.criteria.integrity_gradients import scaled_gradients_are_unscaled_first as unscaled
from labgate.criteria.integrity_lookups import keys_made_from_names_can_match as keys
from labgate.finding import Impact, Outcome

STEP = "            loss.backward()\n"
ALL = """\
    for name, weight in model.named_parameters():
        weight.requires_grad = True
    return model
"""
GROUPS = '[w for n, w in model.named_parameters() if "lora_" in n or "classifier" in n]'
READS = STEP + "            note(model)\n"
NOTE = """\
noted = {}


def note(model):
    for name, weight in model.named_parameters():
        if "lora_" in name or weight.grad is None:
            continue
        noted[name] = weight.grad.norm()


def weigh(model):
    total = 0.0
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            key = name.split(".lora_")[0] + ".weight"
            total = total + noted.get(key, 0.0) * weight.norm()
    return total


def measure(model, loader):
"""
STALE = (
    READY.edit(MODEL_PY, "    return model\n", ALL)
    .edit(TRAIN_PY, "AdamW(model.parameters(), ", f"AdamW({GROUPS}, ")
    .edit(TRAIN_PY, STEP, READS)
    .edit(TRAIN_PY, "def measure(model, loader):\n", NOTE)
    .edit(TRAIN_PY, "cfg.model.strength * overlap(model)", "cfg.model.strength * weigh(model)")
)
NEW, OLD = versions(peft="0.17.1"), versions(peft="0.6.2")


@pytest.fixture(scope="module", autouse=True)
def child():
    with CHILD:
        yield


# -- what is cleared


def test_gradients_that_the_optimizer_clears_pass():
    assert outcomes(cleared, READY) == {Outcome.PASS}


def test_reading_gradients_that_nothing_clears_fails_and_shows_every_place():
    failure = the_failure(cleared, STALE)
    assert failure.impact is Impact.MISLEADS
    assert {
        at(STALE, TRAIN_PY, "noted[name]"),
        at(STALE, TRAIN_PY, "zero_grad"),
        at(STALE, TRAIN_PY, "AdamW"),
        at(STALE, MODEL_PY, "requires_grad"),
    } <= {*lines(failure)}


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (TRAIN_PY, "optimizer.zero_grad()", "model.zero_grad()"),
        (TRAIN_PY, GROUPS, "model.parameters()"),
        (TRAIN_PY, GROUPS, "[w for w in model.parameters() if w.requires_grad]"),
        (TRAIN_PY, '"lora_" in name or weight.grad is None', '"lora_" not in name'),
        (TRAIN_PY, "            note(model)\n", ""),
    ],
)
def test_gradients_that_are_cleared_or_left_alone_pass(path, old, new):
    assert outcomes(cleared, STALE.edit(path, old, new)) == {Outcome.PASS}


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (MODEL_PY, ALL, "    return model\n"),
        (TRAIN_PY, GROUPS, "cfg.unheard_of(model)"),
        (TRAIN_PY, '"lora_" in name or', "name in cfg.skipped or"),
    ],
)
def test_where_the_names_do_not_settle_it_nothing_fails(path, old, new):
    assert Outcome.FAIL not in outcomes(cleared, STALE.edit(path, old, new))


def test_a_training_that_never_clears_fails():
    bundle = READY.edit(TRAIN_PY, "            optimizer.zero_grad()\n", "")
    assert "never cleared" in the_failure(cleared, bundle).says


# -- what is scaled

SCALED = READY.edit(
    TRAIN_PY,
    "            loss.backward()\n            optimizer.step()\n",
    "            scaler.scale(loss).backward()\n"
    "            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
    "            scaler.step(optimizer)\n"
    "            scaler.update()\n",
).edit(TRAIN_PY, "    for epoch in", '    scaler = torch.amp.GradScaler("cuda")\n    for epoch in')


def test_clipping_scaled_gradients_fails_and_shows_scaling_and_clipping():
    assert lines(the_failure(unscaled, SCALED))[:2] == [
        at(SCALED, TRAIN_PY, "clip_grad_norm_"),
        at(SCALED, TRAIN_PY, "scaler.scale"),
    ]


def test_a_function_that_reads_them_fails_where_it_is_called():
    bundle = SCALED.edit(
        TRAIN_PY, "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)", "note(model)"
    ).edit(TRAIN_PY, "def measure(model, loader):\n", NOTE)
    assert lines(the_failure(unscaled, bundle))[0] == at(bundle, TRAIN_PY, "            note(model)")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "            torch.nn.utils.clip",
            "            scaler.unscale_(optimizer)\n            torch.nn.utils.clip",
        ),
        ('GradScaler("cuda")', 'GradScaler("cuda", enabled=cfg.training.precision == "fp16")'),
        (
            "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
            "assert next(model.parameters()).grad is not None",
        ),
    ],
)
def test_gradients_that_are_unscaled_or_never_scaled_pass(old, new):
    assert outcomes(unscaled, SCALED.edit(TRAIN_PY, old, new)) == {Outcome.PASS}


# -- what is looked up


def test_a_key_that_peft_no_longer_uses_fails_and_shows_asking_storing_and_version():
    (failure,) = asked(keys, STALE, packages=NEW)
    assert failure.outcome is Outcome.FAIL and failure.impact is Impact.MISLEADS
    assert ".base_layer.weight" in failure.says
    assert lines(failure)[:2] == [at(STALE, TRAIN_PY, "noted.get"), at(STALE, TRAIN_PY, "noted[name]")]
    assert lines(failure)[2].startswith("pyproject.toml")


def test_the_same_key_passes_with_the_peft_that_used_it():
    assert outcomes(keys, STALE, packages=OLD) == {Outcome.PASS}


def test_without_a_version_of_peft_nothing_is_said():
    assert outcomes(keys, STALE) == {Outcome.SKIP}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('[0] + ".weight"', '[0] + ".base_layer.weight"'),
        ("noted[name] =", 'noted[name.replace(".base_layer", "")] ='),
        ("noted.get(key, 0.0)", "noted[key]"),
    ],
)
def test_a_key_that_is_stored_or_asked_for_without_a_default_passes(old, new):
    assert outcomes(keys, STALE.edit(TRAIN_PY, old, new), packages=NEW) == {Outcome.PASS}


def test_a_dict_that_is_filled_elsewhere_is_no_failure():
    bundle = STALE.edit(TRAIN_PY, "noted = {}", "noted = {}\nnoted.update(torch.load('norms.pt'))")
    assert outcomes(keys, bundle, packages=NEW) == {Outcome.SKIP}


def test_a_dict_that_is_handed_through_functions_is_followed():
    bundle = STALE.edit(TRAIN_PY, "def weigh(model):", "def weigh(model, shares):")
    bundle = bundle.edit(TRAIN_PY, "weigh(model)", "weigh(model, shared(noted))")
    bundle = bundle.edit(TRAIN_PY, "noted.get(key", "shares.get(key")
    bundle = bundle.edit(
        TRAIN_PY,
        "def measure(model, loader):\n",
        "def shared(norms):\n    return {k: v / 2 for k, v in norms.items()}\n\n\n"
        "def measure(model, loader):\n",
    )
    assert the_failure(keys, bundle, packages=NEW)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ('name.split(".")[0]', "encoder"),
        ('name.rsplit(".", 1)[0] + ".bias"', "encoder.q.bias"),
        ('f"{name}.x"', "encoder.q.weight.x"),
        ('any(part in name for part in ["k", "q."])', True),
        ('re.sub(r"[a-z]+$", "w", name)', "encoder.q.w"),
        ('"q" in name and not name.endswith("bias")', True),
    ],
)
def test_string_surgery_is_done_for_real(expression, value):
    node = names_of.ast.parse(expression, mode="eval").body
    assert names_of.evaluate(node, {"name": "encoder.q.weight"}) == value


@pytest.mark.parametrize(
    "expression", ["model(name)", "name in seen", 're.sub("(a+)+$", "", name)', "name[99]"]
)
def test_what_is_more_than_strings_is_unsure(expression):
    node = names_of.ast.parse(expression, mode="eval").body
    with pytest.raises(names_of.UnsureError):
        names_of.evaluate(node, {"name": "encoder.q.weight"})


# -- what is asked of the config
