"""Compare a twin's modules with those of the real size, and which of them LoRA finds.

Standard input: a JSON list of `[id, class of transformers, the real config, target_modules]`.
"""

import json
import sys

import torch
import transformers
from peft import LoraConfig, get_peft_model

transformers.utils.logging.set_verbosity_error()


def shapes(model):
    return {name: type(module).__name__ for name, module in model.named_modules()}


def adapted(model, targets):
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules=targets))
    return sorted(name for name, _ in wrapped.named_parameters() if "lora_" in name)


for name, architecture, config, targets in json.load(sys.stdin):
    kind = getattr(transformers, architecture)
    twin = kind.from_pretrained(name)
    with torch.device("meta"):
        real = kind(kind.config_class.from_dict(config))
    answer = {
        "modules": len(shapes(real)),
        "differ": sorted(set(shapes(real).items()) ^ set(shapes(twin).items())),
        "parameters differ": sorted(set(dict(real.named_parameters())) ^ set(dict(twin.named_parameters()))),
        "smaller": sum(p.numel() for p in twin.parameters()) < sum(p.numel() for p in real.parameters()),
    }
    found = adapted(real, targets), adapted(twin, targets)
    answer["adapted"], answer["same"] = len(found[0]), found[0] == found[1]
    print("RESULT", json.dumps([name, answer]), flush=True)
