"""Whether networks can be built and take their input, tried without weights or memory.

    python -m her2pipe.workflow.buildable '[{"architecture": "resnet50", "input_px": 224}]'

prints why each cannot, as JSON: an empty text for one that can. Networks are built on torch's
device `meta`, where tensors have shapes and no values, so that it takes no longer than to import
torch. The workflow calls this in a process of its own, for it loads no slow library itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from her2pipe.errors import Her2Error, one_line


def fault(encoder: Mapping[str, Any]) -> str:
    """Return why a network cannot be built as an encoder wants it; empty where it can.

    Parameters
    ----------
    encoder : dict
        `architecture`, `input_px`, and where they are given `stages`, `features`, `model_args` and
        `pooling`.
    """
    import torch

    from her2pipe.models import inference
    from her2pipe.models.factory import create

    name, side = encoder["architecture"], int(encoder["input_px"])
    try:
        with torch.device("meta"), torch.inference_mode():
            stages, options = int(encoder.get("stages") or 0), encoder.get("model_args") or {}
            pooling = str(encoder.get("pooling") or "head")
            model = create(name, 3, side, stages, pooling, **options).eval()
            images = torch.zeros(1, 3, side, side)
            inference.forward(model, images, str(encoder.get("features") or "pooled"))
    except Her2Error as error:
        return f"{error.what}; {error.fix}"
    except NotImplementedError:
        return ""  # an operation that has no shapes alone: only a real run can tell
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        return f"{name} takes no input of {side} px: {error}"
    return ""


if __name__ == "__main__":
    print(json.dumps([one_line(fault(encoder)) for encoder in json.loads(sys.argv[1])]))
