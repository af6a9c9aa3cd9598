"""Staging: the copy is read, nothing of it stays, and nobody can tell from the results."""

import shutil
from collections import namedtuple

import pytest

from her2pipe.errors import BadSlideError, Her2Error
from her2pipe.slides import staging


@pytest.fixture
def near(tmp_path):
    folder = tmp_path / "near"
    folder.mkdir()
    return folder


def slide(folder, name="S.svs", size=1000):
    path = folder / name
    path.write_bytes(bytes(size))
    return path


def test_without_a_folder_the_slide_is_read_in_place(tmp_path):
    path = slide(tmp_path)
    with staging.staged(path, "") as found:
        assert found == path


def test_a_slide_is_copied_and_the_copy_removed(tmp_path, near, monkeypatch):
    monkeypatch.setenv("MY_DISK", str(near))
    path = slide(tmp_path)
    with staging.staged(path, "$MY_DISK/deep") as found:
        assert found.name == "S.svs"
        assert near in found.parents
        assert found.read_bytes() == path.read_bytes()
    assert list((near / "deep").iterdir()) == []
    with pytest.raises(RuntimeError), staging.staged(path, str(near)):
        raise RuntimeError
    assert [p.name for p in near.iterdir()] == ["deep"]


def test_what_belongs_to_a_slide_comes_along(tmp_path, near):
    path = slide(tmp_path, "S.mrxs")
    (tmp_path / "S").mkdir()
    slide(tmp_path / "S", "Data0001.dat", 5000)
    other = slide(tmp_path, "T.mrxs")  # some are one file
    zarr = tmp_path / "Z.zarr"
    (zarr / "0").mkdir(parents=True)
    slide(zarr / "0", "0.0")
    with staging.staged(path, str(near)) as found:
        assert (found.with_suffix("") / "Data0001.dat").stat().st_size == 5000
    with staging.staged(other, str(near)) as found:
        assert [p.name for p in found.parent.iterdir()] == ["T.mrxs"]
    with staging.staged(zarr, str(near)) as found:
        assert (found / "0" / "0.0").stat().st_size == 1000


@pytest.mark.parametrize("name", ["S.vms", "S.dcm"])
def test_scattered_slides_are_read_in_place(tmp_path, near, caplog, name):
    caplog.set_level("INFO")
    path = slide(tmp_path, name)
    with staging.staged(path, str(near)) as found:
        assert found == path
    assert f"{name} is read in place: its files are scattered" in caplog.text


def test_without_room_the_slide_is_read_in_place(tmp_path, near, caplog, monkeypatch):
    caplog.set_level("INFO")
    path = slide(tmp_path)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(999))
    with staging.staged(path, str(near)) as found:
        assert found == path
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1001))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)  # others fill the disk meanwhile
    with staging.staged(path, str(near)) as found:
        assert found == path
    assert caplog.text.count("no room") == 2
    assert list(near.iterdir()) == []


def test_a_short_copy_is_an_error(tmp_path, near, monkeypatch):
    monkeypatch.setattr(shutil, "copyfile", lambda _, to: to.write_bytes(b"123"))
    with (
        pytest.raises(Her2Error, match="has 3 of 1000 bytes"),
        staging.staged(slide(tmp_path), str(near)),
    ):
        pass
    assert list(near.iterdir()) == []


def test_a_variable_that_is_not_set(tmp_path):
    with (
        pytest.raises(Her2Error, match="not set: \\$NO_SUCH_DISK"),
        staging.staged(slide(tmp_path), "$NO_SUCH_DISK/x"),
    ):
        pass


def test_errors_name_the_slide(tmp_path, near):
    path = slide(tmp_path)
    with pytest.raises(BadSlideError) as caught, staging.staged(path, str(near)) as found:
        raise BadSlideError(f"unreadable: {found} is cut", str(found), "replace it")
    assert caught.value.what == f"unreadable: {path} is cut"
    assert caught.value.where == str(path)


def test_a_staged_slide_gives_the_same_store(tmp_path, near, her2pipe):
    """Also when it is excluded: the reason is the same."""
    made = tmp_path / "S.svs"
    words = ["--width-um", "150", "--height-um", "120"]
    assert (
        her2pipe(
            "synthesise",
            made,
            "--geojson",
            tmp_path / "a.geojson",
            "--xml",
            tmp_path / "a.xml",
            *words,
        )[0]
        == 0
    )
    bad = tmp_path / "bad.svs"
    bad.write_bytes(made.read_bytes()[:3000])
    for path in (made, bad):
        stores = []
        for option in ([], ["--stage", near]):
            store = tmp_path / "S.h5"
            assert (
                her2pipe("tile", path, store, "--view", "64", "--patch-px", "64", *option)[0] == 0
            )
            stores.append(store.read_bytes())
        assert stores[0] == stores[1]
    assert list(near.iterdir()) == []
