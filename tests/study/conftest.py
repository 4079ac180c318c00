"""The study's tests need torch, transformers and peft: `make test-study` makes an environment for them."""

from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]

ROOT = Path(__file__).parents[2]
FASHION = {  # what every run needs that goes by the tiny model and data of world.py
    "dataset.max_length": 16,
    "dataset.padding": "longest",
    "training.batch_size": 8,
    "training.learning_rate": 0.01,
    "training.mixed_precision": "none",
    "training.repeats": 1,
    "model.parameter_budget_percent": 4,
    "fw_lora.warmup_steps": 4,
    "optuna.n_trials": 0,
}
SEED_RUN, SEED_BASELINE = (
    "proposed-roberta-base-110M--SST-2-GLUE",
    "comparative-1-roberta-base-110M--SST-2-GLUE",
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The overrides under which any run trains on a tiny model and tiny data."""
    import world

    folder = tmp_path_factory.mktemp("tiny")
    model, data = world.make_model(folder / "model"), world.make_data(folder / "data")
    return FASHION | {
        "model.pretrained_id": str(model),
        "dataset.name": str(data),
        "cache_dir": str(folder / "cache"),
    }


@pytest.fixture
def compose(tiny, tmp_path):
    """The config of a run, as main.py resolves it, without Hydra's command line."""
    from omegaconf import OmegaConf
    from src.main import resolve_config

    def composed(run=SEED_RUN, mode="full", **overrides):
        cfg = OmegaConf.load(ROOT / "study/config/config.yaml")
        del cfg["defaults"], cfg["hydra"]
        OmegaConf.set_struct(cfg, True)
        cfg.run, cfg.mode, cfg.results_dir = run, mode, str(tmp_path)
        words = tiny | {key.replace("__", "."): value for key, value in overrides.items()}
        return resolve_config(cfg, [f"{key}={value}" for key, value in words.items()])

    return composed


@pytest.fixture
def data(compose):
    """What every run trains on, as preprocess.py loads it."""
    from src.preprocess import load_data

    return load_data(compose())
