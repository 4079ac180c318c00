"""Experiment orchestrator.

Usage:
    uv run python -u -m src.main run=<run_id> results_dir=<path> mode=<trial|full>
"""

import logging
import subprocess
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

logger = logging.getLogger(__name__)

PROJECT_ROOT = Path(__file__).resolve().parents[1]
VALID_MODES = ("trial", "full")


@hydra.main(version_base=None, config_path="../config", config_name="config")
def main(cfg: DictConfig) -> None:
    """Validate the request and launch the training process for a single run."""
    if cfg.mode not in VALID_MODES:
        raise ValueError(f"mode must be one of {VALID_MODES}, got {cfg.mode!r}")

    run_file = PROJECT_ROOT / "config" / "runs" / f"{cfg.run}.yaml"
    if not run_file.is_file():
        raise FileNotFoundError(f"Run configuration not found: {run_file}")

    Path(cfg.results_dir).mkdir(parents=True, exist_ok=True)
    overrides = list(HydraConfig.get().overrides.task)
    command = [sys.executable, "-u", "-m", "src.train", *overrides]
    logger.info("Launching: %s", " ".join(command))
    subprocess.run(command, check=True)
    logger.info("Run %s finished", cfg.run)


if __name__ == "__main__":
    main()
