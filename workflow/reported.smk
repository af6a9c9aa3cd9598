# What evaluations are told, and what the study's page is made of.


include: "compared.smk"
include: "inputs.smk"


def trained(wildcards):
    """Name the stages of a method that learn, as Table 2 does."""
    method = STUDY.methods[wildcards.method]
    task = STUDY.encoders[method.encoder].task
    stages = ["encoder"] * (task != "none")
    stages += ["aggregation"] * (AGGREGATIONS[method.aggregate].fits == "weights")
    return " and ".join(stages) or "none"


def evaluated_labels(wildcards):
    """Fingerprint of the columns an evaluation reads, those of its subgroups among them."""
    columns = "patient positive level split pcr rcb exclusion_reason".split()
    if STUDY.labels.told:
        columns = ["patient", TRUTH, "split"]
    return labels(wildcards.cohort, *columns, *STUDY.evaluate.subgroups)


def internal_labels(wildcards):
    """Fingerprint of the development cohort's labels, which a cut-off of HER2 status needs."""
    told = ("patient", "positive", "split")
    return "" if STUDY.labels.told else labels(development(wildcards), *told)


def evaluate_words(wildcards):
    """Options that tell an evaluation what it is of."""
    method = STUDY.methods[wildcards.method]
    options = {
        "sheet": SHEETS[wildcards.cohort],
        "development-sheet": SHEETS[development(wildcards)],
        "role": teaching.role(STUDY, wildcards.method, wildcards.cohort),
        "cohort": wildcards.cohort,
        "method": wildcards.method,
        "encoder": method.encoder,
        "aggregate": method.aggregate,
        "trained": trained(wildcards),
    }
    packs = [f"--images={path}" for path in tested_packs(wildcards)]
    packs += [f"--learnt={path}" for path in learnt_packs(wildcards)]
    return [f"--{name}={value}" for name, value in options.items()] + packs


# What is made beside the scores: of a cohort, of each of its batches, or of an encoder alone.
EXPLAINED = [
    f"explain/{encoder}/{name}/{batch}"
    for encoder in STUDY.explain.encoders
    for name in SCORED
    if name in encoded(encoder) and name not in PACKED
    for batch in batches(name)
]
BESIDE = [
    *(f"describe/{encoder}/{name}" for encoder, name in DESCRIBED),
    *(f"deploy/{encoder}" for encoder in STUDY.deploy.encoders),
    *EXPLAINED,
]
# Columns of the sheets that the study's page tells of.
SHOWN = "patient positive level exclusion_reason er pr pcr rcb scanner".split()
SHOWN += [TRUTH] if STUDY.labels.told else []


def reported(wildcards):
    """What the study's page is made of; its slides are those of the first method drawn."""
    encoder = STUDY.methods[DRAWN[0]].encoder
    view = STUDY.encoders[encoder].view
    parts = [f"{name}/{batch}" for name in TESTS[DRAWN[0]] for batch in batches(name)]
    maps = [f"{method}/{name}/{batch}" for method, name in MAPPED for batch in batches(name)]
    return {
        "compare": "results/compare",
        "ledger": "results/ledger/ledger.tsv",
        "evaluate": [f"results/evaluate/{method}/{name}" for method, name in PAIRS],
        "train": [f"results/train/{name}" for name in ENCODERS],
        "pretrain": [f"results/pretrain/{name}" for name in IMAGES if name in pretrained()],
        "describe": [f"results/describe/{graded}/{name}" for graded, name in DESCRIBED],
        "deploy": [f"results/deploy/{name}" for name in STUDY.deploy.encoders],
        "heatmap": [f"results/heatmap/{part}" for part in maps],
        "explain": [f"results/{part}" for part in EXPLAINED],
        "encode": [f"results/encode/{encoder}/{part}" for part in parts],
        "tile": [path for name in stored_cohorts() for path in cohort_stores(name, view)],
    }


def report_words(wildcards, input):
    """Options of the study's page; stores by their folders, for a command has a greatest length."""
    folders = {name: os.path.dirname(path) for name, path in zip(store_cohorts(), input.tile)}
    folders_of = "evaluate train pretrain heatmap explain encode describe deploy".split()
    options = {key: input.get(key) for key in folders_of}
    options["tile"] = [f"{name}={folder}" for name, folder in folders.items()]
    options["sheet"] = [f"{name}={SHEETS[name]}" for name in SCORED]
    options["methods"] = STUDY.report.methods
    return [word for key, words in options.items() if words for word in (f"--{key}", *words)]


def pretrained():
    """Pre-trainings that the study's encoders start from."""
    return {STUDY.encoders[name].pretrain for name in ENCODERS}


def stored_cohorts():
    """Cohorts that the first method drawn scores, and those of images, which have one view."""
    return list(dict.fromkeys([*TESTS[DRAWN[0]], *(n for n in SCORED if n in PACKED)]))


def store_cohorts():
    return [name for name in stored_cohorts() for path in cohort_stores(name)]


def report_study():
    """Title, cohorts and settings of the study, for its page."""
    cohorts = {n: {"title": c.title, "role": c.role} for n, c in STUDY.cohorts.items()}
    unused = None if STUDY.labels.told else {"labels"}
    settings = STUDY.model_dump(mode="json", exclude=unused)
    return json.dumps({"title": STUDY.study.title, "cohorts": cohorts, "settings": settings})
