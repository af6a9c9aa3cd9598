# What single rules read: their input functions, and the settings of a sheet's row.


include: "taught.smk"


def tiled(wildcards):
    """The slide to cut; or the images of a pack, drawn ones by their folder."""
    if wildcards.cohort not in PACKED:
        return ROWS[wildcards.cohort][wildcards.slide].path
    made = f"{DRAWN_IMAGES}{wildcards.cohort}"
    paths = [row.path for row in batch_rows(wildcards.cohort, wildcards.slide)]
    return sorted({made if path.startswith(made) else path for path in paths})


def tile_source(wildcards):
    """What `tile` is told to read: a slide, or the sheet of a pack's images."""
    name = wildcards.cohort
    return SHEETS[name] if name in PACKED else ROWS[name][wildcards.slide].path


def slide_settings(wildcards):
    """Flags of one slide's own row, or of one pack's; a pack is made anew when its rows change."""
    name = wildcards.cohort
    if name in PACKED:
        root = STUDY.cohorts[name].root and find(STUDY.cohorts[name].root, "folder", "root")
        return shlex.join(["--batch", wildcards.slide, "--root", root])
    row = ROWS[name][wildcards.slide]
    return f"--mpp {row.mpp}" if row.mpp else ""


def packed_rows(wildcards):
    """Fingerprint of names, files and resolutions of a pack's images."""
    if wildcards.cohort not in PACKED:
        return ""
    return cohort.digest(batch_rows(wildcards.cohort, wildcards.slide), "path", "mpp")


def tile_settings(wildcards):
    sections = [STUDY.slides, STUDY.stain, STUDY.tile]
    return flags.to_flags(*sections, *([STUDY.images] if wildcards.cohort in PACKED else []))


def annotation(wildcards):
    if wildcards.cohort in PACKED:
        return []
    row = ROWS[wildcards.cohort][wildcards.slide]
    return [row.annotation] if row.annotation else []


def drawing(wildcards):
    """Flags that draw a synthetic slide: its row's seed, severity and fault, nothing else."""
    row = ROWS[wildcards.cohort][wildcards.slide]
    own = [f"--{k}={row.extra[k]}" for k in ("seed", "severity", "fault") if row.extra.get(k)]
    scanner = STUDY.synthesise.scanners.get(wildcards.cohort, Scanner())
    return f"{shlex.join(own)} {flags.to_flags(STUDY.synthesise, scanner)}"


def drawn_rows(wildcards):
    """Fingerprint of the columns that synthetic images are drawn by, labels not among them."""
    return labels(wildcards.cohort, "path", "seed", "severity", "stain", "place", "fault")


def stores(wildcards):
    """Patch stores of one batch, in the encoder's view."""
    by_method = "method" in wildcards.keys()
    encoder = STUDY.methods[wildcards.method].encoder if by_method else wildcards.encoder
    if wildcards.cohort in PACKED:
        return [f"results/tile/{WHOLE}/{wildcards.cohort}/{wildcards.batch}.h5"]
    folder = f"results/tile/{STUDY.encoders[encoder].view}/{wildcards.cohort}"
    return [f"{folder}/{row.slide}.h5" for row in batch_rows(wildcards.cohort, wildcards.batch)]


def batch_rows(name, batch):
    """Rows of one batch of a cohort."""
    number, of = map(int, batch.split("of"))
    return [ROWS[name][slide] for slide in by_batch(name, of).get(number, [])]


@cache
def by_batch(name, of):
    """Slides of a cohort, by the number of their batch."""
    found = {}
    for slide in ROWS[name]:
        found.setdefault(batch_of(slide, of), []).append(slide)
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


def cohort_folders(encoder, name):
    return [f"results/encode/{encoder}/{name}/{batch}" for batch in batches(name)]


def encoder_stores(wildcards):
    """Patch stores of a cohort, in the encoder's view."""
    return cohort_stores(wildcards.cohort, STUDY.encoders[wildcards.encoder].view)


def cohort_stores(name, view=WHOLE):
    """Patch stores of a cohort: one per slide, or its packs of images, whatever the view."""
    if name in PACKED:
        return [f"results/tile/{WHOLE}/{name}/{batch}.h5" for batch in batches(name)]
    return [f"results/tile/{view}/{name}/{slide}.h5" for slide in ROWS[name]]


def tested_packs(wildcards):
    """Packs of a cohort of images."""
    return cohort_stores(wildcards.cohort) if wildcards.cohort in PACKED else []


def learnt_packs(wildcards):
    """Packs of images that a method learnt from, its own cohort's sides left to its training."""
    encoder, name = STUDY.methods[wildcards.method].encoder, wildcards.cohort
    learnt = {development(wildcards), teaching.pretraining(STUDY, encoder)} - {name}
    found = sorted(learnt & set(PACKED)) if name in PACKED else []
    return [path for teacher in found for path in cohort_stores(teacher)]


def compared_packs(wildcards):
    return tested_packs(wildcards) + learnt_packs(wildcards)
