"""Bundles are opened only as they were written, and nothing in them leaves its folder."""

import contextlib
import json
import shutil
import struct
import zipfile

import pytest
from bundles import FILES, make_tiny_bundle

from her2pipe.bundles.description import FILE, digest_of
from her2pipe.bundles.paths import MOST_FILES, is_plain
from her2pipe.bundles.read import open_bundle, read_description
from her2pipe.bundles.write import write_zip
from her2pipe.errors import Her2Error


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.setenv("HER2PIPE_CACHE", str(tmp_path / "cache"))
    return make_tiny_bundle(tmp_path / "m")


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def redescribed(folder, **changes):
    """Change values of a description, with a digest that fits them."""
    values = json.loads((folder / FILE).read_text()) | changes
    values["digest"] = digest_of(values)
    (folder / FILE).write_text(json.dumps(values))


def test_a_folder_and_its_zip_are_one_bundle(bundle, tmp_path):
    write_zip(bundle, tmp_path / "m.zip")
    folder, packed = open_bundle(bundle), open_bundle(tmp_path / "m.zip")
    assert folder.description == packed.description
    assert contents(packed.folder) == contents(bundle)
    assert set(FILES) | {"README.md"} == set(packed.description.files)
    assert packed.fitted_folder == packed.folder / "aggregation"
    assert folder.encoder_folder == bundle / "encoder"
    # opened again it is taken as it was unpacked, and a copy that was changed is replaced
    (packed.folder / "README.md").write_text("# N\n")
    assert contents(open_bundle(tmp_path / "m.zip").folder) == contents(bundle)


def test_zips_of_equal_bundles_are_equal(bundle, tmp_path):
    copy = make_tiny_bundle(tmp_path / "copy")
    for name, folder in (("a.zip", bundle), ("b.zip", copy)):
        write_zip(folder, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_changed_byte_is_refused_wherever_it_is(bundle, tmp_path):
    """Of every file of a folder the first, middle and last byte; of a zip every 61st."""
    for name, content in contents(bundle).items():
        for place in {0, len(content) // 2, len(content) - 2}:
            changed = bytearray(content)
            changed[place] ^= 1
            (bundle / name).write_bytes(changed)
            with pytest.raises(Her2Error):
                open_bundle(bundle)
        (bundle / name).write_bytes(content)
    write_zip(bundle, tmp_path / "m.zip")
    whole = (tmp_path / "m.zip").read_bytes()
    expected = contents(bundle)
    for place in range(0, len(whole), 61):
        changed = bytearray(whole)
        changed[place] ^= 1
        (tmp_path / "n.zip").write_bytes(changed)
        # a byte of the zip's own, as a date, may differ, but never what comes out of it
        with contextlib.suppress(Her2Error):
            assert contents(open_bundle(tmp_path / "n.zip", tmp_path / "n").folder) == expected
        shutil.rmtree(tmp_path / "n", ignore_errors=True)


def test_files_that_lack_are_links_or_of_another_size_are_refused(bundle, tmp_path):
    name = "encoder/model.safetensors"
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content + b"x")
    with pytest.raises(Her2Error, match="does not match its digest"):
        open_bundle(bundle)
    (bundle / name).unlink()
    with pytest.raises(Her2Error, match=f"lacks {name}"):
        open_bundle(bundle)
    (tmp_path / "elsewhere").write_bytes(content)
    (bundle / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Her2Error, match="is a link"):
        open_bundle(bundle)
    shutil.move(bundle / "encoder", tmp_path / "encoder")
    (tmp_path / "encoder/model.safetensors").unlink()
    (tmp_path / "encoder/model.safetensors").write_bytes(content)
    (bundle / "encoder").symlink_to(tmp_path / "encoder")
    with pytest.raises(Her2Error, match="is a link"):
        open_bundle(bundle)


def test_files_that_others_add_are_never_read(bundle):
    (bundle / ".gitattributes").write_text("*.safetensors filter=lfs")
    (bundle / "encoder" / "extra.bin").write_text("x")
    assert open_bundle(bundle).description.method == "M"


def test_only_plain_paths_are_plain():
    plain = ("README.md", "encoder/model.safetensors", "aggregation/a-1_b+c.json", "x")
    hostile = (
        *(
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            "~/x",
            "C:/x",
            "C:x",
        ),
        *("a\\b", "..\\x", "\\\\host\\x", "a\0b", "a\nb", "nul", "CON.json", "a/aux.txt", "com1"),
        *("a.", "a ", " a", "a/b/c/d/e", "x" * 101, "\u202etxt", "ａ", ".hidden", "encoder/.x"),
    )
    assert [path for path in plain if not is_plain(path)] == []
    assert [path for path in hostile if is_plain(path)] == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"../x": 1}, r"the path '\.\./x'"),
        ({"encoder/Model.json": 1}, "one file on some systems"),
        ({"encoder": 1}, "as a file and as a folder"),
        ({"other/x": 1}, "a folder other"),
        ({f"encoder/{n}": 1 for n in range(MOST_FILES)}, "holds 10. files"),
        ({"encoder/big": 10**12}, "claims 1000 GB"),
        ({"encoder/big": -1}, "claims"),
    ],
)
def test_descriptions_that_claim_too_much_are_refused(bundle, files, said):
    known = json.loads((bundle / FILE).read_text())["files"]
    claims = {name: {"sha256": "0" * 64, "bytes": size} for name, size in files.items()}
    redescribed(bundle, files=known | claims)
    with pytest.raises(Her2Error, match=said):
        open_bundle(bundle)


def test_another_version_is_refused_with_what_to_do(bundle):
    redescribed(bundle, format=2)
    with pytest.raises(Her2Error, match="version 2 of the format") as error:
        open_bundle(bundle)
    assert "newer her2pipe" in error.value.fix
    redescribed(bundle, format=0)
    with pytest.raises(Her2Error) as error:
        open_bundle(bundle)
    assert "written again" in error.value.fix


def test_what_a_later_program_adds_changes_nothing(bundle):
    redescribed(bundle, colour="blue")
    assert open_bundle(bundle).description.method == "M"


def test_what_is_no_bundle_is_said_so(bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    for content in ("", "[]", "{}", '{"format": "1"}', '{"format": true}', "[" * 100_000, "\xff"):
        (bundle / FILE).write_bytes(content.encode("latin-1"))
        with pytest.raises(Her2Error, match="not a bundle"):
            open_bundle(bundle)
    for name in ("empty", "text.zip", "other.zip"):
        with pytest.raises(Her2Error, match="not a bundle"):
            open_bundle(tmp_path / name)
    with pytest.raises(Her2Error, match="does not exist"):
        read_description(tmp_path / "nothing")


def rezipped(bundle, path, change=lambda entry, data: data, surplus=()):
    """Zip a bundle as a stranger might: entries changed, and others added."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents(bundle).items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, change(entry, data))
        for name in surplus:
            archive.writestr(name, b"x")
    return path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../../evil", "holds the path"),
        ("/tmp/evil", "holds the path"),
        ("readme.MD", "one file on some systems"),
        ("encoder/evil.py", "says nothing"),
        ("encoder/", "holds the path"),
    ],
)
def test_surplus_entries_of_a_zip_are_refused(bundle, tmp_path, name, said):
    packed = rezipped(bundle, tmp_path / "m.zip", surplus=[name])
    with pytest.raises(Her2Error, match=said):
        open_bundle(packed)
    assert not (tmp_path / "cache").exists()


def test_links_in_a_zip_are_refused(bundle, tmp_path):
    def link(entry, data):
        if entry.filename == "README.md":
            entry.external_attr = 0o120777 << 16
        return data

    with pytest.raises(Her2Error, match=r"README\.md of the bundle is a link"):
        open_bundle(rezipped(bundle, tmp_path / "m.zip", link))


def test_a_bomb_is_not_unpacked(bundle, tmp_path):
    """Neither one that says its size, nor one whose entry claims the size that is described."""
    name, size = "encoder/model.safetensors", len(FILES["encoder/model.safetensors"])

    def inflate(entry, data):
        return bytes(5_000_000) if entry.filename == name else data

    packed = rezipped(bundle, tmp_path / "m.zip", inflate)
    with pytest.raises(Her2Error, match=r"claims to be \d+ times what it is packed"):
        open_bundle(packed)
    honest = struct.pack("<L", 5_000_000)
    lying = packed.read_bytes().replace(honest, struct.pack("<L", size))
    packed.write_bytes(lying)
    with pytest.raises(Her2Error, match=r"damaged|does not match"):
        open_bundle(packed)
    assert not list((tmp_path / "cache").rglob("model.*"))
