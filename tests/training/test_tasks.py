"""Tasks without labels: encoders of DAB density and of fingerprints, trained as users train."""

import json
import shutil

import numpy as np
import pytest
import torch
from stores import make_store, stained

from her2pipe.cohorts.split import assign_sides
from her2pipe.config import SplitSettings, SynthesiseSettings, TrainSettings
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.files import read_table
from her2pipe.models import factory, inference, weights
from her2pipe.store import read_encoding
from her2pipe.training import checkpoint, tasks

NET = ("--architecture", "test_resnet", "--frozen", "--device", "cpu", "--plateau-epochs", "99")
DENSITY = (
    "--task",
    "density",
    "--pairs",
    "synthetic",
    "--pair-px",
    "128",
    "--input-px",
    "32",
    "--batch-size",
    "8",
    "--learning-rate",
    "5e-4",
    *NET,
)
FINGERPRINT = (
    "--task",
    "fingerprint",
    "--train-views",
    "64",
    "--input-px",
    "32",
    "--batch-size",
    "24",
    "--learning-rate",
    "5e-4",
    *NET,
)


@pytest.fixture(scope="module")
def unlabelled_files(tmp_path_factory):
    """Folder of the stores and the sheet of `development`, drawn once."""
    folder = tmp_path_factory.mktemp("unlabelled")
    lines = ["slide\tpath\tpatient\tsplit\n"]
    for i in range(10):
        pixels = stained(16, seed=i, cells=8 + 9 * (i % 5), dark=0.7 + 0.25 * (i % 4))
        make_store(folder / f"S{i}.h5", pixels, [(64 * k, 0) for k in range(16)])
        side = "validation" if i in (2, 5, 8) else "train"
        lines.append(f"S{i}\tx{i}\tP{i // 2 if i < 2 else i}\t{side}\n")
    (folder / "sheet.tsv").write_text("".join(lines))
    return folder


@pytest.fixture
def development(unlabelled_files, tmp_path):
    """Ten slides without annotation or label, each with nuclei of its own number and darkness."""
    shutil.copytree(unlabelled_files, tmp_path, dirs_exist_ok=True)
    return [tmp_path / f"S{i}.h5" for i in range(10)], tmp_path / "sheet.tsv"


def development_set(stores, rows, sides, train):
    return tasks.DevelopmentSet(stores, rows, sides, train, endpoint_of())


def same(a, b):
    names = ("model.safetensors", "model.json", "history.tsv", "training_set.tsv")
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in names)


@pytest.mark.slow
def test_an_encoder_learns_the_dab_of_held_out_pairs(development, tmp_path, her2pipe):
    stores, sheet = development
    out = tmp_path / "dab"
    code, stderr = her2pipe(
        "train",
        *stores,
        out,
        "--sheet",
        sheet,
        *DENSITY,
        "--synthetic-pairs",
        "10",
        "--max-epochs",
        "4",
    )
    assert code == 0, stderr
    assert "kind pairs" in stderr
    last = read_table(out / "history.tsv")[-1]
    assert float(last["validation_r2_mean"]) > 0.5
    assert float(last["validation_rho_p50"]) > 0.5
    pairs = read_table(out / "pairs.tsv")
    assert len(pairs) == 10
    assert [row["side"] for row in pairs].count("validation") == 2
    about = json.loads((out / "model.json").read_text())
    assert (about["task"], about["classes"], about["features"]) == ("density", [], 4)
    assert about["targets"]["names"] == ["mean", "std", "p50", "p90"]
    assert not list(tmp_path.glob(".*.resume"))
    code, stderr = her2pipe("encode", stores[0], tmp_path / "e", "--model", out)
    assert code == 0, stderr
    found = read_encoding(tmp_path / "e" / "S0.h5")
    assert found.probabilities.shape == (16, 0)
    assert found.features.shape == (16, 4)
    assert list(found.metadata.classes) == []
    targets = about["targets"]
    far = np.abs(found.features - targets["mean"]) / targets["std"]
    assert far.max() < 12  # OD, of the size of the targets'


@pytest.mark.slow
def test_density_goes_on_after_a_stop_and_repeats_itself(
    development, tmp_path, her2pipe, monkeypatch
):
    stores, sheet = development
    small = SynthesiseSettings(width_um=260, height_um=260)
    monkeypatch.setattr("her2pipe.training.registered_pairs.FIELD", small)
    words = ["--sheet", sheet, *DENSITY, "--synthetic-pairs", "5", "--max-epochs", "2"]
    words += ["--save-s", "0"]
    assert her2pipe("train", *stores, tmp_path / "whole", *words)[0] == 0
    keep = checkpoint.Checkpoint.save

    def stop(self, *state):
        keep(self, *state)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoint, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        her2pipe("train", *stores, tmp_path / "two", *words)
    monkeypatch.setattr(checkpoint.Checkpoint, "save", keep)
    code, stderr = her2pipe("train", *stores, tmp_path / "two", *words)
    assert code == 0, stderr
    assert "resuming after epoch 1" in stderr
    assert same(tmp_path / "whole", tmp_path / "two")


@pytest.mark.slow
def test_fingerprints_find_patches_of_the_same_slide(development, tmp_path, her2pipe):
    stores, sheet = development
    found = {}
    for name, rate in (("still", "1e-9"), ("trained", "5e-4")):
        words = list(FINGERPRINT)
        words[words.index("5e-4")] = rate
        code, stderr = her2pipe(
            "train",
            *stores,
            tmp_path / name,
            "--sheet",
            sheet,
            *words,
            "--max-epochs",
            "1" if name == "still" else "12",
        )
        assert code == 0, stderr
        found[name] = read_table(tmp_path / name / "history.tsv")[-1]
    chance = float(found["trained"]["validation_chance"])
    assert 0.3 < chance < 0.35  # 15 of 47 patches are of the same slide
    assert float(found["trained"]["validation_retrieval"]) > 2 * chance
    assert float(found["trained"]["train_loss"]) < float(found["still"]["train_loss"])
    about = json.loads((tmp_path / "trained" / "model.json").read_text())
    assert (about["classes"], about["outputs"], about["features"]) == ([], 0, 96)
    rows = {row["side"]: row for row in about["training_set"]}
    assert rows["train"]["used"] == 7 * 16
    assert rows["train"]["patients"] == 6
    code, stderr = her2pipe("encode", stores[0], tmp_path / "e", "--model", tmp_path / "trained")
    assert code == 0, stderr
    encoded = read_encoding(tmp_path / "e" / "S0.h5")
    assert encoded.probabilities.shape == (16, 0)
    assert encoded.features.shape == (16, 96)


@pytest.mark.slow
def test_fingerprints_repeat_themselves(development, tmp_path, her2pipe):
    stores, sheet = development
    for name in ("one", "two"):
        assert (
            her2pipe(
                "train",
                *stores,
                tmp_path / name,
                "--sheet",
                sheet,
                *FINGERPRINT,
                "--max-epochs",
                "1",
                "--slide-patches",
                "6",
            )[0]
            == 0
        )
    assert same(tmp_path / "one", tmp_path / "two")


def test_excluded_slides_and_single_patches_are_not_used(development, tmp_path, make):
    from her2pipe.cohorts import sheet as cohort
    from her2pipe.store import PatchStore

    stores, sheet = development
    make.store(stores[1], [], [], status="excluded", reason="no tissue")
    make.store(stores[3], make.stained(1, 1), [(0, 0)])
    rows = cohort.load(sheet, check_files=False)
    sides = assign_sides(rows, SplitSettings(split_seed=1))
    train = TrainSettings(task="fingerprint", train_views=["64"])
    opened = [PatchStore(path) for path in stores]
    data = tasks.slide_contrastive(development_set(opened, rows, sides, train))
    why = {row["slide"]: row["exclusion_reason"] for row in data.manifest}
    assert why["S1"] == "excluded: no tissue"
    assert why["S3"] == "only one patch"
    assert why["S0"] == ""
    assert set(data.items["train"][:, 0]) == {0, 4, 6, 7, 9}
    slides, patients = data.targets["train"]
    assert len(slides) == len(patients) == 5 * 16
    order = data.arrange("train", 1, np.random.default_rng(1))
    assert (slides[order[::2]] == slides[order[1::2]]).all()
    few = TrainSettings(task="fingerprint", slide_patches=4)
    data = tasks.slide_contrastive(development_set(opened, rows, sides, few))
    assert len(data.arrange("train", 1, np.random.default_rng(1))) == 20


def test_fingerprints_need_two_patients(development, tmp_path, make):
    from her2pipe.cohorts import sheet as cohort
    from her2pipe.store import PatchStore

    stores, sheet = development
    rows = [row for row in cohort.load(sheet, check_files=False) if row.slide in ("S0", "S1")]
    opened = [PatchStore(path) for path in stores[:2]]
    train = TrainSettings(task="fingerprint")
    with pytest.raises(Her2Error, match="at least two patients"):
        tasks.slide_contrastive(
            development_set(opened, rows, {"S0": "train", "S1": "train"}, train)
        )


def test_targets_are_standardised_with_the_training_pairs_alone(development, tmp_path):
    from her2pipe.cohorts import sheet as cohort
    from her2pipe.store import PatchStore

    stores, sheet = development
    rows = cohort.load(sheet, check_files=False)
    train = TrainSettings(task="density", pairs="synthetic", synthetic_pairs=4, pair_px=128)
    opened = [PatchStore(path) for path in stores]
    sides = assign_sides(rows, SplitSettings(split_seed=1))
    cohort_data = development_set(opened, rows, sides, train)
    data = tasks.dab_regression(cohort_data, SplitSettings(), tmp_path / "scratch", 1)
    (targets,) = data.targets["train"]
    assert np.allclose(targets.mean(0), 0, atol=1e-5)
    assert np.allclose(targets.std(0), 1, atol=1e-4)
    (held_out,) = data.targets["validation"]
    assert np.abs(held_out.mean(0)).max() > 0.1
    frozen = tasks.frozen_features(cohort_data)
    assert data.stain_target.digest() == frozen.stain_target.digest()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--task", "density"), "task density needs pairs"),
        (("--task", "fingerprint", "--batch-size", "7"), "batch_size must be even"),
        (("--task", "fingerprint", "--features", "layer3"), "has features of its own"),
        (("--task", "density", "--pairs", "nowhere"), "no folders HE and IHC"),
    ],
)
def test_mistakes_are_reported(development, tmp_path, her2pipe, words, what):
    stores, sheet = development
    code, stderr = her2pipe("train", *stores, tmp_path / "m", "--sheet", sheet, *words, *NET)
    assert code == 1
    assert what in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "m").exists()


def test_a_density_model_is_loaded_with_its_head(tmp_path):
    torch.manual_seed(2)
    model = factory.create("test_resnet", 4, 48)
    about = weights.describe(model, "test_resnet", 48, "outputs", classes=[], outputs=4)
    assert about.features == 4
    (tmp_path / "m").mkdir()
    weights.save(model, about, tmp_path / "m")
    again, facts = weights.load(tmp_path / "m")
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        probabilities, found = inference.forward(again, images, facts.stage)
        assert torch.equal(found, model.eval()(images))
    assert probabilities.shape == (2, 0)


@pytest.mark.gpu
def test_tasks_without_labels_run_on_cuda(development, tmp_path, her2pipe):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    stores, sheet = development
    for words in ((*DENSITY, "--synthetic-pairs", "5"), FINGERPRINT):
        words = [word if word != "cpu" else "cuda" for word in words]
        out = tmp_path / words[1]
        code, stderr = her2pipe(
            "train", *stores, out, "--sheet", sheet, *words, "--max-epochs", "1"
        )
        assert code == 0, stderr
        assert her2pipe("encode", stores[0], tmp_path / "e", "--model", out)[0] == 0
