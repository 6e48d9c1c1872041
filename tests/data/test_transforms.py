from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.data import (
    Blur,
    ColorJitter,
    Compose,
    DataError,
    ElasticDeformation,
    Normalize,
    Pad,
    RandomCrop,
    RandomFlip,
    RandomQuarterTurn,
    RandomRotation,
    RandomScale,
    Resize,
    Sample,
    to_float,
)

WINDOWS = [RandomCrop((8, 11)), Pad(multiple=4), RandomFlip(0.5, 0.5), Compose([RandomFlip(), RandomCrop(6)]),
           RandomQuarterTurn(), RandomQuarterTurn((8, 11))]
ALL = [*WINDOWS, Resize((9, 7)), RandomScale(0.5, 2), RandomRotation(40), ElasticDeformation(3.0), ColorJitter(),
       Blur(1.5, 1.0), Normalize()]

sides = st.integers(1, 16)
seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.uint8, np.uint16, np.float32])


def sample_of(height, width, seed=0, dtype=np.uint8, channels=3):
    """A sample whose image, mask, instances and weights all show the same random blocks."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 5, (height, width), dtype=np.int32)
    image = (mask[:, :, None] * np.array([10, 20, 30][:channels])).astype(dtype)
    return Sample(image if dtype != np.float32 else image / np.float32(200), mask, mask + 1, f"{height}x{width}",
                  mask.astype(np.float32))


@given(st.sampled_from(ALL), sides, sides, seeds, dtypes, st.sampled_from([1, 3]))
def test_every_transform_keeps_the_contract(transform, height, width, seed, dtype, channels):
    sample = sample_of(height, width, seed, dtype, channels)
    before = sample_of(height, width, seed, dtype, channels)
    for array in (sample.image, sample.mask, sample.instances, sample.weights):
        array.setflags(write=False)  # a transform may not write into its input
    new = transform(sample, np.random.default_rng(seed))
    again = transform(before, np.random.default_rng(seed))
    assert new.image.dtype == (np.float32 if isinstance(transform, Normalize) else dtype)
    assert new.image.shape[2] == channels and new.image.flags.c_contiguous and new.name == sample.name
    assert new.mask.dtype == np.int32 and new.instances.dtype == np.int32 and new.weights.dtype == np.float32
    assert np.array_equal(new.image, again.image) and np.array_equal(new.mask, again.mask)
    known = new.mask != 255
    assert np.array_equal(new.instances[known], new.mask[known] + 1) and (new.instances[~known] == 0).all()
    assert np.array_equal(new.weights[known], new.mask[known]) and (new.weights[~known] == 0).all()


@given(st.sampled_from(WINDOWS), sides, sides, seeds)
def test_image_and_mask_move_together(transform, height, width, seed):
    new = transform(sample_of(height, width, seed), np.random.default_rng(seed))
    known = new.mask != 255
    assert np.array_equal(new.image[known], new.mask[known][:, None] * [10, 20, 30])


@given(seeds, st.sampled_from([RandomRotation(30), ElasticDeformation(2.0), RandomScale(0.7, 2)]))
def test_smooth_warps_move_image_and_mask_together(seed, transform):
    ramp = np.arange(40, dtype=np.int32)[None, :].repeat(40, 0)  # where the mask says x, the image is about 6 x
    new = transform(Sample((ramp * 6).astype(np.uint8)[:, :, None], ramp), np.random.default_rng(seed))
    known = new.mask != 255
    assert np.abs(new.image[:, :, 0].astype(int) - 6 * new.mask)[known].max() <= 6


@given(sides, sides, seeds)
def test_flipping_twice_is_the_identity(height, width, seed):
    sample = sample_of(height, width, seed)
    flip = RandomFlip(1.0, 1.0)
    once = flip(sample, np.random.default_rng(0))
    assert np.array_equal(once.image, sample.image[::-1, ::-1]) and np.array_equal(once.mask, sample.mask[::-1, ::-1])
    assert np.array_equal(flip(once, np.random.default_rng(0)).image, sample.image)
    assert RandomFlip(0.0)(sample, np.random.default_rng(0)).mask is not None


def test_flips_and_quarter_turns_are_the_eight_symmetries_of_the_square():
    """Each about equally often, and nothing else: 2000 draws give 250 +- 15."""
    square = sample_of(7, 7)
    square = replace(square, mask=np.arange(49, dtype=np.int32).reshape(7, 7))
    both, seen = Compose([RandomFlip(), RandomQuarterTurn()]), {}
    for seed in range(2000):
        mask = both(square, np.random.default_rng(seed)).mask
        seen[mask.tobytes()] = seen.get(mask.tobytes(), 0) + 1
    expected = {np.rot90(m, k).tobytes() for m in (square.mask, square.mask[:, ::-1]) for k in range(4)}
    assert set(seen) == expected and 190 < min(seen.values()) and max(seen.values()) < 310


@given(sides, sides, st.none() | st.tuples(sides, sides), seeds)
def test_quarter_turns_move_pixels_and_leave_the_window_as_full_as_it_was(height, width, window, seed):
    sample = sample_of(height, width, seed)
    new = RandomQuarterTurn(window)(sample, np.random.default_rng(seed))
    turns = [np.rot90(sample.image, k) for k in range(4)]
    assert any(np.array_equal(new.image, turn) for turn in turns)
    if window is not None:
        full = [min(h, window[0]) * min(w, window[1]) for h, w in (sample.mask.shape, new.mask.shape)]
        assert full[1] >= full[0]
    boxes = np.array([[1, 2, 4, 3, 2]], np.float32)  # x1 y1 x2 y2 class; a turn against the clock takes x to H - x
    wide = replace(sample_of(5, 8), boxes=boxes)
    turned = RandomQuarterTurn()(wide, np.random.default_rng(seed))
    k = next(k for k in range(4) if np.array_equal(turned.image, np.rot90(wide.image, k)))
    assert turned.boxes.tolist() == [[[1, 2, 4, 3, 2], [2, 4, 3, 7, 2], [4, 2, 7, 3, 2], [2, 1, 3, 4, 2]][k]]


@given(sides, sides, sides, sides, seeds)
def test_crops_have_the_size_and_are_windows(height, width, crop_height, crop_width, seed):
    sample = sample_of(height, width, seed)
    new = RandomCrop((crop_height, crop_width))(sample, np.random.default_rng(seed))
    assert new.mask.shape == new.image.shape[:2] == (crop_height, crop_width)
    kept = min(height, crop_height) * min(width, crop_width)
    assert (new.mask != 255).sum() == kept
    if crop_height >= height and crop_width >= width:
        assert np.array_equal(np.sort(new.mask[new.mask != 255]), np.sort(sample.mask.ravel()))


@given(sides, sides, st.integers(1, 9))
def test_pad(height, width, multiple):
    sample = sample_of(height, width)
    new = Pad(multiple=multiple)(sample)
    assert all(n % multiple == 0 and 0 <= n - m < multiple for n, m in zip(new.mask.shape, (height, width)))
    assert np.array_equal(new.image[:height, :width], sample.image)
    assert (new.mask != 255).sum() == height * width
    assert Pad(size=(20, 3))(sample).mask.shape == (20, max(3, width))


def test_what_lies_beyond_is_the_mean_colour():
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 1] = 100
    new = Pad(size=4)(Sample(image))
    assert (new.image[2:] == 50).all() and new.mask is None


def test_a_right_angle_turns_exactly():
    sample = sample_of(9, 9)

    class Always:
        def uniform(self, low, high):
            return high

    turned = RandomRotation(90)(sample, Always())
    assert any(np.array_equal(turned.mask, np.rot90(sample.mask, k)) for k in (1, 3))
    assert RandomRotation(0)(sample, np.random.default_rng(0)).mask.tolist() == sample.mask.tolist()


@given(seeds)
def test_elastic_deformation_has_the_papers_strength(seed):
    ramp = np.broadcast_to(np.arange(200, dtype=np.float32)[:, None, None], (200, 40, 1)).copy()
    new = ElasticDeformation(sd=10)(Sample(ramp), np.random.default_rng(seed))
    middle = new.image[60:140, :, 0] - ramp[60:140, :, 0]
    assert 0.01 < np.abs(middle).max() < 60  # 6 standard deviations
    assert ElasticDeformation(probability=0.0)(Sample(ramp), np.random.default_rng(0)).image is ramp


def test_normalize():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    ours = Normalize((0.5, 0.4, 0.3), 0.25)(Sample(image)).image
    assert np.allclose(ours, (image / 255 - [0.5, 0.4, 0.3]) / 0.25, atol=1e-6) and ours.dtype == np.float32
    own = Normalize()(Sample(image)).image
    assert np.allclose(own.mean((0, 1)), 0, atol=1e-5) and np.allclose(own.std((0, 1)), 1, atol=1e-4)


def test_to_float():
    assert to_float(np.array([0, 255], np.uint8)).tolist() == [0, 1]
    assert to_float(np.array([0, 65535], np.uint16)).tolist() == [0, 1]
    assert to_float(np.array([-2.5])).dtype == np.float32


def test_jitter_of_nothing_changes_nothing():
    sample = sample_of(6, 5)
    assert np.array_equal(ColorJitter(0, 0, 0)(sample, np.random.default_rng(0)).image, sample.image)
    assert not np.array_equal(ColorJitter()(sample, np.random.default_rng(0)).image, sample.image)
    assert ColorJitter()(sample_of(6, 5, dtype=np.float32), np.random.default_rng(0)).image.max() <= 1


def test_blur_keeps_the_mean_and_lowers_the_contrast():
    image = np.random.default_rng(0).random((40, 40, 1)).astype(np.float32)
    new = Blur(2.0, 1.0)(Sample(image), np.random.default_rng(0)).image
    assert abs(new.mean() - image.mean()) < 0.01 and new.std() < image.std()


def test_samples_refuse_what_does_not_fit():
    with pytest.raises(DataError, match=r"'a': mask has shape \(2, 3\) but the image is \(3, 2, 3\)"):
        Sample(np.zeros((3, 2, 3), np.uint8), np.zeros((2, 3), np.int32), name="a")
    with pytest.raises(DataError, match="channel axis"):
        Sample(np.zeros((3, 2), np.uint8))
    sample = sample_of(4, 4)
    assert sample.nbytes == 16 * 3 + 3 * 64 and replace(sample, mask=None).mask is None
