"""Settings of networks taken out of the workflow: deploy."""

from __future__ import annotations

from her2pipe.config.base import ALGORITHM, Name, Section, setting


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
