"""Pictures and masks as files, by Pillow: the only file of this package that knows what a PNG is.

An image is (H, W, C), uint8 or uint16, upright (EXIF rotation applied), without alpha. A mask is (H, W) int32 ids.
Pillow is imported by the first call, not with the package.
"""

import logging
from functools import cache
from pathlib import Path

import numpy as np

from .sample import IGNORE, ColourError, DataError

# A grey PNG of 2 or 4 bits holds small numbers that Pillow stretches to 0..255; the factor takes that back.
STRETCH = {"L;2": 85, "L;4": 17}


@cache
def say(message: str) -> None:
    """Log a message that the user should see, once a process (by default Python writes it to stderr)."""
    logging.getLogger("tinyseg.data").warning(message)


def voc_palette() -> np.ndarray:
    """The PASCAL VOC colour map, (256, 3) uint8: the bits of the class id dealt out to red, green and blue."""
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for channel in range(3):
        for bit in range(3):  # bits c, c+3, c+6 of the id become bits 7, 6, 5 of channel c: near ids differ most
            palette[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def palette_of(colours) -> np.ndarray:
    """A (256, 3) uint8 palette that starts with `colours`, (K, 3) in [0, 255], and goes on with VOC's."""
    palette = voc_palette()
    palette[:len(colours)] = colours
    return palette


def read_image(path: str | Path, channels: int | None = None) -> np.ndarray:
    """Read a picture: any format of Pillow, 8 or 16 bit, grey, RGB, RGBA, palette, CMYK, turned upright by EXIF.

    Alpha is dropped. 16-bit grey stays uint16; 16-bit colour comes as its high 8 bits (Pillow reads no more).
    channels: 1 or 3 converts (grey = 0.299 R + 0.587 G + 0.114 B); None keeps 1 for grey files, 3 for colour.

    Shapes: returns (H, W, C) uint8 in [0, 255] or uint16 in [0, 65535].
    Raises: DataError naming the file where it is missing, truncated, no picture, or of floats.
    Example: read_image("photo.jpg").shape
    """
    mode, pixels = _decode(path)[:2]
    if mode == "1":
        pixels = pixels.astype(np.uint8) * 255
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if channels == 3 and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    elif channels == 1 and pixels.shape[2] == 3:
        pixels = np.rint(pixels @ np.float32([0.299, 0.587, 0.114])).astype(pixels.dtype)[:, :, None]
    return np.ascontiguousarray(pixels)


def read_index(path: str | Path, colours: np.ndarray | None = None) -> np.ndarray:
    """Read the numbers of an index image (grey 1 to 16 bit, or palette) as they are: class or object ids.

    A colour file is refused, unless `colours` (K, 3) says which colour is which id (exactly; others are an error)
    or all its pixels are grey.

    Shapes: returns (H, W) int32.
    Raises: DataError for JPEG (it blurs ids), 16-bit colour, unknown colours, unreadable files.
    Example: np.unique(read_index("mask.png"))
    """
    mode, pixels, kind = _decode(path, keep_palette=True)
    if kind == "JPEG":
        raise DataError(f"{path}: a JPEG mask; JPEG blurs the ids of neighbours into new ones: save masks as PNG")
    if pixels.ndim == 3 and colours is not None:
        return _ids_of_colours(path, pixels, colours)
    if pixels.ndim == 3:
        if (pixels != pixels[:, :, :1]).any():
            found = np.unique(pixels.reshape(-1, 3), axis=0)
            raise ColourError(f"{path}: the mask is coloured ({listed(found)}) but class ids were expected: save it as "
                              "index PNG, or give each class its colour in classes.txt, a line 'name red green blue' "
                              "each")
        pixels = pixels[:, :, 0]
    return pixels.astype(np.int32)


def read_mask(path: str | Path, colours: np.ndarray | None = None) -> np.ndarray:
    """Read a mask of class ids, 255 = ignore.

    A grey file of nothing but 0 and 255 is taken as classes 0 and 1, and a message says so (not one with a palette:
    there 255 is VOC's border). colours: (K, 3), the colour of each class, for masks saved as RGB.

    Shapes: returns (H, W) int32 class ids.
    Raises: DataError naming the file, the values found, and the cure.
    Example: read_mask("mask.png")
    """
    mask = read_index(path, colours)
    if colours is None and set(np.unique(mask).tolist()) == {0, 255} and not has_palette(path):
        say(f"{path}: the mask holds 0 and 255; read as class 0 and class 1")
        return (mask > 0).astype(np.int32)
    return mask


def has_palette(path: str | Path) -> bool:
    """Whether the file is a palette image (read from its header alone)."""
    return header(path)[0] == "P"


def header(path: str | Path) -> tuple[str, int, int]:
    """Pillow's mode ('L', 'RGB', 'P', 'I;16' ...), height and width (before EXIF rotation), from the header alone."""
    from PIL import Image
    try:
        with Image.open(path) as file:
            return file.mode, file.height, file.width
    except Exception as error:
        raise _unreadable(path, error) from error


def channels_of(path: str | Path) -> int:
    """1 where the file is grey, else 3."""
    mode = header(path)[0]
    return 1 if mode in ("1", "L", "LA", "La", "F") or mode.startswith("I") else 3


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image; the format follows from the file's ending.

    Shapes: (H, W), (H, W, 1) or (H, W, 3), uint8, uint16 (grey only) or float in [0, 1].
    """
    from PIL import Image
    pixels = image if image.dtype == np.uint16 else to_uint8(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim == 3 and pixels.dtype == np.uint16:
        raise DataError(f"{path}: 16-bit colour cannot be written: pass to_uint8(image)")
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def write_mask(path: str | Path, mask: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write class ids as a palette PNG (VOC's colours by default), or as 16-bit grey PNG where an id exceeds 255.

    Shapes: mask (H, W) integers in [0, 65535]; palette (256, 3) uint8.
    Raises: DataError for other shapes, types or values, and for a lossy file ending.
    Example: write_mask("mask.png", logits.numpy()[0].argmax(-1))
    """
    from PIL import Image
    if Path(path).suffix.lower() not in (".png", ".tif", ".tiff", ".gif", ".bmp"):
        raise DataError(f"{path}: masks need a lossless format: name the file .png")
    if mask.ndim != 2 or mask.dtype.kind not in "uib":
        raise DataError(f"{path}: mask is {mask.dtype} {mask.shape} but (H, W) integers are expected: take argmax(-1)")
    low, high = (int(mask.min()), int(mask.max())) if mask.size else (0, 0)
    if low < 0 or high > 65535:
        raise DataError(f"{path}: ids run from {low} to {high} but must lie in 0..65535: use 255 for ignore")
    if high > 255:
        Image.fromarray(mask.astype(np.uint16)).save(path)
        return
    file = Image.fromarray(mask.astype(np.uint8))
    file.putpalette((voc_palette() if palette is None else np.asarray(palette, np.uint8)).tobytes())
    file.save(path)


def overlay(image: np.ndarray, mask: np.ndarray, palette: np.ndarray | None = None, alpha: float = 0.5) -> np.ndarray:
    """Colour the classes over the picture. Black classes (VOC's background) and 255 leave the picture as it is.

    Ids beyond the palette's end take its colours again, so that instances can be shown too.

    Shapes: image (H, W, C) uint8, uint16 or float in [0, 1]; mask (H, W) class ids; returns (H, W, 3) uint8.
    Example: write_image("seen.png", overlay(sample.image, sample.mask, dataset.palette))
    """
    palette = voc_palette() if palette is None else palette
    seen = to_uint8(image)
    seen = np.repeat(seen, 3, axis=2) if seen.shape[2] == 1 else seen.copy()
    colour = palette[mask % len(palette)]
    at = (mask != IGNORE) & colour.any(axis=-1)
    seen[at] = np.rint((1 - alpha) * seen[at] + alpha * colour[at]).astype(np.uint8)
    return seen


def to_uint8(image: np.ndarray) -> np.ndarray:
    """The image in [0, 255]: uint8 as it is, uint16 by its high byte, floats in [0, 1] times 255, clipped."""
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def read_text(path: Path) -> str:
    """A text file's contents, UTF-8 with or without byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({words(error)})") from error


def listed(values, most: int = 8) -> str:
    """'0, 1, 7 ... (20 in all)': values, colours or names for a message."""
    words = [str(v) for v in np.asarray(values).tolist()]
    return ", ".join(words[:most]) + (f" ... ({len(words)} in all)" if len(words) > most else "")


def words(error: Exception) -> str:
    """What an error says; of one of the system, without its number and the file's name."""
    return getattr(error, "strerror", None) or str(error)


def counted(number: int, what: str) -> str:
    """'1 image', '2 images': for a message."""
    return f"{number} {what}" + "s" * (number != 1)


def _decode(path, keep_palette=False):
    """Pillow's mode, the upright pixels without alpha, and the format."""
    from PIL import Image, ImageOps
    try:
        with Image.open(path) as file:
            kind, depth = file.format, file.tile[0][3] if file.tile else None
            upright = ImageOps.exif_transpose(file)
            mode = upright.mode
            if mode in ("L", "RGB", "1", "I", "F") or mode.startswith("I;16") or (mode == "P" and keep_palette):
                pixels = np.array(upright)
            else:
                pixels = np.array(upright.convert("L" if mode in ("LA", "La") else "RGB"))
    except Exception as error:  # a broken file makes Pillow raise nearly anything: OSError, SyntaxError, ValueError ...
        raise _unreadable(path, error) from error
    if mode == "F":
        cure = "save class ids as index PNG" if keep_palette else "convert it to a 16-bit PNG"
        raise DataError(f"{path}: pixels are 32-bit floats but 8 or 16 bits are expected: {cure}")
    if mode.startswith("I"):
        if pixels.size and (pixels.min() < 0 or pixels.max() > 65535):
            raise DataError(f"{path}: 32-bit values from {pixels.min()} to {pixels.max()} but 8 or 16 bits are "
                            "expected: convert it to a 16-bit PNG")
        pixels = pixels.astype(np.uint16)
    if keep_palette and isinstance(depth, str) and ";16" in depth and not mode.startswith("I"):
        raise DataError(f"{path}: ids in 16-bit colour, of which Pillow reads the high 8 bits alone: save them as "
                        "grey PNG of 8 or 16 bits")
    if keep_palette and isinstance(depth, str) and depth in STRETCH:
        pixels = pixels // STRETCH[depth]
    return mode, pixels, kind


def _unreadable(path, error):
    if not Path(path).exists():
        return DataError(f"{path}: no such file")
    if Path(path).is_dir():
        return DataError(f"{path}: is a folder, expected a picture; cure: name its files, such as {path}/*.png")
    reason = "no picture that Pillow knows" if type(error).__name__ == "UnidentifiedImageError" else words(error)
    return DataError(f"{path}: cannot be read ({reason}): the file is damaged or no image; copy or export it again, "
                     "or take it out of the set")


def _ids_of_colours(path, pixels, colours):
    """Exact colour -> id, by one number 0xRRGGBB a pixel."""
    number = pixels.astype(np.int32) @ np.int32([65536, 256, 1])
    known = np.asarray(colours, np.int32) @ np.int32([65536, 256, 1])
    order = np.argsort(known, kind="stable")
    at = np.minimum(np.searchsorted(known[order], number), len(known) - 1)
    wrong = known[order][at] != number
    if wrong.any():
        unknown = listed(np.unique(pixels[wrong], axis=0))
        raise ColourError(f"{path}: the mask has colours of no class ({unknown}): add them to the class colours, or "
                          "save the mask without smoothing")
    return order[at].astype(np.int32)
