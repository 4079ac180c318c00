"""FW-LoRA against its equation, against PEFT's LoRA, and step by step."""

import copy
import itertools

import pytest
import torch
from peft import LoraConfig, get_peft_model
from src.model import (
    FisherPenalty,
    FisherWeightedLora,
    Lora,
    adapted_layers,
    add_penalty_gradients_,
    effective_rank,
    factors,
    shrink_weights,
    singular_values,
)
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForSequenceClassification, set_seed

pytestmark = pytest.mark.study
TARGETS = r".*layer\.\d+\.(attention\.self\.(query|key|value)|intermediate\.dense|output\.dense)"


def base_model(tiny, dropout=0.0):
    set_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(
        tiny["model.pretrained_id"],
        num_labels=2,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )


def adapted(tiny, rank=2, dropout=0.0, warm=False):
    model = base_model(tiny, dropout)
    model = get_peft_model(
        model,
        LoraConfig(task_type="SEQ_CLS", r=rank, lora_alpha=4, lora_dropout=dropout, target_modules=TARGETS),
    )
    if warm:
        with torch.no_grad():
            for layer in adapted_layers(model).values():
                layer.lora_B["default"].weight.normal_()
    return model


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 50, (8, 6), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}


def step(model, method, optimizer, seed):
    model.train()
    method.start_step()
    model(**batch(seed)).loss.backward()
    penalty = method.finish_backward()
    optimizer.step()
    method.finish_step(optimizer.param_groups[0]["lr"])
    optimizer.zero_grad()
    return penalty


def trained(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def optimizer_of(model, kind=torch.optim.AdamW):
    return kind([p for p in model.parameters() if p.requires_grad], lr=0.01)


def penalty_by_the_equation(model, fisher, lam):
    """lambda sum (1 - F_m / sum F) ||s B A||_F^2, layer by layer, by autograd through the whole product."""
    total = 0
    for layer, f in zip(adapted_layers(model).values(), fisher, strict=True):
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        total = total + (1 - f / fisher.sum()) * (layer.scaling["default"] * b @ a).pow(2).sum()
    return lam * total


def test_the_closed_form_is_the_gradient_of_the_equation(tiny):
    model = adapted(tiny, warm=True)
    method = FisherWeightedLora(model, FisherPenalty(lambda_fw=0.3, warmup_steps=1))
    method.fisher = torch.arange(1.0, len(method.frozen) + 1)
    method._freeze(method._weights())

    slow = penalty_by_the_equation(model, method.fisher, 0.3)
    slow.backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters() if "lora_" in n}
    for parameter in model.parameters():
        parameter.grad = None
    fast = method.finish_backward()

    torch.testing.assert_close(fast, slow.detach(), rtol=1e-5, atol=0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)


def test_thirty_steps_equal_those_of_a_slow_twin_with_the_penalty_in_the_loss(tiny):
    warmup, lam, alpha = 10, 0.05, 0.9
    fast, slow = adapted(tiny), adapted(tiny)
    # SGD: Adam divides by the gradient's size, and so turns the last bit of a tiny gradient into a step.
    optimizers = [optimizer_of(model, torch.optim.SGD) for model in (fast, slow)]
    method = FisherWeightedLora(fast, FisherPenalty(lam, warmup, alpha))
    weights = [layer.get_base_layer().weight for layer in adapted_layers(slow).values()]
    fisher = torch.zeros(len(weights))
    penalties = []
    for t in range(30):
        penalties.append(step(fast, method, optimizers[0], t).item())
        slow.train()
        for weight in weights:
            weight.requires_grad_(True)
        loss = slow(**batch(t)).loss
        if t < warmup:
            gradients = torch.autograd.grad(loss, weights, retain_graph=True)
            fisher = alpha * fisher + (1 - alpha) * torch.stack([g.pow(2).sum() for g in gradients])
        else:
            loss = loss + penalty_by_the_equation(slow, fisher, lam)
        loss.backward()  # fills the frozen weights' gradients as well; nobody reads them
        optimizers[1].step()
        optimizers[1].zero_grad()
    torch.testing.assert_close(method.fisher, fisher, rtol=1e-4, atol=0)
    assert penalties[:warmup] == [0.0] * warmup and min(penalties[warmup:]) > 0
    for name, value in trained(fast).items():
        torch.testing.assert_close(value, dict(slow.named_parameters())[name].detach(), rtol=1e-4, atol=1e-6)


def test_without_a_strength_it_is_lora_step_for_step(tiny):
    ours, theirs = adapted(tiny, dropout=0.1), adapted(tiny, dropout=0.1)
    optimizers = [optimizer_of(model) for model in (ours, theirs)]
    method, plain = FisherWeightedLora(ours, FisherPenalty(lambda_fw=0.0, warmup_steps=5)), Lora(theirs)
    for t in range(20):
        for model, its_method, optimizer in ((ours, method, optimizers[0]), (theirs, plain, optimizers[1])):
            torch.manual_seed(t)
            step(model, its_method, optimizer, t)
        for name, value in trained(ours).items():
            assert torch.equal(value, trained(theirs)[name]), (t, name)


def test_training_starts_at_the_base_model(tiny):
    base = base_model(tiny).eval()
    model = adapted(tiny).eval()
    FisherWeightedLora(model, FisherPenalty()).start_step()
    assert torch.equal(model(**batch()).logits, base(**batch()).logits)


def test_only_adapters_and_head_are_trained(tiny):
    model = adapted(tiny)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    method, optimizer = FisherWeightedLora(model, FisherPenalty(0.1, 2)), optimizer_of(model)
    for t in range(6):
        step(model, method, optimizer, t)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed and all("lora_" in name or "classifier.modules_to_save" in name for name in changed)
    assert not any(
        p.requires_grad for n, p in model.named_parameters() if n not in changed and "lora_" not in n
    )


def test_fisher_is_the_squared_norm_that_autograd_finds_and_leaves_no_gradient_behind(tiny):
    model = adapted(tiny, warm=True)
    method = FisherWeightedLora(model, FisherPenalty(warmup_steps=2, fisher_alpha=0.75))
    method.start_step()
    model(**batch()).loss.backward()
    method.finish_backward()
    assert all(weight.grad is None for weight in method.frozen)  # or clipping would see them

    twin = adapted(tiny, warm=True)
    twin.load_state_dict(model.state_dict())
    twin.train()
    weights = [layer.get_base_layer().weight.requires_grad_() for layer in adapted_layers(twin).values()]
    gradients = torch.autograd.grad(twin(**batch()).loss, weights)
    expected = 0.25 * torch.stack([g.pow(2).sum() for g in gradients])
    torch.testing.assert_close(method.fisher, expected, rtol=1e-5, atol=0)


def test_a_sampled_fisher_measures_every_qth_step_alone(tiny):
    model = adapted(tiny)
    method = FisherWeightedLora(model, FisherPenalty(warmup_steps=8, fisher_every=3))
    optimizer, measured = optimizer_of(model), []
    for t in range(10):
        before = method.fisher.clone()
        step(model, method, optimizer, t)
        measured.append(not torch.equal(before, method.fisher))
    assert [t for t, there in enumerate(measured) if there] == [0, 3, 6]


def test_every_layer_is_found_under_the_name_that_the_base_model_gives_it(tiny):
    base = base_model(tiny)
    weights = {name: module.weight for name, module in base.named_modules() if hasattr(module, "weight")}
    model = adapted(tiny)
    method = FisherWeightedLora(model, FisherPenalty())
    assert len(method.layers) == 2 * 5
    for name, frozen in zip(method.layers, method.frozen, strict=True):
        assert torch.equal(weights[name], frozen), name


def test_importances_change_nothing_before_step_k_and_stand_from_then_on(tiny):
    warmup = 5
    model, plain = adapted(tiny), adapted(tiny)
    method, optimizer = FisherWeightedLora(model, FisherPenalty(1.0, warmup)), optimizer_of(model)
    theirs, their_optimizer = Lora(plain), optimizer_of(plain)
    weights = []
    for t in range(12):
        step(model, method, optimizer, t)
        step(plain, theirs, their_optimizer, t)
        same = all(torch.equal(v, trained(plain)[n]) for n, v in trained(model).items())
        assert same == (t < warmup), t
        weights.append(method.weights)
    assert weights[: warmup - 1] == [None] * (warmup - 1)
    assert all(torch.equal(w, weights[warmup - 1]) for w in weights[warmup:])
    assert not any(weight.requires_grad for weight in method.frozen)


def test_the_weights_are_those_of_their_rule():
    fisher = torch.tensor([6.0, 3.0, 0.0, 1.0])
    torch.testing.assert_close(shrink_weights(fisher), torch.tensor([0.4, 0.7, 1.0, 0.9]))
    torch.testing.assert_close(shrink_weights(fisher, "uniform"), torch.full((4,), 0.75))
    inverse = shrink_weights(fisher, "inverse")
    torch.testing.assert_close(inverse[2] / inverse[0], torch.tensor((1 + 6 / 2.5) / 1))
    torch.testing.assert_close(inverse.sum(), torch.tensor(3.0))
    shuffled = shrink_weights(fisher, order=torch.tensor([3, 2, 1, 0]))
    torch.testing.assert_close(shuffled, torch.tensor([0.9, 1.0, 0.7, 0.4]))
    with pytest.raises(ValueError, match="share, inverse or uniform"):
        shrink_weights(fisher, "softmax")


def test_a_decoupled_step_shrinks_what_the_optimizer_made(tiny):
    settings = FisherPenalty(lambda_fw=2.0, warmup_steps=1, decoupled=True)
    model, plain = adapted(tiny, warm=True), adapted(tiny, warm=True)
    plain.load_state_dict(model.state_dict())
    method, theirs = FisherWeightedLora(model, settings), Lora(plain)
    optimizer, their_optimizer = optimizer_of(model, torch.optim.SGD), optimizer_of(plain, torch.optim.SGD)
    for t in range(2):
        step(model, method, optimizer, t)
        step(plain, theirs, their_optimizer, t)
    for (ours, other), weight in zip(
        zip(adapted_layers(model).values(), adapted_layers(plain).values(), strict=True),
        method.weights,
        strict=True,
    ):
        a, b, s = factors(ours)
        other_a, other_b, _ = factors(other)
        torch.testing.assert_close(s * b @ a, (1 - 0.01 * 2.0 * weight) * s * other_b @ other_a)


def test_a_state_goes_on_as_if_nothing_had_happened(tiny):
    def run(stop):
        model = adapted(tiny)
        method, optimizer = FisherWeightedLora(model, FisherPenalty(0.5, 4)), optimizer_of(model)
        for t in range(8):
            if t == stop:
                state, steps = copy.deepcopy(method.state_dict()), optimizer.state_dict()
                weights = copy.deepcopy(model.state_dict())
                model = adapted(tiny)
                model.load_state_dict(weights)
                method, optimizer = FisherWeightedLora(model, FisherPenalty(0.5, 4)), optimizer_of(model)
                method.load_state_dict(state)
                optimizer.load_state_dict(copy.deepcopy(steps))
            step(model, method, optimizer, t)
        return trained(model)

    whole = run(None)
    for stop in (2, 6):  # in the warm-up, and after it
        assert all(torch.equal(value, whole[name]) for name, value in run(stop).items())


def test_importances_of_another_model_are_refused(tiny):
    method = FisherWeightedLora(adapted(tiny), FisherPenalty())
    state = method.state_dict() | {"names": ["another.layer"]}
    with pytest.raises(ValueError, match="other adapted layers"):
        method.load_state_dict(state)


def test_norm_and_rank_are_those_of_the_product():
    torch.manual_seed(0)
    a, b = torch.randn(3, 20), torch.randn(7, 3)
    exact = torch.linalg.svdvals(b @ a)
    torch.testing.assert_close(singular_values(a, b), exact[:3], rtol=1e-4, atol=1e-5)
    assert effective_rank(torch.tensor([2.0, 2.0, 2.0])) == pytest.approx(3)
    assert effective_rank(torch.tensor([1.0, 0.0])) == pytest.approx(1)
    assert effective_rank(torch.zeros(4)) == 0


class Launches(TorchDispatchMode):
    """Counts operations that would start a kernel: views move no data. Refuses what makes a host wait."""

    VIEWS = (
        "view",
        "unbind",
        "select",
        "transpose",
        "t",
        "detach",
        "expand",
        "_unsafe_view",
        "alias",
        "unsqueeze",
    )

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "item", "nonzero"), f"{name} waits for the device"
        if name not in self.VIEWS:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def launches(tiny, **settings):
    model = adapted(tiny, warm=True)
    method, optimizer = FisherWeightedLora(model, FisherPenalty(0.1, 1, **settings)), optimizer_of(model)
    for t in range(2):
        step(model, method, optimizer, t)
    method.start_step()
    model(**batch()).loss.backward()
    with Launches() as counted:
        method.finish_backward()
        method.finish_step(0.01)
    return counted.names, len(method.groups)


def test_the_closed_form_launches_at_most_twenty_operations_for_each_shape_and_never_waits(tiny):
    names, groups = launches(tiny)
    assert groups == 3  # width to width, width to 4 width, and back
    assert 0 < len(names) <= 20 * groups, names


def test_a_decoupled_penalty_launches_at_most_four_operations_in_all_and_never_waits(tiny):
    names, _ = launches(tiny, decoupled=True)
    assert 0 < len(names) <= 4, names


def test_the_gradients_are_those_of_each_shape_apart():
    torch.manual_seed(0)
    a, b = (
        [torch.nn.Parameter(torch.randn(2, 5)) for _ in range(3)],
        [torch.nn.Parameter(torch.randn(4, 2)) for _ in range(3)],
    )
    strength = torch.tensor([1.0, 0.0, 2.0]).view(-1, 1, 1)
    for p in itertools.chain(a, b):
        p.grad = torch.zeros_like(p)
    value = add_penalty_gradients_(a, b, strength)
    torch.testing.assert_close(
        value, sum(c * (y @ x).pow(2).sum() for c, x, y in zip((1, 0, 2), a, b, strict=True))
    )
    assert a[1].grad.abs().sum() == 0 and b[1].grad.abs().sum() == 0
