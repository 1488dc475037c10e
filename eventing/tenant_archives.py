"""A tenant's files in one archive (zip): packed for a download, and unpacked with care: anybody may have made it."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventing.file_problems import Problem
from eventing.tenant_files import PROPERTIES, SCHEMA_SUFFIX, Folder
from eventing.tenant_import import ImportRefused
from tenants.models import TENANT_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PACKED_BYTES = 1024 * 1024
MAX_BYTES = 8 * 1024 * 1024
MAX_FILES = 500
_BY_COMMAND = "Import them with the command import_tenant_properties."
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# The earliest that the format knows: what says the same is the same, byte for byte.
_TIME = (1980, 1, 1, 0, 0, 0)
# What zipfile raises of an archive that is none, or is cut; that has a password, or is packed in a way that it does not
# know (RuntimeError, of both); and of a file that is beyond all files (OverflowError) or nameless (IndexError).
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OverflowError, IndexError)
# What macOS adds on its own.
_PASSED_OVER = "__MACOSX"


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A file in memory."""

    path: str
    data: bytes

    def __str__(self) -> str:
        return self.path

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def read_bytes(self) -> bytes:
        return self.data


def pack(files: Mapping[str, bytes]) -> bytes:
    """An archive of files, which are given by path."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            info = zipfile.ZipInfo(path, _TIME)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, data)
    return packed.getvalue()


def unpack(packed: bytes, *, name: str) -> dict[str, bytes]:
    """The files of an archive, by path. `name` is what problems call it. Raises ImportRefused.

    Nothing is written anywhere, and no more is read than the limits allow, whatever the archive says of itself.
    """
    if len(packed) > MAX_PACKED_BYTES:
        raise _refused(name, f"The archive has more than {MAX_PACKED_BYTES:,} bytes. {_BY_COMMAND}")
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            return _read(archive, name)
    except _UNREADABLE as error:
        raise _refused(name, "This cannot be read as a zip archive. Make it anew, without a password.") from error


def folders(files: Mapping[str, bytes], *, tenant: str) -> list[Folder[Unpacked]]:
    """The tenant's files, which may be in a folder of its name or in none. Raises ImportRefused."""
    problems = []
    found = {}
    for path, data in files.items():
        folder, slash, name = path.rpartition("/")
        if message := _problem_of_place(folder + slash, name, tenant):
            problems.append(Problem(path, message))
        elif name in found:
            problems.append(Problem(path, f"There is a second '{name}'. Leave one of them out."))
        else:
            found[name] = Unpacked(path, data)
    if not problems and PROPERTIES not in found:
        problems.append(Problem(tenant, f"There is no {PROPERTIES}. Add one; it may be empty."))
    if problems:
        raise ImportRefused(problems)
    schemas = tuple(file for name, file in sorted(found.items()) if name != PROPERTIES)
    return [Folder(tenant, found[PROPERTIES], schemas)]


def folders_of_all(files: Mapping[str, bytes]) -> list[Folder[Unpacked]]:
    """The files of tenants, each of which has a folder of its name. Raises ImportRefused."""
    by_tenant: dict[str, dict[str, bytes]] = defaultdict(dict)
    problems: list[Problem] = []
    for path, data in files.items():
        name, slash, _ = path.partition("/")
        if slash and re.fullmatch(TENANT_NAME, name):
            by_tenant[name][path] = data
        else:
            problems.append(Problem(path, "Put the file into a folder that has the name of its tenant."))
    found = []
    for name, own in sorted(by_tenant.items()):
        try:
            found += folders(own, tenant=name)
        except ImportRefused as refusal:
            problems += refusal.problems
    if problems or not found:
        raise ImportRefused(problems or [Problem("The upload", "There are no files in it.")])
    return found


def _read(archive: zipfile.ZipFile, name: str) -> dict[str, bytes]:
    entries = [entry for entry in archive.infolist() if not entry.is_dir() and not _is_passed_over(entry.filename)]
    if len(entries) > MAX_FILES:
        raise _refused(name, f"There are more than {MAX_FILES} files in it. {_BY_COMMAND}")
    files: dict[str, bytes] = {}
    left = MAX_BYTES
    for entry in entries:
        if entry.filename in files:
            raise _refused(f"{name}/{entry.filename}", "The archive has two files of that name. Leave one of them out.")
        if entry.compress_type not in _METHODS:
            raise _refused(
                f"{name}/{entry.filename}", "The file is packed by another method than deflate. Pack it anew."
            )
        with archive.open(entry) as file:
            data = file.read(left + 1)
        left -= len(data)
        if left < 0:
            raise _refused(name, f"Unpacked, the files have more than {MAX_BYTES:,} bytes. {_BY_COMMAND}")
        files[entry.filename] = data
    return files


def _is_passed_over(path: str) -> bool:
    names = path.split("/")
    return names[0] == _PASSED_OVER or (names[-1].startswith(".") and names[-1] not in (".", ".."))


def _problem_of_place(folder: str, name: str, tenant: str) -> str | None:
    if folder not in ("", f"{tenant}/"):
        return f"The file is to be in the folder '{tenant}', or in none: these are files of that tenant."
    if name != PROPERTIES and not name.endswith(SCHEMA_SUFFIX):
        return f"Only {PROPERTIES} and a {{schema}}{SCHEMA_SUFFIX} for each schema are taken. Leave it out."
    return None


def _refused(file: str, message: str) -> ImportRefused:
    return ImportRefused([Problem(file, message)])
