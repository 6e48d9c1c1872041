import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.data import Shapes


@given(st.integers(0, 2**32), st.integers(0, 999), st.integers(2, 7), st.sampled_from([64, (32, 48), 96]))
def test_an_item_is_a_function_of_seed_and_index(seed, i, num_classes, size):
    dataset = Shapes(size=size, seed=seed, num_classes=num_classes)
    one, two = dataset[i], Shapes(size=size, seed=seed, num_classes=num_classes, length=i + 1)[i]
    assert np.array_equal(one.image, two.image) and np.array_equal(one.mask, two.mask) and one.name == dataset.name(i)
    assert one.image.shape == (*dataset.size, 3) and one.image.dtype == np.uint8 and one.mask.dtype == np.int32
    assert one.mask.min() >= 0 and one.mask.max() < num_classes == len(dataset.class_names)
    assert np.array_equal(one.mask > 0, one.instances > 0)
    for instance in np.unique(one.instances):
        assert len(np.unique(one.mask[one.instances == instance])) == 1


def test_items_differ():
    images = [Shapes(seed=s)[i].image for s in range(3) for i in range(3)]
    assert len({image.tobytes() for image in images}) == 9


def test_all_classes_occur_and_things_overlap():
    samples = [Shapes()[i] for i in range(60)]
    share = np.bincount(np.concatenate([s.mask.ravel() for s in samples]), minlength=6) / (60 * 64 * 64)
    assert (share > 0.03).all() and share[0] > 0.4
    touching = [((a := s.instances)[:, 1:] != a[:, :-1]) & (a[:, 1:] > 0) & (a[:, :-1] > 0) for s in samples]
    assert np.mean([t.any() for t in touching]) > 0.3


def test_colour_alone_does_not_tell_the_class():
    """A per-pixel classifier, linear or quadratic in the colour, fitted by least squares with balanced classes."""
    samples = [Shapes()[i] for i in range(100)]
    rgb = np.concatenate([s.image.reshape(-1, 3) for s in samples]) / 127.5 - 1
    mask = np.concatenate([s.mask.ravel() for s in samples])
    r, g, b = rgb.T
    linear = np.stack([np.ones_like(r), r, g, b], 1)
    quadratic = np.concatenate([linear, np.stack([r * r, g * g, b * b, r * g, g * b, b * r], 1)], 1)
    target = np.eye(6)[mask] / np.bincount(mask)
    for features in (linear, quadratic):
        guess = (features @ np.linalg.lstsq(features, target, rcond=None)[0]).argmax(1)
        confusion = np.bincount(mask * 6 + guess, minlength=36).reshape(6, 6)
        hits = np.diag(confusion)
        assert np.mean(hits / (confusion.sum(0) + confusion.sum(1) - hits)) < 0.3


def test_wrong_numbers():
    for wrong, words in ((dict(num_classes=8), "2 to 7"), (dict(length=0), "length=0"), (dict(seed=-1), "seed=-1")):
        with pytest.raises(ValueError, match=words):
            Shapes(**wrong)
    with pytest.raises(IndexError, match="sample 5 of 5"):
        Shapes(length=5)[5]
    assert len(list(Shapes(length=3))) == 3
