"""Harmonic mean of precision and recall, of `pos_label` or averaged over labels."""

import datasets
import evaluate
from sklearn.metrics import f1_score


class F1(evaluate.Metric):
    def _info(self):
        kind = datasets.Value("int32")
        if self.config_name == "multilabel":
            kind = datasets.Sequence(kind)
        return evaluate.MetricInfo(
            description="F1, of labgate's own writing",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(
        self, predictions, references, labels=None, pos_label=1, average="binary", sample_weight=None
    ):
        score = f1_score(
            references,
            predictions,
            labels=labels,
            pos_label=pos_label,
            average=average,
            sample_weight=sample_weight,
        )
        return {"f1": score if getattr(score, "size", 1) > 1 else float(score)}
