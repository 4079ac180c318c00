"""Starts one run: `python -m src.main run=RUN_ID results_dir=PATH mode=trial|full`."""

import subprocess
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

RUNS = Path(__file__).resolve().parents[1] / "config" / "runs"
SECTIONS = ("run_id", "method", "model", "dataset", "training", "optuna")
MODES = ("trial", "full")


def resolve_config(cfg: DictConfig) -> DictConfig:
    """The configuration of one run: config.yaml, the run's own file, the command line."""
    path = RUNS / f"{cfg.run}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in RUNS.glob("*.yaml")))
        raise FileNotFoundError(f"there is no run {cfg.run!r} in {RUNS}; there are: {known}")
    run_cfg = OmegaConf.load(path)

    OmegaConf.set_struct(cfg, False)  # the sections of a run do not stand in config.yaml
    cfg = OmegaConf.merge(cfg, run_cfg, cfg)  # cfg once more: what the command line adds wins over the file

    missing = [section for section in SECTIONS if section not in cfg]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    if cfg.run_id != cfg.run:
        raise ValueError(f"{path} calls itself {cfg.run_id!r}")
    for key in cfg.optuna.search_space:
        if OmegaConf.select(cfg, key) is None:
            raise ValueError(f"{path} searches over {key}, which it does not set")
    if cfg.mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {cfg.mode!r}")
    return cfg


@hydra.main(version_base="1.3", config_path="../config", config_name="config")
def main(cfg: DictConfig) -> None:
    cfg = resolve_config(cfg)
    print(
        f"{cfg.run_id}: {cfg.method} with {cfg.model.name} on {cfg.dataset.name}, mode={cfg.mode}", flush=True
    )
    # The child composes the same configuration from the same words.
    subprocess.run([sys.executable, "-u", "-m", "src.train", *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()
