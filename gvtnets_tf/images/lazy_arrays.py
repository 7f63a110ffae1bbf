"""Arrays that stay on disk until a part of them is read."""

import functools
import math
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike

from gvtnets_tf.images.limits import check_memory
from gvtnets_tf.images.metadata import name_file_in_errors

CACHE_BYTES = 512 * 2**20  # for the decoded pages of all files together
BASIC = (int, np.integer, slice, type(...))  # indices that crop


class LazyArray(NDArrayOperatorsMixin):
    """A block of an array on disk: basic indexing crops it, all else reads it.

    It answers as a `numpy.ndarray` that cannot be written to: operators, functions of NumPy and
    methods such as `max` read the block and return arrays. `array` is read by indexing: a Zarr
    array or `PagedArray`. `block` holds an int or a range per axis of it; `None` is all of it.
    `path`, or a name, and `kind`, the format, are for messages.
    """

    def __init__(self, path, array, kind, block=None):
        self.path, self.array, self.kind, self.dtype = path, array, kind, array.dtype
        self.block = tuple(range(n) for n in array.shape) if block is None else block
        self.shape = tuple(len(part) for part in self.block if isinstance(part, range))
        self.ndim, self.size = len(self.shape), math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        if not all(isinstance(i, BASIC) and not isinstance(i, bool) for i in index):
            return self._read()[index]
        index = index if ... in index else (*index, ...)
        place, missing = index.index(...), self.ndim - len(index) + 1
        if missing < 0 or index.count(...) > 1:
            raise IndexError(f"{len(index) - 1} indices into {self.ndim} axes of {self.path}")
        indices = iter((*index[:place], *(slice(None),) * missing, *index[place + 1 :]))
        block = (part[next(indices)] if isinstance(part, range) else part for part in self.block)
        part = LazyArray(self.path, self.array, self.kind, tuple(block))
        return part if part.ndim else part._read()[()]

    def __len__(self):
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        check_memory(self.path, self.nbytes)
        # An array on disk is read forward.
        parts = [p if not isinstance(p, range) or p.step > 0 else p[::-1] for p in self.block]
        turns = [slice(None, None, np.sign(p.step)) for p in self.block if isinstance(p, range)]
        with name_file_in_errors(self.path, self.kind):
            array = np.asarray(self.array[tuple(map(_to_index, parts))], dtype)
        return array[(..., *turns)]

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **kwargs):
        if any(isinstance(array, LazyArray) for array in out):
            raise ValueError(f"{self.path} is read only: copy its pixels with `numpy.array`.")
        inputs = (x._read() if isinstance(x, LazyArray) else x for x in inputs)
        return getattr(ufunc, method)(*inputs, **kwargs, **({"out": out} if out else {}))

    def __getattr__(self, name):
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"a {type(self).__name__} has no attribute {name!r}")
        return getattr(self._read(), name)

    def _read(self):
        """Read the block as an array that cannot be written to: a change would be lost."""
        array = np.asarray(self).view()
        array.flags.writeable = False
        return array


def _to_index(part):
    if not isinstance(part, range):
        return part
    return slice(part.start, max(part.start, part.stop), part.step)


class PagedArray:
    """An array of pages, each decoded by `read(number)` when its pixels are read.

    Pages are counted in C order over the leading axes of `shape`; `page` is the shape of one,
    mostly `(Y, X)`. The pages used last stay in memory, up to `CACHE_BYTES` bytes for all arrays
    together. Reading is safe from several threads.
    """

    def __init__(self, read: Callable, shape: tuple, page: tuple, dtype: DTypeLike):
        self.read, self.dtype = read, np.dtype(dtype)
        self.shape, self.page = tuple(shape), tuple(page)
        # The pages of an array leave the cache with it.
        weakref.finalize(self, CACHE.remove_owner, id(self)).atexit = False

    def __getitem__(self, index):
        leading = self.shape[: -len(self.page)]
        index, inner = index[: len(leading)], index[len(leading) :]
        numbers = np.arange(math.prod(leading)).reshape(leading)[index]
        crop = np.broadcast_to(np.uint8(0), self.page)[inner].shape
        result = np.empty((numbers.size, *crop), self.dtype)
        for i, number in enumerate(map(int, numbers.flat)):
            page = CACHE.get((id(self), number), functools.partial(self._decode, number))
            result[i] = page[inner]
        return result.reshape(numbers.shape + crop)

    def _decode(self, number):
        page = self.read(number)
        if page.shape != self.page:
            raise ValueError(f"page {number} has shape {page.shape}, the first {self.page}")
        if not np.can_cast(page.dtype, self.dtype):  # cast, its values would be lost
            raise ValueError(f"page {number} holds {page.dtype}, the first {self.dtype}")
        return page


class PageCache:
    """Pages with keys `(owner, number)`; above the limit, the least recently used are removed."""

    def __init__(self, max_bytes: int):
        self.max_bytes, self.size, self.pages = max_bytes, 0, OrderedDict()
        # The lock is reentrant: a garbage collection in here can call `remove_owner`.
        self.lock = threading.RLock()

    def get(self, key: tuple, decode: Callable[[], np.ndarray]) -> np.ndarray:
        with self.lock:
            if key in self.pages:
                self.pages.move_to_end(key)
                return self.pages[key]
        page = decode()  # without the lock: two threads decode at once
        with self.lock:
            self._remove(key)
            self.pages[key], self.size = page, self.size + page.nbytes
            while self.size > self.max_bytes:
                self._remove(next(iter(self.pages)))
        return page

    def remove_owner(self, owner) -> None:
        with self.lock:
            for key in [key for key in list(self.pages) if key[0] == owner]:
                self._remove(key)

    def _remove(self, key):
        if key in self.pages:
            self.size -= self.pages.pop(key).nbytes


CACHE = PageCache(CACHE_BYTES)
