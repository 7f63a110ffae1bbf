"""Parts of a result wait in a hidden folder, for the run that goes on with them."""

import numpy as np
import pytest

from gvtnets_tf.images.image import Image
from gvtnets_tf.prediction import partial_results

IMAGE = Image(np.arange(24, dtype=np.float32).reshape(2, 3, 4), "ZYX", {"Z": 0.5})


@pytest.fixture
def stopped(tmp_path):
    """An output of which one part is there, since the run was stopped."""
    out = tmp_path / "a.ome.tif"
    with pytest.raises(KeyboardInterrupt), partial_results.keep_parts(out, {"tile": 8}) as kept:
        kept.put(0, [IMAGE], {"mode": "whole"})
        raise KeyboardInterrupt
    return out


def test_parts_are_removed_when_all_is_done(tmp_path):
    with partial_results.keep_parts(tmp_path / "a.tif", {}) as kept:
        assert kept.get(3) is None
        kept.put(3, [IMAGE, IMAGE], {"mode": "whole"})
        kept.inner("b").put(3, [IMAGE], {})
        images, info = kept.get(3)
        assert (len(images), info, len(kept.inner("b").get(3)[0])) == (2, {"mode": "whole"}, 1)
        assert kept.inner("c").get(3) is None
        np.testing.assert_array_equal(images[1].array, IMAGE.array)
        assert (images[0].axes, images[0].voxel_size) == ("ZYX", {"Z": 0.5})
    assert not list(tmp_path.iterdir())


def test_nothing_stays_of_a_run_that_finished_no_part(tmp_path):
    with pytest.raises(ValueError, match="bad"), partial_results.keep_parts(tmp_path / "a.tif", {}):
        raise ValueError("bad")
    assert not list(tmp_path.iterdir())


def test_what_a_stopped_run_left_is_not_lost_unasked(stopped):
    with pytest.raises(FileExistsError, match=r"left parts of .*a\.ome\.tif in .*\.a\.ome\.tif\.p"):
        partial_results.check_no_parts(stopped)
    with pytest.raises(FileExistsError, match=r"go on with --resume .* anew with --force"):
        partial_results.keep_parts(stopped, {"tile": 8}).__enter__()
    partial_results.check_no_parts(stopped, resume=True)
    partial_results.check_no_parts(stopped, force=True)


def test_a_run_goes_on_with_its_own_settings_only(stopped):
    with partial_results.keep_parts(stopped, {"tile": (8,)[0]}, resume=True) as kept:
        assert kept.get(0) is not None
    assert not partial_results.parts_folder(stopped).exists()


def test_other_settings_are_named_or_start_anew(stopped):
    with pytest.raises(
        ValueError,
        match=r"finished .* was started with other settings: tile was 8, is 9; flip_average was "
        r"None, is True\. Repeat its settings, or start anew with --force",
    ):
        partial_results.keep_parts(
            stopped, {"tile": 9, "flip_average": True}, resume=True
        ).__enter__()
    assert partial_results.parts_folder(stopped).exists()
    with partial_results.keep_parts(stopped, {"tile": 9}, resume=True, force=True) as kept:
        assert kept.get(0) is None


def test_force_starts_anew(stopped):
    with partial_results.keep_parts(stopped, {"tile": 8}, force=True) as kept:
        assert kept.get(0) is None


def test_a_part_that_was_cut_off_counts_as_missing(stopped):
    (partial_results.parts_folder(stopped) / "000000.json").unlink()
    with partial_results.keep_parts(stopped, {"tile": 8}, resume=True) as kept:
        assert kept.get(0) is None
        kept.put(0, [IMAGE], {})
        assert kept.get(0) is not None


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("000000.json", '{"files', "is not JSON: it is truncated or damaged"),
        ("000000.json", "[]", "must hold a JSON object"),
        (
            "000000.json",
            '{"files": "a.tif", "info": {}}',
            "is not as it was written: `files` must be a",
        ),
        ("000000.json", '{"files": []}', "is not as it was written: `info` is missing"),
        (
            "000000.json",
            '{"files": [], "info": 3}',
            "is not as it was written: `info` must be a mapp",
        ),
        ("settings.json", "3", "must hold a JSON object. Received: int"),
    ],
)
def test_parts_that_were_damaged_are_named(stopped, name, text, message):
    (partial_results.parts_folder(stopped) / name).write_text(text)
    with (
        pytest.raises(ValueError, match=rf"{name} {message}"),
        partial_results.keep_parts(stopped, {"tile": 8}, resume=True) as kept,
    ):
        kept.get(0)


def test_a_part_is_read_from_its_own_folder_only(stopped):
    folder = partial_results.parts_folder(stopped)
    (folder / "000000.json").write_text('{"files": ["../outside.tif"], "info": {}}')
    (folder.parent / "outside.tif").write_bytes(b"II*\0")
    with (
        pytest.raises(FileNotFoundError, match=r"\.parts/outside\.tif"),
        partial_results.keep_parts(stopped, {"tile": 8}, resume=True) as kept,
    ):
        kept.get(0)


def test_a_disk_that_fills_while_parts_are_kept_is_said_with_the_path(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    frame = Image(np.random.default_rng(0).random((200, 300)), "YX")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        text = r"^Could not write .*parts/000003_0\.tif: the disk or a quota is full .* Nothing"
        with pytest.raises(OSError, match=text):
            partial_results.Parts(tmp_path / "parts", {}).put(3, [frame], {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["settings.json"]
