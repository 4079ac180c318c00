"""Run configs and data: what is there is right; what is wrong ends in a sentence before training starts."""

import subprocess
import sys

import pandas as pd
import pytest
import world
import yaml
from conftest import ROOT, SEED_BASELINE, SEED_RUN
from omegaconf import OmegaConf
from src.main import BadInput
from src.preprocess import batches, load_data
from src.train import Training, search

pytestmark = pytest.mark.study
RUNS = sorted(path.stem for path in (ROOT / "study/config/runs").glob("*.yaml"))


@pytest.mark.parametrize("run", RUNS)
def test_every_run_is_built_with_what_it_says(compose, data, run):
    cfg = compose(run, "trial")
    assert cfg.run_id == run and cfg.training.epochs == 1 and cfg.optuna.n_trials == 0
    training = Training(cfg, data, data.train, 0)
    assert training.total_steps == 2 and training.method.warmup_steps < 2


def test_the_grid_has_every_method_task_and_budget():
    cells = set()
    for run in RUNS:
        cfg = OmegaConf.load(ROOT / "study/config/runs" / f"{run}.yaml")
        fw = cfg.get("fw_lora", {})
        if fw and ("weighting" in fw or "shuffle_seed" in fw or "decoupled" in fw):
            continue
        kind = "tuned" if "tinit_ratio" in cfg.get("adalora", {}) else "default"
        cells.add((cfg.method, kind, cfg.dataset.subset, cfg.model.parameter_budget_percent))
    methods = [("proposed_fw_lora", "default"), ("baseline_lora", "default")]
    methods += [("baseline_adalora", "default"), ("baseline_adalora", "tuned")]
    assert cells >= {(*m, t, b) for m in methods for t in ("sst2", "cola") for b in (0.1, 0.2, 0.5)}


def test_runs_of_a_task_differ_in_their_method_alone(compose):
    def shared(run):
        cfg = OmegaConf.to_container(compose(run))
        for key in ("run", "run_id", "method", "fw_lora", "adalora"):
            del cfg[key]
        del cfg["model"]["lora"]["allocation"], cfg["optuna"]["search_space"]
        return cfg

    for task in ("SST-2", "CoLA"):
        runs = [run for run in RUNS if f"--{task}--b02" in run]
        assert len(runs) >= 9
        assert all(shared(run) == shared(runs[0]) for run in runs)


def test_an_unknown_run_is_told_the_known_ones(compose):
    with pytest.raises(BadInput) as caught:
        compose("no-such-run")
    assert all(run in str(caught.value) for run in RUNS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "cannot be used"),
        ("run_id: broken\ntraining: {lerning_rate: 1}", "lerning_rate"),
        ("run_id: broken\nmethod: baseline_lora", "Missing mandatory value"),
        ("run_id: another", "Missing mandatory value"),
        ("just words", "cannot be used"),
    ],
)
def test_a_broken_run_config_is_refused_with_its_name(compose, monkeypatch, tmp_path, text, says):
    (tmp_path / "broken.yaml").write_text(text)
    monkeypatch.setattr("src.main.RUNS", tmp_path)
    with pytest.raises(BadInput) as caught:
        compose("broken")
    message = str(caught.value)
    assert "broken.yaml" in message and says in message and "\n" not in message


def test_a_run_under_another_s_id_and_a_search_over_nothing_are_refused(compose, monkeypatch, tmp_path):
    text = (ROOT / f"study/config/runs/{SEED_RUN}.yaml").read_text()
    monkeypatch.setattr("src.main.RUNS", tmp_path)
    (tmp_path / "copy.yaml").write_text(text)
    with pytest.raises(BadInput, match="calls itself"):
        compose("copy")
    (tmp_path / "copy.yaml").write_text(
        text.replace(f"run_id: {SEED_RUN}", "run_id: copy").replace("fw_lora.lambda_fw:", "fw_lora.lambda:")
    )
    with pytest.raises(BadInput, match=r"searches over fw_lora\.lambda, which it does not set"):
        compose("copy")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"training__mixed_precision": "fp16"}, "'fp16' is not among bf16, none"),
        ({"training__optimizer": "lion"}, "'lion' is not among adamw, sgd"),
        ({"training__lr_scheduler": "sawtooth"}, "sawtooth"),
        ({"fw_lora__weighting": "softmax"}, "share, inverse or uniform"),
        ({"fw_lora__warmup_steps": 36}, "of 36 steps: the penalty would never act"),
        ({"model__pretrained_id": "/no/such/model"}, "cannot load the model '/no/such/model'"),
    ],
)
def test_a_training_that_cannot_be_built_is_refused(compose, data, overrides, says):
    with pytest.raises(BadInput) as caught:
        Training(compose(**overrides), data, data.train, 0)
    assert says in str(caught.value)


def test_a_search_over_an_unknown_kind_of_range_is_refused(compose, data, tmp_path):
    cfg = compose(optuna__n_trials=1)
    cfg.optuna.search_space["training.learning_rate"].type = "gaussian"
    with pytest.raises(BadInput, match="no search over 'gaussian'"):
        search(cfg, data, tmp_path / "x.journal")


def test_data_that_cannot_be_had_end_the_run(compose, tmp_path):
    with pytest.raises(BadInput, match="cannot load"):
        load_data(compose(dataset__name=str(tmp_path / "nowhere")))
    odd = world.make_data(tmp_path / "odd", column="text")
    with pytest.raises(BadInput, match="has no column 'sentence', only"):
        load_data(compose(dataset__name=str(odd)))
    with pytest.raises(BadInput, match="has no split 'test', only train, validation"):
        load_data(compose(dataset__eval_split="test"))
    hidden = world.make_data(tmp_path / "hidden")
    frame = pd.read_parquet(hidden / "validation.parquet").assign(label=-1)
    frame.to_parquet(hidden / "validation.parquet")
    with pytest.raises(BadInput, match="some are hidden"):
        load_data(compose(dataset__name=str(hidden)))


def test_the_search_never_sees_the_published_validation_split(compose, data):
    def texts(rows):
        return [tuple(row["input_ids"]) for row in rows]

    assert sorted(texts(data.fit) + texts(data.tune)) == sorted(texts(data.train))
    assert len(data.tune) == round(0.1 * len(data.train))
    frame = pd.read_parquet(f"{compose().dataset.name}/validation.parquet")
    assert len(data.validation) == len(frame)
    again = load_data(compose())
    assert texts(again.tune) == texts(data.tune)


def test_an_epoch_s_order_follows_from_its_seed_and_holds_every_row_once(data):
    def order(seed):
        return [
            tuple(ids[mask == 1].tolist())
            for batch in batches(data.train, data.collate, 8, seed)
            for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        ]

    plain = [tuple(row["input_ids"]) for row in data.train]
    assert order(None) == plain
    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == sorted(plain)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run=no-such-run", "mode=trial"], "there is no run 'no-such-run'; there are:"),
        ([f"run={SEED_RUN}", "mode=fast"], "mode is trial or full, not 'fast'"),
        (
            [f"run={SEED_BASELINE}", "mode=trial", "dataset.name=/no/such/data"],
            "cannot load /no/such/data (sst2)",
        ),
        ([f"run={SEED_BASELINE}", "mode=trial"], "cannot load nyu-mll/glue (sst2)"),
    ],
    ids=["run", "mode", "data", "no hub"],
)
def test_the_command_ends_in_a_sentence_and_a_failure(tmp_path, words, says, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    done = subprocess.run(
        [sys.executable, "-m", "src.main", f"results_dir={tmp_path}", f"cache_dir={tmp_path}/cache", *words],
        cwd=ROOT / "study",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()
    assert says in done.stderr and not any("Traceback" in line for line in last)


def test_the_two_seed_runs_have_the_values_of_the_design():
    ours = yaml.safe_load((ROOT / f"study/config/runs/{SEED_RUN}.yaml").read_text())
    theirs = yaml.safe_load((ROOT / f"study/config/runs/{SEED_BASELINE}.yaml").read_text())
    assert ours["fw_lora"] == {"lambda_fw": 1e-4, "warmup_steps": 500, "fisher_alpha": 0.98}
    assert ours["training"] == theirs["training"] and ours["model"] == theirs["model"]
    assert ours["model"]["lora"] | {"target_modules": 0} == {
        "rank": 8,
        "alpha": 16,
        "dropout": 0.1,
        "target_modules": 0,
    }
    assert (
        ours["model"]["parameter_budget_percent"] == 0.2
        and ours["optuna"]["n_trials"] == theirs["optuna"]["n_trials"]
    )
