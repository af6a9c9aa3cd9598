"""Jobs of splits: what each trains, and that it depends on nothing but its own split."""

import pytest
import yaml

from her2pipe.errors import Her2Error
from her2pipe.workflow.commands import Commands
from her2pipe.workflow.derived_names import encoder_split_fold, name_and_split
from her2pipe.workflow.fingerprints import Fingerprints
from her2pipe.workflow.inputs import Inputs
from her2pipe.workflow.preflight import notes
from her2pipe.workflow.study import Study
from her2pipe.workflow.targets import Targets

STUDY = {
    "cohorts": {
        "A": {"sheet": "A.tsv", "role": "development"},
        "B": {"sheet": "B.tsv", "role": "external"},
    },
    "encoders": {
        "net": {},
        "frozen": {"task": "none", "stain_target": "none"},
        "coloured": {"task": "none"},
    },
    "methods": {
        "PA": {"encoder": "net"},
        "CLAM": {"encoder": "net", "aggregate": "clam", "fit": {"cross_fit": "encoder"}},
        "probe": {"encoder": "frozen", "aggregate": "linear_probe"},
        "other": {"encoder": "coloured", "aggregate": "linear_probe"},
    },
}


class Job:
    """The wildcards of a job."""

    def __init__(self, **wildcards):
        vars(self).update(wildcards)


@pytest.fixture
def inputs_of(tmp_path, monkeypatch):
    """Inputs of a study of two cohorts with changes."""
    monkeypatch.chdir(tmp_path)
    for cohort in "AB":
        lines = ["slide\tpath\tpatient\ther2\tcentre"]
        for i in range(18):
            status, centre = ("negative", "positive")[i % 2], "XYZ"[i % 3]
            lines.append(f"{cohort}{i}\t{cohort}{i}.svs\t{cohort}-P{i}\t{status}\t{centre}")
        (tmp_path / f"{cohort}.tsv").write_text("\n".join(lines) + "\n")

    def of(split, check=False, **changes):
        study = {**STUDY, "split": split, **changes}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
        loaded = Study.load(study, "study.yaml", check_files=False)
        if check:
            loaded.check_cohorts()
        return Inputs(Targets(loaded))

    return of


def commands(inputs):
    """Return the params of every training, fit and scoring of splits, by the name of the job."""
    of_jobs, fingerprints, targets = Commands(inputs), Fingerprints(inputs), inputs.targets
    params = {}
    for method in inputs.settings.methods:
        encoder = targets.encoder_of(method)
        for split in targets.splits(method):
            job = Job(method=f"{method}.split{split}", cohort="A")
            params["score", job.method] = of_jobs.scoring(job), inputs.scored(job)
            if inputs.fitted(job):
                params["fit", job.method] = (
                    of_jobs.fit(job),
                    fingerprints.fit(job),
                    inputs.development_encodings(job),
                    inputs.fold_encodings(job),
                )
            name = targets.encoder_of_split(encoder, split)
            job = Job(encoder=name)
            params["train", name] = of_jobs.train(job), fingerprints.development("train")(job)
    return params


def test_an_encoder_that_has_seen_no_slide_is_shared(inputs_of):
    inputs = inputs_of({"scheme": "folds", "folds": 3})
    names = {name for step, name in commands(inputs) if step == "train"}
    splits = ("1of3", "2of3", "3of3")
    assert names == {
        "frozen",
        *(f"net.split{split}" for split in splits),
        *(f"coloured.split{split}" for split in splits),  # by its stain target
    }
    assert inputs.cohort_encodings(Job(method="PA", cohort="B")) == [
        f"results/encode/net.split{split}/B/0of1" for split in splits
    ]
    assert inputs.cohort_encodings(Job(method="probe", cohort="B")) == [
        "results/encode/frozen/B/0of1"
    ]
    job = Job(method="CLAM.split2of3", cohort="A")
    assert inputs.fold_encodings(job)[0] == "results/encode/net.split2of3.fold1of5/A/0of1"
    assert inputs.trained_for_split(job) == [
        "results/train/net.split2of3",
        "results/fit/CLAM.split2of3",
    ]
    assert inputs.scored(Job(method="CLAM", cohort="B")) == [
        f"results/score/CLAM.split{split}/B.tsv" for split in splits
    ]
    of_split = Commands(inputs).train(Job(encoder="net.split2of3.fold1of5"))
    assert of_split.startswith("--split 2of3 --fold 1of5 --scheme folds")
    assert "--scheme" not in Commands(inputs).train(Job(encoder="net"))


def test_one_repeat_more_changes_no_job_of_the_others(inputs_of):
    few, more = (
        commands(inputs_of({"scheme": "repeats", "folds": 2, "repeats": n})) for n in (2, 3)
    )
    assert {name: params for name, params in more.items() if name in few} == few
    new = {name for name in more if name not in few}
    assert all(name.endswith("r3") for _, name in new)
    assert len(new) == 2 * (4 + 3 + 2)  # of 2 folds: scores, fits, encoders


def test_a_holdout_has_the_jobs_it_had(inputs_of):
    plain, stated = inputs_of({}), inputs_of({"scheme": "holdout", "folds": 7, "repeats": 2})
    for inputs in (plain, stated):
        assert commands(inputs) == {}
        job = Job(method="CLAM", cohort="A")
        assert inputs.scored(job) == inputs.cohort_encodings(job)
        assert Commands(inputs).fit(job) == Commands(plain).fit(job)
        assert Commands(inputs).evaluate(job) == Commands(plain).evaluate(job)
        assert "scheme" not in Commands(inputs).train(Job(encoder="net"))


def test_splits_by_value_follow_their_column_and_are_checked_before_the_first_job(inputs_of):
    inputs = inputs_of({"scheme": "column", "split_column": "centre"}, check=True)
    assert inputs.targets.splits("PA") == ["1of3", "2of3", "3of3"]
    assert "A: 3 splits (split.scheme: column), each slide scored out of fold" in notes(
        inputs.study
    )
    train, job = Fingerprints(inputs).development("train"), Job(encoder="net.split1of3")
    before = train(job)
    assert before != train(Job(encoder="net"))  # the holdout does not read the column
    for split, message in (
        ({"scheme": "column", "split_column": "center"}, "no column center"),
        ({"scheme": "site"}, "slide A0 has no site"),
        ({"scheme": "folds", "folds": 19}, "18 patients cannot be dealt into 19 folds"),
        ({"stratify_by": ["scanner"]}, "no column scanner"),
        ({"scheme": "column"}, "without split_column"),
        ({"scheme": "folds", "folds": 1}, "scheme folds with 1 fold"),
    ):
        with pytest.raises(Her2Error, match=message):
            inputs_of(split, check=True)


def test_names_of_splits_are_read_back_and_cannot_be_taken(inputs_of):
    assert encoder_split_fold("net.split2of5r1.fold1of3", ["net"]) == ("net", "2of5r1", "1of3")
    assert encoder_split_fold("net.fold1of3", ["net"]) == ("net", "", "1of3")
    assert encoder_split_fold("a.split1of2", ["a.split1of2"]) == ("a.split1of2", "", "")
    assert name_and_split("CLAM.split2of5", ["CLAM"]) == ("CLAM", "2of5")
    assert name_and_split("CLAM", ["CLAM"]) == ("CLAM", "")
    encoders = {**STUDY["encoders"], "net.split1of3": {}}
    with pytest.raises(Her2Error, match=r"net.split1of3 has the name of a split of net"):
        inputs_of({}, encoders=encoders)
