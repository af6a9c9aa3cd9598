"""What a drawn figure says."""

from matplotlib.text import Text

ODD_NAME = "_a_$b$ <script>alert(1)</script> & 5 % \\alpha {x}"


def texts(figure):
    """Every text of a drawn figure that is not empty."""
    figure.canvas.draw()
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def words(figure):
    return "\n".join(text.get_text() for text in texts(figure))
