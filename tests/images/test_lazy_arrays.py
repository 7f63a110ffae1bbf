"""Arrays on disk are cut without reading, and decoded by the page."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gvtnets_tf.images import lazy_arrays
from gvtnets_tf.images.lazy_arrays import LazyArray, PageCache, PagedArray

PIXELS = np.random.default_rng(0).integers(0, 1000, (3, 4, 6, 7)).astype(np.uint16)


@pytest.fixture
def decoded(monkeypatch):
    """The numbers of the pages that were decoded, with an empty cache of eight pages."""
    monkeypatch.setattr(lazy_arrays, "CACHE", PageCache(8 * PIXELS[0, 0].nbytes))
    return []


def stored(decoded=None, pixels=PIXELS):
    """The same pixels, page by page."""
    flat = pixels.reshape(-1, *pixels.shape[-2:])
    seen = [] if decoded is None else decoded

    def read(number):
        seen.append(number)
        return flat[number]

    return LazyArray(
        "a.tif", PagedArray(read, pixels.shape, pixels.shape[-2:], pixels.dtype), "TIFF"
    )


def indices(shape):
    """Indices of ints and slices, of the first few axes, the last few, or of all."""

    def part(size):
        ends = st.none() | st.integers(-size - 1, size + 1)
        steps = st.none() | st.integers(-3, 3).filter(bool)
        return st.integers(-size, size - 1) | st.builds(slice, ends, ends, steps)

    def some(n):
        first = st.tuples(*map(part, shape[:n]))
        last = st.tuples(*map(part, shape[len(shape) - n :])).map(lambda i: (..., *i))
        return first | last

    return st.integers(0, len(shape)).flatmap(some)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_an_index_cuts_as_that_of_an_array_does(data):
    index = data.draw(indices(PIXELS.shape))
    cut, expected = stored()[index], PIXELS[index]
    assert (cut.shape, cut.ndim, cut.dtype) == (expected.shape, expected.ndim, expected.dtype)
    np.testing.assert_array_equal(np.asarray(cut), expected)
    if 0 not in expected.shape:
        index = data.draw(indices(expected.shape))
        np.testing.assert_array_equal(np.asarray(cut[index]), expected[index])


def test_only_the_pages_asked_for_are_decoded_and_once(decoded):
    array = stored(decoded)
    part = array[1, 1:3, 2:4]
    assert decoded == []
    np.testing.assert_array_equal(np.asarray(part), PIXELS[1, 1:3, 2:4])
    assert decoded == [5, 6]
    np.asarray(array[1, 2, 0])
    assert decoded == [5, 6]


def test_the_cache_has_an_end_and_what_was_used_last_stays(decoded):
    array = stored(decoded)
    np.asarray(array[:2])  # eight pages, all that fit
    np.asarray(array[0, 0])
    np.asarray(array[2, 0])  # page 8, for which the oldest goes: 1
    assert lazy_arrays.CACHE.size == lazy_arrays.CACHE.max_bytes
    decoded.clear()
    np.asarray(array[0, 0])
    assert decoded == []
    np.asarray(array[0, 1])
    assert decoded == [1]


def test_a_page_larger_than_the_cache_is_read_and_not_kept(decoded):
    pixels = np.ones((2, 100, 100))
    np.testing.assert_array_equal(np.asarray(stored(pixels=pixels)), pixels)
    assert lazy_arrays.CACHE.size == 0


def test_what_was_kept_of_an_array_goes_with_it(decoded):
    array = stored()
    np.asarray(array[0])
    assert lazy_arrays.CACHE.size == PIXELS[0].nbytes
    del array
    gc.collect()
    assert (lazy_arrays.CACHE.size, len(lazy_arrays.CACHE.pages)) == (0, 0)


def test_several_threads_read_the_same(decoded):
    array = stored()
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda i: np.asarray(array[i % 3, :, i % 6]), range(300))
        for i, part in enumerate(found):
            np.testing.assert_array_equal(part, PIXELS[i % 3, :, i % 6])
    size = sum(page.nbytes for page in lazy_arrays.CACHE.pages.values())
    assert lazy_arrays.CACHE.size == size <= lazy_arrays.CACHE.max_bytes


def test_what_cannot_be_read_is_named():
    array = LazyArray(
        "a.tif", PagedArray(lambda _: PIXELS[0, 0, 1:], (2, 6, 7), (6, 7), "uint16"), "TIFF"
    )
    text = r"a\.tif cannot be read as TIFF.*page 1 has shape \(5, 7\), the first \(6, 7\)"
    with pytest.raises(ValueError, match=text):
        np.asarray(array[1])
    with pytest.raises(IndexError):
        stored()[3]
    with pytest.raises(IndexError, match=r"5 indices into 4 axes of a\.tif"):
        stored()[0, 0, 0, 0, 0]


ANSWERS = {
    "arithmetic": lambda x: 2 * x - x / 3 + np.arange(7),
    "comparison": lambda x: (x > 500) & ~(x == 7),
    "methods": lambda x: [x.max(), x.mean((0, 1)), x.std(), x.astype(float), x.T, x.copy()],
    "functions": lambda x: [np.max(x), np.percentile(x, 50), np.stack([x, x]), np.sqrt(x), len(x)],
    "sizes": lambda x: [x.size, x.nbytes, x.itemsize, x.tolist()],
    "masks": lambda x: [x[x > 500], x[[2, 0]], x[:, None].shape, x[0][np.array([1, 3])]],
    "slices": lambda x: [x[..., ::-1], x[1, ..., 2], x[::-2, 1:3], x[2, 3, 5, -1], x[-1]],
    "iteration": lambda x: [plane.sum() for plane in x],
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_it_answers_as_an_array_does(answer):
    found, expected = answer(stored()), answer(PIXELS)
    pairs = zip(found, expected) if isinstance(found, list) else [(found, expected)]
    for a, b in pairs:
        np.testing.assert_array_equal(np.asarray(a), b)
        assert np.asarray(a).dtype == np.asarray(b).dtype


def test_it_is_not_written_to():
    array, copy = stored(), np.zeros(PIXELS.shape)
    copy += array
    np.testing.assert_array_equal(copy, PIXELS)
    with pytest.raises(ValueError, match=r"a\.tif is read only: copy its pixels with `numpy\.arr"):
        array += 1
    with pytest.raises(ValueError, match="read-only"):
        array.sort()
    with pytest.raises(TypeError):
        array[0] = 1
    with pytest.raises(AttributeError, match="a LazyArray has no attribute 'maximum'"):
        array.maximum()


def test_a_page_of_another_dtype_is_not_cast():
    pages = PagedArray(lambda _: np.full((6, 7), 0.5), (2, 6, 7), (6, 7), "uint16")
    array = LazyArray("a.tif", pages, "TIFF")
    with pytest.raises(ValueError, match=r"a\.tif.*page 0 holds float64, the first uint16"):
        np.asarray(array)
    pages = PagedArray(lambda _: PIXELS[0, 0], (2, 6, 7), PIXELS.shape[-2:], "float64")
    assert np.asarray(LazyArray("a.tif", pages, "TIFF")).dtype == "float64"  # nothing is lost


def test_more_than_the_memory_is_refused_before_a_page_is_decoded(monkeypatch):
    pages = PagedArray(lambda _: pytest.fail("decoded"), (10**6, 600, 700), (600, 700), "uint16")
    monkeypatch.setenv("GVTNETS_MAX_MEMORY", "1GiB")
    text = (
        r"^a\.tif does not fit the memory: "
        r"it takes 782\.3 GiB when it is read, and 1\.0 GiB may be used"
    )
    with pytest.raises(ValueError, match=text):
        np.asarray(LazyArray("a.tif", pages, "TIFF"))
