"""Linear correlation of predictions and references."""

import datasets
import evaluate
from scipy.stats import pearsonr


class Pearsonr(evaluate.Metric):
    def _info(self):
        kind = datasets.Value("float")
        if self.config_name == "multilist":
            kind = datasets.Sequence(kind)
        return evaluate.MetricInfo(
            description="Pearson correlation, of labgate's own writing",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(self, predictions, references, return_pvalue=False):
        found = pearsonr(references, predictions)
        if return_pvalue:
            return {"pearsonr": found[0], "p-value": found[1]}
        return {"pearsonr": float(found[0])}
