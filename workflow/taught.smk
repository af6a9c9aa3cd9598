# What rules that learn read, and what they are told.


def development(wildcards):
    """Cohort that the encoder of a job learns from."""
    by_method = "method" in wildcards.keys()
    encoder = STUDY.methods[wildcards.method].encoder if by_method else wildcards.encoder
    return teaching.development(STUDY, encoder)


def taught(*columns):
    """Fingerprint of such columns of the cohort that teaches the job's encoder."""
    return lambda wildcards: labels(development(wildcards), *columns)


def pretraining_images(wildcards):
    """Files of a pre-training's images, or the packs of its cohort."""
    where, files = IMAGES[wildcards.pretraining]
    return cohort_stores(where) if where in STUDY.cohorts else files


def pretraining_words(wildcards):
    """Options that tell a pre-training of its cohort; labels by their fingerprint, not read."""
    name = IMAGES[wildcards.pretraining][0]
    if name not in STUDY.cohorts:
        return []
    return [f"--sheet={SHEETS[name]}", *flags.to_flags(STUDY.split).split()]


def pretraining_labels(wildcards):
    name = IMAGES[wildcards.pretraining][0]
    column = STUDY.pretrainings[wildcards.pretraining].column
    return labels(name, "patient", "split", column) if name in STUDY.cohorts else ""


def pretraining_settings(wildcards):
    """Flags of one pre-training."""
    own = STUDY.pretrainings[wildcards.pretraining]
    own = own.model_copy(update={"images": IMAGES[wildcards.pretraining][0]})
    return flags.to_flags(own, as_type=PretrainSettings)


def training_views(name):
    """Views an encoder's training looks at: of its own, only the colours, if others teach it."""
    encoder = STUDY.encoders[name]
    if teaching.development(STUDY, name) in PACKED:
        return [WHOLE]
    by_patches = encoder.task in ("classify", "fingerprint")
    return encoder.train_views if by_patches else [encoder.view]


def training_stores(wildcards):
    views = training_views(wildcards.encoder)
    return [path for view in views for path in cohort_stores(development(wildcards), view)]


def training_files(wildcards):
    """Files an encoder's settings name; of pairs the folders, whose times tell of new files."""
    named = FILES[wildcards.encoder]
    pairs = Path(named["pairs"]) if "pairs" in named else None
    inner = [*pairs.glob("*/"), *pairs.glob("*/*/")] if pairs else []
    return [*named.values(), *sorted(map(str, inner))]


def training_folders(wildcards):
    """Folders of the training stores, not hundreds of files: a command has a greatest length."""
    name = development(wildcards)
    if name in PACKED:  # few; others of an earlier number of packs may lie beside them
        return cohort_stores(name)
    return [f"results/tile/{view}/{name}" for view in training_views(wildcards.encoder)]


def encoder_settings(wildcards):
    """Flags of one encoder's training, with the files its study file names."""
    changes = FILES[wildcards.encoder] | {"train_views": training_views(wildcards.encoder)}
    own = STUDY.encoders[wildcards.encoder].model_copy(update=changes)
    return flags.to_flags(STUDY.split, own, as_type=TrainSettings) + telling(
        "ordered", "reflex", "reflex_margin"
    )


def development_folders(wildcards):
    """Folders of encodings of the development cohort."""
    return cohort_folders(STUDY.methods[wildcards.method].encoder, development(wildcards))


def development_scores(wildcards):
    """A method's scores of the cohort its encoder learns from."""
    return f"results/score/{wildcards.method}/{development(wildcards)}.tsv"


def fitted(wildcards):
    """What was fitted of a method's aggregation, if anything is."""
    aggregation = AGGREGATIONS[STUDY.methods[wildcards.method].aggregate]
    is_fitted = aggregation.is_fitted(endpoint_of(STUDY.labels))
    return [f"results/fit/{wildcards.method}"] if is_fitted else []


def fit_gpu(wildcards):
    """Graphics cards that fitting a method asks for."""
    method = STUDY.methods[wildcards.method]
    return on_gpu(getattr(method.fit, "device", "cpu"))
