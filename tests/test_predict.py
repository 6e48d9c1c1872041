"""Prediction: any size, any dtype, tiles without seams. The models here are right by reading them."""

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.checkpoint import Info

room = importlib.import_module("tinyseg.predict")  # ts.predict is the function


class Pixelwise(ts.nn.Module):
    """Each pixel by itself: logits = x w."""

    def __init__(self, channels=3, classes=4, seed=0):
        rng = np.random.default_rng(seed)
        self.w = ts.nn.Parameter(rng.standard_normal((channels, classes)).astype(np.float32) * 4)
        self.info = Info(
            [str(k) for k in range(classes)], [[k, k, k] for k in range(classes)], [0.5] * channels, [0.25] * channels
        )

    def forward(self, x):
        return x @ self.w


class Neighbours(Pixelwise):
    """Each pixel sees a window of 5x5, as a network of padded convolutions does."""

    def forward(self, x):
        _, h, w, _ = x.shape
        x = ts.ops.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        return sum(x[:, i : i + h, j : j + w] for i in range(5) for j in range(5)) @ self.w


class Valid(Pixelwise):
    """Loses two pixels on each side, and takes only sides of 4m + 1."""

    margin = 2

    def valid_size(self, n):
        return -(-(n - 1) // 4) * 4 + 1

    def forward(self, x):
        assert all(n % 4 == 1 for n in x.shape[1:3])
        h, w = (n - 4 for n in x.shape[1:3])
        return sum(x[:, i : i + h, j : j + w] for i in range(5) for j in range(5)) @ self.w


def image_of(h, w, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, channels)).astype(np.uint8)


@given(
    h=st.integers(1, 40), w=st.integers(1, 40), tile=st.integers(1, 45), overlap=st.floats(0, 0.9), flip=st.booleans()
)
def test_tiles_and_the_whole_agree_where_pixels_do_not_see_each_other(h, w, tile, overlap, flip):
    model, image = Pixelwise(), image_of(h, w)
    whole = ts.predict(model, image, probabilities=True)
    tiles = ts.predict(model, image, tile=tile, overlap=overlap, flip=flip, probabilities=True)
    assert whole.shape == tiles.shape == (h, w, 4) and whole.dtype == tiles.dtype == np.float32
    np.testing.assert_allclose(tiles, whole, atol=2e-6)
    np.testing.assert_allclose(tiles.sum(-1), 1, atol=1e-5)
    mask = ts.predict(model, image)
    assert mask.dtype == np.int32 and np.array_equal(mask, whole.argmax(-1))


def test_tiles_and_the_whole_agree_away_from_tile_edges():
    model, image = Neighbours(), image_of(90, 70)
    whole = ts.predict(model, image, probabilities=True)
    tiles = ts.predict(model, image, tile=(40, 33), overlap=0.5, probabilities=True)
    assert np.abs(tiles - whole).mean() < 0.02
    assert (tiles.argmax(-1) == whole.argmax(-1)).mean() > 0.97


def test_neighbouring_tiles_blend_without_a_seam():
    class Moody(Pixelwise):
        """Is sure of class 0 in every other tile, of class 1 in the next."""

        calls = 0

        def forward(self, x):
            self.calls += 1
            return x * 0 @ self.w + np.float32([9, -9, -9, -9] if self.calls % 2 else [-9, 9, -9, -9])

    p = ts.predict(Moody(), image_of(32, 200), tile=32, overlap=0.5, probabilities=True)[:, :, 0]
    assert p.min() < 0.05 and p.max() > 0.95
    assert np.abs(np.diff(p, axis=1)).max() < 0.1  # 16 columns overlap: about 1/16 a column


@given(h=st.integers(1, 30), w=st.integers(1, 30), tile=st.sampled_from([None, 9]))
def test_a_model_that_shrinks_is_fed_a_mirrored_margin(h, w, tile):
    model, image = Valid(), image_of(h, w)
    p = ts.predict(model, image, tile=tile, probabilities=True)
    assert p.shape == (h, w, 4)
    if tile is None:
        x = np.pad((image / np.float32(255) - 0.5) / 0.25, ((2, 2), (2, 2), (0, 0)), mode="reflect").astype(np.float32)
        logits = sum(x[i : i + h, j : j + w] for i in range(5) for j in range(5)) @ model.w.numpy()
        # beyond the margin more is mirrored, up to a valid size; it must not matter
        expected = np.exp(logits - logits.max(-1, keepdims=True))
        np.testing.assert_allclose(p, expected / expected.sum(-1, keepdims=True), atol=1e-4)


@given(scales=st.lists(st.sampled_from([0.5, 0.75, 1.0, 1.5, 2.0]), min_size=1, max_size=3), flip=st.booleans())
def test_scales_and_flips_of_a_plain_image_change_nothing(scales, flip):
    model = Pixelwise()
    image = np.full((13, 17, 3), (10, 200, 90), np.uint8)
    p = ts.predict(model, image, scales=scales, flip=flip, probabilities=True)
    np.testing.assert_allclose(p, ts.predict(model, image, probabilities=True), atol=1e-5)


def test_flips_are_averaged():
    model, image = Neighbours(), image_of(9, 12)
    p, q = (ts.predict(model, i, probabilities=True) for i in (image, image[:, ::-1]))
    both = ts.predict(model, image, flip=True, probabilities=True)
    np.testing.assert_allclose(both, (p + q[:, ::-1]) / 2, atol=1e-6)


def test_every_kind_of_pixel_is_understood():
    model, image = Pixelwise(), image_of(6, 7)
    p = ts.predict(model, image, probabilities=True)
    same = {
        "float32": image / np.float32(255),
        "float64": image / 255.0,
        "uint16": image.astype(np.uint16) * 257,
        "alpha": np.concatenate([image, image[:, :, :1]], axis=2),
        "strided": np.asfortranarray(image),
    }
    for name, other in same.items():
        np.testing.assert_allclose(ts.predict(model, other, probabilities=True), p, atol=1e-5, err_msg=name)
    grey = image[:, :, :1]
    three = ts.predict(model, np.repeat(grey, 3, axis=2))
    assert np.array_equal(ts.predict(model, grey), three) and np.array_equal(ts.predict(model, grey[:, :, 0]), three)
    assert ts.predict(Pixelwise(channels=1), image).shape == (6, 7)


def test_a_model_trained_on_resized_images_sees_resized_images_and_answers_in_full():
    model, image = Pixelwise(), np.repeat(np.repeat(image_of(8, 9), 4, axis=0), 4, axis=1)
    model.info.scale = 0.25
    assert ts.predict(model, image).shape == (32, 36)


def test_a_large_image_is_cut_by_itself(monkeypatch):
    monkeypatch.setattr(room, "PIXELS", 500)
    monkeypatch.setattr(room, "TILE", 20)
    seen = []

    class Watched(Pixelwise):
        def forward(self, x):
            seen.append(x.shape[1:3])
            return super().forward(x)

    model, image = Watched(), image_of(50, 61)
    mask = ts.predict(model, image)
    assert set(seen) == {(20, 20)} and mask.shape == (50, 61)
    monkeypatch.setattr(room, "PIXELS", 10**9)
    assert np.array_equal(mask, ts.predict(model, image))


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_stays(training):
    model = Pixelwise().train(training)
    ts.predict(model, image_of(3, 3))
    with pytest.raises(ValueError):
        ts.predict(model, image_of(3, 3, channels=2))
    assert model.training is training


def test_a_part_in_evaluation_mode_stays_there():
    model = ts.nn.Sequential(ts.nn.BatchNorm2d(3), ts.nn.BatchNorm2d(3)).train()
    model.info = Pixelwise().info
    frozen, other = (m for m in model.modules() if isinstance(m, ts.nn.BatchNorm2d))
    frozen.eval()
    ts.predict(model, image_of(3, 3))
    assert model.training and other.training and not frozen.training


@pytest.mark.parametrize(
    "image, options, message",
    [
        (image_of(3, 3)[None], {}, r"shape \(1, 3, 3, 3\); expected one image"),
        (np.zeros((0, 3, 3), np.uint8), {}, "expected one image"),
        (np.zeros((3, 3, 3), np.int64), {}, "image is int64"),
        (np.full((3, 3, 3), 255.0), {}, r"from 255 to 255; expected \[0, 1\]"),
        (np.full((3, 3, 3), np.nan), {}, r"expected \[0, 1\]"),
        (image_of(3, 3, 2), {}, "2 channels but the model was made for 3"),
        (image_of(3, 3), {"scales": ()}, "scales"),
        (image_of(3, 3), {"scales": (0,)}, "scales > 0"),
        (image_of(3, 3), {"overlap": 1.0}, "overlap"),
        (image_of(3, 3), {"tile": 0}, "tile="),
        (image_of(3, 3), {"tile": (1, 2, 3)}, "tile"),
    ],
)
def test_what_makes_no_sense_is_refused(image, options, message):
    with pytest.raises(ValueError, match=f"predict: .*{message}"):
        ts.predict(Pixelwise(), image, **options)
