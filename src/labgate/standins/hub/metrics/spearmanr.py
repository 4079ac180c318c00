"""Correlation of the ranks of predictions and references."""

import datasets
import evaluate
from scipy.stats import spearmanr


class Spearmanr(evaluate.Metric):
    def _info(self):
        kind = datasets.Value("float")
        if self.config_name == "multilist":
            kind = datasets.Sequence(kind)
        return evaluate.MetricInfo(
            description="Spearman correlation, of labgate's own writing",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(self, predictions, references, return_pvalue=False):
        found = spearmanr(references, predictions)
        if return_pvalue:
            return {"spearmanr": found[0], "spearmanr_pvalue": found[1]}
        return {"spearmanr": found[0]}
