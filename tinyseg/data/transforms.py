"""Transforms of samples: called as `transform(sample, rng)`, they return a new sample and leave the old one as it was.

Image, mask, instances and weights move together. What comes from beyond the image is the image's mean colour, 255
(ignore) in the mask, 0 in instances and weights. Images keep their dtype except in `Normalize`. All randomness comes
from `rng`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .resample import as_size, bicubic_surface, convolve, resize_image, resize_labels, restore, warp_image, warp_labels
from .sample import Sample

Transform = Callable[[Sample, np.random.Generator], Sample]
Size = int | tuple[int, int]


@dataclass(frozen=True)
class Compose:
    """One transform after the other. Example: Compose([RandomScale(0.5, 2), RandomCrop(224), RandomFlip()])"""

    transforms: Sequence[Transform]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample


@dataclass(frozen=True)
class Resize:
    """To `size` pixels: an int (square) or (height, width). Images smooth without aliasing, labels nearest."""

    size: Size

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        return _resize(sample, as_size(self.size))


@dataclass(frozen=True)
class RandomScale:
    """Both sides by one factor between `low` and `high`, drawn so that its logarithm is uniform."""

    low: float = 0.5
    high: float = 2.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        factor = np.exp(rng.uniform(np.log(self.low), np.log(self.high)))
        return _resize(sample, tuple(max(1, round(n * factor)) for n in sample.image.shape[:2]))


@dataclass(frozen=True)
class ResizeShortest:
    """The shorter side to `shortest` pixels, but the longer one to at most `longest`. He et al. 2017: 800 and 1333."""

    shortest: int | None = 800
    longest: int = 1333

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        return _resize(sample, shortest_size(sample.image.shape[:2], self.shortest, self.longest))


def shortest_size(size: tuple[int, int], shortest: int | None, longest: int) -> tuple[int, int]:
    """The size (H, W) with a shorter side of `shortest` (None: as it is) and a longer one of at most `longest`."""
    scale = 1.0 if shortest is None else shortest / min(size)
    scale = min(scale, longest / max(size))
    return tuple(max(1, int(n * scale)) for n in size)


@dataclass(frozen=True)
class LargeScaleJitter:
    """Fit the image into `size`, resize it by a factor between low and high, cut or pad to `size` at a random place.

    Ghiasi et al., "Simple copy-paste is a strong data augmentation", CVPR 2021, section 4.1.
    """

    size: Size
    low: float = 0.1
    high: float = 2.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        have, want = sample.image.shape[:2], as_size(self.size)
        scale = min(w / h for w, h in zip(want, have)) * rng.uniform(self.low, self.high)
        return RandomCrop(self.size)(_resize(sample, tuple(max(1, round(n * scale)) for n in have)), rng)


@dataclass(frozen=True)
class RandomCrop:
    """A window of `size` pixels at a random place; a smaller image is padded on all sides, at a random place too."""

    size: Size

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        room = [have - want for have, want in zip(sample.image.shape[:2], as_size(self.size))]
        top, left = (int(rng.integers(min(r, 0), max(r, 0) + 1)) for r in room)
        return _window(sample, top, left, as_size(self.size))


@dataclass(frozen=True)
class Pad:
    """Pad below and on the right up to `size` pixels, or up to the next `multiple`; never cuts.

    Example: Pad(multiple=32) takes 100 x 64 pixels to 128 x 64.
    """

    size: Size | None = None
    multiple: int = 1

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        least = as_size(self.size) if self.size is not None else (1, 1)
        to = (max(have, want) for have, want in zip(sample.image.shape[:2], least))
        return _window(sample, 0, 0, tuple(-(-n // self.multiple) * self.multiple for n in to))


@dataclass(frozen=True)
class RandomFlip:
    """Mirror left and right with probability `horizontal`, up and down with probability `vertical`."""

    horizontal: float = 0.5
    vertical: float = 0.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        across, over = rng.random(2) < (self.horizontal, self.vertical)
        step = np.s_[:: -1 if over else 1, :: -1 if across else 1]
        return sample.map(lambda image: np.ascontiguousarray(image[step]), lambda a, _: np.ascontiguousarray(a[step]))


@dataclass(frozen=True)
class RandomQuarterTurn:
    """Turn by 0, 90, 180 or 270 degrees, each as likely; with `RandomFlip` the eight symmetries of the square.

    Pixels move and are not interpolated; height and width change places. window: the size that is cut out afterwards.
    Where a picture on its side would fill less of it than one that stands, turns are by 0 or 180 degrees only.
    """

    window: Size | None = None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        quarters, (height, width) = int(rng.integers(4)), sample.image.shape[:2]
        if self.window is not None:
            rows, columns = as_size(self.window)
            if min(width, rows) * min(height, columns) < min(height, rows) * min(width, columns):
                quarters &= 2

        def turn(array, outside=None):
            return np.ascontiguousarray(np.rot90(array, quarters))

        return sample.map(turn, turn)


@dataclass(frozen=True)
class RandomRotation:
    """Turn about the centre by an angle drawn from [-degrees, degrees]; the size stays."""

    degrees: float = 10.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees))
        height, width = sample.image.shape[:2]
        y = np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2
        x = np.arange(width, dtype=np.float32)[None, :] - (width - 1) / 2
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return _warp(sample, cos * y - sin * x + (height - 1) / 2, sin * y + cos * x + (width - 1) / 2)


@dataclass(frozen=True)
class ElasticDeformation:
    """The elastic deformation of the U-Net paper (Ronneberger et al. 2015, section 3.1).

    Displacements on a coarse `grid` x `grid`, normal with standard deviation `sd` pixels, are interpolated bicubically.
    """

    sd: float = 10.0
    grid: int = 3
    probability: float = 1.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        draw, knots = rng.random(), rng.normal(0, self.sd, (2, self.grid, self.grid))
        if draw >= self.probability:
            return sample
        size = sample.image.shape[:2]
        dy, dx = (bicubic_surface(k, size) for k in knots)
        return _warp(sample, np.arange(size[0])[:, None] + dy, np.arange(size[1])[None, :] + dx)


@dataclass(frozen=True)
class ColorJitter:
    """Change brightness, contrast and saturation by factors drawn from [1 - v, 1 + v]. Float images are in [0, 1]."""

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        bright, contrast, colour = 1 + np.float32(rng.uniform(-1, 1, 3)) * np.float32(
            [self.brightness, self.contrast, self.saturation])
        image = sample.image.astype(np.float32) * bright
        mean = image.mean()
        image = (image - mean) * contrast + mean
        if image.shape[2] == 3:
            grey = image @ np.float32([[0.299], [0.587], [0.114]])
            image = (image - grey) * colour + grey
        if sample.image.dtype.kind == "f":
            image = np.clip(image, 0, 1)
        return replace(sample, image=restore(image, sample.image.dtype))


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur of the image with `probability`; its standard deviation is drawn from [0, sigma] pixels."""

    sigma: float = 1.5
    probability: float = 0.5

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        draw, sigma = rng.random(), rng.uniform(0, self.sigma)
        if draw >= self.probability or sigma < 0.2:  # below 0.2 pixels the taps are 0, 1, 0
            return sample
        reach = int(np.ceil(3 * sigma))
        taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        taps = np.float32(taps / taps.sum())
        image = convolve(convolve(sample.image.astype(np.float32), taps, axis=0), taps, axis=1)
        return replace(sample, image=restore(image, sample.image.dtype))


@dataclass(frozen=True)
class Normalize:
    """(image - mean) / sd a channel, in units of `to_float`, [0, 1]; None takes the image's own mean and deviation.

    Put it last: it makes the image float32. Example: Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    """

    mean: Sequence[float] | float | None = None
    std: Sequence[float] | float | None = None

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        image = to_float(sample.image)
        mean = image.mean((0, 1)) if self.mean is None else np.float32(self.mean)
        std = image.std((0, 1)) + np.float32(1e-6) if self.std is None else np.float32(self.std)
        return replace(sample, image=(image - mean) / std)


def to_float(image: np.ndarray) -> np.ndarray:
    """The image as float32: uint8 / 255, uint16 / 65535, both in [0, 1]; floats as they are.

    This is what the loader gives a model where no `Normalize` did otherwise, and what prediction must do as well.
    """
    if image.dtype.kind == "f":
        return image.astype(np.float32, copy=False)
    return image * np.float32(1 / np.iinfo(image.dtype).max)


def _resize(sample, size):
    return sample.map(lambda image: resize_image(image, size), lambda labels, _: resize_labels(labels, size))


def _warp(sample, y, x):
    """Every pixel of the new sample looks at (y, x) of the old one."""
    y, x = np.float32(y), np.float32(x)
    return sample.map(lambda image: warp_image(image, y, x, _mean(image)),
                      lambda labels, outside: warp_labels(labels, y, x, outside))


def _window(sample, top, left, size):
    """The pixels from (top, left), which may be negative, on; the window may hang over any edge."""
    height, width = sample.image.shape[:2]
    rows, columns = slice(max(top, 0), min(top + size[0], height)), slice(max(left, 0), min(left + size[1], width))
    at = np.s_[rows.start - top:rows.stop - top, columns.start - left:columns.stop - left]

    def cut(array, outside=None):
        window = array[rows, columns]
        if window.shape[:2] == size:
            return np.ascontiguousarray(window)
        padded = np.empty((*size, *array.shape[2:]), array.dtype)
        padded[:] = _mean(array) if outside is None else outside
        padded[at] = window
        return padded

    return sample.map(cut, cut)


def _mean(image):
    """The mean colour, (C,), in the image's dtype."""
    return restore(image.mean((0, 1), dtype=np.float32), image.dtype)
