"""Fingerprints: which patches meet, which are left out, and how retrieval counts."""

import math

import numpy as np
import pytest
import torch

from her2pipe.training.contrastive import SameSlide, pairs, retrieval


def numbers(*counts):
    ends = np.cumsum(counts)
    return [np.arange(end - count, end) for count, end in zip(counts, ends, strict=True)]


def test_pairs_are_of_one_slide_and_every_patch_comes_once():
    own = numbers(7, 2, 1, 10)
    slide = np.repeat(np.arange(4), [len(o) for o in own])
    found = pairs(own, np.random.default_rng(1)).reshape(-1, 2)
    assert (slide[found[:, 0]] == slide[found[:, 1]]).all()
    assert len(np.unique(found)) == found.size == 6 + 2 + 0 + 10
    again = pairs(own, np.random.default_rng(1)).reshape(-1, 2)
    assert (found == again).all()
    assert (found != pairs(own, np.random.default_rng(2)).reshape(-1, 2)).any()


def test_a_slides_pairs_are_spread_over_the_epoch():
    """Twelve slides of 20 pairs each: any 12 pairs in a row hold nearly all slides."""
    own = numbers(*[40] * 12)
    found = pairs(own, np.random.default_rng(3))[::2] // 40
    windows = [len(set(found[i : i + 12])) for i in range(0, 240, 12)]
    assert np.mean(windows) > 8  # 7.8 were the order left to chance
    assert max(np.bincount(found[:24], minlength=12)) <= 4


def test_most_patches_of_a_slide():
    found = pairs(numbers(9, 30), np.random.default_rng(1), most=8)
    assert (found < 9).sum() == 8
    assert len(found) == 16
    assert len(pairs([], np.random.default_rng(1))) == 0


def expected_loss(features, patients, temperature):
    """The loss by plain sums, pair by pair; kin are passed over."""
    centred = features - features.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    total = []
    for i in range(len(unit)):
        partner = i ^ 1
        strangers = [j for j in range(len(unit)) if patients[j] != patients[i]]
        if not strangers:
            continue
        e = {j: math.exp(unit[i] @ unit[j] / temperature) for j in [partner, *strangers]}
        total.append(-math.log(e[partner] / sum(e.values())))
    return np.mean(total)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_loss_by_hand_and_kin_are_no_strangers(temperature):
    features = np.random.default_rng(4).normal(size=(8, 5))
    slides, patients = [0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 0, 0, 1, 1, 2, 2]  # slides 0 and 1: kin
    batch = torch.zeros(8, 3, 4, 4), torch.tensor(slides), torch.tensor(patients)
    out = SameSlide(temperature)(lambda images: torch.tensor(features), batch)
    wanted = expected_loss(features, patients, temperature)
    assert float(out.loss / out.weight) == pytest.approx(wanted, rel=1e-6)


def test_a_batch_of_one_patient_is_no_training_batch():
    features = torch.randn(4, 5, requires_grad=True)
    batch = torch.zeros(4, 3, 4, 4), torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.long)
    out = SameSlide(0.5)(lambda images: features, batch)
    (out.loss / out.weight).backward()
    assert out.loss.item() == 0
    assert not features.grad.any()


def test_retrieval_by_hand():
    """On a circle: two patches of slide 0 side by side; one of slide 1 beside them, one across."""
    turn = torch.tensor([0.0, 0.1, 0.15, math.pi])
    features = torch.stack([turn.cos(), turn.sin()], 1)
    slides = torch.tensor([0, 0, 1, 1])
    found = retrieval(features, slides, slides)
    # about the middle, 0 and 1 see each other or slide 1; the last sees whatever is nearest
    middle = features - features.mean(0)
    unit = middle / middle.norm(dim=1, keepdim=True)
    like = unit @ unit.T - 9 * torch.eye(4)
    assert found["retrieval"] == float((slides[like.argmax(1)] == slides).float().mean())
    assert found["chance"] == pytest.approx(1 / 3)


def test_retrieval_passes_over_kin_and_the_lonely():
    features = torch.tensor([[1.0, 0], [0.9, 0.1], [1.0, 0.01], [-1.0, 0], [-1.0, 0.1], [0, 1.0]])
    slides = torch.tensor([0, 0, 1, 2, 2, 3])
    patients = torch.tensor([0, 0, 0, 1, 1, 2])  # slide 1 is of the same patient as slide 0
    found = retrieval(features, slides, patients)
    assert found["retrieval"] == 1.0  # the patch of slide 1, nearest to both, does not count
    assert found["chance"] == pytest.approx((2 * 1 / 4 + 2 * 1 / 5) / 4)


def test_retrieval_of_noise_is_chance():
    features = torch.randn(3000, 16, generator=torch.Generator().manual_seed(1))
    slides = torch.arange(3000) % 5
    found = retrieval(features, slides, slides)
    assert abs(found["retrieval"] - found["chance"]) < 0.03
    assert found["chance"] == pytest.approx(599 / 2999)
