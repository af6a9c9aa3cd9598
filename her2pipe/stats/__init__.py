"""Statistics of scores: pure functions of arrays.

numpy does the arithmetic; pandas and scipy, slow to import, wait inside the functions that need
them. What a cohort is too small or too uniform for raises `StatisticUndefined`, whose text a report
prints in place of the number.
"""

from her2pipe.stats.base import StatisticUndefined, midranks
from her2pipe.stats.cohorts import (
    Bootstrap,
    Calibration,
    Drift,
    Platt,
    bootstrap,
    bootstrap_auc,
    calibration,
    drift,
    platt,
)
from her2pipe.stats.curves import (
    AUC,
    Difference,
    auc,
    class_aucs,
    clustered_auc,
    delong,
    macro_auc,
    roc,
    thinned,
    youden,
)
from her2pipe.stats.decisions import (
    Proportion,
    accuracy,
    balanced_accuracy,
    clustered_share,
    confusion,
    f1,
    quadratic_kappa,
    sensitivity,
    specificity,
    wilson,
)
from her2pipe.stats.ranks import (
    Correlation,
    Kruskal,
    RankSum,
    dunn,
    dunn_matrix,
    holm,
    kolmogorov_smirnov,
    kruskal,
    mann_whitney,
    spearman,
)

__all__ = [
    "AUC",
    "Bootstrap",
    "Calibration",
    "Correlation",
    "Difference",
    "Drift",
    "Kruskal",
    "Platt",
    "Proportion",
    "RankSum",
    "StatisticUndefined",
    "accuracy",
    "auc",
    "balanced_accuracy",
    "bootstrap",
    "bootstrap_auc",
    "calibration",
    "class_aucs",
    "clustered_auc",
    "clustered_share",
    "confusion",
    "delong",
    "drift",
    "dunn",
    "dunn_matrix",
    "f1",
    "holm",
    "kolmogorov_smirnov",
    "kruskal",
    "macro_auc",
    "mann_whitney",
    "midranks",
    "platt",
    "quadratic_kappa",
    "roc",
    "sensitivity",
    "spearman",
    "specificity",
    "thinned",
    "wilson",
    "youden",
]
