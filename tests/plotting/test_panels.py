"""Panels side by side: the right curves in the right look, and texts that can be read."""

import numpy as np
import pytest
from figure_text import ODD_NAME, roc_curve, texts, words
from matplotlib.colors import to_hex

from her2pipe import stats
from her2pipe.config import FigureSettings
from her2pipe.plotting import charts, panels, style
from her2pipe.plotting.flow import FlowBox, flow

pytestmark = pytest.mark.pictures


def curves(cohorts, seed=0):
    random, by_cohort = np.random.default_rng(seed), {}
    for name in cohorts:
        y = np.arange(40) % 2
        score = random.normal(size=40) + y
        by_cohort[name] = roc_curve(y, score)
    return by_cohort


def reliable(seed=0, n=60):
    p = np.random.default_rng(seed).uniform(size=n)
    y = np.random.default_rng(seed + 1).uniform(size=n) < p
    calibration = stats.calibration(y, p)._asdict()
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in calibration.items()}


KINDS = ("eight", "five", "one", "reliability", "two", "shifts")


def drawn(kind, name="A"):
    many = {f"{name}{i}": curves("ABCD", i) for i in range(8)}
    shifted = {c: {"HER2-negative": [0, 0.1], "HER2-positive": [0.5]} for c in (name, *"BCDEF")}
    return {
        "eight": lambda: panels.roc_panels(many),
        "five": lambda: panels.roc_panels({k: many[k] for k in list(many)[:5]}),
        "one": lambda: panels.roc_panels({name: curves([name, "B", "C", "D"])}),
        "reliability": lambda: charts.reliability({"as_it_is": reliable()}, title=name),
        "two": lambda: charts.reliability({"as_it_is": reliable(), name: reliable(4)}),
        "shifts": lambda: charts.score_shift(shifted, name),
    }[kind]()


@pytest.fixture(scope="module")
def figures():
    return {kind: drawn(kind) for kind in KINDS}


@pytest.mark.slow
def test_texts_can_be_read_and_stay_inside(figures):
    for kind, figure in {**figures, **{f"{k}_": drawn(k, "x" * 9) for k in KINDS}}.items():
        assert min(text.get_fontsize() for text in texts(figure)) >= 6, kind
        box = figure.get_tightbbox()  # inches
        assert box.x0 >= 0, kind
        assert box.y0 >= 0, kind
        assert (box.max <= figure.get_size_inches() + 0.01).all(), kind


@pytest.mark.slow
def test_nothing_stands_on_a_legend(figures):
    """The label of the x axis and the legend of the last row do not overlap."""
    for kind in ("eight", "five", "one"):
        figure = figures[kind]
        (label,) = [text for text in texts(figure) if text.get_text() == "1 - specificity"]
        renderer = figure.canvas.get_renderer()
        for axes in figure.axes:
            if axes.get_legend():
                legend = axes.get_legend().get_window_extent(renderer)
                assert not legend.overlaps(label.get_window_extent(renderer)), kind


@pytest.mark.slow
def test_saved_figures_are_the_same_bytes_and_show_names_as_they_are(tmp_path):
    for kind in KINDS:
        paths = style.save(drawn(kind), tmp_path / kind)
        for path, same in zip(paths, style.save(drawn(kind), tmp_path / "x"), strict=True):
            assert path.read_bytes() == same.read_bytes(), path.name
    for kind in ("one", "two", "shifts"):
        shown = texts(drawn(kind, ODD_NAME))
        lines = [text.get_text() for text in shown]
        assert ODD_NAME in "\n".join(lines).replace("\n", " "), kind
        assert not [text for text in shown if text.get_parse_math()], kind


def test_a_cohort_looks_the_same_in_every_panel():
    methods = {"TL-PA": curves("ABC"), "TL-CLAM": curves("CA", 5)}
    figure = panels.roc_panels(methods)
    looks = {}
    for axes, (method, by_cohort) in zip(figure.axes, methods.items(), strict=True):
        assert axes.get_title("left") == method
        for line, (cohort, curve) in zip(axes.lines[1:], by_cohort.items(), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), curve.tpr)
            looks.setdefault(cohort, set()).add((to_hex(line.get_color()), line.get_linestyle()))
    assert all(len(each) == 1 for each in looks.values())
    assert len(set.union(*looks.values())) == 3
    c = methods["TL-PA"]["B"]
    assert f"B: {c.auc:.2f} ({c.low:.2f} to {c.high:.2f}), {c.n}" in words(figure)


def test_reliability_draws_observed_over_predicted():
    calibration = reliable()
    figure = charts.reliability({"as_it_is": calibration})
    line = figure.axes[0].containers[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), calibration["predicted"])
    np.testing.assert_allclose(line.get_ydata(), calibration["observed"])
    assert (
        f"score as it is: Brier {calibration['brier']:.3f}, ECE {calibration['ece']:.3f}, n = 60"
        in words(figure)
    )


def test_shifts_draw_median_and_quartiles_of_each_status():
    scores = {"A": {"HER2-negative": [0, 0.2, 0.4], "HER2-positive": [0.6]}, "B": {}}
    figure = charts.score_shift(scores)
    axes = figure.axes[0]
    assert sorted(axes.collections[0].get_offsets()[:, 1]) == pytest.approx([0, 0.2, 0.4])
    quartiles, median = axes.lines[:2]
    assert list(quartiles.get_ydata()) == pytest.approx([0.1, 0.3])
    assert set(median.get_ydata()) == {0.2}
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["A\n3 + 1", "B\n0 + 0"]


@pytest.mark.slow
def test_the_flow_holds_every_line_inside_and_is_the_same_each_time(tmp_path):
    """Five cohorts stand in two rows; a long reason is broken, never cut or spilt."""
    reason = "12 unreadable: the file ends before its last tile"
    boxes = [FlowBox(["Cohort A", "Assessed: 40 slides"]), FlowBox(["Excluded: 12", reason], True)]
    figure = flow([boxes] * 5)
    drawn = " ".join(words(figure).split())
    assert drawn.count("Cohort A") == drawn.count(reason) == 5
    figure.canvas.draw()
    width, height = figure.bbox.size
    for text in texts(figure):
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
    for name in ("a", "b"):
        style.save(flow([boxes]), tmp_path / name, ("svg", "pdf"))
    for kind in ("svg", "pdf"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_a_study_may_ask_for_figures_as_pdf(tmp_path):
    assert style.formats_of(FigureSettings()) == ("png", "svg")
    formats = style.formats_of(FigureSettings(figure_pdf=True))
    paths = style.save(flow([[FlowBox(["Cohort A"])]]), tmp_path / "flow", formats)
    assert [path.suffix for path in paths] == [".png", ".svg", ".pdf"]
    assert paths[2].read_bytes().startswith(b"%PDF")


def test_bins_of_few_slides_are_points_with_their_size():
    """No bar where an interval is None; below the curve each bin has its number of slides."""
    view = {"predicted": [0.1, 0.9], "observed": [0.0, 1.0], "low": [None, 0.6]}
    view |= {"high": [None, 1.0], "n": [2, 9], "brier": 0.1, "ece": 0.1}
    figure = charts.reliability({"as_it_is": view})
    curve, histogram = figure.axes
    (bars,) = curve.containers[0].lines[2]
    assert [float(np.ptp(line[:, 1])) for line in bars.get_segments()] == pytest.approx([0, 0.4])
    assert [patch.get_height() for patch in histogram.patches] == [2, 9]
    assert {"2", "9"} <= set(words(figure).split("\n"))
    assert "bars: 95 % confidence interval (Wilson)" in words(figure)
    none = words(charts.reliability({"as_it_is": view | {"low": [None] * 2, "high": [None] * 2}}))
    assert "bins have too few slides for intervals" in none
    assert "confidence interval" not in none


def test_panels_have_letters_and_a_single_one_has_none():
    for count, letters in ((5, "abcde"), (1, "")):
        figure = panels.roc_panels({f"M{i}": curves("AB", i) for i in range(count)})
        bold = [text.get_text() for text in texts(figure) if text.get_weight() == "bold"]
        assert "".join(bold) == letters
