"""Whether networks can be built, take their input, and fit weights that are here.

    python -m her2pipe.workflow.buildable '[{"architecture": "resnet50", "input_px": 224}]'

prints why each cannot, as JSON: an empty text for one that can. Networks are built on torch's
device `meta`, where tensors have shapes and no values, and of files no more than these is read, so
that it takes no longer than to import torch. The workflow calls this in a process of its own, for
it loads no slow library itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from her2pipe.errors import Her2Error, one_line


def fault(encoder: Mapping[str, Any]) -> str:
    """Return why a network cannot be built as an encoder wants it; empty where it can.

    Parameters
    ----------
    encoder : dict
        `architecture`, `input_px`, and where they are given `stages`, `features`, `model_args` and
        `pooling`; and `weights`, a file or folder here, with the `preset` whose names it may have.
    """
    import torch

    from her2pipe.models import inference, weights
    from her2pipe.models.factory import create

    name, side = encoder["architecture"], int(encoder["input_px"])
    try:
        with torch.inference_mode(), torch.device("meta"):
            stages, options = int(encoder.get("stages") or 0), encoder.get("model_args") or {}
            pooling = str(encoder.get("pooling") or "head")
            model = create(name, 3, side, stages, pooling, **options).eval()
            images = torch.zeros(1, 3, side, side)
            inference.forward(model, images, str(encoder.get("features") or "pooled"))
        if file := encoder.get("weights"):
            with torch.inference_mode():
                preset = str(encoder.get("preset") or "")
                weights.fill(model, name, Path(file), preset, with_values=False)
    except Her2Error as error:
        return f"{error.what}; {error.fix}"
    except NotImplementedError:
        return ""  # an operation that has no shapes alone: only a real run can tell
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        return f"{name} takes no input of {side} px: {error}"
    return ""


if __name__ == "__main__":
    print(json.dumps([one_line(fault(encoder)) for encoder in json.loads(sys.argv[1])]))
