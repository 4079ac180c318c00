"""The batched AdaLoRA of benchmarks/step_time.py does what PEFT's does."""

import importlib.util

import pytest
import torch
from conftest import ROOT
from peft import AdaLoraConfig, get_peft_model
from src.model import AdaLora, adapted_layers
from transformers import AutoModelForSequenceClassification

pytestmark = pytest.mark.study


def test_the_batched_adalora_has_peft_s_regulariser_averages_and_masks(tiny):
    spec = importlib.util.spec_from_file_location("step_time", ROOT / "benchmarks/step_time.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    base = AutoModelForSequenceClassification.from_pretrained(tiny["model.pretrained_id"], num_labels=2)
    config = AdaLoraConfig(
        task_type="SEQ_CLS", init_r=3, target_r=2, tfinal=0, total_step=2, target_modules=bench.TARGETS
    )
    model = get_peft_model(base, config).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in adapted_layers(model).values():
            layer.lora_E["default"].normal_()
    batched, peft_s = bench.ForeachAdaLora(model, config), AdaLora(model)
    batch = {"input_ids": torch.randint(5, 50, (8, 6)), "labels": torch.arange(8) % 2}

    plain = model.base_model.model(**batch).loss
    loss = model(**batch).loss
    torch.testing.assert_close(plain + batched.orthogonality(), loss)
    loss.backward()
    before = [e.detach().clone() for e in batched.e]
    batched.finish_step(0.0)
    masks = [e.detach() != 0 for e in batched.e]
    with torch.no_grad():
        for e, value in zip(batched.e, before, strict=True):
            e.copy_(value)
    peft_s.finish_step(0.0)  # averages; and its budget, on the way to the final one
    allocator = model.base_model.rankallocator
    names = {id(p): n.removeprefix("base_model.model.") for n, p in model.named_parameters()}
    for parameter, smooth, unsure in zip(batched.all, batched.smooth, batched.unsure, strict=True):
        torch.testing.assert_close(smooth, allocator.exp_avg_ipt[names[id(parameter)]])
        torch.testing.assert_close(unsure, allocator.exp_avg_unc[names[id(parameter)]])
    with torch.no_grad():
        for e, value in zip(batched.e, before, strict=True):
            e.copy_(value)
    allocator.mask_to_budget(model.base_model.model, 2 * len(before))
    for e, mask in zip(batched.e, masks, strict=True):
        assert torch.equal(e.detach() != 0, mask)
