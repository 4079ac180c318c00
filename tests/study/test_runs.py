"""The three commands, against labgate's stand-in for W&B; killed and resumed; and the Trainer."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
import world
import yaml
from conftest import ROOT, SEED_BASELINE, SEED_RUN
from peft import LoraConfig, get_peft_model
from src.model import FisherPenalty, FisherWeightedLoraCallback
from src.train import Training, fingerprint, search, train, warmup_fisher
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments, set_seed

pytestmark = pytest.mark.study
FULL = 4
"""So many of the methods, one of each kind of adapter and training, also run in full, each a process."""
METHODS = [
    SEED_RUN,
    SEED_BASELINE,
    "comparative-adalora-tuned-roberta-base--CoLA--b02",
    "proposed-fisher-ranks-roberta-base--CoLA--b02",
    "comparative-shuffled-roberta-base--CoLA--b02",
    "proposed-inverse-decoupled-roberta-base--CoLA--b02",
]


@pytest.fixture(scope="session")
def tracker(tmp_path_factory):
    """The environment under which an unmodified W&B client talks to `labgate serve`."""
    folder = tmp_path_factory.mktemp("tracker")
    serving = subprocess.Popen(
        ["uv", "run", "--project", str(ROOT), "labgate", "serve", "--store", str(folder / "runs.sqlite")],
        stdout=subprocess.PIPE,
        text=True,
    )
    found = {}
    for line in serving.stdout:
        if "Ctrl-C" in line:
            break
        if line.startswith("export "):
            key, _, value = line.removeprefix("export ").strip().partition("=")
            found[key] = value
    assert "WANDB_BASE_URL" in found
    yield os.environ | found | {"OMP_NUM_THREADS": "1"}
    serving.send_signal(signal.SIGINT)
    serving.wait(timeout=30)


def command(tiny, mode, run, results, **overrides):
    words = tiny | {key.replace("__", "."): value for key, value in overrides.items()}
    return [
        sys.executable,
        "-u",
        "-m",
        "src.main",
        f"run={run}",
        f"results_dir={results}",
        f"mode={mode}",
    ] + [f"{key}={value}" for key, value in words.items()]


def logged(tracker, run_id):
    """Summary and rows of a run, through the client's own API, in a process that has its environment."""
    script = (
        "import json, sys, wandb\n"
        f"run = wandb.Api().run('labgate/fw-lora/{run_id}')\n"
        "print('@' + json.dumps([run.summary._json_dict, dict(run.config), list(run.scan_history())]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=tracker, capture_output=True, text=True, check=True
    )
    return json.loads(next(line[1:] for line in done.stdout.splitlines() if line.startswith("@")))


@pytest.mark.parametrize("run", METHODS)
def test_a_trial_of_every_method_runs_both_its_phases_and_leaves_nothing_in_wandb(
    compose, run, monkeypatch, tmp_path
):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody is there, and nobody is asked
    penalties = []
    step = Training.step
    monkeypatch.setattr(
        Training, "step", lambda self, batch: penalties.append(step(self, batch)) or penalties[-1]
    )
    train(compose(run, "trial"))
    assert (tmp_path / run / "adapter-seed-42" / "adapter_model.safetensors").stat().st_size > 0
    found = [row["train_penalty"].item() for row in penalties[-2:]]
    if run == SEED_RUN or "shuffled" in run:
        assert found[0] == 0 < found[1]
    elif "adalora" in run:
        assert min(found) > 0
    else:
        assert found == [0, 0]


def test_the_commands_of_the_contract_train_log_and_compare(tiny, tracker, tmp_path):
    shutil.copytree(ROOT / "study", tmp_path / "study", ignore=shutil.ignore_patterns(".*"))
    study, results = tmp_path / "study", tmp_path / "results"
    path = study / f"config/runs/{SEED_RUN}.yaml"
    cfg = yaml.safe_load(path.read_text())
    space = {"type": "loguniform", "low": 0.001, "high": 0.02}
    cfg["optuna"]["search_space"] = {"training.learning_rate": space}
    path.write_text(yaml.safe_dump(cfg))
    for run in METHODS[:FULL]:
        settings = {"fw_lora__warmup_steps": 10}
        if "SST-2" in run:
            settings |= {"training__repeats": 2}
        if run == SEED_RUN:
            settings |= {"optuna__n_trials": 2}
        done = subprocess.run(
            command(tiny, "full", run, results, **settings),
            cwd=study,
            env=tracker,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    summary, config, rows = logged(tracker, SEED_RUN)
    history = pd.DataFrame(rows)
    steps, epochs = history.dropna(subset=["train_loss"]), history.dropna(subset=["val_loss"])
    assert len(steps) == 2 * 36 and len(epochs) == 2 * 3
    assert sorted(steps["step"]) == sorted(2 * list(range(1, 37)))
    assert (steps["train_penalty"][steps["step"] <= 10] == 0).all() and (
        steps["train_penalty"][steps["step"] > 11] > 0
    ).all()
    gap = steps["train_loss"] - steps["train_task_loss"] - steps["train_penalty"]
    assert gap.abs().max() < 1e-6
    layers = [column for column in epochs if column.startswith("importance/")]
    assert len(layers) == 7 and epochs[layers].sum(axis=1).sub(1).abs().max() < 1e-6
    assert (
        0.001 <= config["training"]["learning_rate"] <= 0.02 and config["training"]["learning_rate"] != 0.01
    )
    last = epochs[epochs["epoch"] == 3]["val_accuracy"]
    assert summary["final_val_accuracy"] == pytest.approx(last.mean())
    assert summary["best_epoch"] in (1, 2, 3) and len(summary["val_predictions_per_seed"]) == 2
    assert summary["parameters"]["adapter_percent_final"] <= 4

    ids = json.dumps(METHODS[:FULL])
    done = subprocess.run(
        [sys.executable, "-m", "src.evaluate", f"results_dir={results}", f"run_ids={ids}"],
        cwd=study,
        env=tracker,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for run in METHODS[:FULL]:
        metrics = json.loads((results / run / "metrics.json").read_text())
        assert (
            metrics["run_id"] == run and metrics["history"] and metrics["summary"]["final_train_seconds"] > 0
        )
        figures = [path.name for path in (results / run).glob("*.pdf")]
        assert len(figures) == 3 and all(name.startswith(f"{run}_") for name in figures)
    found = json.loads((results / "comparison/aggregated_metrics.json").read_text())
    assert len(found["comparisons"]) == 2  # one pair on SST-2, one on CoLA
    assert {pair["test"].split(",")[0] for pair in found["comparisons"]} == {
        "McNemar",
        "paired bootstrap over examples and seeds",
    }
    assert {run: found["metrics"]["final_val_accuracy"][run] for run in METHODS[:FULL]}[SEED_RUN] == summary[
        "final_val_accuracy"
    ]
    drawn = {path.name for path in (results / "comparison").glob("*.pdf")}
    assert {"comparison_accuracy_box_plot.pdf", "comparison_table.pdf", "comparison_differences.pdf"} <= drawn
    assert all(name.startswith("comparison_") for name in drawn)


def weights_of(folder):
    return {
        path.name: path.read_bytes() for path in sorted(folder.glob("adapter-*/adapter_model.safetensors"))
    }


@pytest.mark.parametrize("run", [SEED_RUN, METHODS[2]], ids=["FW-LoRA", "AdaLoRA"])
def test_a_training_that_was_killed_goes_on_with_the_same_numbers(tiny, tracker, tmp_path, run):
    more = world.make_data(tmp_path / "data", train=400)
    settings = {
        "dataset__name": more,
        "cache_dir": tmp_path / "cache",  # `datasets` takes two folders of one name for the same data
        "training__epochs": 4,
        "training__repeats": 2,
        "fw_lora__warmup_steps": 70,
    }
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(command(tiny, "full", run, whole, **settings), cwd=ROOT / "study", env=tracker, check=True)
    expected = logged(tracker, run)[0]

    words = command(tiny, "full", run, cut, **settings)
    printed = []
    for marker in ("seed 42, epoch 2", "seed 43, epoch 1"):  # within a seed, and once another has begun
        process = subprocess.Popen(words, cwd=ROOT / "study", env=tracker, stdout=subprocess.PIPE, text=True)
        printed.append("")
        for line in process.stdout:
            printed[-1] += line
            if line.startswith(marker):
                time.sleep(0.3)  # into the next epoch
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait() == -signal.SIGKILL
    again = subprocess.run(words, cwd=ROOT / "study", env=tracker, capture_output=True, text=True, check=True)
    assert "seed 42, epoch 1:" in printed[0]
    assert not any("seed 42, epoch 1:" in text for text in (printed[1], again.stdout)), "it began anew"
    found = logged(tracker, run)[0]

    assert weights_of(cut / run) == weights_of(whole / run) != {}
    same = re.compile(r"final_val_|val_predictions|best_epoch|(importance|delta_norm|effective_rank)/")
    compared = [key for key in expected if same.match(key)]
    assert len(compared) > 20
    assert {key: found[key] for key in compared} == {key: expected[key] for key in compared}
    assert not list((cut / run).glob("*.pt"))


def test_a_search_that_was_killed_goes_on_with_the_same_proposals(compose, data, tmp_path, monkeypatch):
    cfg = compose(optuna__n_trials=7, training__epochs=1, limits__train_batches=5)
    cfg.optuna.search_space["fw_lora.warmup_steps"].update(low=1, high=3, step=1)
    whole = search(cfg, data, tmp_path / "whole.journal")

    class Killed(BaseException):
        """Nothing catches it, as nothing catches SIGKILL; the journal keeps the trial as running."""

    scores, asked = Training.scores, []

    def dying(self, part):
        asked.append(part)
        if len(asked) == 4:
            raise Killed
        return scores(self, part)

    monkeypatch.setattr(Training, "scores", dying)
    with pytest.raises(Killed):
        search(cfg, data, tmp_path / "cut.journal")
    assert search(cfg, data, tmp_path / "cut.journal") == whole
    assert len(asked) == 4 + 4  # three trials done, the fourth cut off; then four more, and no more than that
    assert all(part is data.tune for part in asked)
    assert search(cfg, data, tmp_path / "cut.journal") == whole and len(asked) == 8


def test_a_searched_setting_moves_what_the_search_scores(compose, data):
    def score(rate):
        cfg = compose(training__learning_rate=rate)
        training = Training(cfg, data, data.fit, 0)
        for batch in training.epoch_batches(1):
            training.step(batch)
        return training.scores(data.tune)["loss"]

    assert score(0.001) != score(0.02)


def test_another_configuration_never_resumes_from_this_one_s_files(compose):
    cfg, other = compose(), compose(training__learning_rate=0.011)
    assert fingerprint(cfg) != fingerprint(other)
    assert fingerprint(cfg) == fingerprint(compose(results_dir="elsewhere"))


def test_bf16_is_what_the_forward_pass_runs_in_and_adds_nothing_to_the_loss(compose, data):
    seen = []
    training = Training(compose(SEED_BASELINE, training__mixed_precision="bf16"), data, data.train, 0)
    training.model.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs.logits.dtype))
    for batch in training.epoch_batches(1):
        row = training.step(batch)
        assert row["train_penalty"] == 0 and row["train_loss"].dtype == torch.float32
    assert set(seen) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in training.model.parameters())


def test_gradient_accumulation_trains_as_one_batch_does(compose, data):
    def trained(parts):
        cfg = compose(SEED_BASELINE, training__gradient_accumulation_steps=parts, training__optimizer="sgd")
        training = Training(cfg, data, data.train, 0)
        training.model.config.hidden_dropout_prob = 0.0
        for module in training.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for batch in training.epoch_batches(1):
            training.step(batch)
        return torch.cat([p.detach().flatten() for p in training.model.parameters() if p.requires_grad])

    torch.testing.assert_close(trained(1), trained(4), rtol=1e-4, atol=1e-6)


def test_fisher_ranks_come_from_a_warm_up_over_every_target(compose, data):
    cfg = compose("proposed-fisher-ranks-roberta-base--CoLA--b02")
    fisher = warmup_fisher(cfg, data, data.train, 0)
    assert len(fisher) == 10 and min(fisher) > 0
    assert fisher == warmup_fisher(cfg, data, data.train, 0) != warmup_fisher(cfg, data, data.train, 1)
    even = Training(cfg, data, data.train, 0)
    shaped = Training(cfg, data, data.train, 0, fisher)
    ranks = [{n: layer.r["default"] for n, layer in t.method.layers.items()} for t in (even, shaped)]
    assert ranks[0] != ranks[1]


def test_the_callback_makes_a_trainer_do_the_same_and_resume(tiny, tmp_path):
    pytest.importorskip("accelerate")
    rows = [{"input_ids": [0, 5 + i % 40, 6 + i % 30, 2], "labels": i % 2} for i in range(48)]

    def trainer(folder, stop=None):
        set_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(tiny["model.pretrained_id"], num_labels=2)
        targets = ["query", "value"]
        model = get_peft_model(
            model, LoraConfig(task_type="SEQ_CLS", r=2, lora_alpha=4, target_modules=targets)
        )
        args = TrainingArguments(
            output_dir=str(folder),
            max_steps=12,
            per_device_train_batch_size=4,
            save_strategy="steps",
            save_steps=4,
            learning_rate=0.01,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        callback = FisherWeightedLoraCallback(FisherPenalty(lambda_fw=0.5, warmup_steps=6))
        return Trainer(model, args, train_dataset=rows, callbacks=[callback]), callback

    whole, callback = trainer(tmp_path / "whole")
    whole.train()
    assert callback.method.step == 12 and callback.method.weights is not None
    for checkpoint in ("checkpoint-4", "checkpoint-8"):  # in the warm-up, and after it
        shutil.copytree(tmp_path / "whole" / checkpoint, tmp_path / "cut" / checkpoint)
        cut, its_callback = trainer(tmp_path / "cut")
        cut.train(resume_from_checkpoint=str(tmp_path / "cut" / checkpoint))
        assert torch.equal(its_callback.method.fisher, callback.method.fisher), checkpoint
        ours = {n: p for n, p in cut.model.named_parameters() if "lora_" in n}
        theirs = dict(whole.model.named_parameters())
        assert all(torch.equal(p, theirs[n]) for n, p in ours.items()), checkpoint
        shutil.rmtree(tmp_path / "cut")
    plain, _ = trainer(tmp_path / "plain")
    plain.remove_callback(FisherWeightedLoraCallback)
    plain.train()
    assert any(
        not torch.equal(p, dict(plain.model.named_parameters())[n]) for n, p in theirs.items() if "lora_" in n
    )
