"""Share of the references' variance that predictions explain, to three places."""

import datasets
import evaluate
import numpy


class RSquared(evaluate.Metric):
    def _info(self):
        kind = datasets.Value("float")
        if self.config_name == "multilist":
            kind = datasets.Sequence(kind)
        return evaluate.MetricInfo(
            description="Coefficient of determination, of labgate's own writing",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(self, predictions=None, references=None):
        said, true = numpy.array(predictions), numpy.array(references)
        left, whole = ((true - said) ** 2).sum(), ((true - true.mean()) ** 2).sum()
        return round(1 - left / whole, 3)
