"""Cut the same patches with her2pipe and its peers, on one core, and print Markdown tables.

    python bench/tile.py [--peers PYTHON] [--rounds 5] [--sides 512 1024 1448] [--quick]

Each contender cuts the patches that `her2pipe tile` keeps, and does the same with each: read at
512 px, grey-level variance, JPEG of quality 95 without chroma subsampling (simplejpeg), HDF5.
Peers read level 0, or a coarser one that is fine enough, and shrink by OpenCV's area averaging; an
OpenSlide + Pillow loop does what most pipelines do. The floor is the same decoder and encoder
alone: each JPEG tile that the patches touch once, at the reduction that libjpeg offers, and each
patch encoded once. "Whole step" is the command on all of the slide, by patch: opening, proof of
levels, overview, tissue, background, artefacts, stain, patches. "As the slide" is her2pipe with
`tile.jpeg_as_slide`, which stores less.

Every figure is processor time; each contender is a process of its own. Rounds take all contenders
in turn, after one that does not count; the tables give medians of the rounds' ratios to her2pipe,
with their least and greatest. Pixels are those before compression, against a full decode shrunk by
Pillow's antialiased bicubic filter. "Waits" is what two threads spend waiting for the locks of the
tile cache, or for a tile that the other one decodes, as a share of their time.

A last table is of what stores cost and keep: sides and codings of stored patches, their bytes and,
of the worst patch, dB to its pixels before compression, and to those of 224 px that a lossless
store of 512 px gives a network.

Peers that the project does not install run by another interpreter, or are left out:

    python -m venv peers
    peers/bin/pip install cucim-cu12 hs2p fastslide tiffslide simplejpeg h5py

The generated slide repeats tissue of the real section; without the data both are noise.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

DATA = Path(os.environ.get("HER2PIPE_DATA") or Path(__file__).parents[2] / "shared" / "data")
BLOCK_PX, BLOCK_AT, REPEATS = 4352, 3000, 4  # 17 tiles a side: 303 Mpx
TILE_PX, DOWNSAMPLES = 256, (1, 4, 16)
OUT_PX, QUALITY = 512, 95
WARM = 2  # patches read before the clock starts: what is loaded late is not timed
OURS, WHOLE, FLOOR = "her2pipe", "whole step", "floor"
THREADS, AS_SLIDE = "2 threads", "as the slide"
NETWORK_PX, MOST_CODED = 224, 25
# Side of stored patches, px; JPEG quality; chroma.
STORES = (
    *((512, 95, "444"), (512, 90, "444"), (512, 85, "444"), (512, 90, "420"), (512, 85, "420")),
    *((256, 95, "444"), (224, 95, "444"), (224, 90, "444")),
)

# --- slides ---------------------------------------------------------------------------------------


def section(path: Path) -> np.ndarray:
    """Read the section, or noise of a tissue's contrast where there is no data."""
    if not path.exists():
        rng = np.random.default_rng(1)
        return rng.integers(60, 256, (300, 300, 3), np.uint8).repeat(32, 0).repeat(32, 1)
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    return np.asarray(Image.open(path).convert("RGB"))


def write_slide(path: Path, image: np.ndarray, repeats: int, subsampling: str) -> None:
    """Write an Aperio-style SVS that repeats an image, whose sides are whole tiles if it does.

    A tile that recurs is stored once. Coarse levels are repeated before they are cut into tiles.
    """
    import cv2
    import simplejpeg

    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        link = 8
        for d in DOWNSAMPLES:
            size = image.shape[1] // d, image.shape[0] // d
            part = image[: size[1] * d, : size[0] * d]
            level = part if d == 1 else cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            again = 1 if d == 1 else repeats
            level = np.tile(level, (again, again, 1))
            rows, columns = (-(-n // TILE_PX) for n in level.shape[:2])
            pad = ((0, rows * TILE_PX - len(level)), (0, columns * TILE_PX - level.shape[1]))
            level = np.pad(level, (*pad, (0, 0)), mode="edge")
            places = np.empty((rows, columns, 2), np.uint64)
            for row, column in np.ndindex(rows, columns):
                y, x = row * TILE_PX, column * TILE_PX
                tile = np.ascontiguousarray(level[y : y + TILE_PX, x : x + TILE_PX])
                data = simplejpeg.encode_jpeg(tile, 85, colorsubsampling=subsampling)
                places[row, column] = file.tell(), len(data)
                file.write(data)
            places = np.tile(places, (repeats // again, repeats // again, 1))
            link = _directory(file, link, size[0] * repeats, size[1] * repeats, places, subsampling)


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


# --- peers: each returns a function that reads one patch ------------------------------------------

Read = Callable[[int, int], np.ndarray]


def _coarsest(downsamples, side: int) -> tuple[int, float]:
    """Return the coarsest level that is fine enough, and its downsample."""
    level = max(i for i, d in enumerate(downsamples) if d <= side / OUT_PX * 1.01)
    return level, downsamples[level]


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    import cv2

    if pixels.shape[:2] == (OUT_PX, OUT_PX):
        return pixels
    return cv2.resize(pixels, (OUT_PX, OUT_PX), interpolation=cv2.INTER_AREA)


def openslide(slide: str, side: int) -> Read:
    from openslide import OpenSlide
    from PIL import Image

    opened = OpenSlide(slide)
    level, down = _coarsest(opened.level_downsamples, side)
    size = (round(side / down),) * 2

    def read(x, y):
        region = opened.read_region((x, y), level, size).convert("RGB")
        return np.asarray(region.resize((OUT_PX, OUT_PX), Image.Resampling.BICUBIC))

    return read


def tiffslide(slide: str, side: int) -> Read:
    from tiffslide import TiffSlide

    opened = TiffSlide(slide)
    level, down = _coarsest(opened.level_downsamples, side)
    size = (round(side / down),) * 2
    return lambda x, y: _shrunk(opened.read_region((x, y), level, size, as_array=True))


def cucim(slide: str, side: int) -> Read:
    from cucim import CuImage

    opened = CuImage(slide)
    level, down = _coarsest(opened.resolutions["level_downsamples"], side)
    size = (round(side / down),) * 2
    return lambda x, y: _shrunk(np.asarray(opened.read_region((x, y), size, level)))


def fastslide(slide: str, side: int) -> Read:
    from fastslide import FastSlide

    opened = FastSlide.from_file_path(slide)
    level, down = _coarsest(opened.level_downsamples, side)
    size = (round(side / down),) * 2

    def read(x, y):
        at = round(x / down), round(y / down)
        return _shrunk(np.asarray(opened.read_region(at, level, size).numpy())[..., :3])

    return read


def hs2p(slide: str, side: int) -> Read:
    from hs2p.wsi.reader import open_slide

    opened = open_slide(slide, "cucim")
    level, down = _coarsest([d[0] for d in opened.level_downsamples], side)
    size = (round(side / down),) * 2
    return lambda x, y: _shrunk(np.asarray(opened.read_region((x, y), level, size))[..., :3])


def tiatoolbox(slide: str, side: int) -> Read:
    import warnings

    warnings.simplefilter("ignore")
    from tiatoolbox.wsicore.wsireader import WSIReader

    opened = WSIReader.open(slide)
    scale = {"resolution": OUT_PX / side, "units": "baseline"}
    return lambda x, y: opened.read_rect((x, y), (OUT_PX, OUT_PX), **scale)


PEERS = {
    "OpenSlide + Pillow": openslide,
    "tiatoolbox": tiatoolbox,
    "tiffslide": tiffslide,
    "hs2p": hs2p,
    "fastslide": fastslide,
    "cuCIM": cucim,
}
IN_PROJECT = ("OpenSlide + Pillow", "tiatoolbox")

# --- contenders: each returns processor seconds ---------------------------------------------------


def _packed(patch: np.ndarray) -> tuple[bytes, float]:
    import cv2
    import simplejpeg

    grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)
    variance = float(cv2.meanStdDev(grey)[1][0, 0] ** 2)
    patch = np.ascontiguousarray(patch)
    return simplejpeg.encode_jpeg(patch, QUALITY, colorsubsampling="444"), variance


def peer(name: str, slide: str, side: int, corners, out: str) -> float:
    import h5py

    read = PEERS[name](slide, side)
    for corner in corners[:WARM]:
        _packed(read(*corner))
    start = time.process_time()
    with h5py.File(out, "w") as file:
        data = file.create_dataset(
            "jpeg", (0,), "u1", maxshape=(None,), chunks=(1 << 20,), fletcher32=True
        )
        packed = [_packed(read(*corner)) for corner in corners]
        data.resize(sum(len(each) for each, _ in packed), axis=0)
        data[:] = np.frombuffer(b"".join(each for each, _ in packed), np.uint8)
        file["variance"] = [variance for _, variance in packed]
    return time.process_time() - start


def ours(
    slide: str, side: int, corners, out: str, threads: int = 1, as_slide: bool = False
) -> float:
    from her2pipe.config import SlidesSettings, TileSettings
    from her2pipe.slides.open import open_slide
    from her2pipe.slides.tiling import coded_as_slide
    from her2pipe.slides.tissue import luma, tissue_variance
    from her2pipe.store import PatchMetadata, compress, write_patches

    tile = TileSettings()
    corners = [tuple(corner) for corner in corners]

    def work(_, patch):
        return compress(patch, tile), tissue_variance(patch, luma(patch), tile)

    with open_slide(slide, SlidesSettings()) as opened, write_patches(out) as writer:
        list(opened.patches(corners[:WARM], side, OUT_PX, work))
        start = time.process_time()
        if as_slide:
            tile = coded_as_slide(opened, corners, side, tile)
        results = opened.patches(corners, side, OUT_PX, work, threads)
        for (x, y), (packed, variance) in zip(corners, results, strict=True):
            writer.add(packed, x, y, variance)
        writer.finish(PatchMetadata(slide="bench"))
        return time.process_time() - start


def whole(slide: str, side: int, out: str) -> float:
    from her2pipe.config import SlidesSettings, StainSettings, TileSettings, TissueSettings
    from her2pipe.steps import tile

    view = {"slide": slide, "store": out, "view": str(side), "annotation": None}
    args = argparse.Namespace(**view, mpp=None, scene="", threads=1, stage="", tissue="")
    settings = SlidesSettings(), StainSettings(), TissueSettings(), TileSettings(), None
    start = time.process_time()
    tile.run(args, *settings)
    return time.process_time() - start


def floor(slide: str, side: int, corners) -> float:
    """Decode each tile that the patches touch once, and encode each patch once."""
    import simplejpeg
    import tifffile

    from her2pipe.config import SlidesSettings
    from her2pipe.slides.open import open_slide

    page = tifffile.TiffFile(slide).pages[0]
    columns = -(-page.imagewidth // TILE_PX)
    tiles = set()
    for x, y in corners:
        for row in range(y // TILE_PX, (y + side - 1) // TILE_PX + 1):
            across = range(x // TILE_PX, (x + side - 1) // TILE_PX + 1)
            tiles |= {row * columns + column for column in across}
    least = TILE_PX // max(k for k in (1, 2, 4, 8) if k <= max(1, side / OUT_PX))
    held = np.empty((TILE_PX, TILE_PX, 3), np.uint8)
    file = os.open(slide, os.O_RDONLY)
    places = [(page.databytecounts[i], page.dataoffsets[i]) for i in sorted(tiles)]
    data = [os.pread(file, *place) for place in places]
    with open_slide(slide, SlidesSettings()) as opened:
        patches = list(opened.patches(corners[:64], side, OUT_PX, lambda _, patch: patch.copy()))
    least_px = {"min_height": least, "min_width": least}
    simplejpeg.decode_jpeg(data[0], **least_px, buffer=held)
    start = time.process_time()
    for each in data:
        simplejpeg.decode_jpeg(each, **least_px, buffer=held)
    for i in range(len(corners)):
        simplejpeg.encode_jpeg(patches[i % len(patches)], QUALITY, colorsubsampling="444")
    return time.process_time() - start


# --- pixels ---------------------------------------------------------------------------------------


def reference(slide: str, side: int, corners) -> np.ndarray:
    """Decode level 0 in full and shrink by Pillow's bicubic filter, with what lies around."""
    import tifffile
    from PIL import Image

    image, margin = tifffile.imread(slide, key=0), 4 * math.ceil(side / OUT_PX)
    patches = []
    for x, y in corners:
        left, top = max(0, x - margin), max(0, y - margin)
        around = image[top : y + side + margin, left : x + side + margin]
        box = (x - left, y - top, x - left + side, y - top + side)
        near = Image.fromarray(np.ascontiguousarray(around))
        patches.append(near.resize((OUT_PX, OUT_PX), Image.Resampling.BICUBIC, box=box))
    return np.stack([np.asarray(patch) for patch in patches])


def pixels(name: str, slide: str, side: int, corners) -> np.ndarray:
    if name != OURS:
        read = PEERS[name](slide, side)
        return np.stack([read(x, y) for x, y in corners])
    from her2pipe.config import SlidesSettings
    from her2pipe.slides.open import open_slide

    with open_slide(slide, SlidesSettings()) as opened:
        return np.stack(list(opened.patches(corners, side, OUT_PX, lambda _, patch: patch.copy())))


def differences(images: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Return the least PSNR of a patch, dB, and the mean difference of the worst channel."""
    error = images.astype(np.float32) - true
    square = (error**2).mean((1, 2, 3)).max()
    return 10 * math.log10(255**2 / max(1e-6, square)), float(error.mean((0, 1, 2)).__abs__().max())


def waits(slide: str, side: int, corners) -> float:
    """Return the share of their time that two threads wait for each other in the tile cache."""
    import threading
    from types import SimpleNamespace

    from her2pipe.config import SlidesSettings, TileSettings
    from her2pipe.slides import tile_cache
    from her2pipe.slides.open import open_slide
    from her2pipe.store import compress

    waited = []

    class Lock:
        def __init__(self):
            self._lock = threading.Lock()
            self.release = self._lock.release

        def acquire(self):
            if not self._lock.acquire(blocking=False):
                start = time.perf_counter()
                self._lock.acquire()
                waited.append(time.perf_counter() - start)

        def __enter__(self):
            self.acquire()

        def __exit__(self, *_):
            self.release()

    usual, tile = tile_cache.threading, TileSettings()
    tile_cache.threading = SimpleNamespace(Lock=Lock, local=threading.local)
    try:
        with open_slide(slide, SlidesSettings()) as opened:
            start = time.perf_counter()
            work = opened.patches(corners, side, OUT_PX, lambda _, p: compress(p, tile), 2)
            list(work)
            return sum(waited) / (2 * (time.perf_counter() - start))
    finally:
        tile_cache.threading = usual


def stores(slide: str, side: int, corners) -> list[tuple]:
    """Return side, quality, chroma, bytes a patch, least PSNR as stored and as a network sees."""
    import cv2
    import simplejpeg

    from her2pipe.config import SlidesSettings, TileSettings
    from her2pipe.slides.open import open_slide
    from her2pipe.store import compress

    def seen(picture: np.ndarray) -> np.ndarray:
        for px in (256, NETWORK_PX):  # as the decoder halves it, if it is a JPEG of 512 px
            if len(picture) > px:
                picture = cv2.resize(picture, (px, px), interpolation=cv2.INTER_AREA)
        return picture

    def psnr(one: np.ndarray, other: np.ndarray) -> float:
        return 10 * math.log10(255**2 / max(1e-6, cv2.norm(one, other, cv2.NORM_L2SQR) / one.size))

    rows = []
    with open_slide(slide, SlidesSettings()) as opened:
        cut = {
            px: list(opened.patches(corners, side, px, lambda _, patch: patch.copy()))
            for px in {px for px, _, _ in STORES}
        }
    for px, quality, chroma in STORES:
        tile = TileSettings(patch_px=px, jpeg_quality=quality, jpeg_subsampling=chroma)
        codes = [compress(patch, tile) for patch in cut[px]]
        least = {"min_height": NETWORK_PX, "min_width": NETWORK_PX}
        pairs = list(zip(codes, cut[px], cut[OUT_PX], strict=True))
        stored = min(psnr(simplejpeg.decode_jpeg(c), patch) for c, patch, _ in pairs)
        read = min(psnr(seen(simplejpeg.decode_jpeg(c, **least)), seen(o)) for c, _, o in pairs)
        rows.append((px, quality, chroma, sum(map(len, codes)) / len(codes), stored, read))
    return rows


# --- tables ---------------------------------------------------------------------------------------


def _work(name: str) -> None:
    """Do jobs that come as lines of JSON, and answer each with processor seconds."""
    import cv2

    threads = 2 if name == THREADS else 1
    if hasattr(os, "sched_setaffinity") and threads == 1:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    cv2.setNumThreads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        what, slide, side, corners, out = json.loads(line)
        taken = 0.0
        if what == "waits":
            taken = waits(slide, side, [tuple(corner) for corner in corners])
        elif what == "pixels":
            np.save(out, pixels(name, slide, side, corners))
        elif name == WHOLE:
            taken = whole(slide, side, out)
        elif name == FLOOR:
            taken = floor(slide, side, corners)
        elif name in PEERS:
            taken = peer(name, slide, side, corners, out)
        else:
            taken = ours(slide, side, corners, out, threads, name == AS_SLIDE)
        print(json.dumps(taken), file=answers, flush=True)


class Contender:
    """A process that cuts patches; `runs` until it is not installed or fails."""

    def __init__(self, name: str, peers: str):
        self.name = name
        outside = name in PEERS and name not in IN_PROJECT
        self.runs = bool(peers) or not outside
        # Without -P a script of this folder would stand for a package of its name.
        command = [peers if outside else sys.executable, "-P", __file__, "--work", name]
        path = "" if outside else str(Path(__file__).parents[1])
        if self.runs:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
            )

    def run(self, what: str, slide: Path, side: int, corners, out: Path) -> float | None:
        """Do a job; None where that fails."""
        if not self.runs:
            return None
        job = json.dumps([what, str(slide), side, corners, str(out)])
        try:
            print(job, file=self._process.stdin, flush=True)
            return float(self._process.stdout.readline())
        except (OSError, ValueError):
            self.runs = False
            print(f"{self.name} fails", file=sys.stderr)
            return None


class Bench:
    """One slide under one view: its patches, and contenders run on them."""

    def __init__(self, slide: Path, side: int, folder: Path, contenders, most: int):
        from her2pipe.store import PatchStore

        self._slide, self._side, self._folder = slide, side, folder
        self._contenders = contenders
        contenders[WHOLE].run("time", slide, side, [], folder / "whole.h5")
        with PatchStore(folder / "whole.h5") as written:
            self.corners = written.coords.tolist()[:most]
            self._share = len(self.corners) / len(written)

    def ratios(self, rounds: int) -> tuple[float, dict[str, list[float]]]:
        """Return her2pipe's seconds, and of each contender its times over those by round."""
        ratios: dict[str, list[float]] = {name: [] for name in self._contenders if name != OURS}
        seconds = []
        for turn in range(rounds + 1):
            taken = {
                name: contender.run(
                    "time", self._slide, self._side, self.corners, self._folder / "out.h5"
                )
                for name, contender in self._contenders.items()
                if name != WHOLE or turn == 1  # it takes long
            }
            mine = taken.pop(OURS)
            assert mine is not None
            if turn == 0:  # what is loaded late is not timed
                continue
            seconds.append(mine)
            for name, other in taken.items():
                if other is not None:
                    ratios[name].append(other / mine * (self._share if name == WHOLE else 1))
        return statistics.median(seconds), ratios

    def waits(self) -> float | None:
        """Return the share of two threads' time that is spent waiting."""
        contender = self._contenders.get(THREADS)
        out = self._folder / "out.h5"
        return contender and contender.run("waits", self._slide, self._side, self.corners, out)

    def stores(self) -> list[tuple]:
        """Return what sides and codings of stores cost and keep."""
        return stores(str(self._slide), self._side, [tuple(c) for c in self.corners[:MOST_CODED]])

    def pixels(self) -> dict[str, tuple[float, float]]:
        """Return the least PSNR and bias of each contender."""
        true = reference(str(self._slide), self._side, self.corners)
        out, values = self._folder / "pixels.npy", {}
        for name, contender in self._contenders.items():
            if name in (OURS, *PEERS):
                done = contender.run("pixels", self._slide, self._side, self.corners, out)
                if done is not None:
                    values[name] = differences(np.load(out), true)
        return values


def _text(values: list[float]) -> str:
    if not values:
        return ""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sides", type=int, nargs="*", default=[512, 1024, 1448])
    parser.add_argument("--chroma", default="420", choices=("444", "422", "420"))
    parser.add_argument("--peers", default="", help="interpreter that has the peers installed")
    parser.add_argument("--most", type=int, default=200, help="patches of a slide, from its top")
    parser.add_argument("--names", nargs="*", help="contenders beside her2pipe")
    parser.add_argument("--slide", default="both", choices=("both", "generated", "real"))
    parser.add_argument("--quick", action="store_true", help="few patches: figures mean nothing")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        _work(args.work)
        return
    if args.quick:
        args.rounds, args.sides, args.most, args.slide = 1, [1024], 4, "real"
    names = args.names or [*PEERS, FLOOR, AS_SLIDE, THREADS]
    contenders = {name: Contender(name, args.peers) for name in (OURS, *names, WHOLE)}
    image = section(DATA / "her2st" / "C2_HE.jpg")
    block = image[BLOCK_AT : BLOCK_AT + BLOCK_PX, BLOCK_AT : BLOCK_AT + BLOCK_PX]
    slides = {"generated": (block, REPEATS), "real": (image, 1)}
    checks: list[tuple] = []
    sizes: list[tuple] = []
    print(
        "| slide | view | patches | ms / patch |",
        *(f"{name} |" for name in [*contenders][1:]),
        "waits |",
    )
    print("|---|---|" + "---:|" * (2 + len(contenders)), flush=True)
    with tempfile.TemporaryDirectory() as name:
        for title, (picture, repeats) in slides.items():
            if args.slide not in ("both", title):
                continue
            slide = Path(name) / f"{title}.svs"
            write_slide(slide, picture, repeats, args.chroma)
            for side in args.sides:
                folder = Path(name) / f"{title}-{side}"
                folder.mkdir()
                bench = Bench(slide, side, folder, contenders, args.most)
                seconds, ratios = bench.ratios(args.rounds)
                row = [title, f"{side} → {OUT_PX}", len(bench.corners)]
                row += [f"{1e3 * seconds / len(bench.corners):.2f}", *map(_text, ratios.values())]
                waited = bench.waits()
                row.append("" if waited is None else f"{waited:.1%}")
                print("|", " | ".join(map(str, row)), "|", flush=True)
                if repeats == 1:
                    checks += [(side, *item) for item in bench.pixels().items()]
                    sizes += [(side, *row) for row in bench.stores()]
    print("\n| view | | worst PSNR, dB | bias, levels |\n|---|---|---:|---:|")
    for side, peer_name, (psnr, bias) in checks:
        print(f"| {side} → {OUT_PX} | {peer_name} | {psnr:.1f} | {bias:.2f} |")
    print(f"\n| view, stored as | coding | kB a patch | dB | at {NETWORK_PX} px |")
    print("|---|---|---:|---:|---:|")
    for side, px, quality, chroma, size, stored, read in sizes:
        print(f"| {side} → {px} | {quality}, {chroma} | {size / 1e3:.1f}", end="")
        print(f" | {stored:.1f} | {read:.1f} |")
    if missing := [each.name for each in contenders.values() if not each.runs]:
        print(f"\nnot installed, or failed: {', '.join(missing)}")


if __name__ == "__main__":
    main()
