import pytest

from gvtnets_tf.images import limits


def group(folder, **files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(str(text))


MB = 10**6


@pytest.mark.parametrize("path", ["box/job", "host/path/unknown/here"], ids=["seen", "container"])
def test_available_memory_respects_the_limit_of_a_group_of_version_2(tmp_path, path):
    group(
        tmp_path / "groups",
        memory__max=90 * MB,
        memory__current=60 * MB,
        memory__stat=f"anon 1\ninactive_file {10 * MB}\nactive_file 5",
    )
    group(tmp_path / "groups/box/job", memory__max="max", memory__current=50 * MB)
    (tmp_path / "own").write_text(f"0::/{path}\n")
    assert limits.measure_available(tmp_path / "groups", tmp_path / "own") == 40 * MB


def test_available_memory_respects_the_limit_of_a_group_of_version_1(tmp_path):
    job = tmp_path / "groups/memory/job"
    group(job, memory__limit_in_bytes=70 * MB, memory__usage_in_bytes=80 * MB)
    (tmp_path / "own").write_text("5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n")
    assert limits.measure_available(tmp_path / "groups", tmp_path / "own") == 0


def test_available_memory_without_groups_is_that_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(limits.psutil, "virtual_memory", lambda: type("M", (), {"available": 7}))
    assert limits.measure_available(tmp_path, tmp_path / "none") == 7
    group(tmp_path / "g", memory__max=9 * MB, memory__current=MB)
    (tmp_path / "own").write_text("0::/\n")
    assert limits.measure_available(tmp_path / "g", tmp_path / "own") == 7


@pytest.mark.parametrize(
    "text, size",
    [
        ("4GiB", 4 * 1024**3),
        (" 1.5 mib ", 1536 * 1024),
        ("500MB", 500 * MB),
        ("2kB", 2000),
        ("12", 12),
        (12.0, 12),
        (10**10, 10**10),
    ],
)
def test_sizes_are_read(text, size):
    assert limits.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4 GiBs", "GiB", "-1GB", "0", "1.2.3 kB", "many", None])
def test_what_is_no_size_is_refused_by_name(text):
    with pytest.raises(ValueError, match=r"such as 4GiB or 500MB. Received: ") as error:
        limits.parse_size(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    "size, text", [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3.25 * 1024**3, "3.2 GiB")]
)
def test_sizes_are_written_for_people(size, text):
    assert limits.format_size(size) == text


def test_memory_is_bounded_by_the_option_the_environment_and_the_machine(monkeypatch):
    monkeypatch.setattr(limits, "measure_available", lambda: 1000 * MB)
    limits.check_memory("a.tif", 999 * MB)
    limits.check_memory("a.tif", 999, most=1000)
    text = (
        r"a\.tif does not fit the memory: "
        r"it takes 1000 B when it is read, and 999 B may be used\. Crop it, or allow more"
    )
    with pytest.raises(ValueError, match=rf"{text} with --max-memory \(`max_memory`\)\.$"):
        limits.check_memory("a.tif", 1000, most=999)
    with pytest.raises(
        ValueError, match=r"it takes 954\.6 MiB .*allow more with GVTNETS_MAX_MEMORY"
    ):
        limits.check_memory("a.tif", 1001 * MB)
    monkeypatch.setenv("GVTNETS_MAX_MEMORY", "2GB")
    limits.check_memory("a.tif", 2000 * MB)
    monkeypatch.setenv("GVTNETS_MAX_MEMORY", "100MB")
    with pytest.raises(ValueError, match=r"95\.4 MiB may be used.*GVTNETS_MAX_MEMORY"):
        limits.check_memory("a.tif", 101 * MB)


def test_small_arrays_measure_nothing(monkeypatch):
    monkeypatch.setattr(limits, "measure_available", lambda: pytest.fail("measured"))
    limits.check_memory("a.tif", limits.FREE)


def test_what_stored_bytes_can_hold_is_bounded():
    limits.check_capacity("page 1", 1100, 1, 1100)
    text = r"^page 1 asks for 1\.1 KiB of pixels, and the 1 B that are stored cannot hold them$"
    with pytest.raises(ValueError, match=text):
        limits.check_capacity("page 1", 1101, 1, 1100)


def test_gaps_are_logged_once_with_some_names(caplog):
    limits.report_gaps("gaps.tif", [], 0, "of 9 pages", "zeros", True)
    assert caplog.text == ""
    for _ in range(2):
        limits.report_gaps("gaps.tif", ["page 1", "page 2"], 5, "of 9 pages", "zeros", False)
    assert len(caplog.records) == 1
    assert "gaps.tif: 5 of 9 pages have no data and are read as zeros (page 1, page 2, ...)" in (
        caplog.text
    )
