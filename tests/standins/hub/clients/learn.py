"""Fine-tune a twin on a twin for 48 steps, once for each seed, and once without the optimizer's step.

Arguments: model, data set, configuration, text column, learning rate, seeds. Prints for each run the mean
loss of the first and the last five steps, and the accuracy before and after.
"""

import json
import sys

import torch
import transformers
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

name, data, config, column, rate, *seeds = sys.argv[1:]
transformers.utils.logging.set_verbosity_error()
rows = load_dataset(data, config or None)
labels = rows["train"].features["label"].num_classes
tokenizer = AutoTokenizer.from_pretrained(name)
held_out = rows["validation" if "validation" in rows else "test"].select(range(256))


def batch(part):
    texts = tokenizer(list(part[column]), truncation=True, max_length=64, padding=True, return_tensors="pt")
    return texts, torch.tensor(part["label"])


def accuracy(model):
    model.eval()
    texts, truth = batch(held_out[:])
    with torch.no_grad():
        return (model(**texts).logits.argmax(-1) == truth).float().mean().item()


def train(seed, frozen):
    transformers.set_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=float(rate))
    schedule = get_linear_schedule_with_warmup(optimizer, 4, 48)
    before, losses = accuracy(model), []
    model.train()
    for step in range(48):
        texts, truth = batch(rows["train"][step * 16 : step * 16 + 16])
        loss = model(**texts, labels=truth).loss
        loss.backward()
        if not frozen:
            optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    return {"first": first, "last": last, "before": before, "after": accuracy(model)}


for seed in seeds:
    print("RESULT", json.dumps(train(int(seed), frozen=False)))
print("RESULT", json.dumps(train(int(seeds[0]), frozen=True)))
