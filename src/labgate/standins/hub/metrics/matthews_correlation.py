"""Correlation of predictions and references, from -1 to 1; of each label with several."""

import datasets
import evaluate
import numpy
from sklearn.metrics import matthews_corrcoef


class MatthewsCorrelation(evaluate.Metric):
    def _info(self):
        kind = datasets.Value("int32")
        if self.config_name == "multilabel":
            kind = datasets.Sequence(kind)
        return evaluate.MetricInfo(
            description="Matthews correlation, of labgate's own writing",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(self, predictions, references, sample_weight=None, average=None):
        if self.config_name != "multilabel":
            score = matthews_corrcoef(references, predictions, sample_weight=sample_weight)
            return {"matthews_correlation": float(score)}
        if average not in (None, "macro"):
            raise ValueError("Invalid `average`: expected `macro`, or None ")
        true, said = numpy.array(references), numpy.array(predictions)
        if true.ndim != 2 or said.ndim != 2:
            raise ValueError("several labels need two-dimensional predictions and references")
        scores = [
            matthews_corrcoef(said[:, label], true[:, label], sample_weight=sample_weight)
            for label in range(true.shape[1])
        ]
        return {"matthews_correlation": numpy.mean(scores) if average else scores}
