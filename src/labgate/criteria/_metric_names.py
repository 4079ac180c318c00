"""Which short names a metric that is promised in words goes by."""

from __future__ import annotations

import re
from collections.abc import Iterable

FAMILIES: tuple[tuple[str, str], ...] = (
    (r"matthews|\bmcc\b", r"mcc|matthews"),
    (r"exact[- ]match", r"\bem\b|exact|match|acc"),
    (r"accuracy", r"acc|correct|exact|\bem\b|top ?1|score"),
    (r"\bf1\b|f1[- ]score|f-measure", r"f ?1|f ?score"),
    (r"\bauroc\b|\bauc\b|roc[- ]auc", r"auc|roc"),
    (r"perplexity", r"ppl|perplex"),
    (r"\bbleu\b", r"bleu"),
    (r"\brouge", r"rouge"),
    (r"\brmse\b|root mean square", r"rmse|mse"),
    (r"mean squared error|\bmse\b", r"mse|squared"),
    (r"mean absolute error|\bmae\b", r"mae|absolute"),
    (r"calibration error|\bece\b", r"ece|calib"),
    (r"pearson|spearman", r"pearson|spearman|corr"),
    (
        r"wall[- ]?clock|training time|run[- ]?time",
        r"time|sec|runtime|duration|wall|latency|elapsed|minutes|hours|\bms\b|\bs\b|speed",
    ),
    (r"inference time|\blatency\b", r"latency|infer|\btime|\bms\b|\bsec|speed"),
    (r"\bmemory\b|\bvram\b", r"mem|vram|gib|\bgb\b|\bmb\b"),
    (r"throughput|tokens per second", r"throughput|per sec|tokens|speed|samples"),
    (r"\bfid\b|inception distance", r"fid|frechet"),
    (r"\bpsnr\b", r"psnr"),
    (r"\bssim\b", r"ssim"),
    (r"\brecall\b", r"recall|\br@|sensitiv"),
    (r"\bprecision\b", r"prec"),
)
"""How the promise says it, and what a key that records it holds."""


def family(metric: str) -> str | None:
    """What names of keys for this metric look like, None when the metric is none that labgate knows."""
    said = metric.lower()
    for promised, written in FAMILIES:
        if re.search(promised, said):
            return written
    return None


def recorded_as(metric: str, keys: Iterable[str]) -> list[str]:
    """The keys among `keys` that may record the metric."""
    written = family(metric)
    if written is None:
        return []
    return [key for key in keys if re.search(written, _words(key))]


def _words(key: str) -> str:
    """`valAccuracy/top-1` as `val accuracy top 1`."""
    spread = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", key)
    return re.sub(r"[^a-z0-9@]+", " ", spread.lower())
