"""Tiled TIFFs of many kinds, written for tests."""

import numpy as np
import simplejpeg
import tifffile

from her2pipe.config import SlidesSettings
from her2pipe.slides.open import open_slide
from her2pipe.slides.tissue import tile_grid

APERIO = (
    "Aperio Image Library v12\r\n{w}x{h} [0,0 {w}x{h}] ({t}x{t}) JPEG Q=85|AppMag = 40|MPP = {m}"
)


def tissue(width, height, seed=1, glass=0):
    """Draw textured violet dots on pink, with a margin of white glass: (height, width, 3) uint8."""
    import cv2

    random = np.random.default_rng(seed)
    picture = np.full((height, width, 3), (226, 178, 204), np.uint8)
    for x, y, r in random.integers((0, 0, 4), (width, height, 14), (width * height // 1200, 3)):
        colour = (np.array([92, 52, 132]) + random.integers(-25, 25, 3)).tolist()
        cv2.circle(picture, (int(x), int(y)), int(r), colour, -1, cv2.LINE_AA)
    grain = cv2.GaussianBlur(random.normal(0, 14, (height, width)), (5, 5), 1.2)
    picture = np.clip(picture + grain[..., None], 0, 255).astype(np.uint8)
    if glass:
        framed = np.full_like(picture, 243)
        framed[glass:-glass, glass:-glass] = picture[glass:-glass, glass:-glass]
        return framed
    return picture


def halve(picture, times):
    """Average blocks of `times` x `times` px; what does not fill a block is left away."""
    rows, columns = picture.shape[0] // times, picture.shape[1] // times
    blocks = picture[: rows * times, : columns * times].reshape(rows, times, columns, times, 3)
    return np.round(blocks.mean((1, 3))).astype(np.uint8)


def svs(path, picture, tile=240, levels=(1, 4), mpp=0.25, **options):
    """Write an Aperio-style SVS with tifffile."""
    height, width = picture.shape[:2]
    tags = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 90}}
    tags |= {"tile": (tile, tile), "metadata": None} | options
    text = APERIO.format(w=width, h=height, t=tile, m=mpp)
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for number, times in enumerate(levels):
            level = picture if times == 1 else halve(picture, times)
            writer.write(level, description=text, subfiletype=int(number > 0), **tags)
    return path


def generic(path, picture, levels=(1, 2, 4), mpp=0.5, **options):
    """Write a pyramidal TIFF with a resolution tag."""
    tags = {"photometric": "rgb", "compression": "deflate", "tile": (128, 128), "metadata": None}
    tags |= options
    with tifffile.TiffWriter(path) as writer:
        for times in levels:
            dots = 10_000 / (mpp * times)
            level = picture if times == 1 else halve(picture, times)
            writer.write(
                level, resolution=(dots, dots), resolutionunit=3, subfiletype=int(times > 1), **tags
            )
    return path


def ome(path, picture, mpp=0.5, **options):
    """Write an OME-TIFF whose pyramid lies in SubIFDs."""
    tags = {"photometric": "rgb", "compression": "jpeg", "tile": (128, 128)} | options
    metadata = {"axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm"}
    metadata |= {"PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(picture, subifds=1, metadata=metadata, **tags)
        writer.write(halve(picture, 2), subfiletype=1, **tags)
    return path


def tiles(path, page=0):
    """Offsets and byte counts of the tiles of a page, (rows, columns) each."""
    with tifffile.TiffFile(path) as tiff:
        level = tiff.pages[page]
        shape = -(-level.imagelength // level.tilelength), -(-level.imagewidth // level.tilewidth)
        return np.reshape(level.dataoffsets, shape), np.reshape(level.databytecounts, shape)


def spoil(path, row, column):
    """Overwrite a tile of level 0 with what no decoder takes."""
    offsets, counts = tiles(path)
    with path.open("rb+") as file:
        file.seek(offsets[row, column])
        file.write(b"\x55" * int(counts[row, column]))


def empty(path, places):
    """Make tiles of level 0 sparse: their byte counts become zero."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page = tiff.pages[0]
        columns = -(-page.imagewidth // page.tilewidth)
        counts = list(page.databytecounts)
        for row, column in places:
            counts[row * columns + column] = 0
        page.tags[325].overwrite(counts)
    return path


def reencode(path, change):
    """Replace the JPEG of each tile of level 0 by `change(jpeg)`, which must not be longer."""
    offsets, counts = tiles(path)
    with path.open("rb+") as file:
        for offset, count in zip(offsets.ravel(), counts.ravel(), strict=True):
            file.seek(offset)
            data = change(file.read(int(count)))
            assert len(data) <= count
            file.seek(offset)
            file.write(data.ljust(int(count), b"\0"))


def psnr(a, b):
    """Peak signal to noise ratio, dB."""
    square = np.mean((np.asarray(a, float) - b) ** 2)
    return np.inf if square == 0 else 10 * np.log10(255**2 / square)


def shift(a, b):
    """How far one picture lies from another, px."""
    import cv2

    gray = [cv2.cvtColor(np.ascontiguousarray(p), cv2.COLOR_RGB2GRAY) for p in (a, b)]
    return np.hypot(*cv2.phaseCorrelate(*(g.astype(np.float32) for g in gray))[0])


def jpeg(picture, **options):
    """Encode a picture."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(picture), **options)


def opened(path, reader="tiff", **settings):
    return open_slide(path, SlidesSettings(reader=reader, **settings))


def patches(path, reader, side, out, **settings):
    """Patches of the whole grid, and the corners."""
    with opened(path, reader, **settings) as slide:
        corners = tile_grid(slide.width_px0, slide.height_px0, side)
        return list(slide.patches(corners, side, out, lambda _, p: p.copy())), corners


def variance(patch):
    return float(np.dot(patch, [0.299, 0.587, 0.114]).var())


def check_against_openslide(path, side, out, least_db=38):
    ours, _ = patches(path, "tiff", side, out)
    theirs, _ = patches(path, "openslide", side, out)
    assert len(ours) == len(theirs) > 0
    squares = []
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(one.mean((0, 1)) - other.mean((0, 1))).max() < 0.5
        if variance(other) < 300:
            continue
        assert shift(one, other) < 0.25
        squares.append(np.mean((one.astype(float) - other) ** 2))
        near = abs(variance(other) / 500 - 1) < 0.02
        assert near or (variance(one) >= 500) == (variance(other) >= 500)
    assert 10 * np.log10(255**2 / max(1e-9, np.mean(squares))) >= least_db
