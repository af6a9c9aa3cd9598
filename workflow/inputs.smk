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
    folder = f"results/encode/{STUDY.methods[wildcards.method].encoder}/{wildcards.cohort}"
    return [f"{folder}/{batch}" for batch in batches(wildcards.cohort)]


# Columns of the sheets that the study's page tells of.
SHOWN = "patient positive level unlabelled er pr pcr rcb scanner".split()


def reported(wildcards):
    """What the study's page is made of; its slides are those of the first method drawn."""
    encoder = STUDY.methods[DRAWN[0]].encoder
    view = STUDY.encoders[encoder].view
    cohorts = {name: batches(name) for name in SCORED}
    parts = [f"{name}/{batch}" for name in SCORED for batch in cohorts[name]]
    return {
        "compare": "results/compare",
        "ledger": "results/ledger/ledger.tsv",
        "evaluate": [f"results/evaluate/{m}/{name}" for m in STUDY.methods for name in SCORED],
        "train": [f"results/train/{name}" for name in ENCODERS],
        "heatmap": [f"results/heatmap/{method}/{part}" for method in DRAWN for part in parts],
        "encode": [f"results/encode/{encoder}/{part}" for part in parts],
        "tile": [
            f"results/tile/{view}/{name}/{slide}.h5" for name in SCORED for slide in ROWS[name]
        ],
    }


def report_words(wildcards, input):
    """Options of the study's page; stores by their folders, for a command has a greatest length."""
    folders = {name: os.path.dirname(path) for name, path in zip(store_cohorts(), input.tile)}
    options = {key: input.get(key) for key in ("evaluate", "train", "heatmap", "encode")}
    options["tile"] = [f"{name}={folder}" for name, folder in folders.items()]
    options["sheet"] = [f"{name}={SHEETS[name]}" for name in SCORED]
    options["methods"] = STUDY.report.methods
    return [word for key, words in options.items() if words for word in (f"--{key}", *words)]


def store_cohorts():
    return [name for name in SCORED for slide in ROWS[name]]


def report_study():
    """Title, cohorts and settings of the study, for its page."""
    cohorts = {n: {"title": c.title, "role": c.role} for n, c in STUDY.cohorts.items()}
    settings = STUDY.model_dump(mode="json")
    return json.dumps({"title": STUDY.study.title, "cohorts": cohorts, "settings": settings})
