"""Whether networks can be built, take their input, and fit the weights that are here.

    python -m her2pipe.workflow.networks.buildable '[{"architecture": "resnet50", "input_px": 224}]'

prints why each cannot, as JSON: `fault` is empty for one that can, and `weights` says where its
published weights are (fields of `Remote`, empty where there are none, null where nobody knows).
Networks are built on torch's device `meta`, where tensors have shapes and no values, and no more
than these is read of files, so that it takes no longer than to import torch. The workflow calls
this in a process of its own, for it loads no slow library itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from her2pipe.errors import Her2Error, one_line
from her2pipe.workflow.networks.remote import Remote, of_timm


def tried(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Return `fault` and `weights` of a network that an encoder wants."""
    from her2pipe.registry import ENCODERS

    built: list[Any] = []
    reason = one_line(fault(encoder, built.append))
    remote = of_timm(built[0].pretrained_cfg) if built else None
    # How a network of a plugin has its weights is its own matter.
    is_known = remote or not built or encoder["architecture"] not in ENCODERS
    return {"fault": reason, "weights": asdict(remote or Remote()) if is_known else None}


def fault(encoder: Mapping[str, Any], use: Callable[[Any], Any] = lambda _: None) -> str:
    """Return why a network cannot be built as an encoder wants it; empty where it can.

    Parameters
    ----------
    encoder : dict
        `architecture`, `input_px`, and where they are given `stages`, `features`, `model_args`,
        `pooling`, and modules it must have, `frozen`; and `weights_file`, a file or folder that is
        here, with the `preset` whose names of tensors it may have.
    use : callable
        Is given the network as soon as it is built.
    """
    import torch

    from her2pipe.models import inference, weights
    from her2pipe.models.factory import create

    name, side = encoder["architecture"], int(encoder["input_px"])
    try:
        with torch.device("meta"), torch.inference_mode():
            stages, options = int(encoder.get("stages") or 0), encoder.get("model_args") or {}
            pooling = str(encoder.get("pooling") or "head")
            model = create(name, 3, side, stages, pooling, **options).eval()
            use(model)
            inference.freeze(model, encoder.get("frozen") or [])
            images = torch.zeros(1, 3, side, side)
            inference.forward(model, images, str(encoder.get("features") or "pooled"))
        if file := encoder.get("weights_file"):
            preset = str(encoder.get("preset") or "")
            with torch.inference_mode():
                weights.fill(model, name, Path(file), preset, with_values=False)
    except Her2Error as error:
        return f"{error.what}; {error.fix}"
    except NotImplementedError:
        return ""  # an operation that has no shapes alone: only a real run can tell
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        return f"{name} takes no input of {side} px: {error}"
    return ""


if __name__ == "__main__":
    print(json.dumps([tried(encoder) for encoder in json.loads(sys.argv[1])]))
