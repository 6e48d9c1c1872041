import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.structured import (
    ExactGaussian,
    Lattice,
    NormalizedFilter,
    bilateral_features,
    crf_as_rnn,
    dense_crf,
    pixel_features,
)

from ..strategies import normal, seeds

normalizations = st.sampled_from(["symmetric", "before", "after", "none"])


def filters_of(image, device, normalization="symmetric", kind=Lattice):
    features = pixel_features(*image.shape[:2], 2), bilateral_features(image, 5, 40)
    return [NormalizedFilter(kind(f, np.float64, device), normalization) for f in features]


def image_of(seed, size=(4, 5)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@given(seeds, normalizations, st.sampled_from([Lattice, ExactGaussian]))
def test_as_dense_crf(device, seed, normalization, kind):
    """With Potts, the same mean field; with softmax as its last step."""
    image, logits = image_of(seed), normal((4, 5, 3), seed)
    filters = filters_of(image, device, normalization, kind)
    scores = crf_as_rnn(ts.tensor(logits, device), filters, ts.tensor(np.array([3.0, 5.0]), device), iterations=3)
    expected = dense_crf(
        image,
        ts.ops.softmax(logits).numpy(),
        3,
        2,
        3,
        5,
        40,
        5,
        normalization,
        exact=kind is ExactGaussian,
        device=device,
    )
    np.testing.assert_allclose(ts.ops.softmax(scores).numpy(), expected, atol=1e-8)


@given(seeds, normalizations, st.booleans())
def test_gradients(device, seed, normalization, by_class):
    image = image_of(seed)
    filters = filters_of(image, device, normalization)
    weights = normal((2, 3) if by_class else (2,), seed)
    ts.gradcheck(
        lambda u, w, mu: crf_as_rnn(u, filters, w, mu, iterations=2),
        normal((4, 5, 3), seed), weights, normal((3, 3), seed + 1), device=device,
    )  # fmt: skip


@given(seeds, normalizations)
def test_normalized_filter(device, seed, normalization):
    image, x = image_of(seed), normal((4, 5, 2), seed)
    lattice = Lattice(bilateral_features(image, 3, 30), np.float64, device)
    K = np.stack([device.numpy(lattice.apply(device.array(e[:, None])))[:, 0] for e in np.eye(20)], 1)
    n = K.sum(1)
    left = {"symmetric": n**-0.5, "after": 1 / n}.get(normalization, np.ones(20))
    right = {"symmetric": n**-0.5, "before": 1 / n}.get(normalization, np.ones(20))
    blur = NormalizedFilter(lattice, normalization)
    y = blur(ts.tensor(x, device)).numpy()
    np.testing.assert_allclose(y.reshape(20, 2), left[:, None] * K * right @ x.reshape(20, 2), atol=1e-10)
    ts.adjoint_check(blur, x, device=device)


def test_errors(device):
    filters = filters_of(image_of(0), device)
    logits, weights = ts.tensor(normal((4, 5, 3), 0), device), ts.tensor(np.ones(2), device)
    for arguments, message in [
        ((logits, [], weights), "0 filters"),
        ((logits, filters, weights, None, 0), "iterations 0"),
        ((logits, filters, weights[:1]), "weights have shape \\(1,\\)"),
        ((logits, filters, weights, weights), "compatibility has shape"),
        ((logits[:3], filters, weights), "20 points"),
    ]:
        with pytest.raises(ValueError, match=message):
            crf_as_rnn(*arguments)
    with pytest.raises(ValueError, match="normalization is 'all'"):
        NormalizedFilter(filters[0].lattice, "all")
