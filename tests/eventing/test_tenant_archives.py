"""Archives of a tenant's files: whatever anybody packs, no more is read than the limits allow."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest

from eventing import tenant_archives
from eventing.tenant_import import ImportRefused


def an_archive(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return packed.getvalue()


def refusal_of(packed: bytes) -> str:
    with pytest.raises(ImportRefused) as refusal:
        tenant_archives.unpack(packed, name="a.zip")
    return str(refusal.value)


def test_what_is_packed_is_unpacked() -> None:
    files = {"mytenant/tenant.properties": b"a=\xc3\xa9", "mytenant/é.json": b"", "mytenant/x.json": b"x" * 100_000}
    assert tenant_archives.unpack(tenant_archives.pack(files), name="a.zip") == files


def test_the_same_files_make_the_same_archive() -> None:
    assert tenant_archives.pack({"a": b"1"}) == tenant_archives.pack({"a": b"1"})


def test_a_bomb_is_not_unpacked() -> None:
    packed = an_archive(*((f"{number}.json", b"\0" * 5_000_000) for number in range(3)))
    assert len(packed) < 20_000
    assert "Unpacked, the files have more than 8,388,608 bytes." in refusal_of(packed)


def test_nor_one_that_lies_about_its_size() -> None:
    packed = an_archive(("a.json", b"\0" * 20_000_000))
    lie = packed.replace(struct.pack("<I", 20_000_000), struct.pack("<I", 10))
    assert lie != packed
    assert "This cannot be read as a zip archive." in refusal_of(lie)


def test_a_large_archive_is_not_opened() -> None:
    assert "The archive has more than 1,048,576 bytes." in refusal_of(b"\0" * 1_048_577)


def test_many_files_are_not_read() -> None:
    packed = an_archive(*((f"{number}.json", b"") for number in range(501)))
    assert "There are more than 500 files in it." in refusal_of(packed)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_whose_memory_has_no_limit_are_refused(method: int) -> None:
    assert "by another method than deflate" in refusal_of(an_archive(("a.json", b"{}"), method=method))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_stands_there_once() -> None:
    assert "two files of that name" in refusal_of(an_archive(("a.json", b"1"), ("a.json", b"2")))


def test_what_is_encrypted_is_refused() -> None:
    packed = bytearray(an_archive(("a.json", b"{}")))
    packed[6] |= 1
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    assert "without a password" in refusal_of(bytes(packed))


@pytest.mark.parametrize("cut", [10, 40, -1, -30])
def test_what_is_cut_or_changed_is_refused(cut: int) -> None:
    packed = an_archive(("a.json", b"{}" * 50))
    assert "This cannot be read as a zip archive." in refusal_of(packed[:cut])


def test_a_changed_byte_is_noticed() -> None:
    packed = an_archive(("a.json", b"{}" * 50), method=zipfile.ZIP_STORED).replace(b"{}{}", b"{}[]", 1)
    assert "This cannot be read as a zip archive." in refusal_of(packed)


@pytest.mark.parametrize("changes", [{"header_offset": 2**63}, {"filename": ""}], ids=str)
def test_a_directory_that_says_what_cannot_be_is_refused(changes: dict[str, object]) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("mytenant/x.json", b"{}")
        for name, value in changes.items():
            setattr(archive.filelist[0], name, value)
    assert "This cannot be read as a zip archive." in refusal_of(packed.getvalue())


@pytest.mark.parametrize(
    "path",
    [
        "../tenant.properties",
        "mytenant/../tenant.properties",
        "/tenant.properties",
        "//mytenant/tenant.properties",
        "mytenant/mytenant/tenant.properties",
        "C:/tenant.properties",
        "theirs/tenant.properties",
        "mytenant\\tenant.properties",
        "mytenant/tenant.properties.bak",
    ],
)
def test_files_elsewhere_than_in_the_tenants_folder_are_refused(path: str) -> None:
    files = {"tenant.properties": b"", path: b""}
    with pytest.raises(ImportRefused) as refusal:
        tenant_archives.folders(files, tenant="mytenant")
    assert [problem.file for problem in refusal.value.problems] == [path]


def test_a_file_that_is_there_twice_is_refused() -> None:
    files = {"tenant.properties": b"", "a.json": b"1", "mytenant/a.json": b"2"}
    with pytest.raises(ImportRefused, match="There is a second 'a.json'"):
        tenant_archives.folders(files, tenant="mytenant")
