"""Texts of a drawn figure."""

import numpy as np
from matplotlib.text import Text

from her2pipe import stats
from her2pipe.plotting.charts import RocCurve

ODD_NAME = "_a_$b$ <script>alert(1)</script> & 5 % \\alpha {x}"


def roc_curve(y, score):
    """The ROC curve of scores, with its area and DeLong's interval."""
    area = stats.auc(y, score)
    return RocCurve(*stats.roc(y, score)[:2], area.value, area.low, area.high, len(np.asarray(y)))


def texts(figure):
    """Return every visible text of a figure that is not empty."""
    figure.canvas.draw()
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def words(figure):
    """Return all texts of a figure, one a line."""
    return "\n".join(text.get_text() for text in texts(figure))
