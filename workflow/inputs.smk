# What single rules read: their input functions, and the settings of a sheet's row.


def slide_settings(wildcards):
    """Flags of one slide's own row."""
    row = ROWS[wildcards.cohort][wildcards.slide]
    return f"--mpp {row.mpp}" if row.mpp else ""


def annotation(wildcards):
    row = ROWS[wildcards.cohort][wildcards.slide]
    return [row.annotation] if row.annotation else []


def drawing(wildcards):
    """Flags that draw a synthetic slide: its row's seed, severity and fault, nothing else."""
    row = ROWS[wildcards.cohort][wildcards.slide]
    flags = [f"--{k}={row.extra[k]}" for k in ("seed", "severity", "fault") if row.extra.get(k)]
    scanner = STUDY.synthesise.scanners.get(wildcards.cohort, Scanner())
    return f"{shlex.join(flags)} {settings.flags(STUDY.synthesise, scanner)}"


def training_stores(wildcards):
    views = STUDY.encoders[wildcards.encoder].train_views
    return [
        f"results/tile/{view}/{DEVELOPMENT}/{slide}.h5"
        for view in views
        for slide in ROWS[DEVELOPMENT]
    ]


def stores(wildcards):
    """Patch stores of one batch, in the encoder's view."""
    by_method = "method" in wildcards.keys()
    encoder = STUDY.methods[wildcards.method].encoder if by_method else wildcards.encoder
    number, of = map(int, wildcards.batch.split("of"))
    folder = f"results/tile/{STUDY.encoders[encoder].view}/{wildcards.cohort}"
    return [f"{folder}/{slide}.h5" for slide in by_batch(wildcards.cohort, of).get(number, [])]


@cache
def by_batch(name, of):
    """Slides of a cohort, by the number of their batch."""
    found = {}
    for slide in ROWS[name]:
        found.setdefault(cohort.batch_of(slide, of), []).append(slide)
    return found


def batches(name):
    """Batches of a cohort that hold a slide."""
    of = BATCHES[name]
    return [f"{number}of{of}" for number in sorted(by_batch(name, of))]


def batch_folder(wildcards):
    """Folder of encodings of one batch."""
    encoder = STUDY.methods[wildcards.method].encoder
    return f"results/encode/{encoder}/{wildcards.cohort}/{wildcards.batch}"


def batch_folders(wildcards):
    """Folders of encodings that make up a cohort."""
    folder = f"results/encode/{STUDY.methods[wildcards.method].encoder}/{wildcards.cohort}"
    return [f"{folder}/{batch}" for batch in batches(wildcards.cohort)]
