"""A small development cohort to train on."""

import numpy as np
import pytest

HEADER = "slide\tpath\tpatient\tsplit\ther2\n"
SMALL = (
    *("--architecture", "resnet10t", "--input-px", "64", "--frozen", "--train-views", "64"),
    *("--batch-size", "16", "--learning-rate", "1e-3", "--device", "cpu"),
)


@pytest.fixture
def development(tmp_path, make):
    """Six annotated slides of two classes that look different, and their sheet."""
    lines, stores = [HEADER], []
    for i in range(6):
        positive = i % 2 == 1
        tumour = make.stained(12, seed=i, cells=40 if positive else 15)
        stroma = make.stained(12, seed=100 + i, cells=1)
        pixels = np.concatenate([tumour, stroma])
        coords = [(64 * k, 0) for k in range(24)]
        fraction = np.array([1.0] * 12 + [0.2] * 12, np.float32)
        stores.append(make.store(tmp_path / f"S{i}.h5", pixels, coords, fraction))
        side = "validation" if i >= 4 else "train"
        lines.append(f"S{i}\tx{i}\tP{i}\t{side}\t{'positive' if positive else 'negative'}\n")
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text("".join(lines))
    return stores, sheet
