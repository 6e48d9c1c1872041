import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.losses.border import connected_components
from tinyseg.structured import adjacency, felzenszwalb, grid_edges, lab_of, slic, superpixels

from ..strategies import seeds

sides = st.integers(1, 9)


@st.composite
def images(draw, channels=(1, 3)):
    """Random colours, or patches of a few: float in [0,1]; without ties between edges where colours are random."""
    rng = np.random.default_rng(draw(seeds))
    shape = draw(sides), draw(sides), draw(st.sampled_from(channels))
    if draw(st.booleans()):
        return rng.random(shape)
    return rng.random((3, shape[2]))[rng.integers(0, 3, shape[:2])]


def same_partition(a, b):
    return len(set(zip(a.ravel().tolist(), b.ravel().tolist()))) == len(np.unique(a)) == len(np.unique(b))


def merge_slowly(image, scale, min_size):
    """The rule, word for word: sets of pixels, and every edge of the grid from the lightest on."""
    H, W, C = image.shape
    flat = np.float32(image * 255).reshape(-1, C)
    edges = grid_edges(H, W, 8)
    weights = np.sqrt(((flat[edges[:, 0]] - flat[edges[:, 1]]) ** 2).sum(1, dtype=np.float32))
    region, inside = {i: {i} for i in range(H * W)}, dict.fromkeys(range(H * W), 0.0)
    of = list(range(H * W))

    def join(a, b, w):
        region[a] |= region.pop(b)
        inside[a] = w
        for i in region[a]:
            of[i] = a

    order = np.argsort(weights, kind="stable")
    for small in (False, True):
        for e in order:
            a, b = of[edges[e, 0]], of[edges[e, 1]]
            if a == b:
                continue
            usual = min(inside[r] + scale / len(region[r]) for r in (a, b))
            if min(len(region[a]), len(region[b])) < min_size if small else weights[e] <= usual:
                join(a, b, weights[e])
    return np.array(of).reshape(H, W)


@given(images(), st.sampled_from([0, 50.0, 400.0, 3000.0]), st.integers(0, 6))
def test_felzenszwalb_follows_the_rule(image, scale, min_size):
    labels = felzenszwalb(image, scale, 0, min_size)
    assert labels.dtype == np.int32 and same_partition(labels, merge_slowly(image, scale, min_size))
    first = np.unique(labels, return_index=True)
    assert (first[0] == np.arange(len(first[0]))).all() and (np.diff(first[1]) > 0).all()  # in reading order


@given(images(channels=(3,)), st.sampled_from([50, 400]))
def test_felzenszwalb_as_scikit_image(image, scale):
    segmentation = pytest.importorskip("skimage.segmentation")
    image = image + np.random.default_rng(0).random(image.shape) * 0  # one dtype for both
    if len(np.unique(image)) == image.size:  # ties go by the order of the edges, which differs
        assert same_partition(felzenszwalb(image, scale, 0, 4), segmentation.felzenszwalb(image, scale, 0, 4))


def test_smoothing():
    """A Gaussian of the given width; a flat image stays flat, and noise joins where it was apart before."""
    rng = np.random.default_rng(0)
    image = np.zeros((30, 40, 1))
    image[15, 20] = 1
    y, x = np.mgrid[:30, :40]
    expected = np.exp(-((y - 15.0) ** 2 + (x - 20.0) ** 2) / (2 * 1.3**2))
    np.testing.assert_allclose(superpixels._smooth(image, 1.3)[:, :, 0], expected / expected.sum(), atol=1e-4)
    np.testing.assert_allclose(superpixels._smooth(np.ones((3, 2, 1)), 2.0), 1, atol=1e-6)
    noise = rng.random((30, 40, 3))
    assert felzenszwalb(noise, 200, 2.0, 0).max() < felzenszwalb(noise, 200, 0, 0).max()


@given(images(), st.integers(1, 30), st.sampled_from([0.1, 10.0, 1000.0]))
def test_slic_regions_hang_together(image, n_segments, compactness):
    labels = slic(image, n_segments, compactness, 3)
    assert labels.shape == image.shape[:2] and labels.dtype == np.int32
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    for k in range(labels.max() + 1):
        assert connected_components(labels == k).max() == 1


def test_slic_of_a_flat_image_is_a_grid_and_colours_are_told_apart():
    labels = slic(np.full((40, 60, 3), 90, np.uint8), 24)
    assert labels.max() + 1 == 24 and (np.bincount(labels.ravel()) == 100).all()
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 33:] = 255, 0, 0
    labels = slic(image, 24)
    assert not set(labels[:, :33].ravel()) & set(labels[:, 33:].ravel())


def test_slic_assigns_each_pixel_to_the_nearest_centre():
    """With windows as large as the image, one iteration is k-means from the centres of the grid."""
    rng = np.random.default_rng(0)
    image = 0.2 + 0.8 * rng.random((6, 6))  # grey: L alone counts
    lab = np.zeros((3, 6, 6), np.float32)
    superpixels.get_device("cpu").launch(superpixels.rgb_to_lab, lab, image[:, :, None] * 255, 6, 6, 1)
    np.testing.assert_allclose(lab[1:], 0, atol=2e-2)
    linear = ((image + 0.055) / 1.055) ** 2.4
    np.testing.assert_allclose(lab[0], 116 * np.cbrt(linear) - 16, atol=0.2)

    centres = np.concatenate([rng.random((4, 3)) * 50, rng.random((4, 2)) * 6], 1).astype(np.float32)
    label, nearest = np.zeros((6, 6), np.int32), np.zeros((6, 6), np.float32)
    superpixels.get_device("cpu").launch(
        superpixels.assign_pixels, label, nearest, lab, centres, 99.0, np.float32(0.3), 6, 6, 4
    )
    y, x = np.mgrid[:6, :6]
    D = ((lab[..., None] - centres[:, :3].T[:, None, None]) ** 2).sum(0)
    D = D + 0.3 * ((y[..., None] - centres[:, 3]) ** 2 + (x[..., None] - centres[:, 4]) ** 2)
    np.testing.assert_array_equal(label, D.argmin(-1))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), seeds)
def test_adjacency(height, width, regions, seed):
    labels = np.random.default_rng(seed).integers(0, regions, (height, width))
    edges, lengths = adjacency(labels)
    flat, expected = labels.ravel(), {}
    for i, j in grid_edges(height, width, 4):
        if flat[i] != flat[j]:
            pair = tuple(sorted((int(flat[i]), int(flat[j]))))
            expected[pair] = expected.get(pair, 0) + 1
    assert dict(zip(map(tuple, edges.tolist()), lengths.tolist())) == expected
    assert edges.dtype == np.int32 and edges.tolist() == sorted(edges.tolist())


def test_errors():
    image = np.zeros((4, 4, 3), np.uint8)
    for function, arguments, message in [
        (felzenszwalb, (image[0, 0],), "expected one image"),
        (felzenszwalb, (image[:0],), "expected one image"),
        (felzenszwalb, (image.astype(int),), "expected uint8"),
        (felzenszwalb, (image - 1.0,), "float image from -1 to -1"),
        (felzenszwalb, (image, -1), "scale is -1"),
        (felzenszwalb, (image, 1, np.nan), "sigma is nan"),
        (felzenszwalb, (image, 1, 1, np.inf), "min_size is inf"),
        (slic, (image[0, 0],), "expected one image"),
        (slic, (image[:, :, :2],), "2 channels"),
        (slic, (image, 0), "n_segments is 0"),
        (slic, (image, 2.5), "n_segments is 2.5"),
        (slic, (image, 4, 0), "compactness is 0"),
        (slic, (image, 4, 1, 0), "iterations is 0"),
        (adjacency, (image,), "expected integers \\(H,W\\)"),
        (adjacency, (image[:, :, 0] - 1.0,), "expected integers"),
        (adjacency, (np.full((2, 2), -1),), ">= 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            function(*arguments)


def test_lab():
    rgb = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    expected = np.array([[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]])
    np.testing.assert_allclose(lab_of(rgb[None])[0], expected, atol=0.05)
    np.testing.assert_allclose(lab_of(rgb.reshape(2, 2, 3) / 255), expected.reshape(2, 2, 3), atol=0.05)
    grey = lab_of(np.full((2, 3), 128, np.uint8))
    assert grey.shape == (2, 3, 3) and np.abs(grey - [53.59, 0, 0]).max() < 0.05
    with pytest.raises(ValueError, match="lab_of: image has 2 channels, expected grey or RGB"):
        lab_of(np.zeros((2, 3, 2), np.uint8))
