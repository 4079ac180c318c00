"""Mean distance of predictions and references."""

import datasets
import evaluate
from sklearn.metrics import mean_absolute_error


class MeanAbsoluteError(evaluate.Metric):
    def _info(self):
        kind = datasets.Value("float")
        if self.config_name == "multilist":
            kind = datasets.Sequence(kind)
        return evaluate.MetricInfo(
            description="Mean absolute error, of labgate's own writing",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(self, predictions, references, sample_weight=None, multioutput="uniform_average"):
        error = mean_absolute_error(
            references, predictions, sample_weight=sample_weight, multioutput=multioutput
        )
        return {"mae": error}
