"""Criterion 4: which model is built, from what, and whether PyTorch is used as it means to be used."""

import textwrap

import pytest
from adapting import (
    MODEL_PY,
    READY,
    RUNS,
    TRAIN_PY,
    asked,
    at,
    in_all_runs,
    lines,
    one_child,
    outcomes,
    passes,
    the_failure,
    versions,
)

from labgate.bundle import Promise
from labgate.criteria import adapters, model, pytorch
from labgate.finding import Impact, Outcome
from labgate.packages.wheels import Wheel

LOADED = model.the_named_model_is_loaded
WRITTEN = model.architectures_are_written_out_or_loaded
SETTINGS = model.model_settings_are_read
PROMISED = model.every_promised_method_is_there
LAYERS = adapters.adapters_are_put_on_layers
PRECISION = pytorch.precision_is_the_configured_one
FROZEN = pytorch.frozen_weights_stay_frozen
LOSS = pytorch.the_loss_leads_back_to_the_weights
CLEARED = pytorch.gradients_are_cleared_between_steps
EVAL = pytorch.the_model_is_told_when_it_is_measured

BERT = """\
from torch import nn


class BertSelfAttention(nn.Module):
    def __init__(self, config):
        self.query = nn.Linear(8, 8)
        self.key = nn.Linear(8, 8)
        self.value = nn.Linear(8, 8)


class BertSelfOutput(nn.Module):
    def __init__(self, config):
        self.dense = nn.Linear(8, 8)
        self.LayerNorm = nn.LayerNorm(8)


class BertAttention(nn.Module):
    def __init__(self, config, crossing=False):
        kind = BertSelfAttention if crossing else BertSelfAttention
        self.self = kind(config)
        self.output = BertSelfOutput(config)


class BertLayer(nn.Module):
    def __init__(self, config):
        self.attention = BertAttention(config)


class BertEncoder(nn.Module):
    def __init__(self, config):
        self.layer = nn.ModuleList([BertLayer(config) for _ in range(2)])


class BertModel(nn.Module):
    def __init__(self, config):
        self.encoder = BertEncoder(config)


class BertForSequenceClassification(nn.Module):
    def __init__(self, config):
        self.bert = BertModel(config)
        self.classifier = nn.Linear(8, 2)
"""
RESOLVED = versions(transformers="5.1.0")


@pytest.fixture(scope="module", autouse=True)
def child():
    with one_child():
        yield


@pytest.fixture
def transformers(tmp_path, monkeypatch):
    """A transformers of which only BERT is there."""
    folder = tmp_path / "transformers" / "models" / "bert"
    folder.mkdir(parents=True)
    (folder / "modeling_bert.py").write_text(BERT)
    wheel = Wheel("transformers", "5.1.0", tmp_path)
    monkeypatch.setattr(adapters.wheels, "fetch", lambda releases, **_: dict.fromkeys(releases, wheel))


@pytest.mark.parametrize(
    "question",
    [
        model.no_model_code_is_missing,
        LOADED,
        WRITTEN,
        SETTINGS,
        PROMISED,
        PRECISION,
        FROZEN,
        LOSS,
        CLEARED,
        EVAL,
    ],
)
def test_an_experiment_in_order_passes_and_shows_where(question):
    assert passes(question, READY)


# What adapters are put on


def targeting(*names):
    listed = "\n".join(f"    - {name}" for name in names)
    return in_all_runs("    - query\n    - value", listed)


@pytest.mark.usefixtures("transformers")
def test_targets_that_are_layers_pass():
    for names in (("query", "value"), ("output.dense", "classifier"), ("attention.self.key",)):
        assert passes(LAYERS, targeting(*names), packages=RESOLVED)


@pytest.mark.usefixtures("transformers")
def test_a_target_that_is_a_block_fails_and_names_the_layer_inside():
    bundle = targeting("query", "output")
    answer = the_failure(LAYERS, bundle, packages=RESOLVED)
    assert answer.impact is Impact.BLOCKS
    assert "'output' is a BertSelfOutput" in answer.says
    assert "output.dense" in answer.do
    assert at(bundle, MODEL_PY, "target_modules") == lines(answer)[0]
    assert {at(bundle, run, "- output") for run in RUNS} <= set(lines(answer))


@pytest.mark.usefixtures("transformers")
def test_targets_of_another_architecture_fail_and_name_what_there_is():
    answer = the_failure(LAYERS, targeting("q_proj", "v_proj"), packages=RESOLVED)
    assert "no module called 'q_proj', 'v_proj'" in answer.says
    assert "query" in answer.do


@pytest.mark.usefixtures("transformers")
def test_one_target_too_many_is_a_remark():
    answer = the_failure(LAYERS, targeting("query", "q_proj"), packages=RESOLVED)
    assert answer.impact is Impact.REMARKS


@pytest.mark.usefixtures("transformers")
def test_targets_as_one_expression_are_matched_whole():
    bundle = READY.edit(MODEL_PY, "list(cfg.model.targets)", r'r".*attention\.output"')
    assert "BertSelfOutput" in the_failure(LAYERS, bundle, packages=RESOLVED).says
    bundle = READY.edit(MODEL_PY, "list(cfg.model.targets)", r'r".*\.(query|value)"')
    assert passes(LAYERS, bundle, packages=RESOLVED)


@pytest.mark.usefixtures("transformers")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("google-bert/bert-base-uncased", "ours/bert-of-our-own"),
        ("google-bert/bert-base-uncased", "facebook/opt-125m"),
    ],
)
def test_a_model_that_we_cannot_read_is_not_told(old, new):
    assert outcomes(LAYERS, in_all_runs(old, new), packages=RESOLVED) == {Outcome.SKIP}


def test_without_versions_or_a_wheel_nothing_is_told(monkeypatch):
    assert outcomes(LAYERS, targeting("output")) == {Outcome.SKIP}
    wheel = Wheel("transformers", "5.1.0", None, problem="no network")
    monkeypatch.setattr(adapters.wheels, "fetch", lambda releases, **_: dict.fromkeys(releases, wheel))
    (answer,) = asked(LAYERS, targeting("output"), packages=RESOLVED)
    assert "no network" in answer.says


@pytest.mark.registry
@pytest.mark.parametrize("version", ["4.57.1", "5.23.0"])
def test_the_sources_of_transformers_tell_blocks_from_layers(version):
    packages = versions(transformers=version)
    assert the_failure(LAYERS, targeting("query", "intermediate"), packages=packages)
    assert passes(LAYERS, targeting("query", "intermediate.dense"), packages=packages)
    bundle = in_all_runs("google-bert/bert-base-uncased", "distilbert/distilbert-base-uncased")
    assert "q_lin" in the_failure(LAYERS, bundle, packages=packages).do


# Which model


def test_a_literal_that_is_another_model_misleads_and_shows_the_config():
    bundle = READY.edit(MODEL_PY, "from_pretrained(cfg.model.name", 'from_pretrained("prajjwal1/bert-tiny"')
    answer = the_failure(LOADED, bundle)
    assert answer.impact is Impact.MISLEADS
    assert lines(answer) == [at(bundle, MODEL_PY, "bert-tiny"), at(bundle, RUNS[0], "  name: google-bert")]


def test_a_literal_that_means_the_named_model_passes():
    bundle = READY.edit(MODEL_PY, "from_pretrained(cfg.model.name", 'from_pretrained("bert-base-uncased"')
    assert passes(LOADED, bundle)


def test_a_model_that_is_not_known_cannot_be_told():
    bundle = READY.edit(MODEL_PY, "from_pretrained(cfg.model.name", "from_pretrained(input()")
    assert outcomes(LOADED, bundle) == {Outcome.SKIP}


def test_an_architecture_that_is_written_out_passes_and_one_of_nobody_cannot_be_told():
    net = textwrap.dedent("""\
        import torch
        from torch import nn


        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(8, 2)

            def forward(self, x):
                return self.layer(x)


        def build(cfg):
            return Net()


        def overlap(model):
            return torch.zeros(())
        """)
    bundle = READY.with_file(MODEL_PY, net).edit(
        "src/preprocess.py", 'AutoTokenizer.from_pretrained(cfg.model.name, cache_dir=".cache")', "str.split"
    )
    assert passes(WRITTEN, bundle)
    assert f"{MODEL_PY}:5" in lines(asked(WRITTEN, bundle)[0])
    assert outcomes(WRITTEN, bundle.edit(MODEL_PY, "def forward", "def apply")) == {Outcome.SKIP}


def test_a_model_setting_that_nothing_reads_is_not_shown_to_take_effect():
    bundle = in_all_runs("  rank: 4\n", "  rank: 4\n  dropout: 0.1\n")
    (answer,) = asked(SETTINGS, bundle)
    assert answer.outcome is Outcome.SKIP
    assert "model.dropout" in answer.says
    assert lines(answer) == [at(bundle, RUNS[1], "dropout")]


def test_a_section_that_is_handed_over_whole_is_read():
    bundle = READY.edit(MODEL_PY, "        r=cfg.model.rank,\n", "        **cfg.model.adapter,\n")
    for run in RUNS:
        bundle = bundle.edit(run, "  rank: 4\n", "  adapter: {r: 4, lora_alpha: 8}\n")
    assert passes(SETTINGS, bundle)


# What was promised


def test_a_baseline_that_stands_nowhere_misleads():
    answer = the_failure(
        PROMISED, READY.with_promise(Promise(comparative_methods=("AdaLoRA (public code)",)))
    )
    assert answer.impact is Impact.MISLEADS
    assert "AdaLoRA" in answer.says


def test_a_comment_builds_no_baseline():
    bundle = READY.edit(MODEL_PY, "    model = get", "    # as in AdaLoRA\n    model = get")
    assert the_failure(PROMISED, bundle.with_promise(Promise(comparative_methods=("AdaLoRA",))))


@pytest.mark.parametrize("name", ["Fixed soft augmentation", "Chain-of-Thought prompting", "Greedy Decoding"])
def test_a_method_without_a_name_of_its_own_is_not_looked_for(name):
    bundle = READY.with_promise(Promise(comparative_methods=(name,)))
    assert outcomes(PROMISED, bundle) == {Outcome.SKIP}


# Precision


def test_autocast_without_a_dtype_misleads_where_the_config_says_bf16():
    bundle = READY.edit(TRAIN_PY, 'autocast("cuda", dtype=torch.bfloat16)', 'autocast("cuda")')
    answer = the_failure(PRECISION, bundle)
    assert answer.impact is Impact.MISLEADS
    assert lines(answer) == [
        at(bundle, TRAIN_PY, "autocast("),
        *(at(bundle, run, "precision") for run in RUNS),
    ]


def test_a_scaler_for_bf16_is_shown_beside_it():
    bundle = READY.edit(
        TRAIN_PY, "    optimizer = ", "    scaler = torch.amp.GradScaler(enabled=True)\n    optimizer = "
    )
    answer = the_failure(PRECISION, bundle)
    assert lines(answer)[0] == at(bundle, TRAIN_PY, "GradScaler")


def test_a_scaler_that_is_off_and_autocast_on_the_cpu_are_fine():
    bundle = READY.edit(
        TRAIN_PY,
        "    optimizer = ",
        '    scaler = torch.amp.GradScaler(enabled=cfg.training.precision == "fp16")\n    optimizer = ',
    )
    assert passes(PRECISION, bundle)


def test_no_precision_in_the_config_passes():
    bundle = READY.edit(TRAIN_PY, '    if cfg.training.precision != "bf16":\n', "    if False:\n")
    bundle = bundle.edit(TRAIN_PY, 'torch.autocast("cuda", dtype=torch.bfloat16)', "torch.enable_grad()")
    assert passes(PRECISION, bundle)


# Frozen weights

THAWED = [
    "    for weight in model.parameters():\n        weight.requires_grad = True\n",
    "    for name, weight in model.named_parameters():\n        weight.requires_grad_(True)\n",
    "    model.requires_grad_(True)\n",
]


@pytest.mark.parametrize("code", THAWED)
def test_thawing_every_weight_after_the_adapter_misleads(code):
    bundle = READY.edit(MODEL_PY, "    return model\n", f"{code}    return model\n")
    answer = the_failure(FROZEN, bundle)
    assert answer.impact is Impact.MISLEADS
    assert lines(answer) == [at(bundle, MODEL_PY, "requires_grad"), at(bundle, MODEL_PY, "get_peft_model(")]


@pytest.mark.parametrize(
    "code",
    [
        '    for name, weight in model.named_parameters():\n        if "norm" in name:\n'
        "            weight.requires_grad = True\n",
        "    for weight in model.classifier.parameters():\n        weight.requires_grad = True\n",
        "    for weight in model.parameters():\n        weight.requires_grad = False\n",
    ],
)
def test_thawing_some_weights_does_not_fail(code):
    assert passes(FROZEN, READY.edit(MODEL_PY, "    return model\n", f"{code}    return model\n"))


def test_thawing_before_the_adapter_does_not_fail():
    code = "    for weight in base.parameters():\n        weight.requires_grad = True\n    adapters ="
    assert passes(FROZEN, READY.edit(MODEL_PY, "    adapters =", code))


# Gradients


def test_going_back_from_a_plain_number_blocks():
    bundle = READY.edit(
        TRAIN_PY,
        "loss = model(**batch).loss + cfg.model.strength * overlap(model)",
        "loss = model(**batch).loss.item()",
    )
    answer = the_failure(LOSS, bundle)
    assert answer.impact is Impact.BLOCKS
    assert lines(answer) == [at(bundle, TRAIN_PY, "loss.backward()")]


def test_going_back_inside_no_grad_blocks():
    bundle = READY.edit(TRAIN_PY, "            loss.backward()\n", "            descend(model, batch)\n")
    code = (
        "def descend(model, batch):\n    with torch.no_grad():\n"
        "        loss = model(**batch)\n        loss.backward()\n"
    )
    bundle = bundle.edit(TRAIN_PY, "def measure(", f"{code}\n\ndef measure(")
    answer = the_failure(LOSS, bundle)
    assert lines(answer) == [at(bundle, TRAIN_PY, "loss.backward()")]
    assert passes(LOSS, bundle.edit(TRAIN_PY, "        loss = model(**batch)\n", "        loss = batch\n"))


def test_going_back_in_a_function_that_is_decorated_with_no_grad_blocks():
    bundle = READY.edit(TRAIN_PY, "def fit(", "@torch.no_grad()\ndef fit(")
    assert lines(the_failure(LOSS, bundle)) == [at(bundle, TRAIN_PY, "loss.backward()")]
    assert passes(
        LOSS, bundle.edit(TRAIN_PY, 'torch.autocast("cuda", dtype=torch.bfloat16)', "torch.enable_grad()")
    )


def test_gradients_that_nothing_clears_mislead():
    bundle = READY.edit(TRAIN_PY, "            optimizer.zero_grad()\n", "")
    answer = the_failure(CLEARED, bundle)
    assert answer.impact is Impact.MISLEADS
    assert lines(answer) == [at(bundle, TRAIN_PY, "optimizer.step()")]
    by_hand = "            for weight in model.parameters():\n                weight.grad = None\n"
    by_hand += "            loss.back"
    assert passes(CLEARED, bundle.edit(TRAIN_PY, "            loss.back", by_hand))


def test_scoring_without_eval_is_a_remark():
    assert the_failure(EVAL, READY.edit(TRAIN_PY, "    model.eval()\n", "")).impact is Impact.REMARKS
