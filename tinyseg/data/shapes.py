"""Shapes: a synthetic set for demonstrations and tests, made on the fly, so there is nothing to download.

Patterned things on a grained, cloudy ground. All take their colours from one range, so the colour of a pixel says next
to nothing about its class: a model has to see the pattern or the outline. Things overlap; the later one lies on top.
"""

import numpy as np

from .image import voc_palette
from .resample import as_size, bicubic_surface
from .sample import Sample

# The outline, in the thing's own turned coordinates, where its radius is 1 and r is the distance from its middle; and
# the pattern over pixels, 1 light and 0 dark.
KINDS = {
    "disc": (lambda u, v, r: r < 0.9, lambda y, x: (y // 2 % 2) & (x // 2 % 2)),
    "square": (lambda u, v, r: np.maximum(abs(u), abs(v)) < 0.8, lambda y, x: y // 2 % 2),
    "triangle": (lambda u, v, r: (v > -0.6) & (v < 1.2 - np.sqrt(3) * abs(u)), lambda y, x: x // 2 % 2),
    "ring": (lambda u, v, r: (r > 0.4) & (r < 1), lambda y, x: (y + x) // 3 % 2),
    "cross": (lambda u, v, r: (np.minimum(abs(u), abs(v)) < 0.4) & (r < 1.1), lambda y, x: (y // 2 + x // 2) % 2),
    "star": (lambda u, v, r: r < 0.85 + 0.3 * np.cos(5 * np.arctan2(v, u)), lambda y, x: (y - x) // 3 % 2),
}


class Shapes:
    """A synthetic data set of overlapping things with instances; sample i is a function of (seed, i) alone.

    size: pixels, an int or (height, width). num_classes: 2 to 7, the background and the first of disc, square,
    triangle, ring, cross, star. Use another seed for validation.

    Shapes: image (H, W, 3) uint8, mask (H, W) int32 in 0..num_classes - 1, instances (H, W) int32, 1.. upwards.
    Raises: ValueError for numbers out of range.
    Example: Shapes(size=96, length=500, seed=1)[0].mask
    """

    in_channels = 3

    def __init__(self, size: int | tuple[int, int] = 64, length: int = 1000, seed: int = 0, num_classes: int = 6):
        if not 2 <= num_classes <= len(KINDS) + 1:
            raise ValueError(f"Shapes: num_classes is {num_classes} but 2 to {len(KINDS) + 1} are expected")
        if length < 1 or seed < 0:
            raise ValueError(f"Shapes: length={length}, seed={seed}, but >= 1 and >= 0 are expected")
        self.size, self.length, self.seed = as_size(size), length, seed
        self.class_names = ("background", *KINDS)[:num_classes]
        self.palette = voc_palette()

    @property
    def num_classes(self) -> int:
        """How many classes there are, background included."""
        return len(self.class_names)

    def __len__(self) -> int:
        return self.length

    def __repr__(self) -> str:
        height, width = self.size
        return f"Shapes({self.length} samples of {height}x{width}, {self.num_classes} classes, seed {self.seed})"

    def name(self, i: int) -> str:
        """The i-th sample's name, such as 'shapes-0-000017'."""
        return f"shapes-{self.seed}-{i:06d}"

    def __getitem__(self, i: int) -> Sample:
        if not 0 <= i < self.length:
            raise IndexError(f"Shapes: sample {i} of {self.length}")
        rng = np.random.default_rng([self.seed, i])
        image = _ground(rng, self.size)
        mask, instances, areas = np.zeros(self.size, np.int32), np.zeros(self.size, np.int32), [0]
        for _ in range(rng.integers(2, 5)):
            kind = int(rng.integers(1, self.num_classes))
            outline, pattern = KINDS[self.class_names[kind]]
            inside = _place(rng, self.size, outline)
            left = np.bincount(instances[~inside], minlength=len(areas))
            if any(left[k] < 0.6 * area for k, area in enumerate(areas)):
                continue  # what lies below must still be recognisable
            image[inside] = _surface(rng, image, inside, pattern)
            mask[inside] = kind
            instances[inside] = len(areas)
            areas.append(int(inside.sum()))
        return Sample(np.clip(image, 0, 255).astype(np.uint8), mask, instances, self.name(i))


def _ground(rng, size):
    """Clouds of colour with a grain, (H, W, 3)."""
    clouds = [rng.uniform(60, 195) + bicubic_surface(rng.normal(0, 18, (5, 5)), size) for _ in range(3)]
    return np.stack(clouds, axis=-1) + rng.normal(0, 14, (*size, 1))


def _place(rng, size, outline):
    """Where a thing of this outline is, (H, W) bool, at a random place, angle and radius."""
    height, width = size
    radius, angle = rng.uniform(0.22, 0.33) * min(size), rng.uniform(0, 2 * np.pi)
    y = (np.arange(height)[:, None] - rng.uniform(0.12, 0.88) * height) / radius
    x = (np.arange(width)[None, :] - rng.uniform(0.12, 0.88) * width) / radius
    return outline(np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x, np.hypot(x, y))


def _surface(rng, image, inside, pattern):
    """The pixels of a thing, (n, 3): in its pattern, that one of eight colours that is least like what it covers."""
    colours = rng.uniform(20, 235, (8, 3))
    colour = colours[np.square(colours - image[inside].mean(0)).sum(1).argmax()]
    y, x = np.ogrid[:image.shape[0], :image.shape[1]]
    light = np.broadcast_to(pattern(y + rng.integers(8), x + rng.integers(8)), inside.shape)[inside, None]
    return colour + rng.uniform(50, 80) * (light - 0.5) + rng.normal(0, 4, (len(light), 1))
