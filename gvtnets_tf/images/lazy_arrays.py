"""Arrays that stay on disk until a part of them is asked for."""

import functools
import math
import threading
import weakref
from collections import OrderedDict

import numpy as np

from gvtnets_tf.images.metadata import decoding

HELD = 512 * 2**20  # bytes of decoded pages, of all files together


class Stored:
    """A block of an array on disk: an index cuts it, and `np.asarray` reads it.

    Args:
        path: what to call it where it cannot be read.
        array: array-like whose index reads, such as a Zarr array or `Pages`.
        kind: str. Its format, for messages.
        block: an int or a range per axis of `array`; all of it by default.
    """

    def __init__(self, path, array, kind, block=None):
        self.path, self.array, self.kind, self.dtype = path, array, kind, array.dtype
        self.block = tuple(range(n) for n in array.shape) if block is None else block
        self.shape = tuple(len(part) for part in self.block if isinstance(part, range))
        self.ndim = len(self.shape)

    def __getitem__(self, index):
        index = () if index is Ellipsis else index
        index = index if isinstance(index, tuple) else (index,)
        if len(index) > self.ndim:
            raise IndexError(f"{len(index)} indices into {self.ndim} axes of {self.path}")
        kept = iter((*index, *(slice(None),) * (self.ndim - len(index))))
        block = (part[next(kept)] if isinstance(part, range) else part for part in self.block)
        return Stored(self.path, self.array, self.kind, tuple(block))

    def __array__(self, dtype=None, copy=None):
        with decoding(self.path, self.kind):
            return np.asarray(self.array[tuple(map(_index, self.block))], dtype)


def _index(part):
    if not isinstance(part, range):
        return part
    if part.step < 1:
        raise ValueError(f"an array on disk is not read backwards (step {part.step})")
    return slice(part.start, max(part.start, part.stop), part.step)


class Pages:
    """An array made of pages that are decoded one at a time, as they are asked for.

    The pages that were used last are kept, of all arrays together up to `HELD` bytes.
    Reading is safe from several threads.

    Args:
        read: function from the number of a page, counted in C order over the leading
            axes, to the page; it raises where the page cannot be decoded.
        shape: tuple of int. Leading axes, then those of a page.
        page: tuple of int. Shape of a page, mostly `(Y, X)`; it ends `shape`.
        dtype: of the pixels.

    Raises:
        ValueError: when read, if a page has another shape than `page`.
    """

    def __init__(self, read, shape, page, dtype):
        self.read, self.shape, self.page = read, tuple(shape), tuple(page)
        self.dtype = np.dtype(dtype)
        # What was kept of an array goes with it.
        weakref.finalize(self, CACHE.drop, id(self)).atexit = False

    def __getitem__(self, index):
        """Read a block; an int or a slice per axis."""
        lead, inner = self.shape[: -len(self.page)], len(self.shape) - len(self.page)
        numbers = np.arange(math.prod(lead)).reshape(lead)[index[:inner]]
        cut = np.broadcast_to(np.uint8(0), self.page)[index[inner:]].shape
        result = np.empty((numbers.size, *cut), self.dtype)
        for i, number in enumerate(map(int, numbers.flat)):
            page = CACHE.get((id(self), number), functools.partial(self._decode, number))
            result[i] = page[index[inner:]]
        return result.reshape(numbers.shape + cut)

    def _decode(self, number):
        page = self.read(number)
        if page.shape != self.page:
            raise ValueError(f"page {number} has shape {page.shape}, the first {self.page}")
        return page


class Cache:
    """The arrays that were used last, up to so many bytes; the oldest go first."""

    def __init__(self, most):
        self.most, self.size, self.kept = most, 0, OrderedDict()
        # The same thread may come again: a garbage collection in here can call `drop`.
        self.lock = threading.RLock()

    def get(self, key, make):
        """What is kept under a key `(owner, number)`, else what `make` makes."""
        with self.lock:
            if key in self.kept:
                self.kept.move_to_end(key)
                return self.kept[key]
        array = make()  # without the lock: two threads decode at once
        with self.lock:
            self._remove(key)
            self.kept[key], self.size = array, self.size + array.nbytes
            while self.size > self.most:
                self._remove(next(iter(self.kept)))
        return array

    def drop(self, owner):
        """Forget what belongs to an owner."""
        with self.lock:
            for key in [key for key in list(self.kept) if key[0] == owner]:
                self._remove(key)

    def _remove(self, key):
        if key in self.kept:
            self.size -= self.kept.pop(key).nbytes


CACHE = Cache(HELD)
