"""Mean squared distance of predictions and references, or with `squared=False` its root."""

import datasets
import evaluate
import numpy
from sklearn.metrics import mean_squared_error


class MeanSquaredError(evaluate.Metric):
    def _info(self):
        kind = datasets.Value("float")
        if self.config_name == "multilist":
            kind = datasets.Sequence(kind)
        return evaluate.MetricInfo(
            description="Mean squared error, of labgate's own writing",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(
        self, predictions, references, sample_weight=None, multioutput="uniform_average", squared=True
    ):
        each = multioutput if squared else "raw_values"
        error = mean_squared_error(references, predictions, sample_weight=sample_weight, multioutput=each)
        if not squared:
            error = numpy.sqrt(error)
            if multioutput != "raw_values":
                error = numpy.average(error, weights=None if isinstance(multioutput, str) else multioutput)
        return {"mse": error}
