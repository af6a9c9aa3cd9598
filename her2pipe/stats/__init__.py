"""Statistics of scores: pure functions of arrays.

scipy, scikit-learn, statsmodels and scikit-posthocs compute what they have; they are slow to import
and wait inside the functions that need them. What a cohort is too small or too uniform for raises
`StatisticUndefined`, whose text a report prints in place of the number.
"""

from her2pipe.stats.agreement import balanced_accuracy, confusion, f1, kappa, quadratic_kappa
from her2pipe.stats.base import StatisticUndefined
from her2pipe.stats.calibration import (
    Calibration,
    CalibrationLine,
    Drift,
    Platt,
    calibration,
    calibration_intervals,
    calibration_line,
    drift,
    platt,
)
from her2pipe.stats.cross_validation import CorrectedT, corrected_resampled_t
from her2pipe.stats.decision import DecisionCurve, decision_curve
from her2pipe.stats.heterogeneity import Heterogeneity, heterogeneity
from her2pipe.stats.precision_recall import AveragePrecision, average_precision, precision_recall
from her2pipe.stats.proportions import (
    LikelihoodRatio,
    McNemar,
    Proportion,
    accuracy,
    clustered_share,
    likelihood_ratios,
    mcnemar,
    sensitivity,
    specificity,
    wilson,
)
from her2pipe.stats.ranks import (
    Correlation,
    Distance,
    Kruskal,
    RankSum,
    dunn,
    holm,
    kolmogorov_smirnov,
    kruskal,
    mann_whitney,
    spearman,
)
from her2pipe.stats.resampling import (
    Bootstrap,
    Contrast,
    bootstrap_auc,
    bootstrap_kappa,
    bootstrap_macro_auc,
    contrast,
    macro_draws,
    share_draws,
)
from her2pipe.stats.roc import (
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
from her2pipe.stats.small import too_few

__all__ = [
    "AUC",
    "AveragePrecision",
    "Bootstrap",
    "Calibration",
    "CalibrationLine",
    "Contrast",
    "CorrectedT",
    "Correlation",
    "DecisionCurve",
    "Difference",
    "Distance",
    "Drift",
    "Heterogeneity",
    "Kruskal",
    "LikelihoodRatio",
    "McNemar",
    "Platt",
    "Proportion",
    "RankSum",
    "StatisticUndefined",
    "accuracy",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "bootstrap_auc",
    "bootstrap_kappa",
    "bootstrap_macro_auc",
    "calibration",
    "calibration_intervals",
    "calibration_line",
    "class_aucs",
    "clustered_auc",
    "clustered_share",
    "confusion",
    "contrast",
    "corrected_resampled_t",
    "decision_curve",
    "delong",
    "drift",
    "dunn",
    "f1",
    "heterogeneity",
    "holm",
    "kappa",
    "kolmogorov_smirnov",
    "kruskal",
    "likelihood_ratios",
    "macro_auc",
    "macro_draws",
    "mann_whitney",
    "mcnemar",
    "platt",
    "precision_recall",
    "quadratic_kappa",
    "roc",
    "sensitivity",
    "share_draws",
    "spearman",
    "specificity",
    "thinned",
    "too_few",
    "wilson",
    "youden",
]
