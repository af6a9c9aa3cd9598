"""Time `her2pipe tile` against its peers on one core and print a Markdown table.

    python bench/tile.py [--rounds 3] [--blocks 4] [--sample 4]

her2pipe does its whole job: open, decode, background test, JPEG, HDF5, stain estimate,
overview. Two peers do the middle part, patch by patch: an OpenSlide + Pillow loop, and tiatoolbox's
sliding-window extractor; on the generated slide they do every `--sample`-th tile, as their tiles
share nothing. The floor is nothing but decoding tiles once, at the largest reduction the JPEG
decoder offers: all of them, or those that kept patches touch. Every figure comes from a process of
its own, rounds are interleaved, and the median round counts. The generated slide repeats 8192 x
8192 px of the real section.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
BLOCK_PX, TILE_PX, DOWNSAMPLES = 8192, 256, (1, 4, 16)
OUT_PX, VARIANCE_MIN = 512, 500.0
PEERS = {
    "her2pipe": "her2pipe tile",
    "openslide": "OpenSlide + Pillow",
    "tiatoolbox": "tiatoolbox sliding window",
    "floor": "decoder only, all tiles",
    "floor_kept": "decoder only, tiles of kept patches",
}


# --- slides ------------------------------------------------------------------------------------


def section(path: Path) -> np.ndarray:
    """Read the section, or noise of a tissue's contrast where there is no data."""
    if not path.exists():
        rng = np.random.default_rng(1)
        coarse = rng.integers(60, 256, (BLOCK_PX // 32, BLOCK_PX // 32, 3), np.uint8)
        return coarse.repeat(32, 0).repeat(32, 1)
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    return np.asarray(Image.open(path).convert("RGB"))


def write_slide(path: Path, image: np.ndarray, across: int, down: int, subsampling: str) -> None:
    """Write an Aperio-style SVS that repeats an image; each tile is stored once."""
    import cv2
    import simplejpeg

    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        link = 8
        for d in DOWNSAMPLES:
            size = image.shape[1] // d, image.shape[0] // d
            part = image[: size[1] * d, : size[0] * d]
            level = part if d == 1 else cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            rows, columns = -(-size[1] // TILE_PX), -(-size[0] // TILE_PX)
            pad = ((0, rows * TILE_PX - size[1]), (0, columns * TILE_PX - size[0]), (0, 0))
            level = np.pad(level, pad, mode="edge")
            places = np.empty((rows, columns, 2), np.uint64)
            for row, column in np.ndindex(rows, columns):
                y, x = row * TILE_PX, column * TILE_PX
                tile = np.ascontiguousarray(level[y : y + TILE_PX, x : x + TILE_PX])
                data = simplejpeg.encode_jpeg(tile, 85, colorsubsampling=subsampling)
                places[row, column] = file.tell(), len(data)
                file.write(data)
            places = np.tile(places, (down, across, 1))
            link = _directory(file, link, size[0] * across, size[1] * down, places, subsampling)


def _directory(file, link: int, width: int, height: int, places: np.ndarray, chroma: str) -> int:
    text = (
        f"Aperio Image Library (bench)\r\n{width}x{height}|AppMag = 40|MPP = 0.25".encode() + b"\0"
    )
    halves = {"444": (1, 1), "422": (2, 1), "420": (2, 2)}[chroma]
    fields = [(256, 4, [width]), (257, 4, [height]), (258, 3, [8, 8, 8]), (259, 3, [7])]
    fields += [(262, 3, [6]), (270, 2, text), (277, 3, [3]), (284, 3, [1]), (322, 4, [TILE_PX])]
    fields += [(323, 4, [TILE_PX]), (324, 16, places[..., 0]), (325, 16, places[..., 1])]
    entries = b""
    for tag, kind, values in [*fields, (530, 3, halves)]:
        data = np.asarray(bytearray(values) if kind == 2 else values)
        data = data.astype({2: "u1", 3: "<u2", 4: "<u4", 16: "<u8"}[kind]).tobytes()
        count = len(data) // {2: 1, 3: 2, 4: 4, 16: 8}[kind]
        if len(data) > 8:
            where = file.tell()
            file.write(data)
            data = struct.pack("<Q", where)
        entries += struct.pack("<HHQ8s", tag, kind, count, data)
    start = file.tell()
    file.write(struct.pack("<Q", len(fields) + 1) + entries + struct.pack("<Q", 0))
    file.seek(link)
    file.write(struct.pack("<Q", start))
    return file.seek(0, os.SEEK_END) - 8


# --- contenders: each returns (seconds, tiles, kept) --------------------------------------------


def her2pipe(slide: str, side: int, store: str, _sample: int):
    import concurrent.futures  # noqa: F401 - what is loaded late must not be timed

    import imagecodecs  # noqa: F401
    import numpy.fft
    import numpy.ma  # noqa: F401
    import simplejpeg  # noqa: F401
    import tifffile  # noqa: F401

    from her2pipe.config import (
        SlidesSettings,
        StainSettings,
        TileSettings,
        TissueSettings,
        load,  # noqa: F401
    )
    from her2pipe.slides import annotation, tiff  # noqa: F401
    from her2pipe.stain import base  # noqa: F401
    from her2pipe.steps import tile
    from her2pipe.store import PatchStore

    view = {"slide": slide, "store": store, "view": str(side), "annotation": None}
    args = argparse.Namespace(**view, mpp=None, scene="", threads=1, stage="", tissue="")
    start = time.perf_counter(), time.process_time()
    settings = SlidesSettings(), StainSettings(), TissueSettings(), TileSettings(), None
    tile.run(args, *settings)
    taken = time.perf_counter() - start[0], time.process_time() - start[1]
    with PatchStore(store) as written:
        return taken, int(written.metadata.cells), len(written)


def _finish(patches, store: str):
    """Do with Pillow patches what her2pipe does: background test, JPEG, HDF5."""
    import h5py

    tiles = kept = 0
    start = time.perf_counter(), time.process_time()
    with h5py.File(store, "w") as file:
        data = file.create_dataset("jpeg", (0,), "u1", maxshape=(None,), chunks=(1 << 20,))
        for patch in patches:
            tiles += 1
            if np.asarray(patch.convert("L")).var() < VARIANCE_MIN:
                continue
            kept += 1
            held = io.BytesIO()
            patch.save(held, "JPEG", quality=95, subsampling=0)
            place = data.shape[0]
            data.resize(place + held.tell(), axis=0)
            data[place:] = np.frombuffer(held.getvalue(), np.uint8)
    return (time.perf_counter() - start[0], time.process_time() - start[1]), tiles, kept


def openslide(slide: str, side: int, store: str, sample: int):
    from openslide import OpenSlide
    from PIL import Image

    from her2pipe.slides.tissue import tile_grid

    opened = OpenSlide(slide)
    level = opened.get_best_level_for_downsample(side / OUT_PX * 1.001)
    size = round(side / opened.level_downsamples[level])

    def patches():
        for corner in tile_grid(*opened.dimensions, side)[::sample]:
            region = opened.read_region(corner, level, (size, size)).convert("RGB")
            yield region.resize((OUT_PX, OUT_PX), Image.Resampling.BICUBIC)

    return _finish(patches(), store)


def tiatoolbox(slide: str, side: int, store: str, sample: int):
    import warnings

    from PIL import Image

    warnings.simplefilter("ignore")
    from tiatoolbox.tools.patchextraction import get_patch_extractor

    found = get_patch_extractor(
        "slidingwindow",
        input_img=slide,
        patch_size=(OUT_PX, OUT_PX),
        resolution=OUT_PX / side,
        units="baseline",
        within_bound=True,
    )
    return _finish((Image.fromarray(found[i]) for i in range(0, len(found), sample)), store)


def floor(slide: str, side: int, store: str, _sample: int, only_kept: bool = False):
    import simplejpeg
    import tifffile

    from her2pipe.store import PatchStore

    with PatchStore(store) as written:  # of the her2pipe run of the same round
        coords, tiles = written.coords, int(written.metadata.cells)
    page = tifffile.TiffFile(slide).pages[0]
    columns = -(-page.imagewidth // page.tilewidth)
    tiles = set()
    for x, y in coords.tolist():
        for row in range(y // page.tilelength, (y + side - 1) // page.tilelength + 1):
            across = range(x // page.tilewidth, (x + side - 1) // page.tilewidth + 1)
            tiles |= {row * columns + column for column in across}
    chosen = sorted(tiles) if only_kept else range(len(page.dataoffsets))
    places = [(page.dataoffsets[i], page.databytecounts[i]) for i in chosen]
    least = page.tilewidth // max(k for k in (1, 2, 4, 8) if k <= max(1, side / OUT_PX))
    held = np.empty(page.tilewidth * page.tilelength * 3, np.uint8)
    file = os.open(slide, os.O_RDONLY)
    start = time.perf_counter(), time.process_time()
    for offset, size in places:
        simplejpeg.decode_jpeg(
            os.pread(file, size, offset), min_height=least, min_width=least, buffer=held
        )
    return (time.perf_counter() - start[0], time.process_time() - start[1]), tiles, len(coords)


def floor_kept(slide: str, side: int, store: str, sample: int):
    return floor(slide, side, store, sample, only_kept=True)


# --- table -------------------------------------------------------------------------------------


def _measure(name: str, slide: Path, side: int, folder: Path, sample: int) -> dict:
    kept = f"{slide.stem}_{side}_{'her2pipe' if name.startswith('floor') else name}.h5"
    command = [sys.executable, __file__, "--one", name, str(slide), str(side)]
    command += [str(folder / kept), "--sample", str(sample)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _one(name: str, slide: str, side: str, store: str, sample: int) -> None:
    import cv2

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    cv2.setNumThreads(1)
    (wall_s, cpu_s), tiles, kept = globals()[name](slide, int(side), store, sample)
    # Not getrusage: there, a process starts from the peak of the one that started it.
    status = Path("/proc/self/status").read_text().split("VmHWM:")
    peak = int(status[1].split()[0]) / 1024 if len(status) > 1 else float("nan")
    print(json.dumps({"wall": wall_s, "cpu": cpu_s, "tiles": tiles, "kept": kept, "mb": peak}))


def _rows(slide: Path, side: int, mpx: float, rounds: int, folder: Path, sample: int) -> None:
    runs = {name: [] for name in PEERS}
    for _ in range(rounds):
        for name in PEERS:
            runs[name].append(_measure(name, slide, side, folder, sample))
    median = {
        name: {key: statistics.median(run[key] for run in of_name) for key in of_name[0]}
        for name, of_name in runs.items()
    }
    ours = median["her2pipe"]["cpu"] / median["her2pipe"]["tiles"]
    for name, label in PEERS.items():
        m = median[name]
        each = m["cpu"] / m["tiles"]
        wall = m["wall"] / m["tiles"] / (median["her2pipe"]["wall"] / median["her2pipe"]["tiles"])
        print(
            f"| {slide.stem} | {side} ({side / OUT_PX:.2f}) | {label} | {1 / each:.1f}"
            f" | {mpx / median['her2pipe']['tiles'] / each:.0f} | {m['mb']:.0f}"
            f" | {each / ours:.2f} ({wall:.2f}) |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=4, help="repeats of the section per side")
    parser.add_argument("--sample", type=int, default=4, help="the slow peers do every n-th tile")
    parser.add_argument("--sides", type=int, nargs="*", default=[530, 1024, 1448])
    parser.add_argument("--chroma", default="420", choices=("444", "422", "420"))
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        _one(*args.one, args.sample)
        return
    image = section(DATA / "her2st" / "C2_HE.jpg")
    print("| slide | side, px0 (factor) | | tiles/s | MPx0/s | peak MB | CPU time (wall) / ours |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        real, generated = folder / "C2.svs", folder / "generated.svs"
        write_slide(real, image, 1, 1, args.chroma)
        write_slide(generated, image[:BLOCK_PX, :BLOCK_PX], args.blocks, args.blocks, args.chroma)
        area = {real: image.shape[0] * image.shape[1], generated: (args.blocks * BLOCK_PX) ** 2}
        for slide in (generated, real):
            sample = args.sample if slide == generated else 1
            for side in args.sides:
                _rows(slide, side, area[slide] / 1e6, args.rounds, folder, sample)


if __name__ == "__main__":
    main()
