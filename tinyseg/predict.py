"""A model applied to an image of any size: whole where it fits, else in overlapping tiles that leave no seams.

The probabilities p_t of the tiles t that cover a pixel are averaged, p = sum_t w_t p_t / sum_t w_t, where w_t is the
distance from the pixel to the tile's edge along y times that along x: near its edge a tile does not know what is
beside it, and there its neighbour speaks. Rows of tiles are finished one after the other, so that an image of any
height needs the memory of one row. A network of valid convolutions, whose output is smaller than its input, is fed
with its margin mirrored around the tile (the overlap-tile strategy, section 2 of the U-Net paper).
"""

from contextlib import contextmanager

import numpy as np

PIXELS = 1 << 20  # an image of more pixels than this is cut into tiles ...
TILE = 768  # ... of this side, unless `tile` says otherwise; both count pixels as the network sees them


def predict(
    model, image, tile=None, overlap: float = 1 / 3, flip: bool = False, scales=(1,), probabilities: bool = False
) -> np.ndarray:
    """The class of each pixel of an image.

    tile: side (or height, width) of tiles in pixels; by default images up to 2^20 pixels are taken whole, larger ones
        in tiles of 768. overlap: the share of a tile that its neighbour repeats. flip: average with the mirrored image.
    scales: average over the image resized by these factors.

    Shapes: image (H, W, C) or (H, W), uint8, uint16 or float in [0, 1]; returns (H, W) int32 class ids, or with
        probabilities=True (H, W, K) float32 that sum to 1.
    Raises: ValueError for images and options that make no sense; the message says what came.
    Example: mask = ts.predict(ts.load("runs/a/best.npz"), image)
    """
    from .checkpoint import info_of

    info = info_of(model)
    pixels = normalised(image, info)
    scales = [info.scale * s for s in np.atleast_1d(scales).tolist()]
    if not scales or min(scales) <= 0 or not 0 <= overlap < 1:
        raise ValueError(f"predict: scales={scales}, overlap={overlap}; expected scales > 0 and 0 <= overlap < 1")
    height, width = pixels.shape[:2]
    if tile is None:
        side = TILE / max(scales)
        tile = (height, width) if height * width * max(scales) ** 2 <= PIXELS else (round(side), round(side))
    tile = (tile, tile) if np.ndim(tile) == 0 else tuple(tile)
    if len(tile) != 2 or min(tile) < 1:
        raise ValueError(f"predict: tile={tile}; expected a side in pixels, or (height, width)")
    result = None
    with evaluating(model):
        for y, band in _bands(pixels, tile, overlap, lambda part: _probabilities(model, part, flip, scales)):
            if result is None:
                shape, dtype = (
                    ((height, width, band.shape[2]), np.float32) if probabilities else ((height, width), np.int32)
                )
                result = np.empty(shape, dtype)
            result[y : y + len(band)] = band if probabilities else band.argmax(-1)
    return result


@contextmanager
def evaluating(model):
    """Inside, all of a model is in evaluation mode; behind it, what was in training is in training again."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def normalised(image, info) -> np.ndarray:
    """The image as the network wants it: (H, W, C) float32, (pixels in [0, 1] - mean) / std, grey or colour."""
    from .data.transforms import to_float

    image, channels = np.asarray(image), len(info.mean)
    image = image[:, :, None] if image.ndim == 2 else image
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"predict: image has shape {image.shape}; expected one image (H, W, C) or (H, W)")
    if image.dtype.kind not in "uf" or image.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
        raise ValueError(f"predict: image is {image.dtype}; expected uint8, uint16 or float in [0, 1]")
    if image.dtype.kind == "f" and not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(
            f"predict: a float image from {image.min():.4g} to {image.max():.4g}; expected [0, 1]; cure: divide "
            "by its range, or pass uint8"
        )
    pixels = to_float(image)
    if pixels.shape[2] == 4 and channels != 4:
        pixels = pixels[:, :, :3]  # no alpha
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, channels, axis=2)
    elif pixels.shape[2] == 3 and channels == 1:
        pixels = pixels @ np.float32([[0.299], [0.587], [0.114]])
    if pixels.shape[2] != channels:
        raise ValueError(f"predict: image has {image.shape[2]} channels but the model was made for {channels}")
    return (pixels - np.float32(info.mean)) / np.float32(info.std)


def _bands(pixels, tile, overlap, probabilities_of):
    """Yields (first row, probabilities (rows, W, K)) from the top to the bottom; together they cover the image."""
    height, width = pixels.shape[:2]
    (ys, h), (xs, w) = _starts(height, tile[0], overlap), _starts(width, tile[1], overlap)
    if len(ys) == len(xs) == 1:
        yield 0, probabilities_of(pixels)
        return
    weight = (_tent(h)[:, None] * _tent(w))[:, :, None]
    total = None
    for y, below in zip(ys, [*ys[1:], height]):
        for x in xs:
            part = probabilities_of(pixels[y : y + h, x : x + w])
            if total is None:  # now the number of classes is known
                total, weights = np.zeros((h, width, part.shape[2]), np.float32), np.zeros((h, width, 1), np.float32)
            total[:, x : x + w] += weight * part
            weights[:, x : x + w] += weight
        done = below - y  # no tile further down reaches these rows
        yield y, total[:done] / weights[:done]
        for array in (total, weights):
            array[: h - done] = array[done:].copy()
            array[h - done :] = 0


def _starts(length, tile, overlap):
    """Where tiles begin along one side, evenly spread from edge to edge, and how long they are."""
    tile = min(tile, length)
    step = max(1, int(tile * (1 - overlap)))
    count = 1 + -(-(length - tile) // step)
    return np.linspace(0, length - tile, count).round().astype(int).tolist(), tile


def _tent(n):
    """The distance of each pixel's centre to the nearer end."""
    at = np.arange(n, dtype=np.float32) + 0.5
    return np.minimum(at, n - at)


def _probabilities(model, pixels, flip, scales):
    """Softmax of one piece, averaged over scales and mirror images. (h, w, C) -> (h, w, K)."""
    from . import ops
    from .data.resample import resize_image
    from .tensor import no_grad

    size, views = pixels.shape[:2], []
    with no_grad():
        for scale in scales:
            resized = resize_image(pixels, tuple(max(1, round(n * scale)) for n in size))
            for mirrored in (False, True) if flip else (False,):
                p = ops.softmax(_logits(model, resized[:, ::-1] if mirrored else resized), axis=-1)
                if p.shape[1:3] != size:
                    p = ops.interpolate(p, size=size, mode="bilinear", align_corners=False)
                p = p.numpy()[0]
                views.append(p[:, ::-1] if mirrored else p)
    return views[0] if len(views) == 1 else sum(views) / np.float32(len(views))


def _logits(model, pixels):
    """(h, w, C) -> Tensor (1, h, w, K), the border mirrored for a model of valid convolutions (`margin`)."""
    from .tensor import tensor

    (height, width), margin = pixels.shape[:2], getattr(model, "margin", 0)
    if margin:
        sides = (model.valid_size(n + 2 * margin) for n in (height, width))
        around = [(margin, side - margin - n) for side, n in zip(sides, (height, width))]
        pixels = np.pad(pixels, [*around, (0, 0)], mode="reflect")
    logits = model(tensor(np.ascontiguousarray(pixels)[None], next(iter(model.parameters())).device))
    return logits[:, :height, :width] if logits.shape[1:3] != (height, width) else logits
