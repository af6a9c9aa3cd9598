"""Figures say what the numbers say: lines, cells, texts and bytes."""

import re
import subprocess
import sys

import numpy as np
import pytest
from figure_text import ODD_NAME, roc_curve, texts, words
from matplotlib.cbook import boxplot_stats
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.lines import Line2D

from her2pipe import stats
from her2pipe.plotting import charts, overlays, style
from her2pipe.plotting.patch_map import PatchMap

pytestmark = pytest.mark.pictures

LEVELS = ["0", "1+", "2+/FISH-", "2+/FISH+", "3+"]
CLASSES = ["HER2-", "HER2+", "Non-tumour"]


@pytest.fixture(scope="module")
def scores():
    random = np.random.default_rng(0)
    y = np.arange(40) % 2
    return y, np.round(random.normal(size=40) + y, 1)


@pytest.fixture(scope="module")
def groups():
    random = np.random.default_rng(1)
    return {level: random.uniform(0, 0.3 + i / 20, 6 + i) for i, level in enumerate(LEVELS)}


def small_overlay(opacity=1.0, **changes):
    """A slide of 3 x 2 tiles of 100 px with three patches on it, of the three classes."""
    values = {
        "slide": "S",
        "width_px0": 300,
        "height_px0": 200,
        "coords": np.array([[0, 0], [200, 0], [100, 100]]),
        "side_px0": 100,
        "values": [0.1, 0.9, 0.5],
        "label": "p(HER2+)",
        "classes": CLASSES,
        "probabilities": np.eye(3),
    }
    return overlays.overlay(
        np.full((20, 30, 3), 200, np.uint8), PatchMap(**(values | changes)), opacity
    )


def precision_recall_curve(y, score):
    recall, precision = stats.precision_recall(y, score)
    area = stats.average_precision(y, score)
    return charts.PrecisionRecallCurve(recall, precision, area.value, None, None, 0.5, len(y))


def decision_curve(y):
    curve = stats.decision_curve(y, np.linspace(0, 1, len(y)))
    return curve.threshold, curve.net_benefit, curve.treat_all


def every_figure(scores, groups, name="A"):
    y, score = scores
    image = np.zeros((8, 8, 3), np.uint8)
    row = {"method": name, "cohort": name, "n": 40, "auc": 0.7, "low": 0.6, "high": 0.8}
    matrix = np.arange(25).reshape(5, 5)
    return {
        "roc": charts.roc({name: roc_curve(y, score)}, name),
        "precision_recall": charts.precision_recall({name: precision_recall_curve(y, score)}),
        "decision": charts.decision(*decision_curve(y), len(y), name),
        "boxes": charts.boxes({name: score, **groups}, title=name, note=name),
        "dunn": charts.p_value_matrix(stats.dunn({name: score, **groups}), name),
        "confusion": charts.confusion(matrix, [*LEVELS[:4], name], name),
        "history": charts.learning_curves([{"epoch": 1, "train_loss": 1.0}], name),
        "forest": charts.forest([row], name),
        "overlay": small_overlay(slide=name, classes=["-", "+", name]),
        "patches": overlays.patches([image] * 2, [name, name], columns=2),
    }


@pytest.fixture(scope="module")
def figures(scores, groups):
    return every_figure(scores, groups)


# --- all figures


@pytest.mark.slow
def test_saved_files_are_whole_and_always_the_same_bytes(tmp_path, figures, scores, groups):
    again = every_figure(scores, groups)
    for kind, figure in figures.items():
        paths = style.save(figure, tmp_path / f"{kind}.v1")
        assert [path.name for path in paths] == [f"{kind}.v1.png", f"{kind}.v1.svg"]
        assert paths[0].read_bytes().startswith(b"\x89PNG")
        assert paths[1].read_bytes().rstrip().endswith(b"</svg>")
        for path, same in zip(paths, style.save(again[kind], tmp_path / "again"), strict=True):
            assert path.read_bytes() == same.read_bytes(), path.name
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_precision_recall_curve_shows_its_baseline(scores):
    y, score = scores
    curve = precision_recall_curve(y, score)
    figure = charts.precision_recall({"A": curve}, items="tiles")
    baseline, line = figure.axes[0].lines
    assert set(baseline.get_ydata()) == {0.5}
    np.testing.assert_array_equal(line.get_ydata(), curve.precision)
    assert line.get_drawstyle() == "steps-post"
    legend = figure.legends[0]
    assert legend.get_texts()[0].get_text().startswith(f"A: {curve.area:.2f}, baseline 0.50")
    assert legend.get_title().get_text().endswith("n tiles")


def test_a_decision_curve_has_both_references(scores):
    threshold, benefit, treat_all = decision_curve(scores[0])
    lines = charts.decision(threshold, benefit, treat_all, 40).axes[0].lines
    for line, values in zip(lines, (benefit, treat_all, np.zeros(99)), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), values)


def test_a_figure_drawn_twice_is_the_same(tmp_path, groups):
    first, second = (style.save(charts.boxes(groups), tmp_path / stem) for stem in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_formats_come_out_alike_in_any_order(tmp_path, scores):
    """The canvases of other formats take a figure over, and leave it at 72 dots per inch."""
    names = ("png", "svg", "pdf")
    for figure in (charts.roc({"A": roc_curve(*scores)}), charts.confusion([[3, 1], [0, 2]], "AB")):
        for stem, formats in (("ours", names), ("turned", names[::-1]), ("again", names)):
            style.save(figure, tmp_path / stem, formats)
        for kind in names:
            ours = (tmp_path / f"ours.{kind}").read_bytes()
            assert (tmp_path / f"turned.{kind}").read_bytes() == ours, kind
            assert (tmp_path / f"again.{kind}").read_bytes() == ours, kind


def test_a_failed_save_leaves_the_old_file(tmp_path, scores, monkeypatch):
    figure = charts.roc({"A": roc_curve(*scores)})
    style.save(figure, tmp_path / "roc")
    before = (tmp_path / "roc.png").read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(style.FigureCanvasAgg, "draw", fail)
    with pytest.raises(OSError, match="disk full"):
        style.save(figure, tmp_path / "roc")
    assert (tmp_path / "roc.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["roc.png", "roc.svg"]


def test_png_has_200_dots_per_inch_of_a_column_and_the_pixels_of_matplotlib(tmp_path, scores):
    from PIL import Image

    figure = charts.roc({"A": roc_curve(*scores)})
    path, _ = style.save(figure, tmp_path / "roc")
    with style.style.context(style.STYLE):
        figure.savefig(tmp_path / "other.png", dpi=200)
    with Image.open(path) as image, Image.open(tmp_path / "other.png") as other:
        assert image.width == round(85 / 25.4 * 200)
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.01)
        assert image.info["dpi"] == other.info["dpi"]
        np.testing.assert_array_equal(image, other.convert("RGB"))


@pytest.mark.slow
def test_names_show_as_they_are_written(tmp_path, scores, groups):
    for kind, figure in every_figure(scores, groups, ODD_NAME).items():
        drawn = texts(figure)
        joined = re.sub(r"\s", "", "".join(text.get_text() for text in drawn))
        assert re.sub(r"\s", "", ODD_NAME) in joined, kind
        assert not [text.get_text() for text in drawn if text.get_parse_math()], kind
        if kind in ("roc", "patches"):  # every file would take long
            _, svg = style.save(figure, tmp_path / kind)
            assert "<script" not in re.sub(r"<!--.*?-->", "", svg.read_text(), flags=re.DOTALL)


def test_no_text_is_smaller_than_6_pt(figures):
    for kind, figure in figures.items():
        assert min(text.get_fontsize() for text in texts(figure)) >= 6, kind


def test_no_text_leaves_the_figure(figures, scores):
    curve = roc_curve(*scores)
    long = charts.roc({"TL-SlideGraph+ in the external cohort of Yale": curve, "B": curve})
    for kind, figure in {**figures, "long": long}.items():
        figure.canvas.draw()
        box = figure.get_tightbbox()  # inches
        assert box.x0 >= 0, kind
        assert box.y0 >= 0, kind
        assert (box.max <= figure.get_size_inches() + 0.01).all(), kind


def test_global_state_is_left_alone():
    code = """if True:
        import sys, matplotlib
        before = str(matplotlib.rcParams.copy())
        from her2pipe.plotting import overlays, charts, style
        charts.boxes({"0": [1, 2, 3]})
        assert str(matplotlib.rcParams.copy()) == before
        assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


# --- each figure


def test_roc_draws_the_curve_and_states_auc_and_n(scores):
    y, score = scores
    other = charts.RocCurve([0, 0.5, 1], [0, 0.75, 1], 0.625, 0.5, 0.75, 1234)
    figure = charts.roc({"A": roc_curve(y, score), "B": other})
    _, a, b = figure.axes[0].lines
    fpr, tpr, _ = stats.roc(y, score)
    np.testing.assert_array_equal(a.get_xdata(), fpr)
    np.testing.assert_array_equal(a.get_ydata(), tpr)
    assert list(b.get_ydata()) == [0, 0.75, 1]
    area = stats.auc(y, score)
    assert f"A: {area.value:.2f} ({area.low:.2f} to {area.high:.2f}), n = 40" in words(figure)
    assert "B: 0.62 (0.50 to 0.75), n = 1,234" in words(figure)
    assert figure.axes[0].get_xlabel() == "1 - specificity"
    assert a.get_color() != b.get_color()
    assert a.get_linestyle() != b.get_linestyle()


def test_roc_of_many_patches_is_a_small_file(tmp_path):
    random = np.random.default_rng(2)
    y = random.uniform(size=20_000) < 0.3
    figure = charts.roc({"A": roc_curve(y, random.normal(size=20_000) + y)}, items="patches")
    assert len(figure.axes[0].lines[1].get_xdata()) > 5_000
    _, svg = style.save(figure, tmp_path / "roc")
    assert svg.stat().st_size < 200_000


def assert_box(lines, values):
    """Box, two whiskers and median lie where matplotlib's own box plot has them."""
    (expected,) = boxplot_stats(values)
    box, low, high, median = (line.get_ydata() for line in lines)
    assert (min(box), max(box)) == pytest.approx((expected["q1"], expected["q3"]))
    assert (low[0], high[0]) == pytest.approx((expected["whislo"], expected["whishi"]))
    assert median[0] == pytest.approx(expected["med"])


@pytest.mark.parametrize("values", [[0, 1, 2, 3, 9], [0, 0, 0, 5], [4], [-9, 1, 1.2, 2, 7, 7]])
def test_box_whiskers_and_median(values):
    assert_box(charts.boxes({"0": values}).axes[0].lines, values)


def test_boxes_draw_every_value_in_the_given_order(groups):
    rho = stats.spearman(np.repeat(range(5), range(6, 11)), np.concatenate(list(groups.values())))
    note = style.format_spearman(rho, 40)
    figure = charts.boxes({**groups, "empty": []}, note=note)
    axes = figure.axes[0]
    for i, (dots, values) in enumerate(zip(axes.collections, groups.values(), strict=True)):
        x, y = np.asarray(dots.get_offsets()).T
        assert sorted(y) == pytest.approx(sorted(values))
        assert np.abs(x - i).max() <= 0.25
    assert_box(axes.lines[:4], next(iter(groups.values())))
    medians = [line for line in axes.lines if line.get_color() == style.VERMILLION]
    assert [m.get_ydata()[0] for m in medians] == pytest.approx(
        [np.median(values) for values in groups.values()]
    )
    labels = [tick.get_text() for tick in axes.get_xticklabels()]
    assert labels[2] == "2+/FISH-\nn = 8"
    assert labels[-1] == "empty\nn = 0"
    assert f"ρ = {rho.rho:.2f}" in words(figure)
    assert "n = 40" in words(figure)
    assert axes.get_ylabel() == "HER2 score"
    with pytest.raises(ValueError, match="1 of 2 values are not finite"):
        charts.boxes({"0": [1, float("nan")]})


def test_p_text():
    assert [style.format_p(p) for p in (0, 0.00099, 0.001, 0.0123, 0.456, 1)] == [
        "P < 0.001",
        "P < 0.001",
        "P = 0.001",
        "P = 0.012",
        "P = 0.46",
        "P = 1.00",
    ]


def test_dunn_writes_each_p_in_its_cell(groups):
    table = stats.dunn(groups)
    table.iloc[0, 4] = table.iloc[4, 0] = 0.0  # P can underflow
    table.iloc[2, 3] = table.iloc[3, 2] = 0.0204
    figure = charts.p_value_matrix(table, "C", "HER2 level", n=[6, 7, 8, 9, 10])
    axes = figure.axes[0]
    cells = {text.get_position(): text.get_text().split("\n") for text in axes.texts}
    assert cells[(4.5, 0.5)] == ["< 0.001", "***"]  # (column, row)
    assert cells[(3.5, 2.5)] == cells[(2.5, 3.5)] == ["0.020", "*"]
    assert cells[(1.5, 1.5)] == [""]
    for (column, row), (_, *mark) in cells.items():
        p = table.iloc[int(row), int(column)]
        expected = "***" if p < 0.001 else "**" if p < 0.01 else "*" if p < 0.05 else ""
        assert mark == ([] if row == column else [expected])
    mesh = axes.collections[0]
    values = mesh.get_array()
    assert values[2, 3] == 0.0204
    assert values.mask.diagonal().all()
    assert mesh.norm(0.0) == 0
    assert [tick.get_text() for tick in axes.get_xticklabels()] == LEVELS
    assert [tick.get_text() for tick in axes.get_yticklabels()][3] == "2+/FISH+\nn = 9"
    assert axes.yaxis_inverted()  # first group on top
    assert table.iloc[0, 0] == 1  # the table is not changed
    assert "P, Dunn's test\n" in words(figure) + "\n"
    assert "P, Dunn's test, Holm" in words(charts.p_value_matrix(table, adjusted="Holm"))


def test_dunn_shows_both_tables(groups):
    """Unadjusted P below the diagonal, adjusted above."""
    plain, holm = stats.dunn(groups), stats.dunn(groups, "holm")
    figure = charts.p_value_matrix(plain, adjusted=holm)
    values = figure.axes[0].collections[0].get_array()
    assert values[3, 0] == plain.iloc[3, 0]
    assert values[0, 3] == holm.iloc[0, 3] > plain.iloc[0, 3]
    assert "Below the diagonal unadjusted, above Holm" in words(figure)


def test_confusion_writes_counts_and_shares():
    figure = charts.confusion([[3, 1], [0, 0]], ["HER2-", "HER2+"])
    axes = figure.axes[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {
        (0.5, 0.5): "3\n75 %",
        (1.5, 0.5): "1\n25 %",
        (0.5, 1.5): "0",
        (1.5, 1.5): "0",
    }
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["HER2-\nn = 4", "HER2+\nn = 0"]
    assert "n = 4)" in axes.get_xlabel()


def test_history_draws_what_there_is():
    rows = [
        {"epoch": 1, "train_loss": 1.2, "validation_loss": float("nan"), "train_accuracy": "0.4"},
        {"epoch": 2, "train_loss": 0.9, "validation_loss": 1.1, "train_accuracy": ""},
        {"epoch": "3", "train_loss": 0.7, "validation_loss": 1.0, "train_accuracy": 0.6},
    ]
    loss, accuracy = charts.learning_curves(rows).axes
    train, validation = loss.lines
    assert list(train.get_ydata()) == [1.2, 0.9, 0.7]
    assert list(validation.get_xdata()) == [2, 3]
    assert [list(line.get_xdata()) for line in accuracy.lines] == [[1, 3]]
    assert loss.get_ylabel() == "loss (nats)"


def test_forest_draws_each_interval_and_its_n():
    rows = [
        {"method": "TL-PA", "cohort": "B", "n": 191, "auc": 0.75, "low": 0.68, "high": 0.82},
        {"method": "TL-PA", "cohort": "C", "n": 74, "auc": None, "low": None, "high": None},
        {"method": "Rawat", "cohort": "B", "n": 191, "auc": 0.31, "low": 0.22, "high": 0.4},
    ]
    figure = charts.forest(rows)
    axes = figure.axes[0]
    drawn = [line for line in axes.lines if line.get_markevery() == [1]]
    assert [list(line.get_xdata()) for line in drawn[::2]] == [
        [0.68, 0.75, 0.82],
        [0.22, 0.31, 0.4],
    ]
    assert drawn[0].get_color() == drawn[2].get_color()  # a cohort keeps its colour
    assert [text.get_text() for text in axes.texts] == [
        "B  0.75 (0.68 to 0.82), n = 191",
        "C  not defined, n = 74",
        "B  0.31 (0.22 to 0.40), n = 191",
    ]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["TL-PA", "Rawat"]
    assert axes.get_xlim() == (0.2, 1)


# --- slides


def pictures(figure):
    return [artist for artist in figure.artists if isinstance(artist, overlays.Picture)]


def colour_at(picture, x_px0, y_px0):
    """Colour of a picture of the small slide at a level-0 point, R, G and B of 0 to 255."""
    height, width = picture.pixels.shape[:2]
    return picture.pixels[int(y_px0 / 200 * height), int(x_px0 / 300 * width)].astype(int)


def viridis(value):
    from matplotlib import colormaps

    return 255 * np.array(colormaps["viridis"](value)[:3])


def test_overlay_paints_the_right_cells():
    slide, probability, classes = pictures(small_overlay())
    assert (slide.pixels == 200).all()
    for x, y, p, number in [(50, 50, 0.1, 0), (250, 50, 0.9, 1), (150, 150, 0.5, 2)]:
        assert colour_at(probability, x, y) == pytest.approx(viridis(p), abs=1)
        expected = 255 * np.array(to_rgb(style.CLASS_COLOURS[number]))
        assert colour_at(classes, x, y) == pytest.approx(expected, abs=1)
    for x, y in [(150, 50), (50, 150), (250, 150)]:  # cells without a patch show the slide
        assert list(colour_at(probability, x, y)) == [227] * 3
        assert list(colour_at(classes, x, y)) == [227] * 3


def test_overlay_mixes_map_and_grey_slide():
    _, probability, _ = pictures(small_overlay(opacity=0.25))
    expected = 0.25 * viridis(0.9) + 0.75 * 227
    assert colour_at(probability, 250, 50) == pytest.approx(expected, abs=1)


def test_overlay_draws_its_pictures_dot_for_dot():
    figure = small_overlay()
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    wide, tall = figure.bbox.size
    for picture in pictures(figure):
        height, width = picture.pixels.shape[:2]
        left, below = picture.place
        left, bottom = round(left * wide), len(drawn) - round(below * tall)
        shown = drawn[bottom - height : bottom, left : left + width]
        np.testing.assert_array_equal(shown, picture.pixels)


def test_overlay_on_a_grid_that_starts_elsewhere():
    _, probability, _ = pictures(
        small_overlay(coords=[[40, 30], [140, 130]], values=[0.2, 0.8], probabilities=np.eye(3)[:2])
    )
    for point in [(42, 33), (90, 80), (138, 127)]:
        assert colour_at(probability, *point) == pytest.approx(viridis(0.2), abs=1)
    for point in [(142, 133), (238, 198)]:
        assert colour_at(probability, *point) == pytest.approx(viridis(0.8), abs=1)
    for point in [(38, 80), (90, 27), (242, 180), (90, 133), (190, 127)]:
        assert list(colour_at(probability, *point)) == [227] * 3
    with pytest.raises(ValueError, match="do not lie on one grid of 100 px"):
        small_overlay(coords=[[0, 0], [130, 0], [100, 100]])


def test_overlay_legend_counts_patches_and_matches_the_map():
    figure = small_overlay(opacity=0.5, probabilities=np.eye(3)[[1, 1, 0]])
    assert "HER2+ (n = 2 patches)" in words(figure)
    assert "Non-tumour (n = 0 patches)" in words(figure)
    (legend,) = figure.legends
    patches = legend.get_patches()
    assert patches[1].get_facecolor() == pytest.approx(to_rgba(style.CLASS_COLOURS[1], 0.5))


def test_overlay_of_what_is_no_probability():
    """Colours between the limits, pointed where values lie beyond; without classes two panels."""
    values = [-4.0, *np.linspace(-2, 6, 199), 9.0]
    coords = [(100 * i, 0) for i in range(len(values))]
    figure = small_overlay(
        classes=(), values=values, coords=coords, label="node score", is_unit_scale=False
    )
    _, painted = pictures(figure)
    low, high = np.percentile(values, [1, 99])
    assert figure.axes[-1].get_xlim() == (low, high)
    assert list(painted.pixels[0, 0]) == pytest.approx(viridis(0.0), abs=1)
    assert figure.get_figwidth() * 25.4 == pytest.approx(style.PAGE_MM * 2 / 3)
    assert words(figure).count("node score") == 2  # over the map and under the colours
    assert "class" not in words(figure)
    assert figure.axes[-1].xaxis.get_ticklabels()


def test_overlay_of_a_slide_without_patches():
    figure = small_overlay(coords=[], values=[], probabilities=np.zeros((0, 3)))
    _, *maps = pictures(figure)
    assert [np.unique(picture.pixels).tolist() for picture in maps] == [[227], [227]]
    assert "HER2- (n = 0 patches)" in words(figure)


@pytest.mark.parametrize(
    ("width_px0", "mpp", "length_px0", "text"),
    [(100_000, 0.25, 20_000, "5 mm"), (3000, 0.5, 400, "200 µm"), (16_000, 0.25, 4000, "1 mm")],
)
def test_scale_bar(width_px0, mpp, length_px0, text):
    figure = small_overlay(width_px0=width_px0, mpp=mpp)
    (bar,) = (artist for artist in figure.artists if isinstance(artist, Line2D))
    slide = pictures(figure)[0]
    left, right = bar.get_xdata()
    assert left == pytest.approx(slide.place[0] * figure.bbox.width)
    length = (right - left) / slide.pixels.shape[1] * width_px0
    assert length == pytest.approx(length_px0)
    assert text in words(figure)
    assert f"width {width_px0:,} px" in words(small_overlay(width_px0=width_px0))


def test_patches_stand_under_their_titles():
    images = [np.full((4, 4, 3), shade, np.uint8) for shade in (10, 20, 30)]
    figure = overlays.patches(images, ["a", "b", "c"], columns=2)
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == ["a", "b", "c"]
    assert [axes.images[0].get_array()[0, 0, 0] for axes in shown] == [10, 20, 30]


def test_fold_curves_draw_each_fold():
    rows = [
        {
            "fold": f,
            "epoch": e,
            "train_loss": 1 / e,
            "validation_loss": f / e,
            "validation_auc": 0.1 * e,
        }
        for f in (1, 2)
        for e in (1, 2, 3)
    ]
    losses, aucs = charts.fold_curves(rows).axes
    drawn = [list(line.get_ydata()) for line in losses.lines]
    assert drawn == [[1, 1 / 2, 1 / 3], [1, 1 / 2, 1 / 3], [1, 1 / 2, 1 / 3], [2, 1, 2 / 3]]
    assert losses.lines[0].get_color() != losses.lines[2].get_color()
    curves = {line.get_label(): list(line.get_ydata()) for line in aucs.lines}
    assert curves["fold 1"] == curves["fold 2"] == [0.1, 0.2, 0.1 * 3]


# --- layout


def test_panels_above_each_other_share_their_abscissa(figures):
    """What is drawn below a curve stands under it, with the ticks and labels of the measuring."""
    view = {"predicted": [0.1, 0.9], "observed": [0.0, 1.0], "low": [0, 0.7], "high": [0.3, 1]}
    view |= {"n": [4, 5], "brier": 0.1, "ece": 0.2}
    figure = charts.reliability({"as_it_is": view})
    upper, lower = (axes.get_position(original=True) for axes in figure.axes)
    assert (upper.x0, upper.x1) == pytest.approx((lower.x0, lower.x1))
    assert upper.width * 85 == pytest.approx(upper.height * figure.get_figheight() * 25.4)
    assert upper.y0 > lower.y1
    for drawn in (figure, figures["confusion"]):
        drawn.canvas.draw()
        renderer = drawn.canvas.get_renderer()
        axes_of_labels = [
            (axis, along)
            for axes in drawn.axes
            for axis, along in ((axes.xaxis, 1), (axes.yaxis, 0))
            if axis.label.get_text()
        ]
        assert axes_of_labels
        for axis, along in axes_of_labels:
            label = axis.label.get_window_extent(renderer)
            for tick in filter(lambda tick: tick.get_text(), axis.get_ticklabels()):
                box = tick.get_window_extent(renderer)
                apart = (label.min[along] - box.max[along], box.min[along] - label.max[along])
                assert max(apart) > 0, tick


def test_the_house_style_is_begun_once():
    from matplotlib import rcParams

    size = rcParams["font.size"]
    with style.house_style():
        inside = rcParams["font.size"]
        with style.house_style():
            pass
        assert rcParams["font.size"] == inside == 7  # the inner one has not ended the outer
    assert rcParams["font.size"] == size
