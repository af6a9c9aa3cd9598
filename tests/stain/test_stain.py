"""Stain normalisation against known stains, independent solvers, other tools and real images."""

import json
import math
import re
import subprocess
import sys
from functools import cache

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from stores import DATA

from her2pipe.config import StainSettings
from her2pipe.errors import Her2Error
from her2pipe.registry import STAIN_METHODS
from her2pipe.stain.base import StainMethod, estimate
from her2pipe.stain.normalise import normalise, normalise_batch
from her2pipe.stain.optical_density import (
    DAB,
    EOSIN,
    HAEMATOXYLIN,
    lasso,
    tissue,
    to_optical_density,
)
from her2pipe.stain.profile import Profile, median
from her2pipe.stain.vahadane import Vahadane

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no real images here")
DEFAULT = StainSettings()
IHC = StainSettings(stain_method="macenko-dab")
HE_IMAGES = [
    *("stain/tia_source_image.png", "stain/tia_target_image.png", "stain/torchstain_source.png"),
    *("stain/torchstain_target.png", "stain/histolab_low-nuclei-score-level0.png"),
    *("stain/histolab_tissue-level0-7352-11762-7864-12274.png", "bci/HE/*.png", "breakhis/*.png"),
    *("tcga_brca_thumbs/*.png", "her2st/*.jpg"),
]


def read(path):
    """Read an RGB image, laid over white where it is transparent; a huge one at 1/4 of its side."""
    huge = path.stat().st_size > 2_000_000 and path.suffix == ".jpg"
    image = cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_4 if huge else cv2.IMREAD_UNCHANGED)
    if image.shape[2] == 4:
        alpha = image[..., 3:] / 255
        image = (image[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    return np.ascontiguousarray(image[..., ::-1])


def jpeg(rgb, quality=90):
    """Compress and expand again, without chroma subsampling, as stored patches are."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    return cv2.imdecode(cv2.imencode(".jpg", rgb[..., ::-1], options)[1], 1)[..., ::-1]


def angles(a, b):
    cosine = np.clip((np.asarray(a) * np.asarray(b)).sum(-1), -1, 1)
    return np.degrees(np.arccos(cosine))


def vector_near(direction, most_deg, rng):
    """Draw a unit vector at most so many degrees from a direction, all densities positive."""
    direction = np.array(direction) / np.linalg.norm(direction)
    while True:
        step = rng.normal(size=3)
        step -= direction * (direction @ step)
        angle = np.radians(rng.uniform(0, most_deg))
        vector = np.cos(angle) * direction + np.sin(angle) * step / np.linalg.norm(step)
        if vector.min() >= 0.02:
            return vector


def concentrations(rng, side=256):
    """Draw nuclei, stroma and glass: float (side, side, 2), both stains present in both."""

    def field(sigma):
        smooth = cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), sigma)
        return (smooth - smooth.mean()) / smooth.std()

    nuclei, glass = field(4) > 0.6, field(20) > 1.2
    first = np.where(nuclei, 0.9 * np.exp(0.35 * field(2)), 0.05 * np.exp(0.5 * field(2)))
    second = np.where(nuclei, 0.08 * np.exp(0.5 * field(3)), 0.55 * np.exp(0.4 * field(6)))
    return np.stack([first, second], -1) * ~glass[..., None]


def dye(amounts, matrix, rng=None, noise=2.0):
    """Stain: levels of given concentrations, with noise in levels."""
    levels = 255 * np.exp(-amounts @ matrix)
    if rng is not None:
        levels = levels + rng.normal(0, noise, levels.shape)
    return np.clip(levels.round(), 0, 255).astype(np.uint8)


@cache
@cache
def section(seed):
    """Draw a synthetic H&E image: true vectors, true concentrations, RGB."""
    rng = np.random.default_rng(seed)
    he = [vector_near((0.60, 0.70, 0.35), 6, rng), vector_near((0.17, 0.90, 0.38), 6, rng)]
    matrix = np.stack(he)
    amounts = concentrations(rng)
    return matrix, amounts, jpeg(dye(amounts, matrix, rng))


def profile(matrix, maximum, method="vahadane", **more):
    matrix = np.array(matrix, float)
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return Profile(unit, np.array(maximum, float), method, **more)


SOURCE = profile([[0.65, 0.70, 0.29], [0.27, 0.80, 0.45]], [1.8, 0.9])
TARGET = profile([[0.56, 0.72, 0.40], [0.21, 0.86, 0.46]], [2.1, 1.2])


# --- lasso and factorisation -------------------------------------------------------------------


def test_lasso_by_hand():
    axes = np.array([[1.0, 0, 0], [0, 1, 0]])
    assert lasso(np.array([[2.0, 0.3, 9]]), axes, 0.5).tolist() == [[1.5, 0]]
    # w2 = (.6, .8, 0), v = w1 + w2: a = b = 1.6, g = .6, so h = (1.6 - .96) / .64 = 1.
    oblique = np.array([[1.0, 0, 0], [0.6, 0.8, 0]])
    assert lasso(np.array([[1.6, 0.8, 0]]), oblique) == pytest.approx(np.ones((1, 2)))


@pytest.mark.parametrize("sparsity", [0.0, 0.02, 0.1, 0.5])
def test_lasso_equals_a_general_solver(sparsity):
    from scipy.optimize import nnls

    rng = np.random.default_rng(1)
    for _ in range(20):
        matrix = rng.random((2, 3))
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        od = rng.gamma(1, 0.6, (30, 3))
        lower = np.linalg.cholesky(matrix @ matrix.T)
        want = [nnls(lower.T, np.linalg.solve(lower, matrix @ v - sparsity))[0] for v in od]
        assert np.abs(lasso(od, matrix, sparsity) - want).max() < 1e-6


def independent_factorisation(od, matrix, sparsity, iterations=1000):
    """Factorise by projected gradient steps on all concentrations and on the vectors."""
    h = np.full((len(od), 2), 0.3)
    for _ in range(iterations):
        gram = matrix @ matrix.T
        h = np.maximum(h - (h @ gram - od @ matrix.T + sparsity) / np.linalg.norm(gram, 2), 0)
        gram = h.T @ h
        step = (gram @ matrix - h.T @ od) / np.linalg.norm(gram, 2)
        matrix = np.maximum(matrix - step, 1e-9)
        matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return 0.5 * ((od - h @ matrix) ** 2).sum(1).mean() + sparsity * h.sum(1).mean()


@pytest.mark.parametrize("sparsity", [0.02, 0.1])
@pytest.mark.parametrize("image", ["synthetic", "stain/tia_source_image.png", "her2st/C2_HE.jpg"])
def test_objective_is_no_worse_than_an_independent_solver(image, sparsity):
    if image != "synthetic" and not DATA.is_dir():
        pytest.skip("no real images here")
    rgb = section(5)[2] if image == "synthetic" else read(DATA / image)
    rgb = rgb.reshape(-1, 3)[:: max(1, rgb.size // 3 // 20_000)]
    od = to_optical_density(rgb[tissue(rgb, DEFAULT)])[:3000]
    settings = StainSettings(stain_sparsity=sparsity)
    ours = Vahadane().objective(od, Vahadane().vectors(od, settings), settings)
    starts = [[HAEMATOXYLIN, EOSIN], [[0.8, 0.5, 0.3], [0.5, 0.7, 0.5]]]
    for start in starts:
        start = np.array(start) / np.linalg.norm(start, axis=1, keepdims=True)
        assert ours <= 1.001 * independent_factorisation(od, start, sparsity)


# --- estimation --------------------------------------------------------------------------------


@pytest.mark.parametrize("draws", [5, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("sparsity", "most_deg"), [(0.02, 4), (0.1, 6)])
def test_known_stains_are_recovered(draws, sparsity, most_deg):
    settings, errors = StainSettings(stain_sparsity=sparsity), []
    for seed in range(draws):
        matrix, amounts, rgb = section(seed)
        found = estimate(rgb, settings)
        assert not found.fallback
        assert angles(found.matrix, matrix).max() < most_deg
        true = amounts.reshape(-1, 2)[tissue(rgb.reshape(-1, 3), settings)]
        errors.append(found.max_concentration / np.percentile(true, 99, axis=0) - 1)
        od = to_optical_density(rgb.reshape(-1, 3)[tissue(rgb.reshape(-1, 3), settings)])
        # With the true vectors, noise and JPEG leave the mean concentration within 1 %.
        assert lasso(od, matrix).mean(0) == pytest.approx(true.mean(0), rel=0.01)
    assert np.abs(errors).mean(axis=0).max() < 0.05


def test_profile_is_the_same_to_the_byte():
    rgb = np.concatenate([section(seed)[2] for seed in range(2)])
    first, second = (estimate(rgb, DEFAULT) for _ in range(2))
    assert first.pixels == DEFAULT.stain_pixels
    assert json.dumps(first.as_dict()) == json.dumps(second.as_dict())
    again = Profile.from_dict(json.loads(json.dumps(first.as_dict())))
    assert again.digest() == first.digest()
    assert again.matrix.tobytes() == first.matrix.tobytes()
    other = estimate(rgb, StainSettings(stain_seed=1))
    assert other.digest() != first.digest()
    assert angles(other.matrix, first.matrix).max() < 0.5


def test_profile_goes_through_json_without_nan():
    values = json.loads(json.dumps(SOURCE.as_dict(), allow_nan=False))
    assert values["objective"] is None
    assert math.isnan(Profile.from_dict(values).objective)
    assert values["angle_deg"] == pytest.approx(angles(*SOURCE.matrix))
    with pytest.raises(Her2Error, match="max_concentration"):
        profile(SOURCE.matrix, [1.0, 0.0])


def test_tissue_is_lab_luminosity():
    from skimage.color import rgb2lab

    rgb = np.random.default_rng(3).integers(0, 256, (50_000, 3), dtype=np.uint8)
    lightness = rgb2lab(rgb / 255)[:, 0]
    clear = np.abs(lightness - 80) > 0.01
    want = (lightness < 80) & (rgb.max(axis=1) > DEFAULT.stain_black_max)
    assert (tissue(rgb, DEFAULT) == want)[clear].all()


@pytest.mark.parametrize(
    ("rgb", "reason"),
    [
        (np.full((64, 64, 3), 245), "0 tissue pixels"),
        (np.zeros((64, 64, 3)), "0 tissue pixels"),
        (np.full((64, 64, 3), (120, 60, 140)), "absent|apart"),
        (np.exp(-np.linspace(0.3, 2, 4096)[:, None] * [[0.6, 0.7, 0.4]]) * 255, "absent|apart"),
    ],
    ids=["glass", "black", "one colour", "one stain"],
)
@pytest.mark.parametrize("method", ["vahadane", "macenko", "macenko-dab"])
def test_degenerate_slide_falls_back(rgb, reason, method):
    found = estimate(rgb.astype(np.uint8), StainSettings(stain_method=method))
    assert re.search(reason, found.fallback)
    second = DAB if method == "macenko-dab" else EOSIN
    want = [np.array(v) / np.linalg.norm(v) for v in (HAEMATOXYLIN, second)]
    assert found.matrix == pytest.approx(np.array(want))
    assert (found.max_concentration >= DEFAULT.stain_concentration_min).all()


def test_pixels_that_are_not_8_bit_rgb_are_refused():
    for wrong in (np.zeros((9, 9, 3)), np.zeros((9, 4), np.uint8)):
        with pytest.raises(Her2Error, match="8-bit"):
            estimate(wrong, DEFAULT)


def test_median_leaves_fallback_profiles_out():
    a, b = profile([[1, 0, 0], [0, 1, 0]], [1, 2]), profile([[1, 0, 0], [0, 0.6, 0.8]], [3, 4])
    lost = profile([[0, 0, 1], [0, 1, 0]], [9, 9], fallback="too little tissue")
    target = median([a, lost, b])
    assert target.max_concentration.tolist() == [2, 3]
    # The median of two is their mean, (0, .8, .4), scaled to length one.
    assert target.matrix[1] == pytest.approx(np.array([0, 2, 1]) / 5**0.5)
    assert not target.fallback
    assert median([lost]).fallback
    for wrong in ([], [a, profile(a.matrix, [1, 1], "macenko")]):
        with pytest.raises(Her2Error, match="one stain_method"):
            median(wrong)


def real_he_images():
    return [path for pattern in HE_IMAGES for path in sorted(DATA.glob(pattern))]


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("path", real_he_images(), ids=lambda p: p.name)
def test_real_he_image_has_haematoxylin_then_eosin(path):
    rgb = read(path)
    rgb = rgb.reshape(-1, 3)[:: max(1, rgb.size // 3 // 300_000)]
    for method in ("vahadane", "macenko"):
        found = estimate(rgb, StainSettings(stain_method=method))
        assert not found.fallback
        assert (found.matrix >= 0).all()
        assert np.linalg.norm(found.matrix, axis=1) == pytest.approx(1)
        assert found.matrix[0, 0] > found.matrix[1, 0]
    mapped = normalise(rgb, found, found)
    # Two vectors explain a real image: its own profile gives it back, but for tinted glass.
    assert np.abs(mapped.astype(int) - rgb).mean() < 13


# --- application -------------------------------------------------------------------------------


def test_glass_stays_glass_and_known_stains_map_to_known_stains():
    amounts = np.array([[0, 0], [1, 0], [0, 1], [0.7, 0.4]])
    before, scale = dye(amounts, SOURCE.matrix), np.array([2.1 / 1.8, 1.2 / 0.9])
    after = normalise(before, SOURCE, TARGET)
    assert after[0].tolist() == [255, 255, 255]
    assert np.abs(after.astype(int) - dye(amounts * scale, TARGET.matrix)).max() <= 2


def test_own_profile_changes_nothing_but_rounding():
    amounts = np.random.default_rng(0).uniform(0, 1.5, (5000, 2))
    before = dye(amounts, SOURCE.matrix)
    assert np.abs(normalise(before, SOURCE, SOURCE).astype(int) - before).max() <= 1


def test_single_precision_is_within_one_level_of_double():
    rgb = np.random.default_rng(2).integers(0, 256, (200_000, 3), dtype=np.uint8)
    h = lasso(to_optical_density(rgb), SOURCE.matrix)
    exact = 255 * np.exp(-(h * TARGET.max_concentration / SOURCE.max_concentration) @ TARGET.matrix)
    assert np.abs(normalise(rgb, SOURCE, TARGET) - exact).max() < 0.501


def test_method_none_changes_nothing_and_methods_do_not_mix():
    rgb = np.random.default_rng(2).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    none = estimate(rgb, StainSettings(stain_method="none"))
    assert (none.method, none.fallback) == ("none", "")
    assert (normalise(rgb, none, none) == rgb).all()
    with pytest.raises(Her2Error, match="meets a target"):
        normalise(rgb, none, TARGET)


def retint(rgb, before, after, strengths):
    """Exchange the dyes of an image, leaving what they do not explain as it is."""
    frames = [np.vstack([m, np.cross(*m) / np.linalg.norm(np.cross(*m))]) for m in (before, after)]
    amounts = to_optical_density(rgb) @ np.linalg.inv(frames[0]) * [*strengths, 1]
    return jpeg(dye(amounts, frames[1]), 95)


def assert_same_picture(rgb, again, most=3):
    assert np.abs(rgb.astype(int) - again).mean() > 5
    pictures = [normalise(x, estimate(x, DEFAULT), TARGET) for x in (rgb, again)]
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() < most


@pytest.mark.parametrize("seed", range(4))
def test_retinted_slide_normalises_to_the_same_picture(seed):
    matrix, _, rgb = section(seed)
    rng = np.random.default_rng(seed + 50)
    other = np.stack([vector_near(w, 8, rng) for w in matrix])
    assert_same_picture(rgb, retint(rgb, matrix, other, [0.7, 1.2]))


@needs_data
@pytest.mark.parametrize(
    "name", ["stain/tia_source_image.png", "stain/tia_target_image.png", "bci/HE/00820_test_2+.png"]
)
def test_retinted_real_image_normalises_to_the_same_picture(name):
    rgb = read(DATA / name)
    other = profile([[0.60, 0.72, 0.34], [0.15, 0.85, 0.50]], [1, 1]).matrix
    assert_same_picture(rgb, retint(rgb, estimate(rgb, DEFAULT).matrix, other, [0.8, 1.15]))


MACENKO = StainSettings(
    stain_method="macenko", stain_luminosity_max=1, stain_black_max=0, stain_pixels=2_000_000
)


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("stain/tia_source_image.png", "stain/tia_target_image.png"),
        ("bci/HE/00345_test_0.png", "stain/tia_target_image.png"),
        ("bci/HE/00820_test_2+.png", "stain/tia_target_image.png"),
        ("stain/torchstain_source.png", "stain/torchstain_target.png"),
    ],
)
def test_macenko_equals_torchstain(source, target):
    macenko = pytest.importorskip("torchstain.numpy.normalizers.macenko")
    rgb, reference = read(DATA / source), read(DATA / target)
    own, aim = (estimate(x, MACENKO) for x in (rgb, reference))
    other = macenko.NumpyMacenkoNormalizer()
    other.fit(reference, Io=255)
    want, _, _ = other.normalize(rgb, Io=255, stains=False)
    assert angles(aim.matrix, other.HERef.T).max() < 1
    difference = np.abs(normalise(rgb, own, aim).astype(int) - want)
    # torchstain lets concentrations be negative, which no stain is: compare where they are not.
    od = to_optical_density(rgb)
    inside = (od @ np.linalg.pinv(own.matrix) >= 0).all(axis=-1)
    assert inside.mean() > 0.5
    assert difference[inside].mean() < 2


@needs_data
def test_macenko_equals_tiatoolbox():
    settings = StainSettings(stain_method="macenko", macenko_beta=0, stain_pixels=2_000_000)
    rgb, reference, want = (
        read(DATA / "stain" / f"tia_{name}.png")
        for name in ("source_image", "target_image", "norm_macenko")
    )
    own, aim = (estimate(x, settings) for x in (rgb, reference))
    assert np.abs(normalise(rgb, own, aim).astype(int) - want).mean() < 2


# --- immunohistochemistry ----------------------------------------------------------------------


def dab_p99(rgb, matrix):
    return np.percentile(lasso(to_optical_density(rgb), matrix)[:, 1], 99)


def dab_before_and_after(images, method):
    """Measure each image's DAB in its own vectors, and in the target's once normalised."""
    images = [x[tissue(x, IHC)] for x in images]
    profiles = [estimate(x, StainSettings(stain_method=method)) for x in images]
    target, pairs = median(profiles), list(zip(images, profiles, strict=True))
    before = [dab_p99(x, p.matrix) for x, p in pairs]
    after = [dab_p99(normalise(x, p, target), target.matrix) for x, p in pairs]
    return before, after, profiles


def test_grades_keep_their_dab():
    matrix = profile([HAEMATOXYLIN, DAB], [1, 1]).matrix
    slides = []
    for seed, strength in enumerate([0.5, 0.9, 1.6]):
        rng = np.random.default_rng(seed)
        amounts = concentrations(rng)
        brown = amounts[..., 1] / np.percentile(amounts[..., 1], 99) * strength
        amounts = np.stack([amounts[..., 0] * rng.uniform(0.6, 1), brown], -1)
        slides.append(dye(amounts, matrix).reshape(-1, 3))
    before, after, _ = dab_before_and_after(slides, "macenko-dab")
    assert after == pytest.approx(before, rel=0.05)
    assert after == pytest.approx([0.5, 0.9, 1.6], rel=0.3)
    _, wiped_out, _ = dab_before_and_after(slides, "macenko")
    assert max(after) / min(after) > 2.2 > 1.3 > max(wiped_out) / min(wiped_out)


def test_faint_dab_leaves_haematoxylin_its_own_vector():
    """A slide without brown keeps its own blue; the brown of the reference stands in."""
    blue = np.array([0.80, 0.55, 0.22]) / np.linalg.norm([0.80, 0.55, 0.22])
    rng = np.random.default_rng(3)
    matrix = np.stack([blue, profile([HAEMATOXYLIN, DAB], [1, 1]).matrix[1]])
    amounts = concentrations(rng) * [1, 0.25]
    found = estimate(dye(amounts, matrix, rng), IHC)
    assert re.fullmatch("DAB [0-9]+ degrees from its reference vector", found.fallback)
    assert angles(found.matrix, matrix).max() < 4
    assert found.max_concentration[1] == IHC.macenko_dab_max
    strong = estimate(dye(concentrations(rng), matrix, rng), IHC)
    assert strong.fallback == ""
    assert median([found, strong, found]).matrix == pytest.approx(strong.matrix)


@needs_data
@pytest.mark.slow
def test_real_ihc_keeps_its_dab():
    names = sorted([*DATA.glob("bci/IHC/*.png"), *DATA.glob("ihc_tma_her2/*.jpg")])
    images = [read(path).reshape(-1, 3) for path in names]
    images = [x[:: max(1, len(x) // 300_000)] for x in images]
    before, after, profiles = dab_before_and_after(images, "macenko-dab")
    assert after == pytest.approx(before, rel=0.12)
    assert np.corrcoef(np.argsort(np.argsort(before)), np.argsort(np.argsort(after)))[0, 1] > 0.98
    cores = [(p.name[0], *rest) for p, *rest in zip(names, after, profiles, strict=True)]
    cores = [c for c, p in zip(cores, names, strict=True) if p.parent.name == "ihc_tma_her2"]
    means = [np.mean([dab for grade, dab, _ in cores if grade == g]) for g in "012"]
    assert means == sorted(means)
    assert means[2] > 1.5 * means[0]
    # An unstained core has no brown to learn a vector from, and must not be given any.
    assert all("DAB" in own.fallback for grade, _, own in cores if grade == "0")


# --- torch -------------------------------------------------------------------------------------


def patches(seed=0):
    rgb = np.random.default_rng(seed).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    rgb[0, :2] = 0
    rgb[0, 2:4] = 255
    return rgb


def tensors(profiles):
    """Vectors and maxima of an image each, as a batch takes them."""
    import torch

    return [
        torch.tensor(np.stack([getattr(p, name) for p in profiles]), dtype=torch.float32)
        for name in ("matrix", "max_concentration")
    ]


def test_torch_map_agrees_with_numpy():
    torch = pytest.importorskip("torch")
    rgb = patches()
    batch = torch.from_numpy(rgb).permute(0, 3, 1, 2)
    want = normalise(rgb, SOURCE, TARGET)
    for given in (batch, batch.float()):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = normalise_batch(given, *tensors([SOURCE] * 3), TARGET)
        assert got.dtype == torch.float32
        assert np.abs(got.permute(0, 2, 3, 1).numpy() - want).max() < 0.51
    assert (batch.permute(0, 2, 3, 1).numpy() == rgb).all()


def test_torch_map_of_several_slides_agrees_with_one_by_one():
    torch = pytest.importorskip("torch")
    batch = torch.from_numpy(patches()).permute(0, 3, 1, 2)
    sources = [SOURCE, TARGET, SOURCE]
    got = normalise_batch(batch, *tensors(sources), TARGET)
    for i, source in enumerate(sources):
        one = normalise_batch(batch[i : i + 1], *tensors([source]), TARGET)[0]
        assert torch.equal(got[i], one)


@pytest.mark.gpu
def test_torch_map_does_not_wait_for_the_host():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    rgb = patches()
    batch = torch.from_numpy(rgb).permute(0, 3, 1, 2).cuda()
    stains = [tensor.cuda() for tensor in tensors([SOURCE] * 3)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = normalise_batch(batch, *stains, TARGET)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    want = normalise(rgb, SOURCE, TARGET)
    assert np.abs(got.permute(0, 2, 3, 1).cpu().numpy() - want).max() < 0.51


def test_methods_declare_what_they_are():
    """Each is registered with a paper, if it changes colours, and with settings that exist."""
    assert sorted(STAIN_METHODS.names()) == ["macenko", "macenko-dab", "none", "vahadane"]
    for method in STAIN_METHODS:
        assert set(method.settings) <= set(StainSettings.model_fields)
        assert bool(method.citations) != method.keeps_colours
        assert np.linalg.norm(method.reference, axis=1) == pytest.approx(1)


class Ruifrok(StainMethod):
    """The reference vectors for every slide."""

    def vectors(self, od, settings):
        return self.reference


def test_a_method_that_registers_itself_is_used(monkeypatch):
    STAIN_METHODS.names()
    monkeypatch.setitem(STAIN_METHODS._items, "ruifrok", Ruifrok)
    rgb = section(3)[2]
    found = estimate(rgb, StainSettings(stain_method="ruifrok"))
    assert found.method == "ruifrok"
    assert not found.fallback
    assert (found.matrix == StainMethod.reference).all()
    assert (normalise(rgb, found, found) != rgb).any()
    with pytest.raises(ValidationError, match="use one of: macenko, macenko-dab, none, ruifrok"):
        StainSettings(stain_method="rufrok")


def test_import_is_light():
    heavy = ("torch", "sklearn", "tiatoolbox", "cv2", "scipy", "matplotlib")
    code = "import sys; from her2pipe.registry import STAIN_METHODS; STAIN_METHODS.names(); "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
