"""Calls that score predictions, and values without what only copies them."""

from __future__ import annotations

import re

from labgate.flow.values import External, Value

SCORES = re.compile(
    r"^sklearn\.metrics\.(_classification\.)?(confusion_matrix|accuracy_score|f1_score|precision_score|recall_score"
    r"|matthews_corrcoef|classification_report|balanced_accuracy_score|cohen_kappa_score|mean_squared_error"
    r"|mean_absolute_error|r2_score|ConfusionMatrixDisplay\.from_predictions)$"
)
SAME = frozenset(
    [
        "copy",
        "deepcopy",
        "list",
        "tuple",
        "array",
        "asarray",
        "astype",
        "tolist",
        "clone",
        "detach",
        "cpu",
        "numpy",
    ]
)
"""Calls that give the same values again."""


def root(value: Value) -> Value:
    """A value without the calls that only copy it."""
    while isinstance(value, External) and value.path.endswith("()"):
        name = value.path.removesuffix("()").rpartition(".")[2]
        if name not in SAME or value.call is None:
            break
        inner = value.base
        if value.call.args and (inner is None or (isinstance(inner, External) and "(" not in inner.path)):
            inner = value.call.args[0]
        if inner is None:
            break
        value = inner
    return value
