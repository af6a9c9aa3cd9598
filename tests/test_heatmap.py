"""Heat maps: one picture per slide, with the colours where the patches are."""

import cv2
import numpy as np


def test_pictures(tmp_path, make, her2pipe):
    coords = [(0, 0), (64, 0), (320, 320), (576, 576)]
    stores = [
        make.store(tmp_path / "S1.h5", make.stained(4, 1), coords),
        make.store(tmp_path / "S2.h5", [], [], status="excluded", reason="no tissue"),
    ]
    encodings = tmp_path / "0of1"
    encodings.mkdir()
    make.encoding(encodings / "S1.h5", [[0.1, 0.9, 0], [0.1, 0.9, 0], [0.9, 0.1, 0], [0, 0.2, 0.8]])
    make.encoding(encodings / "S2.h5", [], status="excluded", reason="no tissue")
    code, told = her2pipe("heatmap", *stores, tmp_path / "out", "--encoding", encodings)
    assert code == 0, told
    assert "S2: excluded" in told
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["S1.png"]
    picture = cv2.imread(str(tmp_path / "out" / "S1.png"))
    assert picture.shape[1] > 2 * picture.shape[0] > 0  # three panels side by side
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
