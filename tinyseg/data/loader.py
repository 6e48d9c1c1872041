"""Batches from a data set, made ahead of time by worker threads.

A batch is a function of (seed, epoch, its number) alone: the epoch's order is drawn from (seed, epoch), a sample's
transform from (seed, epoch, position). The number of workers and who is faster change nothing, so a run can be resumed
to the bit.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, Lock

import numpy as np

from .sample import DataError, Sample
from .transforms import Transform, to_float


@dataclass(frozen=True)
class Batch:
    """Samples of one size, stacked; masks, instances and weights are None where the samples have none.

    Shapes: images (N, H, W, C) float32; masks, instances (N, H, W) int32; weights (N, H, W) float32; names of length N.
    Of length N too, as the samples have them: tags, boxes (each an array or None) and supervision (a word).
    """

    images: np.ndarray
    masks: np.ndarray | None
    instances: np.ndarray | None
    weights: np.ndarray | None
    names: tuple[str, ...]
    tags: tuple[np.ndarray | None, ...] = ()
    boxes: tuple[np.ndarray | None, ...] = ()
    supervision: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


class Loader:
    """Batches of a data set, epoch after epoch: each `for batch in loader` is one, `loader.epoch` the next one.

    transform: called as transform(sample, rng). Images become float32 by `to_float` (uint8 / 255, uint16 / 65535),
        unless the transform ends in `Normalize`. workers: threads; 0 loads in the consumer's thread.
    cache_bytes: samples read once are kept, before the transform, until this much memory is used.
    collate: makes a batch of samples: `stack`, or `stack_objects` for images of different sizes with their objects.
    ready: called with each batch as soon as it is made, by the thread that made it: `device.send` of its arrays.
    wait_seconds: the time that the consumer has waited for data so far.

    Raises: DataError naming the sample, in the consumer's thread, where a sample cannot be made or sizes differ.
    Example: for batch in Loader(Shapes(), batch_size=16): model(ts.tensor(batch.images))
    """

    def __init__(self, dataset, batch_size: int = 8, shuffle: bool = True, seed: int = 0, workers: int = 2,
                 transform: Transform | None = None, drop_last: bool = False, cache_bytes: int = 1 << 30,
                 collate: Callable | None = None):
        if batch_size < 1 or workers < 0 or seed < 0:
            raise ValueError(f"Loader: batch_size={batch_size}, workers={workers}, seed={seed}, "
                             "but >= 1, >= 0, >= 0 are expected")
        if len(dataset) == 0 or (drop_last and len(dataset) < batch_size):
            raise DataError(f"Loader: the data set has {len(dataset)} samples, not one batch of {batch_size}: "
                            "use a smaller batch_size" + (" or drop_last=False" if drop_last else ""))
        self.dataset, self.batch_size, self.shuffle, self.seed = dataset, batch_size, shuffle, seed
        self.workers, self.transform, self.drop_last = workers, transform, drop_last
        self.collate = collate or stack
        self.ready: Callable[[Batch], None] | None = None
        self.epoch, self.wait_seconds = 0, 0.0
        self._cache, self._cache_room, self._lock = {}, cache_bytes, Lock()

    def __len__(self) -> int:
        """Batches in an epoch."""
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        self.epoch += 1
        return self.batches(self.epoch - 1)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on, equal to those that a whole epoch would give."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset)) if self.shuffle else None
        stop = Event()
        numbers = iter(range(start, len(self)))
        if self.workers == 0:
            for number in numbers:
                yield self._waited(self._make, epoch, order, number, stop)
            return
        pool = ThreadPoolExecutor(self.workers, "tinyseg-loader")
        pending = deque()
        try:
            for number in numbers:
                pending.append(pool.submit(self._make, epoch, order, number, stop))
                if len(pending) > self.workers:  # one batch a worker is being made, and one lies ready
                    yield self._waited(pending.popleft().result)
            while pending:
                yield self._waited(pending.popleft().result)
        finally:  # also where the consumer leaves early, by break, an error, or Ctrl-C
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _waited(self, function, *arguments):
        """Call the function and count its time as waiting."""
        begin = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self.wait_seconds += time.perf_counter() - begin

    def _make(self, epoch, order, number, stop):
        """The batch of this number; None where the consumer has left meanwhile."""
        samples = []
        for position in range(number * self.batch_size, min((number + 1) * self.batch_size, len(self.dataset))):
            if stop.is_set():
                return None
            samples.append(self._sample(epoch, position, position if order is None else int(order[position])))
        batch = self.collate(samples)
        if self.ready is not None:
            self.ready(batch)
        return batch

    def _sample(self, epoch, position, index):
        try:
            sample = self._read(index)
            if self.transform is not None:
                # a seed sequence ends in endless zeros, so position 0 would be the stream that drew the order
                sample = self.transform(sample, np.random.default_rng([self.seed, epoch, position + 1]))
            return sample
        except DataError:
            raise  # says already which file it is
        except Exception as error:
            name = f"'{self.dataset.name(index)}' " if hasattr(self.dataset, "name") else ""
            raise DataError(f"{name}(sample {index}) cannot be loaded: {type(error).__name__}: {error}") from error

    def _read(self, index) -> Sample:
        """The sample before its transform, from memory where it was kept."""
        if index in self._cache:
            return self._cache[index]
        sample = self.dataset[index]
        with self._lock:
            if index not in self._cache and sample.nbytes <= self._cache_room:
                # a transform that writes into its input must fail at once, not spoil the next epoch
                for array in sample.arrays:
                    array.setflags(write=False)
                self._cache[index] = sample
                self._cache_room -= sample.nbytes
        return sample


def stack(samples: list[Sample]) -> Batch:
    """A batch of samples of one size, images by `to_float`.

    Raises: DataError naming two samples where sizes or channels differ, or where only some have a mask.
    Example: stack([dataset[0], dataset[1]]).images.shape
    """
    first = samples[0]
    for other in samples:
        if other.image.shape != first.image.shape:
            raise DataError(f"one batch needs one size, but '{first.name}' is {first.image.shape} and '{other.name}' "
                            f"is {other.image.shape} (height, width, channels): add RandomCrop(size), Pad(size) or "
                            "Resize(size) to the transform, or use batch_size=1")
    return Batch(np.stack([to_float(s.image) for s in samples]), _stack(samples, "mask"), _stack(samples, "instances"),
                 _stack(samples, "weights"), tuple(s.name for s in samples),
                 tuple(s.tags for s in samples), tuple(s.boxes for s in samples), tuple(s.supervision for s in samples))


def _stack(samples, what):
    arrays = [getattr(sample, what) for sample in samples]
    absent = [sample.name for sample, array in zip(samples, arrays) if array is None]
    if len(absent) == len(samples):
        return None
    if absent:
        raise DataError(f"'{absent[0]}' has no {what} but others in its batch have: give all samples one, or none")
    return np.stack(arrays)
