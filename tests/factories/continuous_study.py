"""Encodings and sheets of cohorts whose number, or survival, features tell something of."""

import numpy as np

from her2pipe.store import EncodingMetadata, write_encoding

LABELS = {
    "number": ("--endpoint", "number", "--column", "rcb_index", "--unit", "points"),
    "survival": ("--endpoint", "survival", "--time", "months", "--event", "died"),
}
WIDTH, PATCHES = 8, 12


def write_cohort(folder, slides, effect=1.0, seed=0, per_patient=1, split=True):
    """Write encodings of noise, two patches of each shifted by its patient's risk, and a sheet.

    The risk is standard normal; `rcb_index` is 2 + risk with some error, and times to death are
    exponential with log hazard 1.5 times the risk, censored at a uniform time. With `effect` 0 the
    features know nothing.
    """
    random = np.random.default_rng(seed)
    (folder / "e").mkdir(parents=True)
    lines = ["slide\tpath\tpatient\tsplit\trcb_index\tmonths\tdied\tscanner"]
    patients = slides // per_patient
    risk = random.normal(size=patients)
    number = 2 + risk + 0.3 * random.normal(size=patients)
    death = random.exponential(24 / np.exp(1.5 * risk))
    seen = random.uniform(6, 60, patients)
    coords = np.stack([np.arange(PATCHES) % 4, np.arange(PATCHES) // 4], 1) * 512
    for i in range(slides):
        patient = i % patients
        features = random.normal(size=(PATCHES, WIDTH))
        features[:, 0] += effect * risk[patient]
        features[random.choice(PATCHES, 2, replace=False), 1] += 3 * effect * risk[patient]
        metadata = EncodingMetadata(
            slide=f"S{i:03d}",
            classes=(),
            status="ok",
            reason="",
            encoder="frozen",
            model_digest="d",
            task="none",
            patch_size_level0=512,
            width_px0=9_000,
            height_px0=9_000,
        )
        none = np.zeros((PATCHES, 0))
        write_encoding(folder / "e" / f"S{i:03d}.h5", coords, none, features, metadata)
        side = ("validation" if patient % 4 == 3 else "train") if split else ""
        months = round(min(death[patient], seen[patient]), 1)
        died = int(death[patient] <= seen[patient])
        cells = (f"{number[patient]:.3f}", f"{months}", f"{died}", "AB"[patient % 2])
        lines.append("\t".join((f"S{i:03d}", f"x{i}", f"P{patient:03d}", side, *cells)))
    (folder / "sheet.tsv").write_text("\n".join(lines) + "\n")
    return folder
