"""Presets of published encoders: what they build, the files they take, the pixels they see."""

import csv
import json
import re

import pytest
import timm
import torch
from safetensors.torch import save_file
from stores import DATA

from her2pipe.config import TrainSettings
from her2pipe.errors import Her2Error
from her2pipe.models import costs, factory, inference, weights
from her2pipe.registry import PRESETS
from her2pipe.workflow.networks import buildable

PUBLISHED = [preset.name for preset in PRESETS if preset.weights == "source"]
TIMMS = [n for n in PUBLISHED if not PRESETS[n].architecture.startswith("c")]
# Width and depth of small copies; the odd widths of SwiGLU layers come out even.
SMALL = {"embed_dim": 192, "depth": 2, "num_heads": 3}
NAMES = {  # of the table that are others here
    "uni_v1": "uni",
    "uni_v2": "uni2-h",
    "conch_v1": "conch",
    "conch_v15": "conch-v1.5",
    "gigapath": "prov-gigapath",
    "hoptimus0": "h-optimus-0",
    "hoptimus1": "h-optimus-1",
    "phikon_v2": "phikon-v2",
    "hibou_b": "hibou-b",
    "hibou_l": "hibou-l",
    "midnight12k": "midnight",
    "chief-ctranspath": "chief",
    "resnet50": "resnet50-clam",
    "resnet50-layer4": "resnet50",
}


def small(name):
    """Settings of a preset whose network is a small copy: few blocks, narrow."""
    options = {"depths": [2, 2, 2, 2]} if PRESETS[name].architecture == "ctranspath" else SMALL
    return TrainSettings(preset=name, model_args=options)


def started(settings, file=None):
    """The network that a preset's settings start with."""
    return weights.start(
        settings.architecture,
        0,
        settings.input_px,
        str(file) if file else "none",
        settings.stages,
        settings.preset,
        pooling=settings.pooling,
        mean=settings.mean,
        std=settings.std,
        **settings.model_args,
    ).eval()


def on_meta(settings, classes=0):
    with torch.device("meta"):
        network = factory.create(
            settings.architecture,
            classes,
            settings.input_px,
            pooling=settings.pooling,
            **settings.model_args,
        )
    return network.eval()


def timms(settings):
    """The same network, built by timm without us, with random weights."""
    torch.manual_seed(5)
    classes = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    options = {k: classes.get(k, v) for k, v in settings.model_args.items()}
    model = timm.create_model(settings.architecture, num_classes=0, **options).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.05)
    return model


def of_transformers(state):
    """Tensors of a timm network as transformers names them, written out independently."""
    parts = {"norm1": "norm1", "norm2": "norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    named = {}
    has_scale = "blocks.0.ls1.gamma" in state
    is_swiglu = (
        state["blocks.0.mlp.fc1.weight"].shape[0] != state["blocks.0.mlp.fc2.weight"].shape[1]
    )
    if not has_scale:  # a ViT
        parts = {
            "norm1": "layernorm_before",
            "norm2": "layernorm_after",
            "mlp.fc1": "intermediate.dense",
            "mlp.fc2": "output.dense",
        }
    elif is_swiglu:
        parts |= {"mlp.fc1": "mlp.weights_in", "mlp.fc2": "mlp.weights_out"}
    positions, cls = state["pos_embed"], state["cls_token"]
    if "reg_token" in state:
        named["embeddings.register_tokens"] = state["reg_token"]
        half = cls / 2
        positions, cls = torch.cat([half, positions], 1), half
    named |= {"embeddings.cls_token": cls, "embeddings.position_embeddings": positions}
    if has_scale:
        named["embeddings.mask_token"] = torch.zeros(1, cls.shape[-1])
    for end in ("weight", "bias"):
        named[f"embeddings.patch_embeddings.projection.{end}"] = state[f"patch_embed.proj.{end}"]
        named[f"layernorm.{end}"] = state[f"norm.{end}"]
        for i in range(sum(name.endswith("norm1.weight") for name in state)):
            place = f"encoder.layer.{i}."
            qkv = state[f"blocks.{i}.attn.qkv.{end}"].chunk(3)
            for part, tensor in zip(("query", "key", "value"), qkv, strict=True):
                named[f"{place}attention.attention.{part}.{end}"] = tensor
            named[f"{place}attention.output.dense.{end}"] = state[f"blocks.{i}.attn.proj.{end}"]
            for ours, theirs in parts.items():
                named[f"{place}{theirs}.{end}"] = state[f"blocks.{i}.{ours}.{end}"]
            for number in (1, 2) if has_scale else ():
                name = f"{place}layer_scale{number}.lambda1"
                named[name] = state[f"blocks.{i}.ls{number}.gamma"]
    return {name: tensor.clone() for name, tensor in named.items()}


def save(preset, state, folder):
    """A file in the layout of the hub's."""
    if preset.renaming == "transformers":
        state = of_transformers(state)
    file = folder / preset.file.rpartition("/")[2]
    if file.suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, file)
    else:
        torch.save(state, file)
    return file


def pooled(tokens, prefix, pooling):
    cls, mean = tokens[:, 0], tokens[:, prefix:].mean(1)
    return {"cls": cls, "mean": mean, "cls+mean": torch.cat([cls, mean], 1)}[pooling]


@pytest.mark.parametrize("name", TIMMS)
def test_features_are_those_of_timm_from_the_file_of_the_hub(name, tmp_path):
    settings, preset = small(name), PRESETS[name]
    full = timms(settings)
    file = save(preset, full.state_dict(), tmp_path)
    model = started(settings, file)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = pooled(full.forward_features(images), full.num_prefix_tokens, preset.pooling)
        features = inference.forward(model, images)[1]
    assert torch.allclose(features, expected, atol=1e-5)
    full_width = preset.width // (2 if preset.pooling == "cls+mean" else 1)
    assert features.shape[1] == preset.width // full_width * SMALL["embed_dim"]
    weights.fill(on_meta(settings), settings.architecture, tmp_path, name, with_values=False)


@pytest.fixture(scope="module")
def networks():
    """Every published network in full, without memory; those that are built alike once."""
    built = {}
    with pytest.MonkeyPatch.context() as patch:
        drawing = "timm.models.vision_transformer.VisionTransformer.init_weights"
        patch.setattr(drawing, lambda *args, **options: None)  # most of the time, and of no use
        for name in PUBLISHED:
            settings = TrainSettings(preset=name)
            key = json.dumps([settings.architecture, settings.model_args, settings.pooling])
            if key not in built:
                built[key] = on_meta(settings)
            built[name] = built[key]
    return built


def test_networks_have_the_published_size(networks):
    wrong = []
    for name in PUBLISHED:
        count = costs.count_parameters(networks[name]).total
        if (count, networks[name].num_features) != (PRESETS[name].parameters, PRESETS[name].width):
            wrong.append(f"{name}: {count} parameters, {networks[name].num_features} features")
    assert wrong == []


def test_networks_have_the_published_tensors(networks):
    """Where the table of their files is here: how many, and the shapes of some."""
    file = DATA.parent / "encoders.tsv"
    if not file.is_file():
        pytest.skip("no table of encoders beside the project")
    rows = csv.DictReader(file.read_text().splitlines(), delimiter="\t")
    table = {NAMES.get(row["name"], row["name"]): row for row in rows}
    wrong = []
    for name in PUBLISHED:
        row = table[name]
        state = {k.removeprefix("body."): v for k, v in networks[name].state_dict().items()}
        examples = dict(re.findall(r"([\w.]+) \[([\d, ]+)\]", row["key_examples"]))
        for key, shape in examples.items():
            tensor = state.get(key.removeprefix("visual."))
            is_resized = key == "pos_embed" and name in ("kaiko-vitl14", "midnight")
            if tensor is not None and not is_resized and str(list(tensor.shape)) != f"[{shape}]":
                wrong.append(f"{name}: {key} is {list(tensor.shape)}")
        counts = re.findall(r"\d+", row["state_dict_keys"])
        if str(len(state)) not in counts and name != "conch":  # a tower's: its trunk, and 13
            wrong.append(f"{name}: {len(state)} tensors, not {counts}")
        if PRESETS[name].sha256 and PRESETS[name].sha256 not in row["weights_sha256"]:
            wrong.append(f"{name}: sha256")
        if str(PRESETS[name].mean)[1:-1].replace(" ", "") != row["mean"]:
            wrong.append(f"{name}: mean")
    assert wrong == []


@pytest.mark.slow
def test_baselines_and_ours_have_their_size():
    wrong = []
    for preset in PRESETS:
        if preset.weights == "source":
            continue
        if preset.name == "pruneff4":  # is cut by running it, which needs values
            network = factory.create(preset.architecture, 0)
        else:
            network = on_meta(TrainSettings(preset=preset.name))
        count = costs.count_parameters(network).total
        if preset.features == "layer3":
            count -= costs.count_parameters(network.layer4).total
        width = inference.feature_width(network, preset.input_px, preset.features)
        if (count, width) != (preset.parameters, preset.width):
            wrong.append(f"{preset.name}: {count} parameters, {width} features")
        own = [list(network.pretrained_cfg[key]) for key in ("mean", "std")]
        if own != [preset.mean, preset.std]:
            wrong.append(f"{preset.name}: {own}")
    assert wrong == []


def test_positions_of_a_larger_grid_are_those_that_timm_interpolates(tmp_path):
    """Kaiko's ViT-L/14 from DINOv2's names and 37 x 37 positions, against timm's at each image."""
    settings = small("kaiko-vitl14")
    full = timms(
        settings.model_copy(update={"model_args": settings.model_args | {"img_size": 518}})
    )
    state = full.state_dict()
    half = state.pop("cls_token") / 2
    state["cls_token"], state["mask_token"] = half, torch.zeros(1, 192)
    state["register_tokens"] = state.pop("reg_token")
    state["pos_embed"] = torch.cat([half, state["pos_embed"]], 1)
    torch.save(state, tmp_path / "vitl14.pth")
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = inference.forward(started(settings, tmp_path / "vitl14.pth"), images)[1]
        assert torch.allclose(features, full.forward_features(images)[:, 0], atol=1e-5)


# --- weights that are not the network's ----------------------------------------------------------


def test_weights_that_are_another_networks_are_refused(tmp_path):
    """By names and shapes alone, as a dry run does; each message names a tensor."""
    settings, other = small("uni2-h"), small("uni")
    state = timms(settings).state_dict()
    block = {k: v for k, v in state.items() if not k.startswith("blocks.1.")}
    states = {
        "of another shape (": timms(other).state_dict(),
        "14 tensors are missing (blocks.1.norm1.weight": block,
        "1 tensor is not of this network (extra)": {**state, "extra": torch.zeros(1)},
        "": state,
    }
    outcomes = {}
    for message, tensors in states.items():
        folder = tmp_path / str(len(outcomes))
        folder.mkdir()
        save(PRESETS["uni2-h"], tensors, folder)
        encoder = settings.model_dump(exclude={"frozen"}) | {"weights_file": str(folder)}
        fault = buildable.fault(encoder)
        outcomes[message] = (message in fault) if message else fault == ""
    assert outcomes == dict.fromkeys(states, True)


def test_towers_of_images_and_texts_leave_the_texts_out(tmp_path):
    settings = TrainSettings(preset="conch", model_args=SMALL)
    assert settings.model_args == SMALL
    torch.manual_seed(0)
    tower = started(settings.model_copy(update={"preset": ""}))
    state = {f"visual.{k}": v for k, v in tower.state_dict().items()}
    state |= {"text.positional_embedding": torch.zeros(4), "visual.proj_contrast": torch.zeros(2)}
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.bin")
    model = started(settings, tmp_path / "w.bin")
    images = torch.randn(1, 3, 448, 448, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = inference.forward(model, images)[1]
        tokens = tower.trunk.forward_features(images)
        pooling = tower.attn_pool_contrast
        keys = pooling.ln_k(tokens)
        query = pooling.ln_q(pooling.query)[None]
        expected = pooling.attn(*(x.transpose(0, 1) for x in (query, keys, keys)))[0][0]
        assert torch.allclose(features, tower.ln_contrast(expected), atol=1e-5)
    assert features.shape == (1, 512)
    torch.save(state | {"audio": torch.zeros(1)}, tmp_path / "w.bin")
    with pytest.raises(Her2Error, match=r"1 tensor is not of this network \(audio\)"):
        started(settings, tmp_path / "w.bin")


def test_the_pooling_of_conch_v1_5_is_attention_worked_out_by_hand():
    from her2pipe.models.networks.conch import SeparatePooling

    torch.manual_seed(0)
    pooling = SeparatePooling(16, 24)
    tokens = torch.randn(2, 5, 24)
    keys, values = (pooling.ln_k(tokens) @ pooling.to_kv.weight.T).split(16, -1)
    query = pooling.ln_q(pooling.query) @ pooling.to_q.weight.T
    heads = []
    for head in range(8):
        part = slice(2 * head, 2 * head + 2)
        weight = (query[:, part] @ keys[..., part].mT / 2**0.5).softmax(-1)
        heads.append((weight @ values[..., part])[:, 0])
    assert torch.allclose(pooling(tokens), torch.cat(heads, 1) @ pooling.to_out.weight.T, atol=1e-5)


def test_old_names_of_swin_are_known(tmp_path):
    """CTransPath's file: reductions one stage lower, and tables that timm computes itself."""
    settings = TrainSettings(preset="ctranspath", model_args={"depths": [1, 1, 1, 1]})
    torch.manual_seed(0)
    full = started(settings.model_copy(update={"preset": ""}))
    state = {}
    for name, tensor in full.state_dict().items():
        stage = re.match(r"layers\.(\d)\.downsample", name)
        if stage:
            name = name.replace(stage[0], f"layers.{int(stage[1]) - 1}.downsample")
        state[name] = tensor.clone()
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49)
    torch.save({"model": state}, tmp_path / "ctranspath.pth")
    model = started(settings, tmp_path / "ctranspath.pth")
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(model(images), full(images))


def test_layer_scale_by_hand_equals_timms():
    options = {"init_values": 1e-5, "depth": 2}
    torch.manual_seed(0)
    ours = factory.create("vit_small_patch16_224", 0, 224, **options).eval()
    torch.manual_seed(0)
    theirs = timm.create_model("vit_small_patch16_224", num_classes=0, **options).eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert "blocks.0.ls1.gamma" in ours.state_dict()
        assert torch.equal(ours(images), theirs(images))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"), [("vit", "phikon"), ("dinov2", "midnight"), ("registers", "hibou-b")]
)
def test_features_are_those_of_transformers(kind, name, tmp_path):
    """From a file that transformers itself writes; of midnight at another grid than the file's."""
    transformers = pytest.importorskip("transformers")
    shared = {"hidden_size": 192, "num_hidden_layers": 2, "num_attention_heads": 3}
    side = 518 if name == "midnight" else 224
    torch.manual_seed(0)
    if kind == "vit":
        config = transformers.ViTConfig(**shared, intermediate_size=768, layer_norm_eps=1e-6)
        full = transformers.ViTModel(config, add_pooling_layer=False)
    else:
        prefix = "Dinov2WithRegisters" if kind == "registers" else "Dinov2"
        config = getattr(transformers, f"{prefix}Config")(
            **shared, image_size=side, patch_size=14, use_swiglu_ffn=True, layerscale_value=0.5
        )
        full = getattr(transformers, f"{prefix}Model")(config)
    full.eval()
    for p in full.parameters():
        torch.nn.init.normal_(p, std=0.05)
    full.save_pretrained(tmp_path)
    settings = small(name)
    if kind != "vit":
        # transformers rounds the width of a SwiGLU layer to a multiple of 8
        width = int(192 * 4 * 2 / 3 + 7) // 8 * 8
        args = settings.model_args | {"mlp_ratio": 2 * width / 192}
        settings = settings.model_copy(update={"model_args": args})
    model = started(settings, tmp_path / "model.safetensors")
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tokens = full(images).last_hidden_state
        prefix = model.num_prefix_tokens
        expected = pooled(tokens, prefix, PRESETS[name].pooling)
        assert torch.allclose(inference.forward(model, images)[1], expected, atol=1e-5)
