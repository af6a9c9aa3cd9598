# What the method table of a study of classes reads beside the evaluations.


def compared_networks():
    """Networks that the method table of a study of classes lists."""
    return [f"results/train/{name}" for name in ENCODERS] if STUDY.labels.told else []


def matched_cohorts():
    """Cohorts whose cases two methods are compared on."""
    return sorted({name for pair in STUDY.compare.matched for _, name in pair})


def matched_labels():
    """Fingerprint of the column that names their cases."""
    return [labels(name, STUDY.compare.matched_by) for name in matched_cohorts()]


def compare_words():
    """Options that the method table of a study of classes has beside the common ones."""
    if not STUDY.labels.told:
        return []
    parts = [f"{e}/{name}" for e in ENCODERS for name in STUDY.cohorts if name in encoded(e)]
    options = {
        "train": compared_networks(),
        "encode-timing": [f"{part.split('/')[0]}=results/encode/{part}" for part in parts],
        "matched": [",".join((*first, *second)) for first, second in STUDY.compare.matched],
        "sheet": [f"{name}={SHEETS[name]}" for name in matched_cohorts()],
    }
    return [word for key, words in options.items() if words for word in (f"--{key}", *words)]
