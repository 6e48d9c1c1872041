import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.data import (
    ColorJitter,
    Compose,
    DataError,
    Folder,
    Loader,
    Normalize,
    RandomCrop,
    RandomFlip,
    Sample,
    Shapes,
    stack,
)

AUGMENT = Compose([RandomFlip(), ColorJitter(), RandomCrop((20, 24))])
SHAPES = Shapes(size=32, length=11)


def same(one, two):
    return (one.names == two.names and np.array_equal(one.images, two.images) and np.array_equal(one.masks, two.masks)
            and np.array_equal(one.instances, two.instances))


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("tinyseg-loader")]


@given(st.integers(1, 12), st.integers(0, 5), st.integers(0, 2**32), st.integers(0, 9), st.booleans(), st.booleans())
def test_batches_do_not_depend_on_the_workers(batch_size, workers, seed, epoch, shuffle, cached):
    def batches(workers):
        return list(Loader(SHAPES, batch_size, shuffle, seed, workers, AUGMENT,
                           cache_bytes=(1 << 30) * cached).batches(epoch))

    one, two = batches(0), batches(workers)
    assert len(one) == len(two) == -(-11 // batch_size) and all(map(same, one, two))
    assert sorted(name for batch in one for name in batch.names) == sorted(SHAPES.name(i) for i in range(11))


@given(st.integers(0, 4), st.integers(0, 3))
def test_an_epoch_can_be_resumed_in_the_middle(start, workers):
    whole = list(Loader(SHAPES, 3, workers=workers, transform=AUGMENT).batches(epoch=2))
    rest = list(Loader(SHAPES, 3, workers=workers, transform=AUGMENT).batches(epoch=2, start=start))
    assert len(rest) == len(whole) - start and all(map(same, whole[start:], rest))


@pytest.mark.parametrize("workers", [0, 2])
def test_each_batch_is_announced_before_it_is_given_out(workers):
    loader, seen = Loader(SHAPES, 3, workers=workers), []
    loader.ready = seen.append
    for batch in loader:
        assert any(batch is one for one in seen)
    assert len(seen) == 4


def test_epochs_count_and_differ():
    loader = Loader(SHAPES, 4, seed=3)
    first, second = [b.names for b in loader], [b.names for b in loader]
    assert loader.epoch == 2 and first != second
    loader.epoch = 0
    assert [b.names for b in loader] == first
    assert [b.names for b in Loader(SHAPES, 4, seed=4)] != first


def test_without_shuffle_the_order_is_that_of_the_data_set():
    loader = Loader(SHAPES, 4, shuffle=False, drop_last=True)
    batches = list(loader)
    assert [name for b in batches for name in b.names] == [SHAPES.name(i) for i in range(8)] and len(loader) == 2


def test_images_are_scaled_to_one_unless_normalised():
    batch = next(iter(Loader(SHAPES, 4, shuffle=False)))
    assert batch.images.dtype == np.float32 and batch.images.shape == (4, 32, 32, 3) and len(batch) == 4
    assert np.allclose(batch.images[1], SHAPES[1].image / 255, atol=1e-7)
    assert batch.masks.dtype == np.int32 and batch.masks.shape == (4, 32, 32) and batch.weights is None
    batch = next(iter(Loader(SHAPES, 4, shuffle=False, transform=Normalize(0.5, 0.25))))
    assert np.allclose(batch.images[1], (SHAPES[1].image / 255 - 0.5) / 0.25, atol=1e-6)
    deep = stack([Sample(np.full((1, 1, 1), 65535, np.uint16))])
    assert deep.images.item() == 1 and deep.masks is None


class Counted:
    """Counts how often an item is read; one item can be made to fail or to be of another size."""

    def __init__(self, broken=None, odd=None):
        self.reads, self.broken, self.odd = [], broken, odd

    def __len__(self):
        return 6

    def __getitem__(self, i):
        self.reads.append(i)
        if i == self.broken:
            raise ZeroDivisionError("broken")
        height = 5 if i == self.odd else 4
        return Sample(np.zeros((height, 4, 1), np.uint8), np.zeros((height, 4), np.int32), name=self.name(i))

    def name(self, i):
        return f"photo_{i}"


@pytest.mark.parametrize("cache_bytes, reads", [(1 << 20, 6), (4 * 80, 6 + 2 + 2), (0, 18)])
def test_the_cache_keeps_to_its_budget(cache_bytes, reads):
    dataset = Counted()
    loader = Loader(dataset, 3, cache_bytes=cache_bytes, shuffle=False)
    for _ in range(3):
        list(loader)
    assert len(dataset.reads) == reads


def test_a_transform_that_writes_into_its_input_fails():
    def spoil(sample, rng):
        sample.image[:] = 0
        return sample

    with pytest.raises(DataError, match=r"'shapes-0-00000\d' .*read-only"):
        list(Loader(SHAPES, transform=spoil))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_errors_reach_the_consumer_with_the_name(workers, folder):
    with pytest.raises(DataError, match=r"'photo_4' .sample 4. .*ZeroDivisionError: broken"):
        list(Loader(Counted(broken=4), 2, workers=workers))

    def fail(sample, rng):
        raise KeyError("nothing")

    with pytest.raises(DataError, match=r"'photo_\d' \(sample \d\).*KeyError: 'nothing'"):
        list(Loader(Counted(), 2, workers=workers, transform=fail))
    (folder / "images" / "2.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"images/2\.png: cannot be read"):
        list(Loader(Folder(folder, in_channels=3), workers=workers))
    assert not loader_threads()


def test_sizes_that_differ():
    with pytest.raises(DataError, match=r"'photo_0' is \(4, 4, 1\) and 'photo_3' is \(5, 4, 1\).*RandomCrop"):
        list(Loader(Counted(odd=3), 6, shuffle=False))
    with pytest.raises(DataError, match="'b' has no mask"):
        pixel = np.zeros((1, 1, 1), np.uint8)
        stack([Sample(pixel, np.zeros((1, 1), np.int32), name="a"), Sample(pixel, name="b")])


def test_threads_end_when_the_consumer_stops_early():
    for _ in Loader(SHAPES, 1, workers=3):
        assert loader_threads()
        break
    assert not loader_threads()
    with pytest.raises(KeyboardInterrupt):
        for _ in Loader(SHAPES, 1, workers=3):
            raise KeyboardInterrupt
    batches = iter(Loader(SHAPES, 1, workers=3))
    next(batches)
    batches.close()
    assert not loader_threads()


def test_waiting_is_counted():
    def slow(sample, rng):
        time.sleep(0.01)
        return sample

    loader = Loader(Counted(), 2, workers=1, transform=slow)
    list(loader)
    assert 0.03 < loader.wait_seconds < 5
    waited, loader = loader.wait_seconds, Loader(Counted(), 2, workers=2, transform=slow)
    for _ in loader:
        time.sleep(0.04)  # the consumer is the slow one, so all but the first batches are ready
    assert loader.wait_seconds < waited


def test_wrong_arguments():
    with pytest.raises(ValueError, match="batch_size=0"):
        Loader(SHAPES, 0)
    with pytest.raises(DataError, match="has 11 samples, not one batch of 12: .*drop_last=False"):
        Loader(SHAPES, 12, drop_last=True)
    with pytest.raises(DataError, match="has 0 samples"):
        Loader([])
