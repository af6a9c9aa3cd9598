"""Measure time and memory of `her2pipe tile` on hostile input, and print a Markdown table.

    python bench/hostile.py [KIND ...] [--quick]

Each kind is written at full strength and tiled by a process of its own. It must end by itself: with
a store, an exclusion or three lines of error. Peak memory must stay within 2 GB, time within 60 s;
the bench ends with an error where one does not. Seconds are of the processor, so that they hold on
a busy machine; one or two of them are Python's start. The table stands in `docs/reliability.md`.
Four minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

MOST_MB, MOST_S = 2048, 60
SLIDE_PX = 1024
KINDS: dict[str, Callable[[Path], list[str]]] = {}


def kind(title: str):
    """Register a function that writes hostile input into a folder, and returns words of `tile`."""

    def register(write: Callable[[Path], list[str]]):
        KINDS[title] = write
        return write

    return register


# --- slides --------------------------------------------------------------------------------------


def tiled(path: Path, compression: int, data: bytes, size: int = 512, tile: int = 256) -> list[str]:
    """Write a tiled RGB TIFF of which every tile is the same bytes."""
    count = (-(-size // tile)) ** 2
    bits = 8 + 2 + 12 * 11 + 4
    offsets, sizes, at = bits + 8, bits + 8 + 4 * count, bits + 8 + 8 * count
    rows = [(256, 4, 1, size), (257, 4, 1, size), (258, 3, 3, bits), (259, 3, 1, compression)]
    rows += [(262, 3, 1, 2), (277, 3, 1, 3), (284, 3, 1, 1), (322, 4, 1, tile), (323, 4, 1, tile)]
    one = count == 1
    rows += [(324, 4, count, at if one else offsets), (325, 4, count, len(data) if one else sizes)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(rows))
    head += b"".join(struct.pack("<HHII", *row) for row in rows) + bytes(4)
    tables = np.full(count, at, "<u4").tobytes() + np.full(count, len(data), "<u4").tobytes()
    path.write_bytes(head + struct.pack("<4H", 8, 8, 8, 0) + tables + data)
    return [str(path)]


def texture(side: int) -> np.ndarray:
    """Draw something with texture, RGB."""
    return np.random.default_rng(0).integers(90, 230, (side, side, 3)).astype(np.uint8)


def deflated(gigabytes: int) -> bytes:
    """Compress zeros that hold so much: one block, again and again."""
    stream, count = zlib.compressobj(9, zlib.DEFLATED, -15), 64 * gigabytes
    block = stream.compress(bytes(1 << 24)) + stream.flush(zlib.Z_FULL_FLUSH)
    check = ((count << 24) % 65521) << 16 | 1
    return b"\x78\xda" + block * count + b"\x03\0" + check.to_bytes(4, "big")


@kind("deflate tiles that inflate to 3 GB each")
def deflate_bomb(folder: Path) -> list[str]:
    return [*tiled(folder / "a.tif", 8, deflated(3)), "--view", "128"]


@kind("Zstandard tiles that inflate to 1 GB each")
def zstd_bomb(folder: Path) -> list[str]:
    import imagecodecs

    return [
        *tiled(folder / "a.tif", 50000, imagecodecs.zstd_encode(bytes(1 << 30))),
        "--view",
        "128",
    ]


@kind("WebP tiles of 8,192 px in place of 256")
def webp_bomb(folder: Path) -> list[str]:
    import imagecodecs

    large = imagecodecs.webp_encode(np.zeros((8_192, 8_192, 3), np.uint8))
    return tiled(folder / "a.tif", 50001, large)


@kind("JPEG tiles of 16,384 px in place of 256")
def jpeg_bomb(folder: Path) -> list[str]:
    import simplejpeg

    large = np.full((16_384, 16_384, 3), 200, np.uint8)
    return tiled(folder / "a.tif", 7, simplejpeg.encode_jpeg(large, quality=30))


@kind("JPEG 2000 tiles that claim 131,072 px")
def wavelet_bomb(folder: Path) -> list[str]:
    import imagecodecs

    data = bytearray(imagecodecs.jpeg2k_encode(texture(256), codecformat="J2K"))
    struct.pack_into(">2I", data, 8, 1 << 17, 1 << 17)
    return tiled(folder / "a.tif", 33005, bytes(data))


@kind("a header that claims tiles of 3e9 px")
def claimed_tile(folder: Path) -> list[str]:
    return tiled(folder / "a.tif", 8, b"x", 3_000_000_000, 3_000_000_000)


@kind("a slide of 1,000,000 x 1,000,000 px, all tiles one")
def claimed_slide(folder: Path) -> list[str]:
    tile = zlib.compress(texture(1024).tobytes(), 1)
    return [*tiled(folder / "a.tif", 8, tile, 1_000_000, 1024), "--view", "64"]


@kind("a slide of 8,192 px, all tiles one, deflate, no levels")
def one_tile(folder: Path) -> list[str]:
    tile = zlib.compress(texture(256).tobytes(), 1)
    return tiled(folder / "a.tif", 8, tile, 8_192)


@kind("10,000 pages")
def pages(folder: Path) -> list[str]:
    import tifffile

    with tifffile.TiffWriter(folder / "a.tif", bigtiff=True) as file:
        for _ in range(10_000):
            file.write(np.zeros((16, 16), np.uint8), metadata=None)
    return [str(folder / "a.tif")]


@kind("a page that follows itself")
def endless(folder: Path) -> list[str]:
    (path,) = tiled(folder / "a.tif", 8, zlib.compress(texture(256).tobytes(), 1))
    data = bytearray(Path(path).read_bytes())
    struct.pack_into("<I", data, 8 + 2 + 12 * 11, 8)
    Path(path).write_bytes(data)
    return [path]


def png(path: Path, width: int, height: int, data: bytes) -> list[str]:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, chunk in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")):
        check = struct.pack(">I", zlib.crc32(name + chunk))
        content += struct.pack(">I", len(chunk)) + name + chunk + check
    path.write_bytes(content)
    return [str(path)]


@kind("a PNG that claims 60,000 x 60,000 px")
def claimed_png(folder: Path) -> list[str]:
    return png(folder / "a.png", 60_000, 60_000, zlib.compress(bytes(1000)))


@kind("a PNG of 11,000 x 11,000 px, 360 MB in 350 kB")
def png_bomb(folder: Path) -> list[str]:
    side = 11_000
    return png(folder / "a.png", side, side, zlib.compress(bytes((3 * side + 1) * side), 9))


@kind("a pipe")
def pipe(folder: Path) -> list[str]:
    os.mkfifo(folder / "a.svs")
    return [str(folder / "a.svs")]


@kind("/dev/zero")
def device(folder: Path) -> list[str]:
    (folder / "a.svs").symlink_to("/dev/zero")
    return [str(folder / "a.svs")]


# --- annotations ---------------------------------------------------------------------------------


def annotated(folder: Path, *rings: np.ndarray) -> list[str]:
    """Write a slide and an annotation of these rings, each (n, 2) in 0 to 1."""
    features = [
        {
            "type": "Feature",
            "properties": {},
            "geometry": {"type": "Polygon", "coordinates": [[*each, each[0]]]},
        }
        for each in ((ring * SLIDE_PX).round(4).tolist() for ring in rings)
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (folder / "a.geojson").write_text(text)
    return with_annotation(folder, "a.geojson")


def with_annotation(folder: Path, name: str) -> list[str]:
    tile = zlib.compress(texture(256).tobytes(), 1)
    (path,) = tiled(folder / "a.tif", 8, tile, SLIDE_PX)
    return [path, "--view", "64", "--annotation", str(folder / name)]


def star(corners: int, depth: float, seed: int = 0) -> np.ndarray:
    """Return a star of spikes of random depth, a share of its radius."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = 0.4 * (1 - depth * np.random.default_rng(seed).random(corners))
    return 0.5 + np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


@kind("an annotation of a million long spikes")
def spikes(folder: Path) -> list[str]:
    return annotated(folder, star(1_000_000, 0.7))


@kind("an outline of a million corners")
def outline(folder: Path) -> list[str]:
    return annotated(folder, star(1_000_000, 4e-5))


@kind("200 ragged regions over each other, a million corners")
def heap(folder: Path) -> list[str]:
    return annotated(folder, *(star(5_000, 0.05, seed) for seed in range(200)))


@kind("a scribble of 200,000 corners that crosses itself")
def scribble(folder: Path) -> list[str]:
    return annotated(folder, np.random.default_rng(0).random((200_000, 2)))


@kind("an outline of 3.9 million corners, the most that is read")
def longest(folder: Path) -> list[str]:
    return annotated(folder, star(3_900_000, 1e-6))


@kind("200 MB of tiny values of JSON")
def values(folder: Path) -> list[str]:
    (folder / "a.geojson").write_text("[" + "[1]," * 49_000_000 + "[1]]")
    return with_annotation(folder, "a.geojson")


@kind("an Aperio XML of 1.9 million corners, the most that is read")
def vertices(folder: Path) -> list[str]:
    corners = (star(1_900_000, 1e-6) * SLIDE_PX).round(4).tolist()
    text = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in corners)
    (folder / "a.xml").write_text(
        f'<Annotations><Annotation Name=""><Regions><Region><Vertices>{text}</Vertices></Region>'
        "</Regions></Annotation></Annotations>"
    )
    return with_annotation(folder, "a.xml")


@kind("entities of XML that expand to 1e12 letters")
def laughs(folder: Path) -> list[str]:
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    text = f'<!DOCTYPE x [<!ENTITY l0 "ha">{entities}]><Annotations>&l11;</Annotations>'
    (folder / "a.xml").write_text(text)
    return with_annotation(folder, "a.xml")


@kind("a mask of 30,000 x 30,000 px in 900 kB")
def mask(folder: Path) -> list[str]:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    Image.new("L", (30_000, 30_000)).save(folder / "m.png")
    return with_annotation(folder, "m.png")


# --- measuring -----------------------------------------------------------------------------------


def measure(title: str, folder: Path) -> dict[str, object]:
    """Tile one kind; return seconds, peak MB and how it ended."""
    # By a process of its own: the memory of one that starts others counts as theirs.
    writing = [sys.executable, __file__, "--write", title, str(folder)]
    words = json.loads(subprocess.run(writing, check=True, capture_output=True, text=True).stdout)
    command = [sys.executable, "-m", "her2pipe.cli", "tile", words[0], str(folder / "S.h5")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, *words[1:]], stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = code = os.waitstatus_to_exitcode(status)
    text = (folder / "log").read_text(errors="replace")
    is_sound = code == 0 or (code == 1 and "\n  fix:" in text and "Traceback" not in text)
    return {
        "what": title,
        "seconds": usage.ru_utime + usage.ru_stime,
        "mb": usage.ru_maxrss / 1024,
        "end": _end(code, text, folder / "S.h5"),
        "is_sound": is_sound,
    }


def _end(code: int, text: str, store: Path) -> str:
    from her2pipe.store import PatchStore

    if code or not store.exists():
        lines = [line for line in text.splitlines() if line.startswith("her2pipe: ")]
        return (lines or text.splitlines()[-1:] or [f"exit {code}"])[0].removeprefix("her2pipe: ")
    with PatchStore(store) as patches:
        reason = patches.exclusion_reason
        return f"excluded: {reason}" if reason else f"{len(patches)} patches"


def main() -> None:
    """Measure all kinds, or those whose titles hold a word."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="KIND", help="only kinds whose titles hold it")
    parser.add_argument("--quick", action="store_true", help="one slide and one outline")
    parser.add_argument("--write", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        print(json.dumps(KINDS[args.write[0]](Path(args.write[1]))))
        return
    wanted = ["all tiles one, deflate", "a scribble"] if args.quick else args.words
    print("| input | seconds | peak MB | ends as |\n|---|---|---|---|")
    failed = []
    for title in KINDS:
        if wanted and not any(word in title for word in wanted):
            continue
        with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
            row = measure(title, Path(folder))
        end = str(row["end"])[:90].replace("|", "/")
        print(f"| {title} | {row['seconds']:.0f} | {row['mb']:.0f} | {end} |", flush=True)
        if row["seconds"] > MOST_S or row["mb"] > MOST_MB or not row["is_sound"]:
            failed.append(title)
    if failed:
        sys.exit(f"beyond {MOST_S} s or {MOST_MB} MB, or not well ended: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
