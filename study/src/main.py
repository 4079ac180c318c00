"""Runs one experiment: `python -u -m src.main run=RUN_ID results_dir=PATH mode=trial|full`.

`config/config.yaml` declares every key and its default; `config/runs/RUN_ID.yaml` says what this run is; the
command line has the last word. A key that config.yaml does not declare is refused wherever it stands.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

if TYPE_CHECKING:
    from optuna import Trial

RUNS = Path(__file__).resolve().parents[1] / "config" / "runs"


class BadInput(SystemExit):
    """What was asked for cannot be run. One sentence on stderr, exit status 1, no traceback."""


def resolve_config(cfg: DictConfig, command_line: list[str]) -> DictConfig:
    """The configuration of one run; `command_line` holds the overrides that Hydra was given."""
    path = RUNS / f"{cfg.run}.yaml"
    if not path.is_file():
        known = "\n  ".join(sorted(file.stem for file in RUNS.glob("*.yaml")))
        raise BadInput(f"there is no run {cfg.run!r}; there are:\n  {known}")
    OmegaConf.set_struct(cfg.optuna.search_space, False)  # the one place where a run config invents keys
    try:
        run_cfg = OmegaConf.load(path)
        cfg = OmegaConf.merge(cfg, run_cfg, OmegaConf.from_dotlist(command_line))
        OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        raise BadInput(f"{path} cannot be used: {' '.join(str(error).split())}") from error
    if cfg.run_id != cfg.run:
        raise BadInput(f"{path} calls itself {cfg.run_id!r}")
    for key in cfg.optuna.search_space:
        if OmegaConf.select(cfg, key) is None:
            raise BadInput(f"{path} searches over {key}, which it does not set")
    return apply_mode(cfg)


def apply_mode(cfg: DictConfig) -> DictConfig:
    """What `mode` settles. A trial shows that the code runs: W&B is off, both phases of the method happen."""
    if cfg.mode == "trial":
        cfg.wandb.mode = "disabled"
        cfg.optuna.n_trials = 0
        cfg.training.epochs = 1
        cfg.training.repeats = 1
        cfg.limits.train_batches = 2
        cfg.limits.eval_examples = 64
        cfg.fw_lora.warmup_steps = 1
    elif cfg.mode == "full":
        cfg.wandb.mode = "online"
    else:
        raise BadInput(f"mode is trial or full, not {cfg.mode!r}")
    return cfg


def suggest(trial: Trial, key: str, space: DictConfig) -> float | int | str:
    """A value for a hyper-parameter, as the run config's search space describes it."""
    if space.type == "loguniform":
        return trial.suggest_float(key, space.low, space.high, log=True)
    if space.type == "uniform":
        return trial.suggest_float(key, space.low, space.high)
    if space.type == "int":
        return trial.suggest_int(key, space.low, space.high, step=space.get("step", 1))
    if space.type == "categorical":
        return trial.suggest_categorical(key, list(space.choices))
    raise BadInput(f"{key}: no search over {space.type!r}")


def fingerprint(cfg: DictConfig) -> str:
    """Names files by the configuration that they belong to: another one never resumes from them."""
    settings = {
        key: value
        for key, value in OmegaConf.to_container(cfg).items()
        if key not in ("results_dir", "wandb")
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


@hydra.main(version_base="1.3", config_path="../config", config_name="config")
def main(cfg: DictConfig) -> None:
    cfg = resolve_config(cfg, list(HydraConfig.get().overrides.task))
    print(f"{cfg.run_id}: {cfg.method}, {cfg.model.name}, {cfg.dataset.name}, mode={cfg.mode}", flush=True)
    # Read by the hub's client when it is imported; what it is not told by cache_dir goes there too.
    os.environ["HF_HUB_CACHE"] = os.environ["HF_DATASETS_CACHE"] = str(Path(cfg.cache_dir).resolve())
    from src.train import train  # after the checks above, which need no second of importing torch

    train(cfg)


if __name__ == "__main__":
    main()
