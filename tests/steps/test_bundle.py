"""Step bundle: what it holds of a finished study, and what it leaves behind."""

import getpass
import json
import re
import socket

import pytest
import yaml

from her2pipe.bundles.card import model_card
from her2pipe.bundles.description import (
    BundledEncoder,
    BundleDescription,
    Calibration,
    CohortResult,
    Interval,
)
from her2pipe.bundles.read import open_bundle
from her2pipe.bundles.study import DevelopmentData, newest, without_paths
from her2pipe.files import read_table
from her2pipe.models.description import ModelDescription

pytestmark = pytest.mark.slow  # a whole study, or all figures of one

METHODS = ("TL-PA", "TL-mean", "TL-mlp")


@pytest.fixture(scope="module")
def bundles(finished, tmp_path_factory):
    """Bundles of all methods of the small study."""
    from her2pipe.cli import main

    folder = tmp_path_factory.mktemp("bundles")
    for method in METHODS:
        words = ["bundle", method, folder / method, "--results", finished[0] / "results"]
        assert main([*map(str, words), "--license", "mit"]) == 0
    return {method: open_bundle(folder / method) for method in METHODS}


def test_the_rule_writes_what_the_command_does(finished, bundles):
    """But for the licence, the bundle of the study's run is that made by hand."""
    by_rule = open_bundle(finished[0] / "results/bundle/TL-mlp").description
    left_out = {"license", "files", "digest"}
    by_hand = bundles["TL-mlp"].description
    assert by_rule.model_dump(exclude=left_out) == by_hand.model_dump(exclude=left_out)
    same = {k: v for k, v in by_rule.files.items() if k != "README.md"}
    assert same == {k: v for k, v in by_hand.files.items() if k != "README.md"}


def test_a_bundle_says_what_decides_a_score(bundles):
    pa, mean, mlp = (bundles[method].description for method in METHODS)
    assert (pa.threshold, pa.fit) == (None, {})
    assert bundles["TL-PA"].fitted_folder is None
    assert bundles["TL-mean"].fitted_folder is not None
    assert mean.threshold is not None
    assert mlp.fit["max_epochs"] == 2
    assert (mlp.view, mlp.kind, mlp.task) == ("adaptive", "slides", "classify")
    assert mlp.settings["tile"]["patch_px"] == 128
    assert mlp.settings["tile"]["adaptive_area_px0"] == 6.3e6
    assert mlp.settings["score"]["cutoffs"] == [0.1, 0.15, 0.2, 0.25]
    assert mlp.settings["stain"]["stain_method"] == "vahadane"
    assert (mlp.expects.mpp_low, mlp.expects.magnifications) == (0.499, [20])
    assert (mlp.classes, mlp.positive) == (["HER2-", "HER2+"], ["HER2+"])
    assert mlp.encoder.sha256.startswith(mlp.encoder.digest)


def test_results_are_those_of_the_study(finished, bundles):
    for method, bundle in bundles.items():
        folder = finished[0] / "results/evaluate" / method
        for result in bundle.description.results:
            metrics = json.loads((folder / result.cohort / "metrics.json").read_text())
            assert result.auc.value == metrics["auc"].get("value")
            assert (result.role, result.patients) == (metrics["role"], metrics["patients"])


def test_the_model_is_used_in_the_views_it_was_made_for(bundles):
    """The encoder's description states the view, whose conditions `encode` then asks for."""
    patches = ModelDescription.read(bundles["TL-PA"].encoder_folder).patches
    assert patches is not None
    assert (patches.view, patches.patch_px) == ("adaptive", [128])
    assert patches.adaptive_area_px0 == 6.3e6
    assert patches.stain_method == "vahadane"


def test_weights_are_the_study_s_to_the_byte(finished, bundles):
    results = finished[0] / "results"
    bundle = bundles["TL-mlp"]
    pairs = ((bundle.encoder_folder, "train/small"), (bundle.fitted_folder, "fit/TL-mlp"))
    for folder, name in pairs:
        one, other = (f / "model.safetensors" for f in (folder, results / name))
        assert one.read_bytes() == other.read_bytes()


def readable(path):
    """Text of a file; of safetensors the head, which says what the numbers are."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little") if path.suffix == ".safetensors" else None
    return content if size is None else content[8 : 8 + size]


def test_nothing_of_slides_patients_or_the_machine_is_in_it(finished, bundles):
    """No name of a slide or patient, no path, host or user, in any file."""
    folder, sheets = finished
    rows = [row.split("\t") for lines in sheets.values() for row in lines[1:]]
    words = {*(row[0] for row in rows), *(row[2] for row in rows), socket.gethostname()}
    words |= {str(folder), str(folder.parent), "/root", "/home", "/tmp"}
    words |= {name for name in [getpass.getuser()] if len(name) > 4}  # root may be part of a word
    word = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, words))})(?![\w-])".encode())
    leaks = [
        (method, path.name, leak)
        for method, bundle in bundles.items()
        for path in bundle.folder.rglob("*.*")
        for leak in word.findall(readable(path))
    ]
    assert leaks == []


def test_the_card_is_read_as_hugging_face_reads_it(bundles):
    from huggingface_hub import ModelCard

    for bundle in bundles.values():
        card = ModelCard.load(bundle.folder / "README.md")
        head = {"license": "mit", "library_name": "her2pipe"}
        assert head.items() <= card.data.to_dict().items()
        headings = ("Intended use", "Out of scope", "Results", "Limits", "Licences", "Citation")
        assert [name for name in headings if f"## {name}" not in card.text] == []
        assert "For research only" in card.text


def described(**fields):
    encoder = BundledEncoder(
        name="uni", architecture="vit_large", task="none", weights="preset", preset="uni"
    )
    values = {"method": "M", "encoder": encoder, "aggregate": "mean", "task": "none"}
    settings = {"tile": {"patch_px": 256, "variance_min": 500}, "stain": {"stain_method": "none"}}
    return BundleDescription(**values | {"view": "256um", "settings": settings} | fields)


def test_figures_of_a_card_are_those_of_its_cohorts():
    from huggingface_hub import ModelCard

    point = {"sensitivity": Interval(value=0.9, low=0.8, high=0.95), "measure": "AUC"}
    values = {"auc": Interval(value=0.75, low=0.6, high=0.9), "n": 40, "events": 12}
    result = CohortResult(cohort="B", role="external", patients=38, **values, **point)
    data = DevelopmentData("A", "Yale", {"train": 80}, 200, {}, 0, 0.95)
    card = ModelCard(model_card(described(results=[result]), data))
    assert card.data.model_name == "M"
    evaluated = {r.metric_type: (r.metric_value, r.dataset_name) for r in card.data.eval_results}
    where = "cohort B, external validation"
    assert evaluated == {"roc_auc": (0.75, where), "sensitivity": (0.9, where)}
    row = f"| {where} | 40 | 12 | AUC | 0.750 (0.600 to 0.900) | 0.900 (0.800 to 0.950) |  |  |"
    assert row in card.text


def test_a_card_says_what_is_not_so_good():
    data = DevelopmentData("A", "", {"train": 8}, 8, {}, 0, 0.95)
    card = model_card(described(calibration=Calibration(slope=-1, intercept=0)), data)
    assert "validated on no external cohort" in card
    assert "developed on 8 patients only" in card
    assert "do not use it" in card
    assert "weights of uni may not be passed on" in card
    assert "not stated" in card
    small = CohortResult(cohort="B", role="external", patients=9, auc=Interval(value=None))
    card = model_card(described(results=[small], license="mit"), data, "a@b.org")
    assert "the smallest has 9 patients" in card
    assert "not defined" in card
    assert "a@b.org" in card
    assert "model-index" not in yaml.safe_load(card.split("---")[1])


def test_paths_of_the_machine_become_names():
    values = {
        "weights": "models/net.pt",
        "architecture": "local-dir:/data/uni",
        "stain_target": "../x/S.h5",
        "images": {"source": "/data/cifar.tar.gz", "other": "C:\\data\\x.zip"},
        "fractions": {"1024": {"2+/FISH-": 0.5}},
        "classes": ["2+/FISH-", "n/a"],
        "hub": "hf-hub:owner/name",
    }
    expected = {
        "weights": "net.pt",
        "architecture": "local-dir:uni",
        "stain_target": "S.h5",
        "images": {"source": "cifar.tar.gz", "other": "x.zip"},
        "fractions": {"1024": {"2+/FISH-": 0.5}},
        "classes": ["2+/FISH-", "n/a"],
        "hub": "hf-hub:owner/name",
    }
    assert without_paths(values) == expected


def test_batches_of_an_earlier_count_are_left_out(tmp_path):
    import os

    for number, name in enumerate(("0of1", "0of2", "1of2")):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (number, number))
    assert [path.name for path in newest(tmp_path, "*of*")] == ["0of2", "1of2"]


def test_mistakes_are_three_lines(finished, tmp_path, her2pipe):
    results = finished[0] / "results"
    code, message = her2pipe("bundle", "TL", tmp_path / "b", "--results", results)
    assert (code, "no method TL" in message) == (1, True)
    code, message = her2pipe("bundle", "TL-PA", tmp_path / "b", "--results", tmp_path)
    assert (code, "not the results of a study" in message) == (1, True)
    (tmp_path / "file").write_text("x")
    code, message = her2pipe("bundle", "TL-PA", tmp_path / "file", "--results", results)
    assert (code, "cannot be written there" in message) == (1, True)
    assert (tmp_path / "file").read_text() == "x"


def test_a_zip_is_the_folder_s_bundle(finished, bundles, tmp_path, her2pipe):
    words = ["bundle", "TL-mean", tmp_path / "m.zip", "--results", finished[0] / "results"]
    assert her2pipe(*words, "--license", "mit")[0] == 0
    packed = open_bundle(tmp_path / "m.zip", tmp_path / "unpacked")
    assert packed.description == bundles["TL-mean"].description
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.zip", "unpacked"]


def test_a_card_ends_with_the_authors_notes(finished, tmp_path, her2pipe):
    (tmp_path / "notes.md").write_text("Consecutive biopsies of 2019.\n")
    words = ["bundle", "TL-PA", tmp_path / "b", "--results", finished[0] / "results"]
    assert her2pipe(*words, "--notes", tmp_path / "notes.md")[0] == 0
    card = (tmp_path / "b/README.md").read_text()
    assert card.endswith("## Notes of the authors\n\nConsecutive biopsies of 2019.\n")
    open_bundle(tmp_path / "b")
    code, message = her2pipe(*words, "--notes", tmp_path / "none.md")
    assert (code, "notes cannot be read" in message) == (1, True)


def test_a_bundle_scores_as_the_study_did(finished, bundles, tmp_path, her2pipe):
    """Encoded and scored by the bundle alone."""
    results, bundle = finished[0] / "results", bundles["TL-mlp"]
    stores = [results / f"tile/adaptive/B/B-{i}.h5" for i in (1, 4)]
    model = ["--model", bundle.encoder_folder, "--device", "cpu"]
    assert her2pipe("encode", *stores, tmp_path / "e", *model)[0] == 0
    words = ["--aggregate", "mlp", "--model", bundle.fitted_folder]
    assert her2pipe("score", tmp_path / "e", tmp_path / "s.tsv", *words)[0] == 0
    table = read_table(results / "score/TL-mlp/B.tsv")
    expected = {row["slide"]: float(row["score"]) for row in table if row["score"]}
    scores = {row["slide"]: float(row["score"]) for row in read_table(tmp_path / "s.tsv")}
    assert scores == pytest.approx({slide: expected[slide] for slide in scores}, abs=1e-6)


def test_patches_of_another_kind_are_refused_or_flagged(finished, bundles, tmp_path, her2pipe):
    """Of another view, area, size or stain method; allowed, every score is flagged."""
    results, bundle = finished[0] / "results", bundles["TL-mlp"]
    slide = results / "synthesise/B/B-1.svs"
    area = ["--adaptive-area-px0", "6.3e6"]
    size = ["--patch-px", "128"]
    model = ["--model", bundle.encoder_folder, "--device", "cpu"]
    cuts = {
        "view 256": ["--view", "256", *area, *size],
        "adaptive area": ["--adaptive-area-px0", "3e6", *size],
        "patch size": [*area, "--patch-px", "64"],
        "stain method macenko": [*area, *size, "--stain-method", "macenko"],
    }
    for said, words in cuts.items():
        store = tmp_path / said / "B-1.h5"
        assert her2pipe("tile", slide, store, *words)[0] == 0
        code, message = her2pipe("encode", store, tmp_path / "refused", *model)
        assert (code, said in message) == (1, True), message
        assert not (tmp_path / "refused").exists()
    store = tmp_path / "view 256/B-1.h5"
    code, message = her2pipe("encode", store, tmp_path / "e", *model, "--allow-mismatch")
    assert (code, "view 256, not adaptive" in message) == (0, True)
    words = ["score", tmp_path / "e", tmp_path / "s.tsv", "--aggregate", "mlp"]
    words += ["--model", bundle.fitted_folder]
    code, message = her2pipe(*words)
    assert (code, "does not suit the aggregation" in message) == (1, True)
    assert her2pipe(*words, "--allow-mismatch")[0] == 0
    (row,) = read_table(tmp_path / "s.tsv")
    assert row["flag"] == "mismatch"
    assert "view 256, not adaptive" in row["reason"]
    # an aggregation that is not fitted has the encoder's flag
    assert her2pipe("score", tmp_path / "e", tmp_path / "p.tsv")[0] == 0
    assert "mismatch" in read_table(tmp_path / "p.tsv")[0]["flag"]
