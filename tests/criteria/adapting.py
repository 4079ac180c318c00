"""A small experiment that is in order: orthogonal adapters against plain ones on reviews, in two runs."""

from contextlib import contextmanager
from dataclasses import replace

from labgate.bundle import Bundle, Promise
from labgate.checks import all_checks
from labgate.compose import Child, Compositions
from labgate.contract import load
from labgate.finding import Outcome
from labgate.flow import Flow
from labgate.packages import Packages, Resolution
from labgate.packages import requirements as requirements_of

CONTRACT = load("airas-2025-11")
CHILD = Child()
KEPT = {}
"""Composers by what stands in the configs: most bundles here differ in their sources alone."""

MAIN = """\
import subprocess
import sys

import hydra


@hydra.main(config_path="../config", config_name="config", version_base="1.3")
def main(cfg):
    subprocess.run([sys.executable, "-u", "-m", "src.train", *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()
"""
TRAIN = """\
import copy

import hydra
import optuna
import torch
import wandb
from omegaconf import OmegaConf

from src.model import build, overlap
from src.preprocess import load_reviews


def resolve(cfg):
    OmegaConf.set_struct(cfg, False)
    cfg = OmegaConf.merge(cfg, OmegaConf.load(f"config/runs/{cfg.run}.yaml"))
    if cfg.mode == "trial":
        cfg.wandb.mode = "disabled"
        cfg.optuna.n_trials = 0
        cfg.training.epochs = 1
    elif cfg.mode == "full":
        cfg.wandb.mode = "online"
    else:
        raise ValueError(f"no mode is called {cfg.mode}")
    return cfg


def fit(cfg, track):
    loader, held_out = load_reviews(cfg)
    model = build(cfg)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.training.lr)
    for epoch in range(cfg.training.epochs):
        model.train()
        for index, batch in enumerate(loader):
            if cfg.mode == "trial" and index >= 2:
                break
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = model(**batch).loss + cfg.model.strength * overlap(model)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy = measure(model, held_out)
        if track:
            wandb.log({"accuracy": accuracy, "epoch": epoch})
    return accuracy


def measure(model, loader):
    model.eval()
    right, seen = 0, 0
    with torch.no_grad():
        for batch in loader:
            right += (model(**batch).logits.argmax(-1) == batch["labels"]).sum().item()
            seen += len(batch["labels"])
    return right / seen


def search(cfg):
    def objective(trial):
        tried = copy.deepcopy(cfg)
        tried.training.lr = trial.suggest_float("lr", 1e-5, 1e-3, log=True)
        return fit(tried, track=False)

    study = optuna.create_study(direction="maximize")
    study.optimize(objective, n_trials=cfg.optuna.n_trials)
    return study.best_params["lr"]


@hydra.main(config_path="../config", config_name="config", version_base="1.3")
def main(cfg):
    cfg = resolve(cfg)
    if cfg.training.precision != "bf16":
        raise ValueError("trained in bf16 only")
    if cfg.optuna.n_trials > 0:
        cfg.training.lr = search(cfg)
    wandb.init(project=cfg.wandb.project, id=cfg.run_id, mode=cfg.wandb.mode)
    wandb.summary["accuracy"] = fit(cfg, track=True)


if __name__ == "__main__":
    main()
"""
PREPROCESS = """\
from datasets import load_dataset
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, DataCollatorWithPadding


def load_reviews(cfg):
    tokenizer = AutoTokenizer.from_pretrained(cfg.model.name, cache_dir=".cache")
    try:
        data = load_dataset(cfg.dataset.name, cache_dir=".cache/")
    except OSError as error:
        raise RuntimeError(f"{cfg.dataset.name} cannot be had") from error

    def encode(rows):
        return tokenizer(rows["text"], truncation=True)

    data = data.map(encode, batched=True, remove_columns=["text"])
    collate = DataCollatorWithPadding(tokenizer)
    return (
        DataLoader(data["train"], batch_size=16, shuffle=True, collate_fn=collate),
        DataLoader(data["validation"], batch_size=64, collate_fn=collate),
    )
"""
MODEL = """\
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification


def build(cfg):
    base = AutoModelForSequenceClassification.from_pretrained(cfg.model.name, cache_dir=".cache")
    adapters = LoraConfig(
        r=cfg.model.rank,
        target_modules=list(cfg.model.targets),
        task_type="SEQ_CLS",
    )
    model = get_peft_model(base, adapters)
    return model


def overlap(model):
    total = torch.zeros(())
    for name, weight in model.named_parameters():
        if "lora_A" in name:
            total = total + (weight @ weight.T - torch.eye(weight.shape[0])).pow(2).sum()
    return total
"""
EVALUATE = """\
import json
import sys

import wandb


def main():
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    for run_id in json.loads(given["run_ids"]):
        print(wandb.Api().run(f"reviews/adapters/{run_id}").summary)


if __name__ == "__main__":
    main()
"""
CONFIG = """\
run: ???
results_dir: ???
mode: ???
wandb:
  entity: reviews
  project: adapters
  mode: online
"""
RUN = """\
run_id: {}
method: {}
model:
  name: google-bert/bert-base-uncased
  rank: 4
  strength: {}
  targets:
    - query
    - value
dataset: {{name: cornell-movie-review-data/rotten_tomatoes}}
training: {{epochs: 3, lr: 0.0002, precision: bf16}}
optuna: {{n_trials: 4}}
"""
PYPROJECT = """\
[project]
name = "orthogonal-adapters"
version = "0"
dependencies = ["datasets", "hydra-core", "optuna", "peft", "torch", "transformers", "wandb"]
"""
READY = Bundle.from_files(
    {
        "src/main.py": MAIN,
        "src/train.py": TRAIN,
        "src/preprocess.py": PREPROCESS,
        "src/model.py": MODEL,
        "src/evaluate.py": EVALUATE,
        "config/config.yaml": CONFIG,
        "config/runs/orthogonal-bert.yaml": RUN.format("orthogonal-bert", "orthogonal_adapters", "0.01"),
        "config/runs/plain-bert.yaml": RUN.format("plain-bert", "lora", "0.0"),
        "pyproject.toml": PYPROJECT,
    },
    promise=Promise(comparative_methods=("LoRA: adapters without the constraint",)),
)
TRAIN_PY, PREPROCESS_PY, MODEL_PY = "src/train.py", "src/preprocess.py", "src/model.py"
RUNS = ("config/runs/orthogonal-bert.yaml", "config/runs/plain-bert.yaml")


@contextmanager
def one_child():
    """One process composes all configs of a test file: importing Hydra is what takes the time."""
    with CHILD:
        yield
        for composer in KEPT.values():
            composer.close()
        KEPT.clear()


def versions(**known):
    """Packages that resolved to these versions, `_` for `-` in their names."""
    found = {name.replace("_", "-"): version for name, version in known.items()}
    problem = "" if found else "resolution was left out"
    return Packages(READY, requirements_of.read(READY), Resolution(versions=found, problem=problem))


def asked(question, bundle, contract=CONTRACT, packages=None):
    """What a check answers about `bundle`, each answer with its impact."""
    compositions = Compositions(bundle, contract, CHILD)
    configs = frozenset((path, file.text) for path, file in bundle.files.items() if path.endswith(".yaml"))
    compositions.composer = KEPT.setdefault(configs, compositions.composer)
    facts = {
        "bundle": bundle,
        "contract": contract,
        "compositions": compositions,
        "flow": Flow(bundle, contract, compositions),
        "packages": packages or versions(),
    }
    (check,) = [check for check in all_checks() if check.question is question]
    made = list(question(**{name: facts[name] for name in check.needs}))
    return [replace(answer, impact=answer.impact or check.impact) for answer in made]


def the_failure(question, bundle, contract=CONTRACT, packages=None):
    """Its one answer that is a failure."""
    answers = asked(question, bundle, contract, packages)
    (answer,) = [answer for answer in answers if answer.outcome is Outcome.FAIL]
    return answer


def passes(question, bundle, contract=CONTRACT, packages=None):
    """Whether it passes with evidence, and says nothing else."""
    answers = asked(question, bundle, contract, packages)
    return bool(answers) and all(a.outcome is Outcome.PASS and a.evidence for a in answers)


def outcomes(question, bundle, contract=CONTRACT, packages=None):
    return {answer.outcome for answer in asked(question, bundle, contract, packages)}


def lines(answer):
    """Where an answer points: `src/train.py:12` and the like."""
    return [str(place) for place in answer.evidence]


def at(bundle, path, words):
    """`path:line` of the line that holds `words`."""
    found = [n for n, line in enumerate((bundle.text(path) or "").splitlines(), 1) if words in line]
    assert len(found) == 1, f"{words!r} stands {len(found)} times in {path}"
    return f"{path}:{found[0]}"


def in_all_runs(old, new):
    """The experiment with the same edit in each of its run configs."""
    bundle = READY
    for path in RUNS:
        bundle = bundle.edit(path, old, new)
    return bundle
