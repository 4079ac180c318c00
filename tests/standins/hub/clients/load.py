"""Load what the command line names, with the official libraries alone; one line of JSON for each."""

import json
import sys

import datasets
import evaluate
import huggingface_hub
import transformers
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

TASKS = {
    "classify": (AutoModelForSequenceClassification, {"num_labels": 3}),
    "causal": (AutoModelForCausalLM, {}),
    "seq2seq": (AutoModelForSeq2SeqLM, {}),
    "image": (AutoModelForImageClassification, {"num_labels": 10, "ignore_mismatched_sizes": True}),
    "bare": (AutoModel, {}),
}


def tokenizer(name):
    read = AutoTokenizer.from_pretrained(name)
    text = "the good dog balax"
    ids = read(text)["input_ids"]
    return {
        "class": type(read).__name__,
        "length": len(read),
        "keys": sorted(read(text)),
        "back": read.decode(ids, skip_special_tokens=True).strip(),
        "specials": {t: i for t, i in zip(read.all_special_tokens, read.all_special_ids)},  # noqa: B905, C416
    }


def model(name, task):
    architecture, options = TASKS[task]
    read = architecture.from_pretrained(name, **options)
    mark = read.config.twin_of
    if task == "image":
        AutoImageProcessor.from_pretrained(name)
    return {"class": type(read).__name__, "twin_of": mark, "layers": len(list(read.modules()))}


def dataset(name, config):
    read = datasets.load_dataset(name, config or None)
    first = next(iter(read.values()))
    names = {c: f.names for c, f in first.features.items() if isinstance(f, datasets.ClassLabel)}
    row = {column: type(value).__name__ for column, value in first[0].items()}
    return {"rows": {split: len(rows) for split, rows in read.items()}, "names": names, "row": row}


def metric(name, config):
    read = evaluate.load(name, config or None)
    return read.compute(predictions=[0, 1, 1, 0, 1], references=[0, 1, 0, 0, 1])


def stream(name, config):
    rows = datasets.load_dataset(name, config or None, split="train", streaming=True)
    return {"columns": sorted(next(iter(rows)))}


def snapshot(name, pattern):
    folder = huggingface_hub.snapshot_download(name, allow_patterns=[pattern])
    return {"revision": folder.rstrip("/").rpartition("/")[2]}


KINDS = {
    "tokenizer": tokenizer,
    "model": model,
    "dataset": dataset,
    "metric": metric,
    "stream": stream,
    "snapshot": snapshot,
}
transformers.utils.logging.set_verbosity_error()
for asked in sys.argv[1:]:
    kind, *rest = asked.split("|")
    try:
        answer = KINDS[kind](*rest)
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print("RESULT", json.dumps([asked, answer], default=str), flush=True)
