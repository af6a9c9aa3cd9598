"""Measure what small networks cost: parameters, multiply-adds, file size, and latency by form.

    python bench/light.py [--runs N] [--classes N] [--quick]

PrunEff4 (224 px) and ATHER2 (512 px) stand beside MobileNetV3-small and EfficientNetV2-B0 of the
same input and classes. All are untrained: neither size nor latency depends on the weights. Latency
is that of one patch on one CPU thread, from levels to probabilities, the median of many; turns of
all networks of one size are interleaved, and ratios are to MobileNetV3-small of the same form. Five
minutes.
"""

import argparse
import os
import tempfile
from pathlib import Path

PEERS = ("mobilenetv3_small_100", "tf_efficientnetv2_b0")
GROUPS = {224: ("pruneff4", *PEERS), 512: ("ather2", *PEERS)}
FORMS = ("torch", "onnx", "int8")


def forms(name, px, classes, folder):
    """Build a network, write its files: its size, and what runs each form on one patch."""
    import torch

    from her2pipe.models import costs, factory, inference, onnx_export

    torch.manual_seed(1)
    model = factory.create(name, classes, px).eval()
    whole = onnx_export.LevelsToProbabilities(model, **inference.normalisation(model)).eval()
    paths = {form: folder / f"{name}-{px}.{form}" for form in FORMS[1:]}
    onnx_export.write_onnx(whole, px, paths["onnx"])
    images = torch.rand(16, 3, px, px) * 255
    onnx_export.write_int8(paths["onnx"], onnx_export.stacks(images.split(4)), paths["int8"])
    runners = {form: onnx_export.Runner(path) for form, path in paths.items()}
    one, weights = images[:1], sum(4 * v.numel() for v in model.state_dict().values())

    def in_torch():
        with torch.inference_mode():
            return whole(one)

    size = {
        "parameters": costs.count_parameters(model).total,
        "counted": costs.count_with_statistics(model),
        "macs": costs.multiply_adds(model, px),
        "mb": {"torch": weights / 1e6} | {f: p.stat().st_size / 1e6 for f, p in paths.items()},
    }
    runs = {f: lambda f=f: runners[f](one.numpy()) for f in runners}
    return size, {"torch": in_torch, **runs}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="small images: figures mean nothing")
    options = parser.parse_args()
    groups = {112: GROUPS[224][:2], 224: GROUPS[512][:2]} if options.quick else GROUPS
    runs = 2 if options.quick else options.runs
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    from her2pipe.models import costs

    torch.set_num_threads(1)
    print(
        "| px | network | parameters | with statistics | MMACs | MB torch | MB ONNX | MB int8 |"
        " ms torch | ms ONNX | ms int8 | ratio torch | ratio ONNX | ratio int8 |"
    )
    print("|---:|---|" + "---:|" * 12)
    with tempfile.TemporaryDirectory() as folder:
        for px, names in groups.items():
            networks = {name: forms(name, px, options.classes, Path(folder)) for name in names}
            calls = {(n, f): call for n, (_, runs) in networks.items() for f, call in runs.items()}
            times = costs.latencies_ms(calls, runs)
            for name, (size, _) in networks.items():
                medians = [times[name, form] for form in FORMS]
                ratios = [times[name, form] / times[PEERS[0], form] for form in FORMS]
                columns = [px, name, f"{size['parameters']:,}", f"{size['counted']:,}"]
                columns += [f"{size['macs'] / 1e6:,.0f}", *(f"{size['mb'][f]:.2f}" for f in FORMS)]
                columns += [f"{t:.1f}" for t in medians] + [f"{r:.2f}" for r in ratios]
                print("| " + " | ".join(map(str, columns)) + " |", flush=True)


if __name__ == "__main__":
    main()
