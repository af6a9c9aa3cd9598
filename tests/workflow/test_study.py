"""What the rules ask: targets, inputs, commands, fingerprints and manifests of a small study."""

import shlex
from types import SimpleNamespace

import pytest
from bundles import make_tiny_bundle
from small_study import STUDY, sheet_lines, write_study

from her2pipe.bundles.read import read_description
from her2pipe.errors import Her2Error, ManyErrors
from her2pipe.manifest import Manifest
from her2pipe.workflow.commands import Commands
from her2pipe.workflow.fingerprints import Fingerprints, digest, sheet_columns
from her2pipe.workflow.inputs import Inputs
from her2pipe.workflow.manifests import Manifests
from her2pipe.workflow.resources import gpus, growing, link, threads_for
from her2pipe.workflow.study import Study, find
from her2pipe.workflow.targets import Targets

SHEETS = {"A": sheet_lines("A", 6), "B": sheet_lines("B", 5)}


def job(**wildcards):
    return SimpleNamespace(**wildcards)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load a study of two cohorts, with changes of its file and sheets; returns its inputs."""
    monkeypatch.chdir(tmp_path)

    def loaded(change=None, sheets=None):
        study = STUDY | (change or {})
        write_study(tmp_path, study, SHEETS | (sheets or {}))
        return Inputs(Targets(Study.load(study, "study.yaml")))

    return loaded


# --- study and targets


def test_files_are_looked_for_beside_the_study_then_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "here.tsv").touch()
    assert find("here.tsv", "sheet", "studies/my.yaml", "cohorts.A.sheet") == "here.tsv"
    (tmp_path / "studies" / "here.tsv").touch()
    assert find("here.tsv", "sheet", "studies/my.yaml", "cohorts.A.sheet") == "studies/here.tsv"
    with pytest.raises(Her2Error, match=r"the sheet none\.tsv does not exist") as error:
        find("none.tsv", "sheet", "studies/my.yaml", "cohorts.A.sheet")
    assert error.value.where == "studies/my.yaml, key cohorts.A.sheet"


def test_mistakes_of_all_sheets_come_together(load):
    wrong = {
        name: [line.replace("positive", "perhaps") for line in lines]
        for name, lines in SHEETS.items()
    }
    with pytest.raises(ManyErrors) as error:
        load(sheets=wrong)
    places = [problem.where for problem in error.value.problems]
    assert {place.split(" line ")[0] for place in places} == {"sheets/A.tsv", "sheets/B.tsv"}


def test_a_patient_of_the_development_cohort_is_not_tested(load):
    shared = [line.replace("\tB-P2\t", "\tA-P2\t") for line in SHEETS["B"]]
    with pytest.raises(Her2Error, match="patient A-P2"):
        load(sheets={"B": shared})


def test_each_method_scores_each_cohort_and_each_slide_has_one_batch(load):
    targets = load().targets
    assert targets.scores == [(method, name) for method in STUDY["methods"] for name in "AB"]
    assert targets.score_tables[0] == "results/score/TL-PA/A.tsv"
    assert targets.encoders == ["small"]
    batches = targets.batches("A")
    assert {batch.split("of")[1] for batch in batches} == {"2"}  # 6 slides, 3 a batch
    rows = [row.slide for batch in batches for row in targets.batch_rows("A", batch)]
    assert sorted(rows) == [f"A-{i}" for i in range(1, 7)]
    assert targets.encodings("small", "A") == [f"results/encode/small/A/{b}" for b in batches]


def test_optional_outputs_are_those_the_study_asks_for(load):
    assert load().targets.optional == [f"results/describe/small/{name}" for name in "AB"]
    change = {
        "explain": {"encoders": ["small"]},
        "deploy": {"encoders": ["small"]},
        "describe": {"cohorts": ["B"]},
    }
    optional = load(change).targets.optional
    assert optional[:2] == ["results/describe/small/B", "results/deploy/small"]
    assert {path.split("/")[1] for path in optional[2:]} == {"explain"}


# --- what is chosen on slides that are reported


def test_what_validation_slides_choose_is_said(load):
    encoders = {
        "small": {},
        "best": {"stop_epochs": 3, "reduce_epochs": 2},
        "bare": {"task": "none"},
    }
    methods = {
        "TL-PA": {"encoder": "small"},
        "TL-mean": {"encoder": "small", "aggregate": "mean"},
        "TL-mlp": {"encoder": "small", "aggregate": "mlp"},
        "Best": {"encoder": "best"},
        "Frozen": {"encoder": "bare", "aggregate": "clam"},
    }
    chosen = {
        name: Commands(load({"encoders": encoders, "methods": methods})).chosen_by_validation(name)
        for name in methods
    }
    assert chosen == {
        "TL-PA": "",
        "TL-mean": "threshold",
        "TL-mlp": "epochs of the aggregation, threshold",
        "Best": "epoch of the encoder, steps of the encoder",
        "Frozen": "",
    }
    fit = STUDY["fit"] | {"cross_fit": "encoder"}
    commands = Commands(load({"fit": fit, "encoders": encoders, "methods": methods}))
    assert commands.chosen_by_validation("TL-mlp") == ""


# --- encoders of inner folds


def test_each_fold_has_an_encoder_that_methods_share(load):
    """By default there are none: the internal validation side judges."""
    assert load().fold_encodings(job(method="TL-mlp")) == []
    methods = STUDY["methods"] | {"Frozen": {"encoder": "bare", "aggregate": "clam"}}
    encoders = STUDY["encoders"] | {"bare": {"task": "none"}}
    fit = STUDY["fit"] | {"cross_fit": "encoder"}
    inputs = load({"fit": fit, "methods": methods, "encoders": encoders})
    batches = inputs.targets.batches("A")
    expected = [f"results/encode/small.fold{k}of2/A/{b}" for k in (1, 2) for b in batches]
    assert inputs.fold_encodings(job(method="TL-mlp")) == expected
    assert inputs.fold_encodings(job(method="TL-mean")) == expected
    assert inputs.fold_encodings(job(method="Frozen")) == []
    assert inputs.fold_encodings(job(method="TL-PA")) == []
    one, whole = job(encoder="small.fold1of2"), job(encoder="small")
    assert inputs.training_stores(one) == inputs.training_stores(whole)
    train = Commands(inputs).train
    assert train(one) == f"--fold 1of2 {train(whole)}"
    assert inputs.batch_stores(job(encoder="small.fold1of2", cohort="A", batch=batches[0]))


def test_no_encoder_is_called_as_that_of_a_fold_is(load):
    with pytest.raises(Her2Error, match=r"small\.fold1of2 has the name of an encoder of small"):
        load({"encoders": {"small": {}, "small.fold1of2": {"max_epochs": 3}}})
    inputs = load({"encoders": {"small": {}, "big.fold1of2": {}}})
    assert inputs.encoder(job(encoder="big.fold1of2")) == "big.fold1of2"


def test_files_of_tissue_are_looked_for_before_a_run(load, tmp_path):
    """By the pattern, but for slides whose row names one; the first that lacks is named."""
    by_file = {"tissue": {"tissue_method": "file", "tissue_file": "masks/{slide}.png"}}
    with pytest.raises(
        Her2Error, match=r"of slide A-1 \(and of 10 other slides\) does not"
    ) as error:
        load(by_file)
    assert error.value.what.endswith("masks/A-1.png")
    assert error.value.where == "study.yaml, key tissue.tissue_file"
    with pytest.raises(Her2Error, match=r"slide A-1 .* has no file of its tissue"):
        load({"tissue": {"tissue_method": "file"}})
    (tmp_path / "masks").mkdir()
    for name, count in (("A", 6), ("B", 5)):
        for i in range(1, count + 1):
            (tmp_path / "masks" / f"{name}-{i}.png").touch()
    assert load(by_file).tissue(job(cohort="B", slide="B-2")) == ["masks/B-2.png"]
    (tmp_path / "masks" / "B-2.png").unlink()
    (tmp_path / "own.png").touch()
    sheet = [f"{line}\t{'own.png' if '/B-2.svs' in line else ''}" for line in SHEETS["B"]]
    sheet[0] = f"{SHEETS['B'][0]}\ttissue_mask"
    assert load(by_file, {"B": sheet}).tissue(job(cohort="B", slide="B-2")) == ["own.png"]
    assert load().tissue(job(cohort="B", slide="B-2")) == []


# --- inputs


def test_inputs_of_a_job(load):
    inputs = load()
    slide = job(cohort="B", slide="B-2")
    assert inputs.slide(slide) == ["results/synthesise/B/B-2.svs"]
    assert inputs.annotation(slide) == ["results/synthesise/B/B-2.xml"]
    stores = inputs.training_stores(job(encoder="small"))
    assert stores == [f"results/tile/adaptive/A/A-{i}.h5" for i in range(1, 7)]
    assert inputs.training_folders(job(encoder="small")) == ["results/tile/adaptive/A"]
    assert inputs.development(job(method="TL-mlp", cohort="B")) == "A"
    assert inputs.fitted(job(method="TL-PA")) == []
    assert inputs.fitted(job(method="TL-mlp")) == ["results/fit/TL-mlp"]
    assert inputs.development_scores(job(method="TL-mean")) == ["results/score/TL-mean/A.tsv"]
    batch = inputs.targets.batches("B")[0]
    assert inputs.batch_encodings(job(method="TL-PA", cohort="B", batch=batch)) == (
        f"results/encode/small/B/{batch}"
    )


def test_folders_of_pairs_are_inputs_as_new_files_show_in_them(load, tmp_path):
    for side in ("HE", "IHC"):
        (tmp_path / "my pairs" / side / "train").mkdir(parents=True)
    methods = STUDY["methods"] | {"DAB": {"encoder": "dab", "aggregate": "slidegraph"}}
    encoders = STUDY["encoders"] | {"dab": {"task": "density", "pairs": "my pairs"}}
    files = load({"encoders": encoders, "methods": methods}).training_files(job(encoder="dab"))
    inside = ("", "/HE", "/HE/train", "/IHC", "/IHC/train")
    assert sorted(files) == [f"my pairs{folder}" for folder in inside]


# --- commands


def test_commands_hold_what_differs_from_the_defaults_in_one_form(load):
    plain = Commands(load({"score": {}})).settings("score")
    spelled = Commands(load({"score": {"chance": 0.330, "cutoffs": [0.1, 0.15, 0.2, 0.25]}}))
    assert spelled.settings("score") == plain
    assert "--chance" not in plain
    assert "--chance 0.4" in Commands(load({"score": {"chance": 0.4}})).settings("score")


def test_rejected_artefacts_concern_the_steps_after_encode_alone(load):
    """Changed, they rerun neither tile nor encode."""
    plain, changed = (Commands(load({"tile": t})) for t in ({}, {"reject": ["pen", "fold"]}))
    for step in ("tile", "encode", "preflight"):
        assert changed.settings(step) == plain.settings(step)
    for step in ("train", "score", "describe", "heatmap"):
        assert changed.settings(step) == f"{plain.settings(step)} --reject pen fold"
    fitted = job(method="TL-mlp")
    assert changed.fit(fitted) == f"{plain.fit(fitted)} --reject pen fold"


def test_the_order_of_keys_in_a_study_changes_no_command(load):
    shares = {"HER2-": 0.5, "HER2+": 0.25, "Non-tumour": 0.125}
    commands = [
        Commands(load({"train": STUDY["train"] | {"fractions": {"adaptive": dict(order)}}})).train(
            job(encoder="small")
        )
        for order in (shares.items(), reversed(shares.items()))
    ]
    assert commands[0] == commands[1]
    assert "0.125" in commands[0]


def test_a_synthetic_slide_is_drawn_by_its_row_and_its_scanner(load):
    text = Commands(load()).synthesise(job(cohort="A", slide="A-1"))
    words = shlex.split(text)
    assert "--seed=1" in words
    assert "--severity=4" in words
    assert words[words.index("--objective") + 1] == "20"


def test_a_study_of_classes_fits_what_it_can(load):
    methods = {
        name: {"encoder": "small", "aggregate": name} for name in ("mean", "clam", "slidegraph")
    }
    labels = {"endpoint": "class", "column": "her2", "classes": ["negative", "positive"]}
    change = {"methods": methods, "labels": labels, "heatmap": {"methods": ["clam"]}}
    inputs = load(change | {"train": {}, "compare": {}, "report": {}, "describe": {}})
    fitted = {name: inputs.fitted(job(method=name)) for name in methods}
    assert fitted == {"mean": []} | {n: [f"results/fit/{n}"] for n in ("clam", "slidegraph")}
    words = shlex.split(Commands(inputs).fit(job(method="clam")))
    assert words[words.index("--endpoint") + 1] == "class"
    assert "--classes" in words
    assert "--radius-px" not in words


def test_evaluations_state_method_cohort_and_role(load):
    options = Commands(load()).evaluate(job(method="TL-mlp", cohort="B"))
    assert {
        "--sheet=sheets/B.tsv",
        "--role=external",
        "--method=TL-mlp",
        "--encoder=small",
        "--aggregate=mlp",
        "--trained=encoder and aggregation",
    } <= set(options)


def test_the_folder_of_an_encoder_is_an_input_of_its_training(load, tmp_path):
    (tmp_path / "encoder").mkdir()
    encoder = {"architecture": "local-dir:encoder", "weights": "source", "task": "none"}
    change = {"methods": {"CLAM": {"encoder": "small", "aggregate": "clam"}}}
    inputs = load(change | {"encoders": {"small": encoder}})
    assert inputs.training_files(job(encoder="small")) == ["encoder"]
    assert "--architecture local-dir:encoder" in Commands(inputs).train(job(encoder="small"))
    change["encoders"] = {"small": encoder | {"architecture": "local-dir:elsewhere"}}
    with pytest.raises(Her2Error, match="the folder elsewhere does not exist"):
        load(change)


def test_stand_ins_are_handed_to_the_comparison(load):
    assert Commands(load()).compare() == []
    methods = {"TL-PA": {"encoder": "small", "stand_in": "one in place of another"}}
    assert Commands(load({"methods": methods})).compare() == [
        "--stand-in=TL-PA=one in place of another"
    ]


# --- fingerprints


def test_a_digest_is_that_of_the_declared_values_in_any_order(load):
    rows = list(load().study.rows["B"].values())
    assert digest(rows, ["patient"]) == digest(rows[::-1], ["patient"])
    relabelled = load(
        sheets={
            "B": [SHEETS["B"][0], SHEETS["B"][1].replace("positive", "negative"), *SHEETS["B"][2:]]
        }
    )
    other = list(relabelled.study.rows["B"].values())
    assert digest(rows, ["patient"]) == digest(other, ["patient"])
    assert digest(rows, ["positive"]) != digest(other, ["positive"])


def test_a_label_is_no_concern_of_tiling_and_encoding(load):
    study = load().study
    endpoint = study.endpoint
    labels = set(endpoint.columns) | {"positive", "level"}
    assert labels & set(sheet_columns("evaluate", endpoint, study.settings.evaluate))
    for step in ("encode", "synthesise"):
        assert not labels & set(sheet_columns(step, endpoint)), step


def test_an_external_label_changes_its_own_evaluation_only(load):
    corrected = [SHEETS["B"][0], SHEETS["B"][1].replace("positive", "negative"), *SHEETS["B"][2:]]
    before, after = Fingerprints(load()), Fingerprints(load(sheets={"B": corrected}))
    changed = {
        name
        for name in "AB"
        if before.evaluate(job(method="TL-PA", cohort=name))
        != after.evaluate(job(method="TL-PA", cohort=name))
    }
    assert changed == {"B"}
    assert before.development("train")(job(encoder="small")) == after.development("train")(
        job(encoder="small")
    )
    assert before.cohort("score")(job(cohort="B")) == after.cohort("score")(job(cohort="B"))


def test_a_new_version_of_a_network_is_the_concern_of_those_that_use_it(load):
    light = Fingerprints(load({"encoders": {"small": {"architecture": "ather2"}}}))
    assert light.network("train")(job(encoder="small")) == ["ather2 version 2"]
    assert Fingerprints(load()).network("train")(job(encoder="small")) == []


# --- manifests and resources


def test_manifests_name_every_output_once_and_are_written_when_they_change(load, tmp_path):
    inputs = load()
    manifests = Manifests(inputs)
    manifests.write(tmp_path)
    for path, manifest in (
        (manifests.compare_path, manifests.compare),
        (manifests.report_path, manifests.report),
    ):
        assert Manifest.read(tmp_path / path) == manifest
        assert len(set(manifest.items)) == len(manifest.items)
    assert manifests.compare.paths("evaluate") == inputs.targets.evaluations
    assert [item.cohort for item in manifests.report.select("sheet")] == ["A", "B"]
    written = (tmp_path / manifests.report_path).stat().st_mtime_ns
    manifests.write(tmp_path)
    assert (tmp_path / manifests.report_path).stat().st_mtime_ns == written


def test_the_digest_of_a_study_follows_its_meaning(load):
    plain = Manifests(load()).study_digest()
    assert Manifests(load({"score": {"chance": 0.33}})).study_digest() == plain
    assert Manifests(load({"study": {"title": "Another"}})).study_digest() != plain


def test_resources():
    assert [growing(500)(None, attempt) for attempt in (1, 2, 3)] == [500, 1000, 1500]
    assert [gpus(device) for device in ("cpu", "cuda", "auto")] == [0, 1, 1]
    assert [gpus(device, 2) for device in ("cpu", "cuda")] == [0, 2]
    assert [threads_for(device, 4) for device in ("cpu", "cuda")] == [1, 4]


def test_a_profile_translates_what_rules_ask_for():
    """By the name alone; amounts follow the attempt, and a rule that asks for none gets none."""
    from snakemake.resources import Resources

    defaults = Resources.parse(
        ["request_gpus=gpu", "amount=mem_mb", "tmpdir=system_tmpdir"], allow_expressions=True
    )
    asked = [{"gpu": 2, "mem_mb": growing(500)}, {"mem_mb": 700}]
    rules = [defaults.copy(), defaults.copy()]
    for resources, values in zip(rules, asked, strict=True):
        resources.update(values)
        link(resources)
    assert [resources["request_gpus"].value for resources in rules] == [2, 0]
    assert rules[0]["amount"].evaluate(None, attempt=3).value == 1500
    assert rules[1]["amount"].value == 700
    assert rules[0]["amount"].name == "amount"
    assert rules[0]["tmpdir"].raw == "system_tmpdir"


# --- bundles


def test_a_bundle_beside_trained_methods_is_applied_and_compared(load, tmp_path):
    """It reads the same stores, has parts of its own, and takes nothing from cohort A's labels."""
    settings = load().settings
    fixed = {
        name: getattr(settings, name).model_dump(mode="json") for name in ("tile", "stain", "score")
    }
    calibration = {"slope": 4.0, "intercept": -2.0, "fitted_on": 9}
    folder = make_tiny_bundle(tmp_path / "m", settings=fixed, calibration=calibration)
    methods = STUDY["methods"] | {"M": {"bundle": "m"}}
    inputs = load({"methods": methods})
    study, targets, commands = inputs.study, inputs.targets, Commands(inputs)
    assert targets.scored_by_method["M"] == ["A", "B"]
    assert targets.encoders == ["M", "small"]
    assert inputs.trained_encoders() == ["results/unpack/encoder/M", "results/train/small"]
    of_bundle, of_trained = job(method="M", cohort="B"), job(method="TL-mlp", cohort="B")
    assert inputs.fitted(of_bundle) == ["results/unpack/aggregation/M"]
    assert inputs.fitted(of_trained) == ["results/fit/TL-mlp"]
    assert inputs.cohort_stores(of_bundle) == inputs.cohort_stores(of_trained)
    assert inputs.reference(of_bundle) == ["results/unpack/bundle/M.json"]
    assert inputs.reference(of_trained) == inputs.compared_stores(of_trained) == []
    assert commands.scoring(of_bundle) == [
        "--model=results/unpack/aggregation/M",
        "--reference=results/unpack/bundle/M.json",
        "--stores=results/tile/adaptive/B",
        "--quality=results/quality/B.tsv",
    ]
    assert commands.scoring(of_trained) == [
        "--model=results/fit/TL-mlp",
        "--quality=results/quality/B.tsv",
    ]
    # Cohort A trained the others; to the bundle it is external, and chooses no cut-off.
    words = commands.evaluate(job(method="M", cohort="A"))
    assert "--role=external" in words
    assert any(word.startswith('--platt={"slope":4.0') for word in words)
    assert not [word for word in words if word.startswith("--development")]
    assert "--role=development" in commands.evaluate(job(method="TL-mlp", cohort="A"))
    assert Fingerprints(inputs).cutoff(of_bundle) == ""
    assert Fingerprints(inputs).bundle(of_bundle) == read_description(folder).digest
    described = Manifests(inputs).describe_study()
    assert described["settings"]["methods"]["M"]["bundle"] == study.bundles["M"].description.digest
    assert set(described["settings"]["encoders"]) == {"small"}
