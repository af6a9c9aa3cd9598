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


def pretraining_images(wildcards):
    return IMAGES[wildcards.pretraining][1]


def pretraining_settings(wildcards):
    """Flags of one pre-training."""
    own = STUDY.pretrainings[wildcards.pretraining]
    own = own.model_copy(update={"images": IMAGES[wildcards.pretraining][0]})
    return settings.flags(own, as_type=PretrainSettings)


def training_views(name):
    """Views an encoder's training looks at: of its own, only the colours, if others teach it."""
    encoder = STUDY.encoders[name]
    by_patches = encoder.task in ("classify", "fingerprint")
    return encoder.train_views if by_patches else [encoder.view]


def training_stores(wildcards):
    return [
        f"results/tile/{view}/{DEVELOPMENT}/{slide}.h5"
        for view in training_views(wildcards.encoder)
        for slide in ROWS[DEVELOPMENT]
    ]


def training_files(wildcards):
    """Files an encoder's settings name; of pairs the folders, whose times tell of new files."""
    named = FILES[wildcards.encoder]
    pairs = Path(named["pairs"]) if "pairs" in named else None
    inner = [*pairs.glob("*/"), *pairs.glob("*/*/")] if pairs else []
    return [*named.values(), *sorted(map(str, inner))]


def training_folders(wildcards):
    """Folders of the training stores, not hundreds of files: a command has a greatest length."""
    return [f"results/tile/{view}/{DEVELOPMENT}" for view in training_views(wildcards.encoder)]


def encoder_settings(wildcards):
    """Flags of one encoder's training, with the files its study file names."""
    changes = FILES[wildcards.encoder] | {"train_views": training_views(wildcards.encoder)}
    own = STUDY.encoders[wildcards.encoder].model_copy(update=changes)
    return settings.flags(STUDY.split, own, as_type=TrainSettings) + telling(
        "ordered", "reflex", "reflex_margin"
    )


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
    """Folders of encodings that make up a cohort, of a method's encoder or of one by name."""
    by_method = "method" in wildcards.keys()
    encoder = STUDY.methods[wildcards.method].encoder if by_method else wildcards.encoder
    return cohort_folders(encoder, wildcards.cohort)


def development_folders(wildcards):
    """Folders of encodings of the development cohort."""
    return cohort_folders(STUDY.methods[wildcards.method].encoder, DEVELOPMENT)


def cohort_folders(encoder, name):
    return [f"results/encode/{encoder}/{name}/{batch}" for batch in batches(name)]


def fitted(wildcards):
    """What was fitted of a method's aggregation, if it learns."""
    learns = STUDY.methods[wildcards.method].aggregate in FITTED and not STUDY.labels.told
    return [f"results/fit/{wildcards.method}"] if learns else []


def fit_gpu(wildcards):
    """Graphics cards that fitting a method asks for."""
    method = STUDY.methods[wildcards.method]
    return on_gpu(method.fit.device) if method.aggregate in LEARNT else 0


def cohort_stores(wildcards):
    """Patch stores of a cohort, in the encoder's view."""
    folder = f"results/tile/{STUDY.encoders[wildcards.encoder].view}/{wildcards.cohort}"
    return [f"{folder}/{slide}.h5" for slide in ROWS[wildcards.cohort]]


# What is made beside the scores: of a cohort, or of each of its batches.
DESCRIPTIONS = [f"describe/{encoder}/{name}" for encoder, name in DESCRIBED]
EXPLANATIONS = [
    f"explain/{encoder}/{name}/{batch}"
    for encoder in STUDY.explain.encoders
    for name in SCORED
    for batch in batches(name)
]
