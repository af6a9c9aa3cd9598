# What evaluations are told, and what the study's page is made of.


def trained(wildcards):
    """Name the stages of a method that learn, as Table 2 does."""
    method = STUDY.methods[wildcards.method]
    task = STUDY.encoders[method.encoder].task
    stages = ["encoder"] * (task != "none")
    stages += ["aggregation"] * (method.aggregate in LEARNT)
    return " and ".join(stages) or "none"


def evaluated_labels(wildcards):
    """Fingerprint of the columns an evaluation reads, those of its subgroups among them."""
    columns = "patient positive level split pcr rcb unlabelled".split()
    if STUDY.labels.told:
        columns = ["patient", TRUTH, "split"]
    return labels(wildcards.cohort, *columns, *STUDY.evaluate.subgroups)


def internal_labels():
    """Fingerprint of the development cohort's labels, which a cut-off of HER2 status needs."""
    return "" if STUDY.labels.told else labels(DEVELOPMENT, "patient", "positive", "split")


def evaluate_words(wildcards):
    """Options that tell an evaluation what it is of."""
    method = STUDY.methods[wildcards.method]
    options = {
        "sheet": SHEETS[wildcards.cohort],
        "development-sheet": SHEETS[DEVELOPMENT],
        "role": STUDY.cohorts[wildcards.cohort].role,
        "cohort": wildcards.cohort,
        "method": wildcards.method,
        "encoder": method.encoder,
        "aggregate": method.aggregate,
        "trained": trained(wildcards),
    }
    return [f"--{name}={value}" for name, value in options.items()]


# Columns of the sheets that the study's page tells of.
SHOWN = "patient positive level unlabelled er pr pcr rcb scanner".split()
SHOWN += [TRUTH] if STUDY.labels.told else []


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
        "pretrain": [f"results/pretrain/{name}" for name in IMAGES if name in pretrained()],
        "describe": [f"results/describe/{graded}/{name}" for graded, name in DESCRIBED],
        "heatmap": [f"results/heatmap/{method}/{part}" for method in DRAWN for part in parts],
        "explain": [f"results/{part}" for part in EXPLANATIONS],
        "encode": [f"results/encode/{encoder}/{part}" for part in parts],
        "tile": [
            f"results/tile/{view}/{name}/{slide}.h5" for name in SCORED for slide in ROWS[name]
        ],
    }


def report_words(wildcards, input):
    """Options of the study's page; stores by their folders, for a command has a greatest length."""
    folders = {name: os.path.dirname(path) for name, path in zip(store_cohorts(), input.tile)}
    folders_of = ("evaluate", "train", "pretrain", "heatmap", "explain", "encode", "describe")
    options = {key: input.get(key) for key in folders_of}
    options["tile"] = [f"{name}={folder}" for name, folder in folders.items()]
    options["sheet"] = [f"{name}={SHEETS[name]}" for name in SCORED]
    options["methods"] = STUDY.report.methods
    return [word for key, words in options.items() if words for word in (f"--{key}", *words)]


def pretrained():
    """Pre-trainings that the study's encoders start from."""
    return {STUDY.encoders[name].pretrain for name in ENCODERS}


def store_cohorts():
    return [name for name in SCORED for slide in ROWS[name]]


def report_study():
    """Title, cohorts and settings of the study, for its page."""
    cohorts = {n: {"title": c.title, "role": c.role} for n, c in STUDY.cohorts.items()}
    settings = STUDY.model_dump(mode="json")
    return json.dumps({"title": STUDY.study.title, "cohorts": cohorts, "settings": settings})
