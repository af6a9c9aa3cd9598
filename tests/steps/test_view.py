"""The local viewer: a slide and its maps by requests to loopback, and what it refuses."""

import http.client
import json
import re
import threading

import numpy as np
import pytest
import simplejpeg
import slides as slide_files
from stores import make_encoding

from her2pipe.config import SlidesSettings
from her2pipe.errors import Her2Error
from her2pipe.reporting import html
from her2pipe.slides.open import open_slide
from her2pipe.steps.view import viewer_of

SIDE = 600


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A slide of 600 x 600 px with one map, served to this test."""
    folder = tmp_path_factory.mktemp("view")
    picture = slide_files.tissue(SIDE, SIDE)
    slide_files.svs(folder / "S1.svs", picture)
    encodings = folder / "results" / "encode" / "net" / "C" / "0of1"
    encodings.mkdir(parents=True)
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    make_encoding(encodings / "S1.h5", p)
    with open_slide(folder / "S1.svs", SlidesSettings()) as slide:
        viewer = viewer_of(slide, "", folder / "results", [], 0)
        thread = threading.Thread(target=viewer.serve, daemon=True)
        thread.start()
        yield viewer, picture
        viewer.close()
        thread.join()


def get(viewer, path, host=""):
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=20)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{viewer.port}"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def path_of(viewer, rest=""):
    return "/" + viewer.address.split("/", 3)[3] + rest


def test_the_page_runs_its_own_script_only(served):
    viewer, _ = served
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", viewer.address)
    answer, body = get(viewer, path_of(viewer))
    text = body.decode()
    (script,) = re.findall("<script>(.*?)</script>", text, re.S)
    policy = answer.headers["Content-Security-Policy"]
    assert html.digest(script) in policy
    assert "unsafe" not in policy
    assert not re.findall(r"https?://", text)


def test_maps_are_those_of_the_results(served):
    viewer, _ = served
    slide = json.loads(get(viewer, path_of(viewer, "slide.json"))[1])
    assert (slide["name"], slide["width"], slide["height"]) == ("S1", SIDE, SIDE)
    (layer,) = slide["layers"]
    assert len(layer["x"]) == len(layer["values"]) == 2
    assert layer["classes"] == [0, 1]
    assert layer["names"] == ["HER2-", "HER2+", "Non-tumour"]


def test_tiles_are_the_pixels_of_the_slide(served):
    viewer, picture = served
    tile = simplejpeg.decode_jpeg(get(viewer, path_of(viewer, "tile/0/1/0.jpg"))[1])
    assert tile.shape == (512, SIDE - 512, 3)
    assert np.abs(tile.astype(int) - picture[:512, 512:]).mean() < 12
    whole = simplejpeg.decode_jpeg(get(viewer, path_of(viewer, "tile/1/0/0.jpg"))[1])
    assert whole.shape == (SIDE // 2, SIDE // 2, 3)


def test_others_get_nothing(served):
    """No path without the random word, no other host name, no tile beyond the slide."""
    viewer, _ = served
    wrong = ["/", "/slide.json", "/x/tile/0/0/0.jpg", path_of(viewer, "../../etc/passwd")]
    wrong += [path_of(viewer, f"tile/{n}.jpg") for n in ("0/2/0", "9/0/0", "-1/0/0", "0/0")]
    assert {get(viewer, path)[0].status for path in wrong} == {404}
    assert get(viewer, path_of(viewer), "evil.example")[0].status == 403
    with (
        open_slide(viewer.zoom.slide.path, SlidesSettings()) as slide,
        pytest.raises(Her2Error, match=f"port {viewer.port}"),
    ):
        viewer_of(slide, "", viewer.zoom.slide.path.parent, [], viewer.port)
