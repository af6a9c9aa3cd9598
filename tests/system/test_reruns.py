"""What reruns: exactly the jobs that read what has changed, and nothing that is only respelled.

Results are empty files that Snakemake holds for made (`--touch`), so that only planning is tested.
"""

import re
import shutil

import pytest
import yaml
from process_client import SNAKEMAKE
from small_study import snakemake, write_study

pytestmark = [pytest.mark.xdist_group("reruns"), pytest.mark.slow]
TOUCH = (  # touching waits a tenth of a second per job, for clocks coarser than ours
    "from snakemake.executors import touch; touch.Executor.SLEEPING_TIME = 0\n"
    "from snakemake.cli import main; main()"
)
# A column of the sheets, and how its values in the first and in the second row change.
COLUMNS = {
    "note": ("a", "b"),
    "path": ("slides/1.svs", "slides/3.svs"),
    "mpp": ("0.5", "0.25"),
    "annotation": ("slides/1.xml", "slides/3.xml"),
    "patient": ("P1", "P3"),
    "split": ("train", "validation"),
    "her2": ("positive", "negative"),
    "ihc": ("3+", "1+"),
    "er": ("positive", "negative"),
    "pr": ("positive", "negative"),
    "pcr": ("yes", "no"),
    "rcb": ("0", "II"),
    "scanner": ("Aperio", "Hamamatsu"),
}
OTHERS = ("er", "pr", "pcr", "rcb", "scanner")  # no labels
SLIDE = {"tile", "encode", "quality", "score", "evaluate"}
# Steps that rerun for a cohort that is scored, and for a development cohort, when a column changes.
SCORED = {
    "path": SLIDE,
    "mpp": SLIDE,
    "annotation": SLIDE,
    "patient": {"quality", "score", "evaluate"},
    **{name: {"evaluate"} for name in ("split", "her2", "ihc", *OTHERS)},
}
TRAINED = {"train", "fit", "encode", "score", "evaluate"}
DEVELOPMENT = {
    **{name: {"tile", "quality", *TRAINED} for name in ("path", "mpp", "annotation")},
    "patient": {"quality", *TRAINED},
    **dict.fromkeys(("split", "her2"), TRAINED),
    "ihc": {"evaluate"},  # the level is no target of a fit of status
    **{name: {"evaluate"} for name in OTHERS},
}
OF_STUDY = {(step, "") for step in ("preflight", "compare", "ledger", "report")}
WILDCARDS = ("cohort", "encoder", "method")
WHOSE = {"train": "e", "fit": "m"}  # jobs that are of an encoder or a method, not of a cohort
NEW_SETTINGS = """
from her2pipe import config
from her2pipe.config.base import setting

sections = [kind for kind in (getattr(config, name) for name in config.__all__)
            if isinstance(kind, type) and issubclass(kind, config.Section)]
for kind in sections:
    kind.__pydantic_fields__["novelty"] = setting(3, "a setting of a later version")
    kind.__pydantic_fields__["novelty"].annotation = int
for _ in range(2):  # those that hold others come to know them in the second round
    for kind in sections:
        for field in kind.__pydantic_fields__.values():
            if isinstance(field.default, config.Section):
                field.default = type(field.default)()
        kind.model_rebuild(force=True)
assert config.TileSettings().novelty == 3
from snakemake.cli import main
main()
"""


def rows(cohort, changed=""):
    """Return the lines of a sheet, one column of its first slide changed; the last two validate."""
    lines = ["\t".join(("slide", *COLUMNS))]
    for number in (1, 2, 4, 5):
        values = {name: values[0] for name, values in COLUMNS.items()}
        values |= {"path": f"slides/{number}.svs", "annotation": f"slides/{number}.xml"}
        values["patient"] = f"P{number}"
        if number > 3:
            values["split"] = "validation"
        if number == 5:
            values |= {"her2": "negative", "ihc": "1+"}
        if number == 1 and changed:
            values[changed] = COLUMNS[changed][1]
        values["path"] = values["path"].replace("slides", f"slides/{cohort}")
        values["annotation"] = values["annotation"].replace("slides", f"slides/{cohort}")
        values["patient"] = f"{cohort}-{values['patient']}"
        lines.append("\t".join((f"{cohort}-{number}", *values.values())))
    return lines


def study(columns):
    """Return a study with a development and a scored cohort, and a method, for each column."""
    cohorts, encoders, methods = {}, {}, {}
    for name in columns:
        cohorts[f"D-{name}"] = {"sheet": f"sheets/D-{name}.tsv", "role": "development"}
        cohorts[f"X-{name}"] = {"sheet": f"sheets/X-{name}.tsv", "role": "external"}
        encoders[f"e-{name}"] = {"develop": f"D-{name}"}
        methods[f"m-{name}"] = {
            "encoder": f"e-{name}",
            "aggregate": "mlp",
            "cohorts": [f"D-{name}", f"X-{name}"],
        }
    return {
        "cohorts": cohorts,
        "encoders": encoders,
        "methods": methods,
        "train": {
            "device": "cpu",
            "train_views": ["64"],
            "architecture": "test_resnet",
            "frozen": [],
            "fractions": {"64": {"HER2-": 0.5, "HER2+": 0.7}},
        },
        "encode": {"device": "cpu"},
        "fit": {"device": "cpu"},
        "describe": {"encoders": ["e-note"]},
        "heatmap": {"methods": ["m-note"]},
    }


def write(folder, columns, changed=()):
    sheets = {}
    for name in columns:
        for cohort in (f"D-{name}", f"X-{name}"):
            (folder / "slides" / cohort).mkdir(parents=True, exist_ok=True)
            for number in (1, 2, 3, 4, 5):
                for suffix in ("svs", "xml"):
                    path = folder / "slides" / cohort / f"{number}.{suffix}"
                    if not path.exists():
                        path.write_text("<Annotations/>")
            sheets[cohort] = rows(cohort, name if cohort in changed else "")
    write_study(folder, study(columns), sheets)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study whose results are all there."""
    folder = tmp_path_factory.mktemp("reruns") / "study"
    write(folder, COLUMNS)
    text = snakemake(folder, "--summary").stdout
    for line in text.splitlines():
        if line.startswith("results/"):
            path = folder / line.split("\t")[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch() if path.suffix else path.mkdir(exist_ok=True)
    run = snakemake(folder, "--touch", "--forceall", "--quiet", "all", code=TOUCH)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


@pytest.fixture
def again(made, tmp_path):
    """A copy of it that a test may change."""
    folder = tmp_path / "study"
    shutil.copytree(made, folder, symlinks=True)
    return folder


def jobs(folder, code=SNAKEMAKE):
    """Return (rule, its cohort, encoder or method) of each job that a run would do."""
    run = snakemake(folder, "--dry-run", code=code)
    assert run.returncode == 0, run.stdout + run.stderr
    plan = set()
    for block in re.split(r"\n(?=\[)", run.stdout + run.stderr):
        rule = re.search(r"^(?:local)?rule (\w+):", block, re.M)
        if rule and rule[1] != "all":
            found = (re.search(rf"wildcards: .*?{w}=([^,\s]+)", block) for w in WILDCARDS)
            plan.add((rule[1], next((match[1] for match in found if match), "")))
    return plan


def test_a_changed_column_reruns_what_reads_it(again):
    """Of each cohort another column is changed, so that one plan shows what each reruns."""
    assert jobs(again) == set()
    write(again, COLUMNS, [f"X-{name}" for name in COLUMNS])
    expected = {(step, f"X-{name}") for name, steps in SCORED.items() for step in steps}
    assert jobs(again) == expected | OF_STUDY


def test_a_changed_column_of_a_development_cohort_trains_anew_where_it_is_read(again):
    write(again, COLUMNS, [f"D-{name}" for name in COLUMNS])
    expected = set(OF_STUDY)
    for name, steps in DEVELOPMENT.items():
        expected |= {(step, f"{WHOSE.get(step, 'D')}-{name}") for step in steps}
        if "train" in steps:
            expected.add(("encode", f"X-{name}"))
        if "fit" in steps:
            expected |= {("score", f"X-{name}"), ("evaluate", f"X-{name}")}
    assert jobs(again) == expected


def test_the_same_study_in_other_words_reruns_nothing(again):
    """Order of keys, numbers and defaults that are spelled out mean nothing."""
    text = (again / "study.yaml").read_text()
    study = yaml.safe_load(text)
    study["train"]["fractions"]["64"] = {"HER2+": 0.70, "HER2-": 5e-1}
    study["score"] = {"chance": 0.33, "cutoffs": [0.10, 0.15, 0.2, 0.25]}
    study["split"] = {"split_seed": 2025}
    study = dict(reversed(study.items()))
    (again / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    assert (again / "study.yaml").read_text() != text
    assert jobs(again) == set()


def test_a_new_setting_with_its_default_reruns_nothing(again):
    assert jobs(again, NEW_SETTINGS) == set()
