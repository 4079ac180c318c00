"""Chance that a positive is scored above a negative."""

import datasets
import evaluate
from sklearn.metrics import roc_auc_score


class ROCAUC(evaluate.Metric):
    def _info(self):
        score, label = datasets.Value("float"), datasets.Value("int32")
        if self.config_name in ("multiclass", "multilabel"):
            score = datasets.Sequence(score)
        if self.config_name == "multilabel":
            label = datasets.Sequence(label)
        return evaluate.MetricInfo(
            description="Area under the ROC curve, of labgate's own writing",
            citation="",
            inputs_description="",
            features=datasets.Features({"prediction_scores": score, "references": label}),
        )

    def _compute(
        self,
        references,
        prediction_scores,
        average="macro",
        sample_weight=None,
        max_fpr=None,
        multi_class="raise",
        labels=None,
    ):
        area = roc_auc_score(
            references,
            prediction_scores,
            average=average,
            sample_weight=sample_weight,
            max_fpr=max_fpr,
            multi_class=multi_class,
            labels=labels,
        )
        return {"roc_auc": area}
