import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.structured import Lattice, bilateral_features, dense_crf, label_probabilities, pixel_features

from ..strategies import float_dtypes, seeds

normalizations = st.sampled_from(["symmetric", "before", "after", "none"])
sides = st.integers(1, 7)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@st.composite
def problems(draw):
    """(image, probabilities, options)."""
    rng = np.random.default_rng(draw(seeds))
    H, W, K = draw(sides), draw(sides), draw(st.sampled_from([1, 2, 3, 9]))
    image = rng.integers(0, 256, (H, W, draw(st.sampled_from([1, 3]))), dtype=np.uint8)
    options = dict(
        iterations=draw(st.integers(0, 4)),
        gaussian_sxy=draw(st.sampled_from([0.5, 3, (2, 1.5)])),
        gaussian_weight=draw(st.sampled_from([0, 3])),
        bilateral_sxy=draw(st.sampled_from([2, 40])),
        bilateral_srgb=draw(st.sampled_from([5, 60])),
        bilateral_weight=draw(st.sampled_from([0, 1.5, 10])),
        normalization=draw(normalizations),
    )
    return image, softmax(rng.normal(0, 2, (H, W, K))), options


def mean_field(image, p, kernels, iterations, normalization):
    """Krahenbuhl & Koltun's algorithm 1 with dense matrices; kernels: (weight, K as a function of an array)."""
    U = -np.log(np.maximum(p, 1e-5)).reshape(-1, p.shape[2])
    Q = softmax(-U)
    for _ in range(iterations):
        scores = -U
        for w, apply in kernels:
            n = apply(np.ones((len(U), 1)))
            before = {"symmetric": n**-0.5, "before": 1 / n}.get(normalization, 1)
            after = {"symmetric": n**-0.5, "after": 1 / n}.get(normalization, 1)
            scores = scores + w * after * apply(before * Q)
        Q = softmax(scores)
    return Q.reshape(p.shape)


def features_of(image, options):
    """The features of both kernels, from the equation."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    at = np.stack([y, x], -1).reshape(-1, 2)
    g, b = (np.broadcast_to(options[f"{name}_sxy"], 2) for name in ("gaussian", "bilateral"))
    colours = image.reshape(len(at), -1) / options["bilateral_srgb"]
    near = [at / g, np.concatenate([at / b, colours], 1)]
    return list(zip((options["gaussian_weight"], options["bilateral_weight"]), near))


@given(problems())
def test_exact_mode_is_mean_field_by_brute_force(device, problem):
    image, p, options = problem
    kernels = [
        (w, lambda q, f=f: np.exp(-((f[:, None] - f) ** 2).sum(-1) / 2) @ q) for w, f in features_of(image, options)
    ]
    expected = mean_field(image, p, kernels, options["iterations"], options["normalization"])
    q = dense_crf(image, p, **options, exact=True, device=device)
    np.testing.assert_allclose(q, expected, atol=1e-9)


@given(problems(), float_dtypes)
def test_the_lattices_in_one_table_do_what_each_does_alone(device, problem, dtype):
    image, p, options = problem
    features = [pixel_features(*image.shape[:2], options["gaussian_sxy"])]
    features += [bilateral_features(image, options["bilateral_sxy"], options["bilateral_srgb"])]
    kernels = [
        (options[f"{name}_weight"], Lattice(f, np.float64).apply)
        for name, f in zip(("gaussian", "bilateral"), features)
    ]
    expected = mean_field(
        image, p.astype(dtype).astype(np.float64), kernels, options["iterations"], options["normalization"]
    )
    q = dense_crf(image, p.astype(dtype), **options, device=device)
    assert q.shape == p.shape and q.dtype == dtype
    np.testing.assert_allclose(q, expected, atol=2e-3 if dtype == np.float32 else 1e-8)
    np.testing.assert_allclose(q.sum(-1), 1, atol=1e-5)


def noisy(size=24, seed=0):
    """An image of shapes, its mask, and probabilities that are right in three pixels of four."""
    shapes, rng = ts.data.Shapes(size=size, seed=seed), np.random.default_rng(seed)
    sample, K = shapes[0], len(shapes.class_names)
    seen = np.where(rng.random(sample.mask.shape) < 0.25, rng.integers(0, K, sample.mask.shape), sample.mask)
    return sample.image, sample.mask, label_probabilities(seen, K, 0.5)


def test_lattice_near_exact_and_noise_goes(device):
    image, mask, p = noisy()
    exact, q = (dense_crf(image, p, 5, 3, 3, 20, 20, 5, exact=exact, device=device) for exact in (True, False))
    assert np.abs(exact - q).mean() < 0.02 and (exact.argmax(-1) == q.argmax(-1)).mean() > 0.98
    before, after = (p.argmax(-1) == mask).mean(), (q.argmax(-1) == mask).mean()
    assert before < 0.85 and after > 0.95


def test_as_pydensecrf():
    peer = pytest.importorskip("pydensecrf.densecrf")
    image, _, p = noisy()
    H, W, K = p.shape
    crf = peer.DenseCRF2D(W, H, K)
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log(p).reshape(-1, K).T))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=40, srgb=13, rgbim=image, compat=10)
    expected = np.array(crf.inference(5)).T.reshape(H, W, K)
    np.testing.assert_allclose(dense_crf(image, p, 5, bilateral_sxy=40), expected, atol=1e-4)


def test_any_float_dtype_and_memory_order():
    image, _, p = noisy()
    expected = dense_crf(image, p)
    planes = np.moveaxis(np.ascontiguousarray(np.moveaxis(p, -1, 0)), 0, -1)
    for other in (planes, np.asfortranarray(p), np.repeat(p, 2, 1)[:, ::2], p[::-1][::-1]):
        np.testing.assert_array_equal(dense_crf(image, other), expected)
    half = dense_crf(image, p.astype(np.float16))
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, expected, atol=0.02)
    for other in (np.asfortranarray(image), image / 255, image.astype(np.uint16) * 257):
        np.testing.assert_allclose(dense_crf(other, p), expected, atol=1e-4)
    grey = image[:, :, 0]
    np.testing.assert_array_equal(dense_crf(grey, p), dense_crf(grey[:, :, None], p))


@given(problems())
def test_without_weights_or_iterations_nothing_changes(problem):
    image, p, options = problem
    clipped = np.maximum(p, 1e-5)
    expected = clipped / clipped.sum(-1, keepdims=True)
    options |= dict(gaussian_weight=0, bilateral_weight=0)
    np.testing.assert_allclose(dense_crf(image, p, **options), expected, atol=1e-9)
    np.testing.assert_allclose(dense_crf(image, p, 0), expected, atol=1e-9)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(2, 5), seeds)
def test_label_probabilities(height, width, K, seed):
    rng = np.random.default_rng(seed)
    mask = np.where(rng.random((height, width)) < 0.3, 255, rng.integers(0, K, (height, width))).astype(np.uint8)
    p = label_probabilities(mask, K, 0.999)
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-6)
    assert (p[mask == 255] == np.float32(1 / K)).all()
    known = mask != 255
    assert (p.argmax(-1)[known] == mask[known]).all() and (p.max(-1)[known] == np.float32(0.999)).all()


def test_errors(device):
    image, p = np.zeros((4, 5, 3), np.uint8), np.full((4, 5, 2), 0.5)
    for arguments, message in [
        ((image[None], p), "expected one image"),
        ((image.astype(int), p), "image is int64"),
        ((image + 2.0, p), "float image from 2 to 2"),
        ((image * np.nan, p), "float image from nan"),
        ((image, p[:, :4]), "probabilities have shape \\(4, 4, 2\\), the image 4 x 5"),
        ((image, np.moveaxis(p, -1, 0)), "cure for \\(K,H,W\\)"),
        ((image, p[:, :, :0]), "probabilities have shape"),
        ((image, p.astype(int)), "expected floats"),
        ((image, p * 9 - 4 + 1), "cure for logits"),
        ((image, p - 1), "cure for logits"),
        ((image, p * np.nan), "from nan"),
        ((image, p, -1), "iterations is -1"),
        ((image, p, 1.5), "iterations is 1.5"),
        ((image, p, 5, 0), "sxy is 0"),
        ((image, p, 5, (1, 2, 3)), "one or two numbers"),
        ((image, p, 5, 3, -1), "gaussian_weight is -1"),
        ((image, p, 5, 3, 3, 80, 0), "srgb is 0"),
        ((image, p, 5, 3, 3, 80, 13, np.nan), "bilateral_weight is nan"),
        ((image, p, 5, 3, 3, 80, 13, 10, "both"), "normalization is 'both'"),
    ]:
        with pytest.raises(ValueError, match=message):
            dense_crf(*arguments, device=device)
    mask = np.zeros((3, 3), int)
    for arguments, message in [
        ((mask[0], 2), "expected integers"),
        ((mask + 2, 2), "labels from 2 to 2"),
        ((mask, 2, 0.3), "certainty is 0.3"),
        ((mask, 2, 1), "certainty is 1"),
        ((mask, 1), "expected at least 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            label_probabilities(*arguments)
