"""Stain vectors of cohorts."""

import numpy as np

from her2pipe.manifest import Item, Manifest
from her2pipe.reporting import patches
from her2pipe.reporting.inputs import OutputIndex
from her2pipe.store import write_encoding
from her2pipe.store.encodings import EncodingMetadata


def test_cohorts_of_the_stain_figure_keep_their_order(tmp_path, monkeypatch):
    """The study's, as in every other figure, whatever slides are called."""
    profile = {
        "matrix": [[0.65, 0.7, 0.29], [0.07, 0.99, 0.11]],
        "max_concentration": [1, 1],
        "method": "vahadane",
    }
    ledger = []
    for cohort, slide in (("A", "T-1"), ("B", "S-1"), ("B", "S-2")):
        ledger.append({"cohort": cohort, "slide": slide, "status": "scored"})
        (tmp_path / cohort).mkdir(parents=True, exist_ok=True)
        metadata = EncodingMetadata(slide=slide, stain=profile, classes=("c",))
        arrays = np.zeros((1, 2)), np.ones((1, 1)), np.zeros((1, 2))
        write_encoding(tmp_path / cohort / f"{slide}.h5", *arrays, metadata)
    items = [Item("encode", cohort=cohort, path=tmp_path / cohort) for cohort in "AB"]
    drawn = []
    monkeypatch.setattr(patches, "_uri", lambda figure, kind: drawn.append(figure) or "")
    (figure,) = patches.stain_figures(OutputIndex(Manifest(tuple(items)), ledger), profile)
    assert figure.caption.endswith("n slides: A: 1, B: 2.")
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert names == ["A (n = 1 slides)", "B (n = 2 slides)", "target"]
