"""Settings from patches to slide scores: pretrain, train, unpack, encode, score, deploy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import model_validator

from her2pipe.config.base import ALGORITHM, Fraction, Name, OneOf, Section, View, setting
from her2pipe.registry import PRESETS

Precision = Literal["auto", "float32", "bfloat16"]
PRECISION = "arithmetic; auto is bfloat16 autocast on CUDA and float32 on a CPU"
ACCUMULATE = "batches whose gradients make one step, as one large batch would"
ARCHITECTURE = "timm model name, or alexnet, pruneff4, ather2"
SOURCE_PREFIXES = ("hf-hub:", "local-dir:")
SOURCES = "; or hf-hub:OWNER/NAME, or local-dir:FOLDER with config.json and weights"
# Tasks that train an encoder on the slides of its development cohort, so that these are in-sample.
TRAINED_ON_SLIDES = ("classify", "fingerprint")
COMPILE = "compile the network with torch.compile: slow to start, then faster"


class ScheduleSettings(Section):
    """Optimiser, and what it does as validation stops improving."""

    optimiser: Literal["adam", "amsgrad"] = setting("adam", "Adam, or its variant AMSGrad")
    adam_epsilon: float = setting(1e-8, "Adam's epsilon, which bounds its steps", "", gt=0)
    weight_decay_l2: float = setting(
        0.0,
        "this times the sum of squared weights, without biases and norms, is added to the loss",
        ge=0,
    )
    weight_decay_l2_modules: list[str] = setting(
        [], "modules whose weights that sum is of; none named: all of the network"
    )
    monitor: Literal["loss", "accuracy"] = setting(
        "loss",
        "what of the validation side says which epoch is better: loss, or accuracy (of classes)",
    )
    reduce_epochs: int = setting(
        0,
        "after so many epochs without a better one (see monitor) the step is reduced; 0: never",
        "epochs",
        ge=0,
    )
    reduce_factor: float = setting(0.1, "what it is multiplied by then", "", gt=0, lt=1)
    learning_rate_min: float = setting(0.0, "the step is never reduced below this", "", ge=0, lt=1)
    stop_epochs: int = setting(
        0,
        "after so many epochs without a better one training ends, and the best epoch's weights"
        " are kept; 0: never",
        "epochs",
        ge=0,
    )
    save_s: float = setting(
        60.0, "least time between two checkpoints a killed run resumes from", "s", ge=0
    )

    @property
    def unwritten(self) -> frozenset[str]:
        """Settings that do not change what is trained."""
        return frozenset({"save_s"})


class PretrainSettings(ScheduleSettings):
    """Pre-training a network on labelled images of other things."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    architecture: str = setting("swin_tiny_patch4_window7_224", ARCHITECTURE)
    images: str = setting(
        "cifar-100-python.tar.gz",
        "CIFAR-100 as python archive, or the folder it is unpacked in; synthetic: drawn shapes; or"
        " the name of a cohort of images whose role is pretraining",
    )
    column: str = setting(
        "class", "a cohort's images: column of its sheet that names the class of each"
    )
    classes: list[str] = setting(
        [], "a cohort's images: values of the column that are classes, in order; none named: all"
    )
    images_md5: list[str] = setting(
        [
            "eb9058c3a382ffc7106e4002c42a8d85",
            "16019d7e3df5f24257cddd939b257f8d",
            "f0ef6b0ae62326f3e7ffdfab6717acfc",
        ],
        "MD5 sums of archive, train and test as published; no file of another one is read",
    )
    synthetic_images: int = setting(
        500, "training images drawn, if synthetic; a fifth as many are held out", "", ge=50
    )
    input_px: int = setting(
        224, "side of the network's input, to which images are enlarged", "px", ge=16, le=2048
    )
    epochs: int = setting(200, "passes over the images", "epochs", ge=1)
    batch_size: int = setting(128, "images per batch", "images", ge=2)
    accumulate: int = setting(1, ACCUMULATE, "batches", ge=1)
    learning_rate: float = setting(1e-4, "Adam's step size", "", gt=0, lt=1, choice=True)
    mirror: bool = setting(
        True, "swap left and right of every second image, at random", choice=True
    )
    pretrain_seed: int = setting(2025, "seed of order and weights", "", ge=0)
    precision: Precision = setting("auto", PRECISION)
    compile: bool = setting(False, COMPILE)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to compute")


class Pretraining(PretrainSettings):
    """One pre-training: settings of its own over those of `pretrain`."""


class TrainSettings(ScheduleSettings):
    """Training an encoder, or freezing one as it is."""

    algorithm: int = setting(2, ALGORITHM, ge=2, le=2)
    task: Literal["classify", "density", "fingerprint", "none"] = setting(
        "classify",
        "what is predicted in training: classify (patch classes), density (DAB of IHC), fingerprint"
        " (which slide a patch is of), or none (frozen features)",
    )
    preset: Annotated[str, OneOf(PRESETS, "")] = setting(
        "",
        "a published encoder by its name (see her2pipe encoders), which fills architecture,"
        " model_args, sizes, interpolation, mean, std, pooling, features, weights, task,"
        " stain_target and an encoder's view; what is given beside it overrides it",
    )
    architecture: str = setting("swin_tiny_patch4_window7_224", ARCHITECTURE + SOURCES)
    model_args: dict[str, Any] = setting(
        {}, "options of timm's network, such as {init_values: 1.0e-5}; classes by their name"
    )
    stages: int = setting(
        0, "keep only so many of a timm network's first stages; 0: all (see her2pipe prune)", ge=0
    )
    weights: str = setting(
        "none",
        "starting weights: none, imagenet (timm hub), source (of the preset, or of an architecture"
        " hf-hub: or local-dir:), a file (.safetensors, .bin, .pth, .pt), a model's folder",
    )
    licence: str = setting(
        "", "licence of the starting weights, for the page; of a preset it is known"
    )
    features: str = setting(
        "pooled", "features kept: pooled (before the head), or a stage's average, e.g. layer3"
    )
    pooling: Literal["head", "pooler", "cls", "mean", "cls+mean"] = setting(
        "head",
        "how tokens become pooled features: head (as the network's last layer reads them), pooler"
        " (by attention of its own), the class token, the mean of the patches' tokens, or both of"
        " these side by side",
    )
    input_px: int = setting(224, "side of the network's input", "px", ge=16, le=2048)
    resize_px: int = setting(
        0,
        "side patches are brought to before the middle is cut at input_px; 0: input_px itself",
        "px",
        ge=0,
        le=2048,
    )
    interpolation: Literal["area", "bilinear", "bicubic"] = setting(
        "area",
        "how patches are shrunk: area (means of pixels), or as published transforms do (Pillow's"
        " bilinear or bicubic, antialiased)",
    )
    mean: list[Fraction] = setting(
        [], "mean of R, G and B that the input is standardised by; none: the network's own"
    )
    std: list[Fraction] = setting(
        [], "standard deviation of R, G and B, likewise; none: the network's own"
    )
    train_views: list[View] = setting(["1024", "2048"], "views the training patches come from")
    fractions: dict[View, dict[str, Fraction]] = setting(
        {
            "1024": {"HER2-": 0.70, "HER2+": 0.70, "Non-tumour": 0.49},
            "2048": {"HER2-": 1.0, "HER2+": 1.0, "Non-tumour": 0.70},
        },
        "Table 1: fraction of the patches used, by view and class; what is not named is used whole",
    )
    tumour_min: float = setting(
        0.5,
        "a patch is tumour from this share of its area inside the annotation",
        "fraction",
        gt=0,
        le=1,
        choice=True,
    )
    pairs: str = setting(
        "",
        "density: folder of registered pairs, with folders HE and IHC (BCI); or synthetic: drawn",
    )
    pair_px: int = setting(
        512, "density: side of the tiles that pairs are cut into", "px", ge=16, le=4096, choice=True
    )
    synthetic_pairs: int = setting(40, "density: pairs drawn, if synthetic", "pairs", ge=4)
    slide_patches: int = setting(
        0,
        "fingerprint: patches of a slide in an epoch, drawn anew each time; 0: all",
        "",
        ge=0,
        choice=True,
    )
    temperature: float = setting(
        0.5, "fingerprint: what cosine similarities are divided by", "", gt=0, le=10, choice=True
    )
    stain_target: str = setting(
        "median",
        "colours patches are brought to: median (of the training slides), none (they keep their"
        " own), or a patch store",
        choice=True,
    )
    frozen: list[str] = setting(
        ["patch_embed", "layers.0", "layers.1"], "modules whose weights stay fixed", choice=True
    )
    batch_size: int = setting(128, "patches per batch", "patches", ge=2)
    accumulate: int = setting(1, ACCUMULATE, "batches", ge=1)
    learning_rate: float = setting(1e-4, "Adam's step size", "", gt=0, lt=1, choice=True)
    class_weights: Literal["none", "balanced"] = setting(
        "none", "weights of the classes in the loss: none, or balanced (N / (C N_c))", choice=True
    )
    max_epochs: int = setting(100, "most passes over the training set", "epochs", ge=1)
    plateau_tolerance: float = setting(
        1e-3,
        "an epoch counts as better when the loss falls by this share",
        "relative",
        ge=0,
        lt=1,
        choice=True,
    )
    plateau_epochs: int = setting(
        5,
        "stop after this many epochs without a better training loss; 0: never",
        "",
        ge=0,
        choice=True,
    )
    flips: bool = setting(True, "random flips and quarter turns of training patches", choice=True)
    shifts: float = setting(
        0.0,
        "random shifts of training patches along either axis, at most",
        "fraction of the side",
        ge=0,
        le=0.5,
    )
    jitter: float = setting(
        0.05,
        "random change of saturation, contrast and brightness of training patches, at most",
        "relative",
        ge=0,
        lt=1,
        choice=True,
    )
    train_seed: int = setting(2025, "seed of sampling, order and weights", "", ge=0)
    precision: Precision = setting("auto", PRECISION)
    compile: bool = setting(False, COMPILE)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to compute")

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, data: Any) -> Any:
        """Fill what the preset states and nothing beside it overrides."""
        if not isinstance(data, dict):
            return data
        filled = over_preset(data)
        return {k: v for k, v in filled.items() if k in data or k in cls.model_fields}

    @property
    def stated(self) -> frozenset[str]:
        """Settings that a preset fills: a command states them, whatever their value."""
        return frozenset(PRESETS[self.preset].settings()) if self.preset else frozenset()

    @model_validator(mode="after")
    def _consistent(self):
        self._agree_with_preset()
        if {len(self.mean), len(self.std)} - {0, 3} or len(self.mean) != len(self.std):
            raise ValueError("mean and std are three numbers each, or left out")
        is_described = self.architecture.startswith(SOURCE_PREFIXES)
        if self.weights == "source" and not (self.preset or is_described):
            raise ValueError(
                "weights source needs a preset, or an architecture hf-hub:... or local-dir:..."
            )
        if 0 in self.std:
            raise ValueError("std divides: it cannot be 0")
        if 0 < self.resize_px < self.input_px:
            raise ValueError("resize_px must be at least input_px, which is cut out of it")
        if self.pooling != "head" and (self.stages or self.features != "pooled"):
            raise ValueError("pooling is of the whole network: leave stages and features out")
        if self.task == "density" and not self.pairs:
            raise ValueError("task density needs pairs: a folder, or synthetic")
        if self.task in ("density", "fingerprint") and self.features != "pooled":
            raise ValueError(f"task {self.task} has features of its own: leave `features` out")
        if self.task != "classify" and self.monitor == "accuracy":
            raise ValueError(f"task {self.task} has no accuracy: set monitor to loss")
        if self.task == "fingerprint" and self.batch_size % 2:
            raise ValueError("task fingerprint works on pairs: batch_size must be even")
        return self

    def _agree_with_preset(self) -> None:
        """Refuse weights that are another network's than the one described beside a preset."""
        if not self.preset:
            return
        preset = PRESETS[self.preset]
        is_described = self.architecture.startswith(SOURCE_PREFIXES)
        if self.weights == "source" and not is_described:
            if self.architecture != preset.architecture:
                raise ValueError(
                    f"weights source are those of {preset.architecture}, by preset {self.preset}:"
                    " leave architecture out, or give a file of its weights"
                )
            if preset.weights != "source":
                raise ValueError(
                    f"preset {self.preset} has no file of weights: use {preset.weights}"
                )
        if self.weights == "imagenet" and preset.weights != "imagenet":
            raise ValueError(
                f"preset {self.preset} is no network of ImageNet: leave weights or preset out"
            )


def over_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lay settings over those of the preset they name; single options of its network, too."""
    name = values.get("preset")
    if not isinstance(name, str) or not name or name not in PRESETS:
        return dict(values)
    filled = PRESETS[name].settings()
    if isinstance(options := values.get("model_args"), dict):
        values = {**values, "model_args": {**filled.get("model_args", {}), **options}}
    return {**filled, **values}


def over_shared_training(common: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the settings of an encoder over its preset's, and both over those of `train`."""
    return {**over_preset(common), **over_preset(named)}


class Encoder(TrainSettings):
    """One encoder: training settings of its own over those of `train`."""

    view: View = setting(
        "adaptive", "view whose patches are scored; images have but one", flag=False
    )
    develop: str = setting(
        "", "development cohort it is trained on; empty: the first of the study", flag=False
    )
    pretrain: str = setting(
        "", "name under `pretrainings` whose network training starts from; empty: none", flag=False
    )


class UnpackSettings(Section):
    """Taking encoder and aggregation out of a bundle."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)


class EncodeSettings(Section):
    """Running an encoder over patch stores."""

    algorithm: int = setting(3, ALGORITHM, ge=3, le=3)
    batch_slides: int = setting(
        32, "slides per job, about; the number of jobs is a power of two", "slides", False, ge=1
    )
    batch_patches: int = setting(
        64,
        "patches per forward pass; 0: as many as the graphics card has memory for, on a CPU 64",
        "patches",
        ge=0,
    )
    decoder: Literal["auto", "cpu", "cuda"] = setting(
        "auto",
        "where the patches' JPEGs are decoded; auto is the CPU, cuda the graphics card",
    )
    cards: int = setting(
        1,
        "graphics cards of a job; each encodes its share of the slides in a process of its own",
        "cards",
        ge=1,
        le=16,
    )
    compile: bool = setting(False, COMPILE)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to compute")
    precision: Precision = setting("auto", PRECISION)


class ScoreSettings(Section):
    """Slide scores (Eq. 2 to 6)."""

    algorithm: int = setting(2, ALGORITHM, ge=2, le=2)
    chance: float = setting(
        0.33,
        "probability of HER2+ above which a patch counts as stained",
        "probability",
        ge=0,
        lt=1,
    )
    area_max: float = setting(
        0.3, "a slide scores 0 if its stained area is at most this and ...", "fraction", ge=0
    )
    mean_max: float = setting(
        0.17, "... its mean excess is at most this", "probability", ge=0, lt=1
    )
    top_fraction: float = setting(
        0.3, "share of the tumour patches whose excess is averaged", "fraction", gt=0, le=1
    )
    cutoffs: tuple[float, float, float, float] = setting(
        (0.10, 0.15, 0.20, 0.25), "highest score of levels 0, 1+, 2+/FISH- and 2+/FISH+", "score"
    )

    @model_validator(mode="after")
    def _ascending(self):
        if list(self.cutoffs) != sorted(self.cutoffs):
            raise ValueError("cutoffs must ascend")
        return self


class DeploySettings(Section):
    """Networks as ONNX files, in full and in 8 bits, and what each costs and gives."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    encoders: list[Name] = setting([], "encoders that are written; none named: none", flag=False)
    peers: list[str] = setting(
        ["mobilenetv3_small_100", "tf_efficientnetv2_b0"],
        "timm networks, untrained, whose size and speed stand beside",
    )
    calibration_patches: int = setting(
        128, "training patches by which the ranges of 8 bits are chosen", "patches", ge=8
    )
    check_patches: int = setting(
        500, "held-out patches that the files are compared on, at most", "patches", ge=8
    )
    tolerance: float = setting(
        1e-4, "largest difference of the full file from the network, in logits", "", gt=0, lt=1
    )
    latency_runs: int = setting(
        50, "patches timed one by one, on one thread; the median is reported", "patches", ge=5
    )
    deploy_seed: int = setting(2025, "seed of the patches drawn", "", ge=0)


class BundleSettings(Section):
    """A trained method as a bundle: one folder, or zip, to be given away."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    methods: list[Name] = setting([], "methods that are bundled; none named: none", flag=False)
    license: str = setting(
        "other",
        "terms of the bundle, as Hugging Face names licences (mit, cc-by-nc-4.0); other: not yet"
        " stated",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$",
    )
    contact: str = setting("", "whom users of the bundle write to; shown on its card")


class CompatibilitySettings(Section):
    """Whether patches are such as an encoder or an aggregation was made for."""

    allow_mismatch: bool = setting(
        False,
        "use patches of another view, size, scale or stain method than a model was made for; every"
        " score is flagged then. false: they are refused, a single slide of another scale excluded",
    )
    scale_tolerance: float = setting(
        0.25,
        "how much larger or smaller patches of a fixed view may be on the slide than any that the"
        " model was made with",
        "relative",
        ge=0,
        le=10,
        choice=True,
    )
