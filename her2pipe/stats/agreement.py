"""Agreement of predicted with true classes: confusion, F1, kappa (scikit-learn's)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from her2pipe.stats.base import (
    StatisticUndefined,
    paired_columns,
    require_count,
    require_labels,
)

Weights = Literal["quadratic", "none"]


def confusion(truth: ArrayLike, predicted: ArrayLike, labels: Sequence) -> np.ndarray:
    """Count items by truth (row) and prediction (column), (k, k) int, in the order of labels."""
    truth, predicted = paired_columns(truth, predicted)
    require_labels(truth, labels)
    require_labels(predicted, labels)
    if not len(truth):  # scikit-learn refuses it
        return np.zeros((len(labels), len(labels)), int)
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(truth, predicted, labels=list(labels))


def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean sensitivity over the true classes that occur."""
    truth, predicted = paired_columns(truth, predicted)
    require_count(len(truth), "item", least=1)
    from sklearn.metrics import recall_score

    # balanced_accuracy_score is this, and warns of predicted classes that no item has
    return float(recall_score(truth, predicted, labels=np.unique(truth), average="macro"))


def f1(truth: ArrayLike, predicted: ArrayLike, positive: Hashable | None = None) -> float:
    """Return the F1 of class `positive`, or without it the mean over all classes (macro).

    Raises
    ------
    StatisticUndefined
        No item is, or is predicted, of the class.
    """
    truth, predicted = paired_columns(truth, predicted)
    from sklearn.metrics import f1_score

    if positive is None:
        require_count(len(truth), "item of the class", least=1)
        return float(f1_score(truth, predicted, average="macro"))
    of_class = np.array([truth == positive, predicted == positive])
    require_count(int(of_class.sum()), "item of the class", least=1)
    return float(f1_score(*of_class))


def kappa(
    truth: ArrayLike, predicted: ArrayLike, labels: Sequence, weights: Weights = "none"
) -> float:
    """Return Cohen's kappa; with quadratic weights labels are in their order.

    Raises
    ------
    StatisticUndefined
        No items, or all of one class that is always predicted.

    References
    ----------
    Cohen 1960, doi 10.1177/001316446002000104; weighted: Cohen 1968, doi 10.1037/h0026256.
    """
    truth, predicted = paired_columns(truth, predicted)
    require_labels(truth, labels)
    require_labels(predicted, labels)
    require_count(len(truth), "item", least=1)
    if len(np.union1d(truth, predicted)) == 1:
        classes = "levels" if weights == "quadratic" else "classes"
        raise StatisticUndefined(f"needs two {classes}: every item is, and is called, the same one")
    from sklearn.metrics import cohen_kappa_score

    return float(
        cohen_kappa_score(
            truth,
            predicted,
            labels=list(labels),
            weights=None if weights == "none" else weights,
        )
    )


def quadratic_kappa(truth: ArrayLike, predicted: ArrayLike, labels: Sequence) -> float:
    """Return Cohen's kappa with quadratic weights (1968, doi 10.1037/h0026256); labels ordered."""
    return kappa(truth, predicted, labels, "quadratic")
