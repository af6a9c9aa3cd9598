"""Slides to zoom into: what the page holds of them, and the page in a browser."""

import json

import browser
import numpy as np
import pytest
import status_study

from her2pipe.cli import main
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.evaluation.results import Evaluation, Metrics
from her2pipe.reporting import heatmaps, slide_viewer
from her2pipe.store import PatchStore
from her2pipe.store.encodings import Encoding, EncodingMetadata

NAMES = ["HER2-", "HER2+", "Non-tumour"]


@pytest.fixture
def store(tmp_path, make):
    """A slide of 640 px with two patches of one colour each, on a grey overview."""
    pixels = np.zeros((2, 64, 64, 3), np.uint8)
    pixels[0], pixels[1] = (200, 30, 90), (20, 90, 200)
    make.store(tmp_path / "S.h5", pixels, [(64, 128), (320, 0)])
    with PatchStore(tmp_path / "S.h5") as opened:
        yield opened


COUNTS = ("true_positive", "false_positive", "true_negative", "false_negative")


def decoded(jpeg):
    import simplejpeg

    return simplejpeg.decode_jpeg(jpeg).astype(int)


def test_patches_lie_where_they_were_cut(store):
    picture = decoded(slide_viewer.picture(store, 320))  # half size
    assert picture.shape == (320, 320, 3)
    for (x, y), colour in (((32, 64), (200, 30, 90)), ((160, 0), (20, 90, 200))):
        inside = picture[y + 4 : y + 28, x + 4 : x + 28].reshape(-1, 3)
        assert np.abs(inside.mean(axis=0) - colour).max() < 4
        assert np.abs(picture[y + 16, x + 44] - 230).max() < 8  # 12 px beside it: the overview


def test_a_picture_is_never_larger_than_the_slide_nor_smaller_than_its_overview(store):
    assert decoded(slide_viewer.picture(store, 4000)).shape[:2] == (640, 640)
    assert slide_viewer.picture(store, 10) == store.overview


def scene(store, **more):
    vars(store.metadata).update(more)
    p = np.array([[0.75, 0.25, 0], [0.25, 0.75, 0]], np.float32)
    patches = slide_viewer.PatchValues.of(encoding(store, p, NAMES), endpoint_of())
    return slide_viewer.scene(store, patches)


def encoding(store, p, names):
    return Encoding(store.coords, p, np.zeros((len(p), 0)), EncodingMetadata(classes=tuple(names)))


def models(value):
    """Every model of a Bokeh document, by name and kind."""
    if isinstance(value, dict):
        if value.get("type") == "object" and "attributes" in value:
            yield value["attributes"].get("name"), value["name"], value["attributes"]
        for inner in value.values():
            yield from models(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from models(inner)


def array(entry):
    import base64
    import gzip

    data = gzip.decompress(base64.b64decode(entry["array"]["data"]))
    return np.frombuffer(data, entry["dtype"])


def test_the_scene_is_in_micrometres(store):
    objects = {
        (name, kind): attributes
        for name, kind, attributes in models(json.loads(scene(store, mpp=0.5)))
    }
    x = objects["x", "Range1d"]
    assert (x["start"], x["end"]) == pytest.approx((-0.02 * 320, 1.02 * 320))
    y = objects["y", "Range1d"]
    assert y["start"] > y["end"]  # downwards, as in an image
    data = dict(objects["patches", "ColumnDataSource"]["data"]["entries"])
    assert array(data["x"]).tolist() == [48, 176]  # (64 + 32) / 2, (320 + 32) / 2
    assert array(data["y"]).tolist() == [80, 16]
    assert array(data["p"]).tolist() == [0.25, 0.75]
    assert array(data["class"]).tolist() == [0, 1]
    assert (None, "ScaleBar") in objects
    without = list(models(json.loads(scene(store, mpp=None))))
    assert "ScaleBar" not in {kind for _, kind, _ in without}
    assert {k: v for n, k, v in without if n == "x"}["Range1d"]["end"] == pytest.approx(1.02 * 640)


def test_a_scene_is_the_same_every_time(store):
    first = scene(store, mpp=0.5)
    other = scene(store, mpp=0.25)  # nothing of it stays in the plots that slides share
    assert first == scene(store, mpp=0.5) != other
    slide_viewer._linked_plots.cache_clear()
    assert other == scene(store, mpp=0.25)


def test_an_encoder_without_classes_still_shows_the_slide(store):
    bare = encoding(store, np.zeros((2, 0), np.float32), [])
    view = slide_viewer.view(store, bare, 320, endpoint_of())
    assert view["legend"] == []
    assert "patches" not in view["scene"]


def test_the_library_stays_within_its_script():
    text = slide_viewer.bundle()
    assert "</script" not in text.lower()
    assert "<!--" not in text
    assert len(text) < 1.5e6


def test_slides_are_chosen_evenly_by_score():
    table = [{"slide": f"S{i}", "score": str(i / 10), "used": "True"} for i in range(9)]
    table += [
        {"slide": "T", "score": "0.99", "used": "False"},
        {"slide": "X", "score": "", "used": ""},
    ]
    names = [row["slide"] for row in table]
    assert [r["slide"] for r in heatmaps.choose_slides(names, table, 3)] == ["S0", "S4", "S8"]
    assert [r["slide"] for r in heatmaps.choose_slides(names, table, 1)] == ["S0"]
    assert heatmaps.choose_slides(["S3", "S1"], table, 5)[0]["slide"] == "S1"
    assert [r["slide"] for r in heatmaps.choose_slides(["T"], table, 2)] == [
        "T"
    ]  # better than none
    assert [r["slide"] for r in heatmaps.choose_slides(["b", "a"], [], 1)] == ["a"]
    assert heatmaps.choose_slides(names, table, 0) == []


# --- in a browser ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The page of a synthetic study in a browser."""
    if not browser.browser_path():
        pytest.skip("no Chromium")
    folder = tmp_path_factory.mktemp("shown")
    words = status_study.study(folder)
    manifest, *options = map(str, words)
    page = str(folder / "index.html")
    assert main(["report", manifest, page, *options, "--gallery", "6"]) == 0
    with browser.Browser(tmp_path_factory.mktemp("profile")) as tab:
        tab.open(folder / "index.html")
        yield tab
        assert tab.complaints == []


@pytest.mark.slow
def test_the_page_asks_for_nothing_and_shows_every_figure(shown):
    assert {address.split(":")[0] for address in shown.requests} <= {"file", "data"}
    assert sum(address.startswith("file:") for address in shown.requests) == 1
    sizes = shown.run("[...document.images].map(i => i.complete && i.naturalWidth)")
    assert len(sizes) == 3 + 6  # of evaluate and compare, and heat maps
    assert all(size > 10 for size in sizes)


@pytest.mark.slow
def test_a_nasty_name_is_text(shown):
    assert shown.run(f"document.body.innerText.includes({json.dumps(status_study.NASTY)})")
    assert shown.run("document.querySelectorAll('script').length") == 2 + 2 * 6  # all are ours
    shy = f"Zoom into slide {status_study.SHY} of cohort C"
    assert shy in shown.run("[...document.querySelectorAll('summary')].map(s => s.textContent)")


@pytest.mark.slow
def test_tables_sort_by_mouse_and_keyboard(shown):
    table = "[...document.querySelectorAll('table')].find(t => t.innerText.includes('B10'))"
    rows = f"[...({table}).tBodies[0].rows].map(r => r.cells[0].textContent)"
    head = f"[...({table}).tHead.rows[0].cells]"
    assert shown.run(rows) == ["TL-PA", "B2", "B10", "none"]
    shown.run(f"{head}[0].querySelector('button').click()")
    assert shown.run(rows) == ["B2", "B10", "none", "TL-PA"]  # 2 before 10
    assert shown.run(f"{head}[0].getAttribute('aria-sort')") == "ascending"
    auc = f"{head}.find(h => h.textContent.startsWith('AUC'))"
    shown.run(f"{auc}.querySelector('button').focus()")
    shown.press("Enter")
    assert shown.run(rows) == ["B10", "B2", "TL-PA", "none"]  # what is not known stays last
    shown.press("Enter")
    assert shown.run(rows) == ["TL-PA", "B2", "B10", "none"]
    assert shown.run(f"{auc}.getAttribute('aria-sort')") == "descending"
    assert shown.run(f"{head}[0].getAttribute('aria-sort')") is None


@pytest.mark.slow
def test_the_keyboard_reaches_all_and_sees_where_it_is(shown):
    shown.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    shown.open(shown.run("decodeURI(location.pathname)"))
    shown.press("Tab")
    assert shown.run("document.activeElement.className") == "skip"
    box = "document.activeElement.getBoundingClientRect()"
    assert shown.run(f"{box}.left") >= 0
    shown.press("Enter")
    assert shown.run("document.activeElement.id") == "main"
    assert shown.run("document.documentElement.lang") == "en"
    places = "['header', 'main', 'nav[aria-label]', 'footer', 'h1']"
    assert shown.run(f"{places}.map(p => document.querySelectorAll(p).length)") == [1] * 5
    ids = shown.run("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(set(ids)) == len(ids)


@pytest.fixture(scope="module")
def opened(shown):
    """A viewer of the page, opened as a reader does."""
    assert shown.run("typeof Bokeh") == "undefined"  # nobody has asked for it yet
    shown.run("box = [...document.querySelectorAll('details.viewer')].at(-1)")
    shown.run("box.scrollIntoView(); box.querySelector('summary').focus()")
    shown.press("Enter")
    shown.until("box.dataset.state === 'open'")
    shown.run("box.querySelector('.plots').scrollIntoView({block: 'center'})")
    shown.until("[...box.querySelectorAll('.plot')].every(p => p.clientHeight > 100)")
    return shown


def ranges(tab):
    return tab.run("[box.view.x.start, box.view.x.end, box.view.y.start, box.view.y.end]")


def middle(tab, which):
    place = f"box.querySelectorAll('.plot')[{which}].getBoundingClientRect()"
    return tab.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({place})")


@pytest.mark.slow
def test_the_viewer_zooms(opened):
    whole = ranges(opened)
    assert whole == pytest.approx([-12.8, 652.8, 652.8, -12.8])  # 640 px and 2 % around
    opened.wheel(*middle(opened, 1), -300)
    opened.until(f"box.view.x.end - box.view.x.start < {0.9 * (whole[1] - whole[0])}")
    left, right, bottom, top = ranges(opened)
    assert (right - left) / (bottom - top) == pytest.approx(1, abs=1e-6)  # not distorted
    opened.run("box.querySelector('[data-act=whole]').click()")
    assert ranges(opened) == pytest.approx(whole)
    opened.run("box.querySelector('[data-act=in]').click()")
    assert ranges(opened)[1] - ranges(opened)[0] == pytest.approx(0.7 * (whole[1] - whole[0]))
    opened.run("box.querySelector('.plots').focus()")
    before = ranges(opened)
    opened.press("ArrowRight")
    assert ranges(opened)[0] > before[0]
    opened.press("0", "Digit0", "0")
    assert ranges(opened) == pytest.approx(whole)


@pytest.mark.slow
def test_the_viewer_zooms_into_an_area(opened):
    opened.run("box.querySelector('input[type=checkbox]').click()")
    x, y = middle(opened, 0)
    opened.drag(x, y, x + 60, y + 40)
    opened.until("box.view.x.end - box.view.x.start < 400")
    opened.run("box.querySelector('input[type=checkbox]').click()")
    opened.run("box.querySelector('[data-act=whole]').click()")


@pytest.mark.slow
def test_layers_and_opacity(opened):
    layer = "box.view.get('layer')"
    assert opened.run(f"[{layer}.visible, {layer}.muted]") == [True, False]
    radio = "box.querySelectorAll('input[type=radio]')"
    opened.run(f"{radio}[1].click()")
    assert opened.run(f"[{layer}.visible, {layer}.muted]") == [True, True]
    opened.run(f"{radio}[2].click()")
    assert opened.run(f"{layer}.visible") is False
    opened.run(f"{radio}[0].click()")
    slide = "box.querySelector('input[type=range]')"
    opened.run(f"{slide}.value = 25; {slide}.dispatchEvent(new Event('input'))")
    assert opened.run(f"{layer}.glyph.fill_alpha.value") == 0.25
    assert opened.run("box.querySelector('output').value") == "25 %"
    names = opened.run("Array.from(box.view.get('patches').data.name)")
    assert names == ["HER2-"] * 3 + ["HER2+"] * 3


@pytest.mark.slow
def test_hovering_shows_a_patch(opened):
    opened.run("box.view.x.setv({start: 0, end: 256}); box.view.y.setv({start: 256, end: 0})")
    place = "box.querySelectorAll('.plot')[1].getBoundingClientRect()"
    x, y, width = opened.run(f"(r => [r.x, r.y, r.width])({place})")
    step = width / 4  # patches of 64 px: the second of the first row
    shown_text = "JSON.stringify(deep(document.body))"
    opened.run(
        "deep = e => [...(e.shadowRoot ? deep(e.shadowRoot) : []),"
        " ...[...e.childNodes].flatMap(c => c.nodeType === 3 ? [c.data] : deep(c))]"
    )
    opened.move(x + 1.2 * step, y + 0.5 * step)
    opened.move(x + 1.5 * step, y + 0.5 * step)
    opened.until(f"{shown_text}.includes('0.24')")  # p rises from 0.10 in steps of 0.14
    assert "HER2-" in opened.run(shown_text)


@pytest.mark.slow
def test_it_fits_a_phone_and_prints(opened, tmp_path):
    opened.size(400, 800)
    assert opened.run("document.documentElement.scrollWidth") == 400
    opened.size(1200, 900)
    assert opened.run("document.documentElement.scrollWidth") == 1200
    opened.ask("Emulation.setEmulatedMedia", media="print")
    hidden = "[...document.querySelectorAll('nav, .viewer')].map(e => getComputedStyle(e).display)"
    assert set(opened.run(hidden)) == {"none"}
    opened.ask("Emulation.setEmulatedMedia", media="")
    opened.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_errors_come_first_and_are_named():
    """At 0.5: S0 and S1 are missed, S0 more confidently; S4 is the most confident right call."""
    point = {"n": 5, "cutoff": 0.5, "counts": dict.fromkeys(COUNTS, 0)}
    metrics = Metrics.model_validate({"operating_point": point, "endpoint": "her2"})
    rows = [
        {"slide": f"S{i}", "score": str(score), "positive": str(positive), "used": "True"}
        for i, (score, positive) in enumerate(
            [(0.1, True), (0.4, True), (0.6, True), (0.3, False), (0.95, True)]
        )
    ]
    each = Evaluation(metrics, [], rows, None)
    names = [row["slide"] for row in rows]
    chosen = heatmaps.choose_errors(names, each, 3)
    assert [(row["slide"], row["verdict"]) for row in chosen] == [
        ("S0", "False negative"),
        ("S1", "False negative"),
        ("S4", "True positive"),
    ]
    without = Evaluation(Metrics(), [], rows, None)
    assert "verdict" not in heatmaps.choose_errors(names, without, 2)[0]


def test_calls_of_one_kind_have_a_confidence():
    """Without a threshold, and all slides called positive: measured from the lowest of them."""
    rows = [
        {"slide": "S1", "score": "0.4", "verdict": "True positive"},
        {"slide": "S2", "score": "0.9", "verdict": "False positive"},
    ]
    assert heatmaps._confidence(rows, None) == {"S1": 0.0, "S2": 0.5}
