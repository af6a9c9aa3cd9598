"""Encoding: right numbers for right patches, exclusions carried, nothing half-written."""

import functools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from her2pipe import store
from her2pipe.config import StainSettings
from her2pipe.errors import Her2Error
from her2pipe.files import read_table, write_record
from her2pipe.models import gpu, inference, weights
from her2pipe.models.base import Network
from her2pipe.models.description import PatchConditions
from her2pipe.stain.base import estimate
from her2pipe.stain.normalise import normalise_batch
from her2pipe.stain.profile import Profile
from her2pipe.steps import encode
from her2pipe.store import PatchStore, read_encoding
from her2pipe.training import dataloader

PX = dataloader.Resizing(32)


@pytest.fixture
def model(tmp_path, make):
    target = estimate(make.stained(8, 5).reshape(-1, 3), StainSettings())
    return make.model(tmp_path / "resnet", target)


def slides(tmp_path, make, counts=(5, 3)):
    return [
        make.store(tmp_path / f"S{i}.h5", make.stained(n, i), [(64 * k, 0) for k in range(n)])
        for i, n in enumerate(counts)
    ]


def test_every_patch_gets_its_own_numbers(tmp_path, make, model, her2pipe):
    stores = slides(tmp_path, make)
    code, stderr = her2pipe(
        "encode",
        *stores,
        tmp_path / "out",
        "--model",
        model,
        "--batch-patches",
        "2",
        "--device",
        "cpu",
    )
    assert code == 0, stderr
    network, about = weights.load(model)
    target = Profile.from_dict(about.stain)
    for path in stores:
        found = read_encoding(tmp_path / "out" / path.name)
        with PatchStore(path) as store:
            source = dataloader.profile(store)
            assert found.coords.tolist() == store.coords.tolist()
            for i in range(len(store)):  # one patch at a time, by the plain functions
                pixels = torch.from_numpy(store.pixels(i)).permute(2, 0, 1)[None]
                stains = torch.tensor(source.matrix), torch.tensor(source.max_concentration)
                image = normalise_batch(pixels, *(x[None].float() for x in stains), target)
                image = inference.standardise(image, about.mean, about.std)
                with torch.no_grad():
                    p = network(image).softmax(1).numpy()[0]
                assert np.allclose(found.probabilities[i], p, atol=1e-4)
        assert np.allclose(found.probabilities.sum(1), 1, atol=1e-5)
        assert found.features.shape[1] == 96
        assert found.metadata.encoder == "resnet"
        assert found.metadata.width_px0 == found.metadata.height_px0 == 640
        assert list(found.metadata.classes) == make.classes
        assert found.metadata.model_digest == about.digest


def test_times_are_written_by_slide(tmp_path, make, model, her2pipe):
    stores = slides(tmp_path, make)
    stores.append(make.store(tmp_path / "bad.h5", [], [], status="excluded", reason="blank"))
    assert her2pipe("encode", *stores, tmp_path / "out", "--model", model)[0] == 0
    rows = read_table(tmp_path / "out" / "timings.tsv")
    assert [(row["slide"], row["patches"]) for row in rows] == [
        ("S0", "5"),
        ("S1", "3"),
        ("bad", "0"),
    ]
    for row in rows:
        seconds, rate = float(row["seconds"]), float(row["patches_per_s"])
        assert seconds >= 0
        assert rate * seconds == pytest.approx(int(row["patches"]), rel=0.01, abs=0.01)


def test_an_excluded_slide_in_a_batch_excludes_itself_only(tmp_path, make, model, her2pipe):
    stores = slides(tmp_path, make)
    stores.insert(1, make.store(tmp_path / "bad.h5", [], [], status="excluded", reason="blank"))
    assert her2pipe("encode", *stores, tmp_path / "out", "--model", model)[0] == 0
    bad = read_encoding(tmp_path / "out" / "bad.h5")
    assert bad.metadata.status == "excluded"
    assert bad.metadata.reason == "blank"
    assert bad.probabilities.shape == (0, 3)
    assert len(read_encoding(tmp_path / "out" / "S1.h5").probabilities) == 3


def test_a_slide_of_another_scale_excludes_itself_only(tmp_path, make, model, her2pipe):
    network, description = weights.load(model)
    taught = PatchConditions(views=["64"], patch_px=[64], side_px0=(64, 64), side_um=(16, 16))
    weights.save(network, description.model_copy(update={"patches": taught}), model)
    stores = [
        make.store(
            tmp_path / f"{name}.h5", make.stained(3, 1), [(0, 0), (64, 0), (128, 0)], mpp=mpp
        )
        for name, mpp in {"near": 0.25, "far": 0.5, "unknown": 0}.items()
    ]
    words = ["encode", *stores, tmp_path / "out", "--model", model, "--device", "cpu"]
    code, stderr = her2pipe(*words)
    assert code == 0, stderr
    assert "far: excluded: other scale than the encoder's" in stderr
    encodings = {path.stem: read_encoding(path) for path in (tmp_path / "out").glob("*.h5")}
    assert {name: len(encoding) for name, encoding in encodings.items()} == {
        "near": 3,
        "far": 0,
        "unknown": 3,
    }
    assert encodings["far"].metadata.status == "excluded"
    assert "32 um a side on the slide (0.5 um/px)" in encodings["far"].metadata.reason
    assert her2pipe("score", tmp_path / "out", tmp_path / "s.tsv")[0] == 0
    rows = {row["slide"]: row for row in read_table(tmp_path / "s.tsv")}
    assert rows["far"]["flag"] == "excluded"
    assert rows["far"]["reason"] == encodings["far"].metadata.reason
    assert rows["near"]["score"]
    assert her2pipe(*words, "--allow-mismatch")[0] == 0
    assert len(read_encoding(tmp_path / "out/far.h5")) == 3


def test_output_that_is_not_finite_is_an_error(tmp_path, make, model, her2pipe):
    network, about = weights.load(model)
    with torch.no_grad():
        network.get_classifier().bias[0] = float("nan")
    weights.save(network, about, model)
    code, stderr = her2pipe("encode", *slides(tmp_path, make), tmp_path / "out", "--model", model)
    assert code == 1
    assert "not finite for 5 of 5 patches of S0" in stderr
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_another_stain_method_is_refused(tmp_path, make, model, her2pipe):
    about = json.loads((model / "model.json").read_text())
    about["stain"]["method"] = "macenko"
    about["stain_digest"] = Profile.from_dict(about["stain"]).digest()
    write_record(model / "model.json", about)
    code, stderr = her2pipe("encode", *slides(tmp_path, make), tmp_path / "out", "--model", model)
    assert code == 1
    assert "tiled for stain method vahadane, the encoder expects macenko" in stderr


def test_another_target_is_refused(tmp_path, make, model, her2pipe):
    about = json.loads((model / "model.json").read_text())
    about["stain"]["max_concentration"][0] *= 1.1
    write_record(model / "model.json", about)
    code, stderr = her2pipe("encode", *slides(tmp_path, make), tmp_path / "out", "--model", model)
    assert code == 1
    assert "stain target is not the one" in stderr


def test_a_folder_that_is_no_model(tmp_path, make, her2pipe):
    code, stderr = her2pipe(
        "encode", *slides(tmp_path, make), tmp_path / "out", "--model", tmp_path
    )
    assert code == 1
    assert "not a trained model" in stderr


def test_cuda_is_not_taken_for_granted(tmp_path, make, model, her2pipe):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    code, stderr = her2pipe(
        "encode", *slides(tmp_path, make), tmp_path / "out", "--model", model, "--device", "cuda"
    )
    assert code == 1
    assert "no CUDA device" in stderr


def test_a_card_that_is_not_there_decodes_nothing(tmp_path, make, model, her2pipe):
    words = "--model", model, "--device", "cpu", "--decoder", "cuda"
    code, stderr = her2pipe("encode", *slides(tmp_path, make), tmp_path / "out", *words)
    assert code == 1
    assert "cannot be decoded on a graphics card" in stderr


def test_bfloat16_stays_near_float32(tmp_path, make, model, her2pipe):
    stores = slides(tmp_path, make)
    for precision in ("float32", "bfloat16"):
        assert (
            her2pipe(
                "encode", *stores, tmp_path / precision, "--model", model, "--precision", precision
            )[0]
            == 0
        )
    a, b = (read_encoding(tmp_path / p / "S0.h5") for p in ("float32", "bfloat16"))
    assert np.abs(a.probabilities - b.probabilities).max() < 0.03
    assert a.probabilities.tolist() != b.probabilities.tolist()


def test_batches_keep_order_with_many_threads(tmp_path, make):
    stores = [PatchStore(p) for p in slides(tmp_path, make, (7, 6))]
    items = np.array([[s, p] for s in (1, 0) for p in range(len(stores[s]))][::-1])
    seen = []
    for images, numbers in dataloader.batches(stores, items, PX, 4, torch.device("cpu"), threads=4):
        for image, number in zip(images, numbers.tolist(), strict=True):
            seen.append((number, image.permute(1, 2, 0).numpy()))
    assert [n for n, _ in seen] == items[:, 0].tolist()
    for (_, image), (s, p) in zip(seen, items, strict=True):
        assert (image == stores[s].pixels(p, at_least_px=32)).all()


@pytest.mark.parametrize(
    ("px", "interpolation"), [(28, "area"), (36, "area"), (24, "bicubic"), (70, "area")]
)
def test_a_device_decodes_as_the_threads_do(tmp_path, make, px, interpolation):
    """torchvision's decoder, here on the CPU: 45 dB at the network's size."""
    places = [(64 * k, 0) for k in range(5)]
    path = make.store(tmp_path / "S.h5", make.stained(5, 1), places)
    small = make.store(tmp_path / "T.h5", make.stained(5, 2, px=50), places)  # of another side
    resizing = dataloader.Resizing(px, interpolation)
    items = np.array([[number, i] for i in range(5) for number in (0, 1)][:-1])
    with PatchStore(path) as store, PatchStore(small) as other:
        there, here = (
            torch.cat(
                [
                    images
                    for images, _ in dataloader.batches(
                        [store, other], items, resizing, 4, torch.device("cpu"), on_device=on_device
                    )
                ]
            ).double()
            for on_device in (True, False)
        )
    assert there.shape == (9, 3, px, px)
    error = ((there - here) ** 2).mean((1, 2, 3))
    assert (10 * torch.log10(255**2 / error.clamp_min(1e-9))).min() >= 45
    assert abs(float((there - here).mean())) < 0.2


def test_a_matrix_shrinks_by_areas():
    assert dataloader.area_weights(4, 2).tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]
    thirds = [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]
    assert np.allclose(dataloader.area_weights(3, 2), thirds)
    for source, target in ((512, 224), (512, 299), (360, 224), (300, 224), (50, 33), (64, 64)):
        weights = dataloader.shrinking(source, target)
        assert weights.shape == (target, source)
        assert np.allclose(weights.sum(1), 1)  # an even patch stays as it is


def test_a_patch_that_a_device_cannot_decode_is_named(tmp_path, make):
    import h5py

    path = slides(tmp_path, make, (3,))[0]
    with h5py.File(path, "r+") as file:
        first = int(file["jpeg/offsets"][1])
        file["jpeg/bytes"][2:first] = 0
    words = np.array([[0, 0]]), PX, 4, torch.device("cpu")
    with PatchStore(path) as store, pytest.raises(Her2Error, match="patch 0 cannot be read"):
        list(dataloader.batches([store], *words, on_device=True))


class Tight(torch.nn.Module):
    """A network that has memory for so many images."""

    def __init__(self, most):
        super().__init__()
        self.most, self.seen = most, []

    def get_classifier(self):
        return torch.nn.Linear(3, 2).requires_grad_(False)

    def forward_features(self, images):
        if len(images) > self.most:
            raise torch.OutOfMemoryError
        self.seen.append(len(images))
        return images

    def forward_head(self, features, pre_logits):
        return features.mean((2, 3))


def test_batches_are_halved_until_they_fit():
    network, images = Tight(3), torch.arange(11.0)[:, None, None, None].expand(11, 3, 4, 4)
    run = inference.BatchRunner(network, "pooled", torch.device("cpu"), bfloat16=False)
    features = torch.cat([run(part)[1] for part in (images[:8], images[8:])])
    assert features[:, 0].tolist() == list(range(11))
    assert network.seen == [2] * 4 + [2, 1]
    network.most = 0
    with pytest.raises(torch.OutOfMemoryError):
        run(images[:2])


class Little(Network):
    """A network of one convolution."""

    def __init__(self):
        super().__init__()
        self.convolution, self.classifier = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 2)

    def forward_features(self, images):
        return self.convolution(images)

    def forward_head(self, maps, pre_logits=False):
        pooled = maps.relu().mean((2, 3))
        return pooled if pre_logits else self.classifier(pooled)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own
@pytest.mark.parametrize("stage", ["pooled", "convolution"])
def test_a_network_is_compiled_once_for_batches_of_all_sizes(stage, monkeypatch):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "unused")
    torch.manual_seed(3)
    network = Little().to(memory_format=torch.channels_last)
    batches = [torch.rand(count, 3, 32, 32) for count in (4, 1, 7, 2)]
    outputs, graphs_of_first = [], 0
    for is_compiled in (False, True):
        run = inference.BatchRunner(network, stage, torch.device("cpu"), False, is_compiled)
        with torch.inference_mode():
            for images in batches:
                outputs.append(run(images))
                graphs_of_first = graphs_of_first or len(graphs)
    for of_plain, of_compiled in zip(outputs[:4], outputs[4:], strict=True):
        for wanted, values in zip(of_plain, of_compiled, strict=True):
            assert values.shape == wanted.shape
            assert torch.allclose(values, wanted, atol=1e-5)
    assert len(graphs) == graphs_of_first > 0


def test_what_cannot_be_compiled_is_said(monkeypatch):
    def fail(images):
        raise type("InvalidCxxCompiler", (RuntimeError,), {"__module__": "torch._inductor.exc"})(
            "No working C++ compiler found"
        )

    monkeypatch.setattr(inference, "compiled", lambda function: fail)
    monkeypatch.setattr(torch, "_dynamo", SimpleNamespace(mark_dynamic=lambda tensor, axis: None))
    run = inference.BatchRunner(Tight(9), "pooled", torch.device("cpu"), False, True)
    with pytest.raises(Her2Error, match=r"cannot be compiled: InvalidCxxCompiler, No working"):
        run(torch.zeros(2, 3, 4, 4))


def test_weights_are_cast_once_for_all_batches():
    torch.manual_seed(2)
    run = inference.BatchRunner(Little(), "pooled", torch.device("cpu"), bfloat16=True)
    casts, images = [], torch.rand(2, 3, 8, 8)

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten._to_copy.default and args[0].shape == (4, 3, 3, 3):
                casts.append(func)
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Watching():
        outputs = [run(images) for _ in range(2)]
        assert len(casts) == 2
        with run.casting_once():
            assert not torch.is_autocast_enabled("cpu")
            outputs += [run(images) for _ in range(2)]
        assert len(casts) == 3
    assert all(torch.equal(values, outputs[0][1]) for _, values in outputs)


def test_a_card_waits_while_it_has_nothing_to_do(monkeypatch):
    """The card's clock: work until 5 s, the host back at 2 s, and then at 9 s."""
    now = {"done": 5.0, "host": 0.0}

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.passed = max(now["done"], now["host"])

        def synchronize(self):
            pass

        def elapsed_time(self, later):
            return 1000 * (later.passed - self.passed)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    waits = dataloader.Waits()
    for host_s in (2, 9):
        with waits.waiting(torch.device("cuda")):
            now["host"] = host_s
    assert waits.seconds == pytest.approx(4)


def test_a_batch_takes_half_of_the_free_memory_at_most():
    assert inference.patches_within(100e6, 1e6) == 32  # of 50
    assert inference.patches_within(140e9, 10e6) == 512
    assert inference.patches_within(1e6, 10e6) == 1
    run = inference.BatchRunner(Tight(1), "pooled", torch.device("cpu"), bfloat16=False)
    assert run.most_patches(32) == inference.CPU_BATCH


@pytest.mark.gpu
def test_decoding_on_a_card_changes_no_score(tmp_path, make, model, her2pipe):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    stores = slides(tmp_path, make)
    words = ["--model", model, "--device", "cuda", "--precision", "float32"]
    for decoder in ("cpu", "cuda"):
        more = ["--decoder", decoder, "--batch-patches", "0"]
        code, stderr = her2pipe("encode", *stores, tmp_path / decoder, *words, *more)
        assert code == 0, stderr
    for path in stores:
        a, b = (read_encoding(tmp_path / decoder / path.name) for decoder in ("cpu", "cuda"))
        assert np.abs(a.probabilities - b.probabilities).max() < 1e-3


def test_slides_are_dealt_to_cards_by_their_patches():
    assert encode.deal([5, 1, 9, 4, 0], 2) == [[1, 2], [0, 3, 4]]  # 10 and 9 patches
    assert encode.deal([0, 0, 0], 3) == [[0], [1], [2]]


@pytest.mark.parametrize("code", [0, 1])
def test_two_cards_encode_as_one(tmp_path, make, model, her2pipe, monkeypatch, code):
    """Each in a process, here of this one; where one fails the job does, and leaves nothing."""
    from her2pipe.cli import main

    stores, visible = slides(tmp_path, make, (5, 3, 4)), []

    class Process:
        """What has ended with a code."""

        def __init__(self, words, env):
            visible.append(env["CUDA_VISIBLE_DEVICES"])
            with monkeypatch.context() as patches:
                patches.setattr(gpu, "several_cards", lambda wanted: [])
                self.code = main(words[3:]) or code * (len(visible) == 2)

        def poll(self):
            return self.code

    assert her2pipe("encode", *stores, tmp_path / "one", "--model", model)[0] == 0
    monkeypatch.setattr(gpu, "several_cards", lambda wanted: ["4", "7"][:wanted])
    monkeypatch.setattr(encode.encode_on_cards, "__defaults__", (Process,))
    words = "encode", *stores, tmp_path / "two", "--model", model, "--cards", "2"
    ended, stderr = her2pipe(*words)
    assert (ended, visible) == (code, ["4", "7"])
    if code:
        assert "encoding on graphics card 7 failed (exit code 1)" in stderr
        assert not (tmp_path / "two").exists()
        return
    names = [path.name for path in stores]
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == [*names, "timings.tsv"]
    for name in names:
        a, b = (read_encoding(tmp_path / folder / name) for folder in ("one", "two"))
        assert np.array_equal(a.probabilities, b.probabilities)
        assert np.array_equal(a.features, b.features)
    rows = read_table(tmp_path / "two" / "timings.tsv")
    assert [(row["slide"], row["patches"]) for row in rows] == [
        ("S0", "5"),
        ("S1", "3"),
        ("S2", "4"),
    ]


def test_a_broken_patch_stops_the_loader(tmp_path, make):
    import h5py

    path = slides(tmp_path, make, (3,))[0]
    with h5py.File(path, "r+") as file:
        file["jpeg/bytes"][: int(file["jpeg/offsets"][1])] = 0
    with PatchStore(path) as store, pytest.raises(Her2Error, match="patch 0 cannot be read"):
        list(dataloader.batches([store], np.array([[0, 0]]), PX, 4, torch.device("cpu")))


def test_a_published_encoder_sees_what_its_own_transform_would_show_it(
    tmp_path, development, her2pipe
):
    """A folder of the hub's layout, frozen: features as timm and torchvision alone compute them."""
    import timm
    from PIL import Image
    from safetensors.torch import save_file
    from torchvision import transforms

    stores, sheet = development
    options = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2, "init_values": 1e-5}
    mean, std = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)
    torch.manual_seed(3)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, **options).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    (tmp_path / "published").mkdir()
    save_file(network.state_dict(), tmp_path / "published" / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": {**options, "num_classes": 0},
        "pretrained_cfg": {"mean": mean, "std": std},
    }
    (tmp_path / "published" / "config.json").write_text(json.dumps(config))
    name = f"local-dir:{tmp_path / 'published'}"
    words = [
        *("--architecture", name, "--weights", "source", "--task", "none", "--pooling", "cls+mean"),
        *("--input-px", "32", "--resize-px", "40", "--interpolation", "bicubic"),
        *("--stain-target", "none", "--train-views", "64", "--frozen", "--device", "cpu"),
    ]
    code, stderr = her2pipe("train", *stores, tmp_path / "m", "--sheet", sheet, *words)
    assert code == 0, stderr
    code, stderr = her2pipe("encode", stores[1], tmp_path / "e", "--model", tmp_path / "m")
    assert code == 0, stderr
    transform = transforms.Compose(
        [
            transforms.Resize(40, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    with PatchStore(stores[1]) as store, torch.inference_mode():
        images = [transform(Image.fromarray(store.pixels(i))) for i in range(len(store))]
        tokens = network.forward_features(torch.stack(images))
    expected = torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1).numpy()
    found = read_encoding(tmp_path / "e" / "S1.h5")
    assert found.features.shape == (24, 64)
    assert found.features == pytest.approx(expected, rel=1e-3, abs=1e-3)  # kept in half precision
    about = json.loads((tmp_path / "m" / "model.json").read_text())
    assert about["start"]["name"] == name
    assert (about["architecture"], about["pooling"]) == ("vit_tiny_patch16_224", "cls+mean")
    assert about["model_args"]["init_values"] == 1e-5


class CountedPatches:
    """Patches of a slide, of one colour each, that note when they are decoded."""

    def __init__(self, slide, count, decoded):
        self.slide, self.count, self.decoded = slide, count, decoded

    def pixels(self, patch, at_least_px=0):
        self.decoded.append((self.slide, patch))
        return np.full((32, 32, 3), 10 * self.slide + patch, np.uint8)


def test_a_loader_goes_on_to_the_next_slide_without_mixing_two():
    decoded, waits, cpu = [], dataloader.Waits(), torch.device("cpu")
    counts = (3, 1, 5)
    stores = [CountedPatches(slide, n, decoded) for slide, n in enumerate(counts)]
    items = np.array([(slide, patch) for slide, n in enumerate(counts) for patch in range(n)])
    loader = dataloader.batches(stores, items, PX, 2, cpu, by_slide=True, waits=waits)
    sizes, colours = [], []
    for number, (images, slides) in enumerate(loader):
        assert len(set(slides.tolist())) == 1
        sizes.append((int(slides[0]), len(images)))
        colours += images[:, 0, 0, 0].tolist()
        if number == 1:  # the end of the first slide: the second one was submitted before
            while (1, 0) not in decoded:
                pass
    assert sizes == [(0, 2), (0, 1), (1, 1), (2, 2), (2, 2), (2, 1)]
    assert colours == [10 * slide + patch for slide, patch in items.tolist()]
    assert waits.seconds > 0
    mixed = [len(images) for images, _ in dataloader.batches(stores, items, PX, 2, cpu)]
    assert mixed == [2, 2, 2, 2, 1]


def test_slides_share_a_job_without_a_difference_to_their_numbers(tmp_path, make, model, her2pipe):
    stores = slides(tmp_path, make, (5, 1, 3))
    words = ("--model", model, "--batch-patches", "2", "--device", "cpu")
    code, stderr = her2pipe("encode", *stores, tmp_path / "together", *words)
    assert code == 0, stderr
    assert "9 patches" in stderr
    assert "of the time waiting for patches" in stderr
    for path in stores:
        assert her2pipe("encode", path, tmp_path / path.stem, *words)[0] == 0
        one = read_encoding(tmp_path / path.stem / path.name)
        other = read_encoding(tmp_path / "together" / path.name)
        for name in ("coords", "probabilities", "features"):
            assert getattr(one, name).tolist() == getattr(other, name).tolist(), name


@pytest.mark.parametrize("failing", ["S0", "S1"])
def test_an_encoding_that_cannot_be_written_fails_the_job(
    tmp_path, make, model, her2pipe, monkeypatch, failing
):
    write = store.write_encoding

    def fill_the_disk(path, *rest):
        if path.stem == failing:
            raise OSError(28, "No space left on device", str(path))
        write(path, *rest)

    monkeypatch.setattr(store, "write_encoding", fill_the_disk)
    code, stderr = her2pipe("encode", *slides(tmp_path, make), tmp_path / "out", "--model", model)
    assert code == 1
    assert "No space left on device" in stderr
    assert not (tmp_path / "out").exists()
