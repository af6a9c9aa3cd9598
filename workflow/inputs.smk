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
    slides = ROWS[wildcards.cohort]
    return [f"{folder}/{slide}.h5" for slide in slides if cohort.batch_of(slide, of) == number]


def batches(name):
    """Batches of a cohort that hold a slide."""
    of = BATCHES[name]
    return [f"{n}of{of}" for n in sorted({cohort.batch_of(slide, of) for slide in ROWS[name]})]


def batch_folder(wildcards):
    """Folder of encodings of one batch."""
    encoder = STUDY.methods[wildcards.method].encoder
    return f"results/encode/{encoder}/{wildcards.cohort}/{wildcards.batch}"


def batch_folders(wildcards):
    """Folders of encodings that make up a cohort."""
    return cohort_folders(wildcards.method, wildcards.cohort)


def development_folders(wildcards):
    """Folders of encodings of the development cohort."""
    return cohort_folders(wildcards.method, DEVELOPMENT)


def cohort_folders(method, name):
    folder = f"results/encode/{STUDY.methods[method].encoder}/{name}"
    return [f"{folder}/{batch}" for batch in batches(name)]


def described_folders(wildcards):
    """Folders of encodings of a cohort, by encoder."""
    folder = f"results/encode/{wildcards.encoder}/{wildcards.cohort}"
    return [f"{folder}/{batch}" for batch in batches(wildcards.cohort)]


def cohort_stores(wildcards):
    """Patch stores of a cohort, in the encoder's view."""
    folder = f"results/tile/{STUDY.encoders[wildcards.encoder].view}/{wildcards.cohort}"
    return [f"{folder}/{slide}.h5" for slide in ROWS[wildcards.cohort]]


def fitted(wildcards):
    """What was fitted of a method's aggregation, if it learns."""
    learns = STUDY.methods[wildcards.method].aggregate in FITTED
    return [f"results/fit/{wildcards.method}"] if learns else []


def fit_gpu(wildcards):
    """Graphics cards that fitting a method asks for."""
    method = STUDY.methods[wildcards.method]
    return on_gpu(method.fit.device) if method.aggregate in LEARNT else 0
