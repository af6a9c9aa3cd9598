"""Training: what is drawn, what is trained, what stays fixed, what is written."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_sets import SMALL, kill_after_a_checkpoint

from her2pipe.cohorts import sheet as cohort
from her2pipe.cohorts.split import assign_sides
from her2pipe.config import LabelSettings, SplitSettings, TrainSettings
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.files import read_table
from her2pipe.models import costs, factory, inference, weights
from her2pipe.models.description import ModelDescription
from her2pipe.store import PatchStore
from her2pipe.training.sampling import DevelopmentSet, class_weights, draw, format_table


def opened(development, labels=None, **changes):
    stores, sheet = development
    rows = cohort.load(sheet, check_files=False)
    return DevelopmentSet(
        [PatchStore(p) for p in stores],
        rows,
        assign_sides(rows, SplitSettings(split_seed=1)),
        TrainSettings(**changes),
        endpoint_of(labels),
    )


def test_classes_come_from_annotation_and_slide(development):
    data = opened(development, train_views=["64"])
    table, items = draw(data)
    for store, patch, kind in items["train"].tolist():
        positive = store % 2 == 1
        assert kind == (int(positive) if patch < 12 else 2)
        assert store < 4
    assert {s for s, *_ in items["validation"].tolist()} == {4, 5}
    rows = {(r["side"], r["kind"]): r for r in table}
    assert rows["train", "HER2+"]["available"] == 24
    assert rows["train", "Non-tumour"]["used"] == 48
    assert rows["train", "HER2-"]["patients"] == 2


def test_half_inside_is_tumour(development, tmp_path, make):
    fraction = np.array([0.5, 0.49], np.float32)
    make.store(tmp_path / "S0.h5", make.stained(2, 1), [(0, 0), (64, 0)], fraction)
    data = opened(development)
    _, items = draw(data)
    assert [k for s, p, k in items["train"].tolist() if s == 0] == [0, 2]


def test_rejected_patches_are_not_drawn(development):
    """Of slide 0 the first patch of tumour and all of stroma, of slide 1 all: it is excluded."""
    data = opened(development)
    reasons = np.zeros((6, 24), np.uint8)
    reasons[0, [0, *range(12, 24)]] = 2
    reasons[1] = 3
    reasons[2, 5] = 1  # blur, which is not rejected
    for store, of_store in zip(data.stores, reasons, strict=True):
        store.reason_names, store.reasons = ("blur", "pen"), of_store
    rejecting = replace(data, reject=["pen"])
    table, items = draw(rejecting)
    patches = {s: set(items["train"][items["train"][:, 0] == s, 1].tolist()) for s in range(4)}
    assert patches == {0: set(range(1, 12)), 1: set(), 2: set(range(24)), 3: set(range(24))}
    available = {(r["side"], r["kind"]): r["available"] for r in table}
    assert available["train", "HER2-"] == 11 + 12
    assert available["train", "HER2+"] == 12
    assert available["train", "Non-tumour"] == 24
    why = {row["slide"]: row["exclusion_reason"] for row in rejecting.manifest()}
    assert why["S1"] == "excluded: all 24 patches rejected"
    assert why["S0"] == why["S2"] == ""
    assert len(draw(data)[1]["train"]) == 4 * 24


@pytest.mark.parametrize(("fraction", "used"), [(0.70, 16), (0.49, 11), (1.0, 24), (0.25, 6)])
def test_fractions_round_down_as_in_table_1(development, fraction, used):
    data = opened(development, fractions={"64": {"HER2+": fraction}})
    table, items = draw(data)
    row = next(r for r in table if r["side"] == "train" and r["kind"] == "HER2+")
    assert row["used"] == used == (items["train"][:, 2] == 1).sum()


def test_table_1_of_the_paper():
    import math

    for available, fraction, used in (
        (90_664, 0.70, 63_464),
        (97_264, 0.70, 68_084),
        (142_336, 0.49, 69_744),
        (21_877, 0.70, 15_313),
    ):
        assert math.floor(fraction * available + 1e-9) == used


def test_the_drawn_table_in_the_papers_layout():
    def row(side, view, kind, available, used):
        return {
            "side": side,
            "view": view,
            "kind": kind,
            "available": available,
            "used": used,
            "slides": 5,
            "patients": 4,
        }

    table = [
        row("train", "2048", "HER2-", 15_441, 15_441),
        row("train", "1024", "HER2+", 97_264, 68_084),
        row("train", "1024", "HER2-", 90_664, 63_464),
    ]
    lines = [line.split("  ") for line in format_table(table).splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    heads = [
        *("side", "size", "HER2-", "slides/patients", "HER2+", "slides/patients", "Non-tumour"),
        "slides/patients",
    ]
    assert cells == [
        heads,
        ["train", "1024", "90,664 (63,464)", "5/4", "97,264 (68,084)", "5/4", "0 (0)", "0/0"],
        ["train", "2048", "15,441 (15,441)", "5/4", "0 (0)", "0/0", "0 (0)", "0/0"],
    ]


def test_balanced_class_weights():
    """4, 2 and 2 of 8 items: 8 / (3 n), so that each class weighs the same in total."""
    found = class_weights(np.array([0, 0, 0, 0, 1, 1, 2, 2]))
    assert found == pytest.approx([2 / 3, 4 / 3, 4 / 3])


def test_drawing_is_seeded(development):
    half = {"64": {"HER2-": 0.5, "HER2+": 0.5, "Non-tumour": 0.5}}
    drawn = []
    for seed in (1, 1, 2):
        data = opened(development, fractions=half, train_seed=seed)
        drawn.append(draw(data)[1]["train"].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_slides_without_annotation_or_label_are_not_used(development, tmp_path, make):
    make.store(tmp_path / "S0.h5", make.stained(3, 1), [(0, 0), (64, 0), (128, 0)])
    make.store(tmp_path / "S1.h5", [], [], status="excluded", reason="no tissue")
    data = opened(development)
    _, items = draw(data)
    assert {s for s, *_ in items["train"].tolist()} == {2, 3}
    reasons = data.exclusion_reasons()
    assert reasons[:3] == ["no tumour annotation", "excluded: no tissue", ""]


def test_a_missing_class_is_reported(development, tmp_path):
    stores, sheet = development
    sheet.write_text(sheet.read_text().replace("positive", "negative"))
    with pytest.raises(Her2Error, match=r"no training patch of class HER2\+"):
        draw(opened((stores, sheet)))


@pytest.mark.slow
def test_step_learns_and_writes_everything(development, tmp_path, her2pipe):
    stores, sheet = development
    out = tmp_path / "model"
    code, stderr = her2pipe("train", *stores, out, "--sheet", sheet, *SMALL, "--max-epochs", "8")
    assert code == 0, stderr
    history = read_table(out / "history.tsv")
    assert len(history) == 8
    assert float(history[-1]["train_loss"]) < float(history[0]["train_loss"])
    assert float(history[-1]["validation_accuracy"]) > 0.6  # chance is 0.33
    assert list(history[0]) == [
        *("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"),
        *("validation_recall_HER2-", "validation_recall_HER2+", "validation_recall_Non-tumour"),
        "validation_auc",
    ]
    assert "patches available (used)" in stderr
    assert "48 (48)" in stderr  # Non-tumour, of four training slides
    about = json.loads((out / "model.json").read_text())
    assert about["classes"] == ["HER2-", "HER2+", "Non-tumour"]
    assert about["parameters"]["total"] == about["parameters"]["trainable"]
    assert about["stain"]["method"] == "vahadane"
    assert about["training_set_digest"]
    assert {"torch", "timm", "her2pipe"} <= set(about["versions"])
    assert {p.name for p in out.iterdir()} == {
        "model.safetensors",
        "model.json",
        "history.tsv",
        "training_set.tsv",
        "slides.tsv",
        "history.png",
        "history.svg",
    }
    model, again = weights.load(out)
    del about["content_digest"]
    assert again == ModelDescription(**about)
    assert not model.training


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_files(development, tmp_path, her2pipe):
    stores, sheet = development
    words = ["--sheet", sheet, *SMALL, "--input-px", "32", "--max-epochs", "4"]
    words += ["--accumulate", "2", "--class-weights", "balanced", "--save-s", "0"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, message = her2pipe("train", *stores, whole, *words)
    assert code == 0, message
    assert "resuming" not in message
    kill_after_a_checkpoint(["train", *stores, killed, *words])
    assert not killed.exists()
    code, message = her2pipe("train", *stores, killed, *words)
    assert code == 0, message
    assert "resuming after epoch" in message
    assert not (tmp_path / ".killed.resume").exists()
    for name in ("model.safetensors", "history.tsv", "training_set.tsv", "model.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_frozen_features_are_the_starting_weights(development, tmp_path, make, her2pipe):
    """Task none: nothing is trained; colours are the training side's, labels play no part."""
    from safetensors.torch import save_file

    from her2pipe.stain.profile import median
    from her2pipe.store import read_encoding
    from her2pipe.training import dataloader

    stores, sheet = development
    sheet.write_text(sheet.read_text().replace("positive", "").replace("negative", ""))
    make.store(tmp_path / "S1.h5", [], [], status="excluded", reason="no tissue")
    torch.manual_seed(3)
    other = factory.create("test_resnet", 7)
    save_file(other.state_dict(), tmp_path / "start.safetensors")
    words = [
        "train",
        *stores,
        tmp_path / "m",
        "--sheet",
        sheet,
        "--task",
        "none",
        "--features",
        "layer2",
        "--architecture",
        "test_resnet",
        "--input-px",
        "32",
        "--weights",
        tmp_path / "start.safetensors",
    ]
    code, stderr = her2pipe(*words)
    assert code == 0, stderr
    model, about = weights.load(tmp_path / "m")
    assert (about.classes, about.training_set, about.stage) == ([], [], "layer2")
    assert about.features == 48
    assert about.parameters.trainable == 0
    assert read_table(tmp_path / "m" / "history.tsv") == []
    slides = read_table(tmp_path / "m" / "slides.tsv")
    reasons = {r["slide"]: r["exclusion_reason"] for r in slides}
    assert reasons.pop("S1") == "excluded: no tissue"
    assert list(reasons.values()) == [""] * 5
    profiles = [dataloader.profile(PatchStore(stores[i])) for i in (0, 2, 3)]
    assert about.stain_digest == median(profiles).digest()
    start = other.state_dict()
    assert all(torch.equal(v, start[k]) for k, v in model.state_dict().items())
    code, stderr = her2pipe("encode", stores[0], tmp_path / "out", "--model", tmp_path / "m")
    assert code == 0, stderr
    found = read_encoding(tmp_path / "out" / "S0.h5")
    assert found.probabilities.shape == (24, 0)
    assert found.features.shape == (24, 48)
    assert list(found.metadata.classes) == []


def test_frozen_features_need_colours(development, tmp_path, make, her2pipe):
    stores, sheet = development
    for path in stores[:4]:
        make.store(path, [], [], status="excluded", reason="no tissue")
    code, stderr = her2pipe(
        "train",
        *stores,
        tmp_path / "m",
        "--sheet",
        sheet,
        "--task",
        "none",
        "--architecture",
        "test_resnet",
        "--input-px",
        "64",
    )
    assert code == 1
    assert "no slide of the training side has colours" in stderr


@pytest.mark.slow
def test_two_runs_give_the_same_weights(development, tmp_path, her2pipe):
    stores, sheet = development
    for name in ("one", "two"):
        assert (
            her2pipe(
                "train", *stores, tmp_path / name, "--sheet", sheet, *SMALL, "--max-epochs", "2"
            )[0]
            == 0
        )
    one, two = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("one", "two"))
    assert one == two


@pytest.mark.slow
def test_frozen_modules_stay_bit_identical(development, tmp_path, her2pipe):
    stores, sheet = development
    common = ["train", *stores]
    frozen = [w if w != "--frozen" else "--frozen" for w in SMALL]
    place = frozen.index("--frozen") + 1
    frozen[place:place] = ["conv1", "bn1", "layer1"]
    for epochs in ("1", "3"):
        her2pipe(*common, tmp_path / epochs, "--sheet", sheet, *frozen, "--max-epochs", epochs)
    a, b = (weights.load(tmp_path / e)[0].state_dict() for e in ("1", "3"))
    for name in a:
        fixed = name.split(".")[0] in ("conv1", "bn1", "layer1")
        assert torch.equal(a[name], b[name]) == fixed or "num_batches" in name, name
    about = json.loads((tmp_path / "1" / "model.json").read_text())
    assert about["parameters"]["trainable"] < about["parameters"]["total"]


def test_an_unknown_module_to_freeze_is_reported(development, tmp_path, her2pipe):
    stores, sheet = development
    words = ["train", *stores, tmp_path / "m", "--sheet", sheet, *SMALL]
    words[words.index("--frozen")] = "--frozen=layers.9"
    code, stderr = her2pipe(*words)
    assert code == 1
    assert "no module layers.9" in stderr
    assert "option --frozen" in stderr
    assert not (tmp_path / "m").exists()


def test_swin_t_has_the_published_size():
    model = factory.create("swin_tiny_patch4_window7_224", 3)
    assert costs.count_parameters(model).total == 27_521_661
    logits, features = inference.forward(model.eval(), torch.zeros(1, 3, 224, 224))
    assert logits.shape == (1, 3)
    assert features.shape == (1, 768)
    assert torch.allclose(model(torch.zeros(1, 3, 224, 224)), logits, atol=1e-6)


def test_more_stores_than_files_allowed_are_reported():
    import resource

    from her2pipe.steps.train import _allow_open_files

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        _allow_open_files(300)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (500, before[1])
        if before[1] != resource.RLIM_INFINITY:
            with pytest.raises(Her2Error, match="cannot be open at once"):
                _allow_open_files(before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_an_unknown_architecture_is_reported():
    with pytest.raises(Her2Error, match="unknown architecture swin_tinny"):
        factory.create("swin_tinny_patch4_window7_224")


def test_weights_out_of_reach_are_reported(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Her2Error, match="no pre-trained weights of resnet10t") as caught:
        factory.create("resnet10t.c3_in1k", pretrained=True)
    assert "safetensors" in caught.value.fix


def test_weights_from_a_file(development, tmp_path, her2pipe):
    from safetensors.torch import save_file

    stores, sheet = development
    torch.manual_seed(3)
    other = factory.create("test_resnet", 7)  # another head: it does not fit and is left out
    save_file(other.state_dict(), tmp_path / "start.safetensors")
    words = [
        "train",
        *stores,
        tmp_path / "m",
        "--sheet",
        sheet,
        *SMALL,
        "--max-epochs",
        "1",
        "--learning-rate",
        "1e-9",
        "--weights",
        tmp_path / "start.safetensors",
    ]
    code, stderr = her2pipe(*words)
    assert code == 0, stderr
    trained = weights.load(tmp_path / "m")[0].state_dict()
    start = other.state_dict()
    assert torch.allclose(
        trained["layer1.0.conv1.weight"], start["layer1.0.conv1.weight"], atol=1e-6
    )
    assert trained["fc.weight"].shape[0] == 3


def test_weights_of_another_network_are_reported(development, tmp_path, her2pipe):
    from safetensors.torch import save_file

    stores, sheet = development
    save_file(factory.create("resnet18", 3).state_dict(), tmp_path / "start.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name, wanted in (
        ("start", "these are not the weights of test_resnet"),
        ("text", "no safetensors file"),
        ("none", "do not exist"),
    ):
        code, stderr = her2pipe(
            "train",
            *stores,
            tmp_path / "m",
            "--sheet",
            sheet,
            *SMALL,
            "--weights",
            tmp_path / f"{name}.safetensors",
        )
        assert code == 1
        assert wanted in stderr


def test_changed_weights_are_refused(development, tmp_path, her2pipe):
    stores, sheet = development
    out = tmp_path / "model"
    her2pipe("train", *stores, out, "--sheet", sheet, *SMALL, "--max-epochs", "1")
    data = bytearray((out / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (out / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(Her2Error, match=r"not the file that model\.json describes"):
        weights.load(out)


GRADES = LabelSettings(endpoint="class", column="grade")


@pytest.fixture
def graded(tmp_path, make):
    """Seven slides by grade: two annotated, one of them outside, one of no class."""
    lines, stores = ["slide\tpath\tpatient\tsplit\tgrade"], []
    for i, grade in enumerate(["1+", "2+", "3+", "1+", "0", "2+", "3+"]):
        tumour = {0: [1.0, 0.5, 0.4, 0.0], 3: [0.4, 0.1, 0.0, 0.2]}.get(i)
        pixels = make.stained(4, seed=i, cells=5 + 15 * i)
        fraction = None if tumour is None else np.array(tumour, np.float32)
        corners = [(64 * k, 0) for k in range(4)]
        stores.append(make.store(tmp_path / f"S{i}.h5", pixels, corners, fraction))
        lines.append(f"S{i}\tx{i}\tP{i}\t{'validation' if i > 4 else 'train'}\t{grade}")
    (tmp_path / "sheet.tsv").write_text("\n".join(lines) + "\n")
    return stores, tmp_path / "sheet.tsv"


def test_in_a_study_of_classes_patches_have_their_slides(graded):
    """Where there is an annotation only the patches inside it are used."""
    data = opened(graded, GRADES, train_views=["64"])
    table, items = draw(data)
    assert items["train"].tolist() == [
        [0, 0, 0],
        [0, 1, 0],
        *([1, k, 1] for k in range(4)),
        *([2, k, 2] for k in range(4)),
    ]
    assert [k for *_, k in items["validation"].tolist()] == [1] * 4 + [2] * 4
    assert {(r["side"], r["kind"]): r["used"] for r in table}["train", "1+"] == 2
    why = data.exclusion_reasons()
    assert why[3] == "no patch has 0.5 of its area inside the annotation"
    assert why[4] == "no class: grade is 0: not a class of this study"
    assert not any(why[i] for i in (0, 1, 2, 5, 6))


def test_a_class_without_training_patches_is_reported(graded):
    data = opened(graded, GRADES)
    with pytest.raises(Her2Error, match=r"no training patch of class 3\+"):
        draw(replace(data, stores=data.stores[:2]))


def test_an_encoder_of_a_studys_classes(graded, tmp_path, her2pipe):
    stores, sheet = graded
    message = ("--endpoint", "class", "--column", "grade")
    code, error = her2pipe(
        "train",
        *stores,
        tmp_path / "model",
        "--sheet",
        sheet,
        *SMALL,
        *message,
        "--max-epochs",
        "1",
        "--fractions",
        '{"64":{"2+":0.5}}',
    )
    assert code == 0, error
    model = json.loads((tmp_path / "model" / "model.json").read_text())
    assert model["classes"] == ["1+", "2+", "3+"]
    assert model["settings"]["column"] == "grade"
    used = {(r["side"], r["kind"]): r["used"] for r in model["training_set"]}
    assert used["train", "2+"] == 2
    [epoch] = read_table(tmp_path / "model" / "history.tsv")
    assert {"validation_recall_2+", "validation_recall_1+", "validation_auc"} <= set(epoch)
    code, error = her2pipe(
        "train",
        *stores,
        tmp_path / "other",
        "--sheet",
        sheet,
        *SMALL,
        *message,
        "--fractions",
        '{"64":{"HER2+":0.5}}',
    )
    assert code == 1
    assert "HER2+, which is no class of the study" in error


def test_the_encoder_of_a_fold_is_one_trained_without_its_slides(development, tmp_path, her2pipe):
    """As if the sheet had none of them: weights and stain target are the same."""
    from her2pipe.store import read_metadata

    stores, sheet = development
    words = ("--sheet", sheet, *SMALL, "--max-epochs", "1")
    code, stderr = her2pipe("train", *stores, tmp_path / "fold", *words, "--fold", "2of2")
    assert code == 0, stderr
    rows = {row["slide"]: row for row in read_table(tmp_path / "fold" / "slides.tsv")}
    held_out = [slide for slide, row in rows.items() if row["side"] == "held out"]
    assert len(held_out) == 2  # one of either status, of two each
    assert all(rows[slide]["exclusion_reason"] == "held out" for slide in held_out)
    lines = sheet.read_text().splitlines(keepends=True)
    sheet.write_text("".join(line for line in lines if line.split("\t")[0] not in held_out))
    kept = [store for store in stores if store.stem not in held_out]
    code, stderr = her2pipe("train", *kept, tmp_path / "without", *words)
    assert code == 0, stderr
    (fold, description), (without, other) = (
        weights.load(tmp_path / name) for name in ("fold", "without")
    )
    assert (description.fold, other.fold) == ("2of2", "")
    assert description.stain_digest == other.stain_digest
    state = without.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in fold.state_dict().items())
    code, stderr = her2pipe(
        "encode", stores[0], tmp_path / "e", "--model", tmp_path / "fold", "--device", "cpu"
    )
    assert code == 0, stderr
    metadata = read_metadata(tmp_path / "e" / "S0.h5")
    assert (metadata.task, metadata.fold, metadata.encoder) == ("classify", "2of2", "fold")
    code, stderr = her2pipe("train", *stores, tmp_path / "x", *words, "--fold", "3of2")
    assert code == 1
    assert "3of2 is no fold" in stderr
