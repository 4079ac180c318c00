"""Fine-tune a twin on a twin for 48 steps; with "frozen", without the optimizer's step.

Arguments: model, data set, configuration, text column, learning rate, seed, "frozen" or "free".
Prints the mean loss of the first and last five steps and the accuracy before and after.
"""

import json
import sys

import torch
import transformers
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

name, data, config, column, rate, seed, how = sys.argv[1:]
transformers.utils.logging.set_verbosity_error()
transformers.set_seed(int(seed))
rows = load_dataset(data, config or None)
labels = rows["train"].features["label"].num_classes
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=labels)
optimizer = torch.optim.AdamW(model.parameters(), lr=float(rate))
schedule = get_linear_schedule_with_warmup(optimizer, 4, 48)
held_out = rows["validation" if "validation" in rows else "test"].select(range(256))


def batch(part):
    texts = tokenizer(list(part[column]), truncation=True, max_length=64, padding=True, return_tensors="pt")
    return texts, torch.tensor(part["label"])


def accuracy():
    model.eval()
    texts, truth = batch(held_out[:])
    with torch.no_grad():
        return (model(**texts).logits.argmax(-1) == truth).float().mean().item()


before, losses = accuracy(), []
model.train()
for step in range(48):
    texts, truth = batch(rows["train"][step * 16 : step * 16 + 16])
    loss = model(**texts, labels=truth).loss
    loss.backward()
    if how != "frozen":
        optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    losses.append(loss.item())
ends = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
print("RESULT", json.dumps({"first": ends[0], "last": ends[1], "before": before, "after": accuracy()}))
