"""Ranks that come up to a budget: on roberta-base's real sizes, and with AdaLoRA's allocator."""

from collections import Counter

import pytest
import torch
from peft import AdaLoraConfig, get_peft_model
from src.main import BadInput
from src.model import AdaLora, adapted_layers
from src.preprocess import build, count_parameters, even_ranks, fisher_ranks, plan_ranks, spread
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, RobertaConfig, set_seed

pytestmark = pytest.mark.study
COSTS = [1536, 1536, 1536, 3840, 3840] * 12
ENCODER = 124_055_040
"""Of roberta-base without the pooler, which a sequence classifier does not load."""
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def roberta_base():
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(
            RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
        )


@pytest.mark.parametrize(
    ("percent", "parameters"), [(0.1, 123_648), (0.2, 247_296), (0.5, 619_776)], ids=["0.1", "0.2", "0.5"]
)
def test_roberta_base_gets_its_budget_within_one_per_cent(roberta_base, compose, percent, parameters):
    cfg = compose(model__parameter_budget_percent=percent)
    ranks, budget = plan_ranks(roberta_base, cfg)
    layers = dict(roberta_base.named_modules())
    spent = sum(rank * (layers[n].in_features + layers[n].out_features) for n, rank in ranks.items())
    assert budget == pytest.approx(percent / 100 * ENCODER)
    assert len(ranks) == 60 and 0.99 * budget <= spent <= budget
    assert abs(spent - parameters) <= 0.004 * budget
    assert max(ranks.values()) - min(ranks.values()) <= 1


def test_no_attention_output_is_among_the_targets(roberta_base, compose):
    ranks, _ = plan_ranks(roberta_base, compose())
    kinds = Counter(name.split(".", 4)[4] for name in ranks)
    assert kinds == {
        "attention.self.query": 12,
        "attention.self.key": 12,
        "attention.self.value": 12,
        "intermediate.dense": 12,
        "output.dense": 12,
    }


def test_the_extra_ranks_lie_evenly_over_the_depth():
    ranks = even_ranks(0.002 * ENCODER, COSTS, cap=8)
    halves = [sum(ranks[:30]), sum(ranks[30:])]
    assert abs(halves[0] - halves[1]) <= 2
    assert spread(3, list(range(9))) == [1, 4, 7]


def test_the_config_s_rank_caps_every_layer():
    assert even_ranks(1e9, COSTS, cap=8) == [8] * 60
    assert max(fisher_ranks(0.005 * ENCODER, COSTS, 8, [1.0] + [1e-9] * 59)) == 8


def test_fisher_ranks_follow_fisher_and_keep_to_the_budget():
    fisher = [1.0 / (m + 1) for m in range(60)]
    ranks = fisher_ranks(0.005 * ENCODER, COSTS, 100, fisher)
    spent = sum(rank * cost for rank, cost in zip(ranks, COSTS, strict=True))
    assert 0.99 * 0.005 * ENCODER <= spent <= 0.005 * ENCODER
    assert ranks == sorted(ranks, reverse=True) and ranks[0] > 10 * max(1, ranks[-1])


def test_the_ledger_counts_what_is_trained(compose):
    cfg = compose()
    model, _ = build(cfg, 2, 10, CPU)
    ledger = count_parameters(model)
    adapters = sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)
    assert ledger["adapter_parameters_training"] == ledger["adapter_parameters_final"] == adapters
    base = AutoModelForSequenceClassification.from_pretrained(cfg.model.pretrained_id, num_labels=2)
    assert ledger["encoder_parameters"] == sum(p.numel() for p in base.roberta.parameters())
    assert ledger["head_parameters"] == sum(p.numel() for p in base.classifier.parameters())
    assert 3.6 <= ledger["adapter_percent_final"] <= 4


def test_every_layer_has_the_scale_of_the_config_whatever_its_rank(compose):
    _, method = build(compose(model__parameter_budget_percent=8), 2, 10, CPU)
    assert {layer.scaling["default"] for layer in method.layers.values()} == {16 / 8}
    assert len({layer.r["default"] for layer in method.layers.values()}) == 2


def adalora_cfg(compose, percent):
    return compose(
        "comparative-adalora-tuned-roberta-base--CoLA--b02", model__parameter_budget_percent=percent
    )


def train_adalora(model, method, steps, stop=None, resume=None):
    """Steps on made-up batches; a state taken before step `stop` if one is given."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    state, first = None, 0
    if resume is not None:
        model.load_state_dict(resume[0])
        method.load_state_dict(resume[1])
        optimizer.load_state_dict(resume[2])
        first = method.step
    for t in range(first, steps):
        if t == stop:
            clone = {name: value.clone() for name, value in model.state_dict().items()}
            method_state = method.state_dict()
            averages = {
                k: {n: v.clone() for n, v in method_state[k].items()}
                for k in ("ipt", "exp_avg_ipt", "exp_avg_unc")
            }
            state = (clone, method_state | averages, __import__("copy").deepcopy(optimizer.state_dict()))
        ids = torch.randint(5, 50, (8, 6), generator=torch.Generator().manual_seed(t))
        method.start_step()
        model(input_ids=ids, labels=ids[:, 0] % 2).loss.backward()
        method.finish_backward()
        optimizer.step()
        method.finish_step(0.02)
        optimizer.zero_grad()
    return state


@pytest.mark.parametrize("percent", [2, 6, 20], ids=["less than a rank each", "one and a half", "several"])
def test_adalora_ends_with_the_ranks_of_the_budget(compose, percent):
    model, method = build(adalora_cfg(compose, percent), 2, 40, CPU)
    target = model.base_model.rankallocator.target_bgt
    costs = [layer.in_features + layer.out_features + 1 for layer in method.layers.values()]
    budget = percent / 100 * count_parameters(model)["encoder_parameters"]
    assert abs(target * sum(costs) / len(costs) - budget) <= sum(costs) / len(costs) / 2 + 1
    train_adalora(model.eval(), method, 40)
    kept = sum(int((layer.lora_E["default"] != 0).sum()) for layer in method.layers.values())
    ledger = count_parameters(model)
    assert kept == target
    assert ledger["adapter_parameters_final"] < ledger["adapter_parameters_training"]


def test_adalora_s_orthogonality_is_in_the_loss_that_is_trained_on(compose):
    model, _ = build(adalora_cfg(compose, 6), 2, 40, CPU)
    ids = torch.randint(5, 50, (8, 6))
    outputs = model.eval()(input_ids=ids, labels=ids[:, 0] % 2)
    apart = F.cross_entropy(outputs.logits, ids[:, 0] % 2)
    layers = adapted_layers(model).values()
    terms = [
        torch.linalg.norm(p - torch.eye(len(p)))
        for layer in layers
        for p in (
            layer.lora_A["default"] @ layer.lora_A["default"].T,
            layer.lora_B["default"].T @ layer.lora_B["default"],
        )
    ]
    torch.testing.assert_close(outputs.loss, apart + 0.1 * torch.stack(terms).mean())


def test_adalora_goes_on_from_its_state_as_if_nothing_had_happened(compose):
    cfg = adalora_cfg(compose, 6)
    set_seed(0)
    model, method = build(cfg, 2, 30, CPU)
    state = train_adalora(model.eval(), method, 30, stop=11)
    set_seed(0)
    other, its_method = build(cfg, 2, 30, CPU)
    train_adalora(other.eval(), its_method, 30, resume=state)
    for (name, value), twin in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(value, twin), name


def test_peft_still_fails_where_we_guard_against_it(compose):
    """init_r = target_r: if PEFT mends this, the guard in with_adalora can go."""
    model = nn.Sequential()
    model.fc = nn.Linear(4, 4)
    adapted = get_peft_model(
        model, AdaLoraConfig(init_r=2, target_r=2, total_step=4, target_modules=["fc"], lora_dropout=0.0)
    )
    adapted(torch.randn(2, 4)).sum().backward()
    with pytest.raises(RuntimeError, match="kthvalue"):
        for step in range(1, 5):
            adapted.base_model.update_and_allocate(step)


def test_targets_that_are_no_linear_layers_are_refused(compose):
    for wrong in ("intermediate", "no.such.layer"):
        with pytest.raises(BadInput, match=wrong):
            build(compose(model__lora__target_modules=f"[{wrong}]"), 2, 10, CPU)


def test_an_unknown_method_is_refused_with_the_known_ones(compose):
    with pytest.raises(BadInput, match=r"no method 'dora'; there are baseline_lora, .*proposed_fw_lora"):
        build(compose(method="dora"), 2, 10, CPU)


def test_adalora_is_adalora(compose):
    _, method = build(adalora_cfg(compose, 6), 2, 40, CPU)
    assert isinstance(method, AdaLora) and method.config.init_r > method.config.target_r
