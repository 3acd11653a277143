"""A submission's zip, opened without trust: nothing is unpacked, and only named files are read."""

from __future__ import annotations

import hashlib
import posixpath
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labkit.course.manifest import MANIFEST
from labkit.data.download.transfer import size_text
from labkit.data.layout.archives import BROKEN, MOST_INFLATION, SMALL, not_to_be_trusted
from labkit.errors import LabkitError

MOST_ENTRIES = 5000
"""files in a zip"""
MOST_TOTAL = 4_000_000_000
"""bytes of all files of a zip together, unpacked"""
MOST_FILE = 1_500_000_000
"""bytes of one file that is read"""
PIECE = 1 << 20
"""bytes that are inflated at once"""
LONGEST_NAME = 200
"""letters of a file's name; longer ones cannot be written to some disks"""

_STARTS = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
    b"\x1f\x8b": "a gzip file",
    b"%PDF": "a PDF",
    b"<": "an HTML page or XML",
}
"""what a file is that is no zip, by its first bytes"""
_ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz")
_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")


@dataclass
class SubmittedZip:
    """The files of a zip by name, and what is to be noted. `read` reads one."""

    file: Path
    entries: dict[str, zipfile.ZipInfo]
    """by name, without the one folder around all files that some programs add"""
    notes: list[str] = field(default_factory=list)
    """sentences for the instructor: nothing that prevents grading"""

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def read(self, name: str, limit: int = MOST_FILE) -> bytes:
        """The bytes of one file.

        Raises:
            LabkitError: there is no such file, it is larger than `limit`, or it is damaged.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise LabkitError(f"it holds no {name}", file=self.file)
        if entry.file_size > limit:
            what = f"{shown(name)} has {size_text(entry.file_size)}"
            hint = f"at most {size_text(limit)} are read"
            raise LabkitError(what, file=self.file, hint=hint)
        try:
            with zipfile.ZipFile(self.file) as archive:
                return b"".join(_pieces(archive, entry))
        except BROKEN:
            raise LabkitError(f"{shown(name)} is damaged", file=self.file) from None

    def start(self, name: str, count: int = 16) -> bytes:
        """The first bytes of one file; none where it is damaged or not there."""
        try:
            with zipfile.ZipFile(self.file) as archive, archive.open(self.entries[name]) as stream:
                return stream.read(count)
        except (KeyError, *BROKEN):
            return b""

    def digests(self) -> dict[str, str | None]:
        """The SHA-256 of every file but the manifest; None for one that is damaged."""
        found: dict[str, str | None] = {}
        with zipfile.ZipFile(self.file) as archive:
            for name, entry in self.entries.items():
                if name == MANIFEST:
                    continue
                digest = hashlib.sha256()
                try:
                    for piece in _pieces(archive, entry):
                        digest.update(piece)
                    found[name] = digest.hexdigest()
                except BROKEN:
                    found[name] = None
        return found


def _pieces(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """A file's bytes in pieces. An entry that holds more than its stated size is not inflated
    further: `ZipFile.read` would inflate all of it at once."""
    with archive.open(entry) as stream:
        while piece := stream.read(PIECE):
            yield piece


def open_zip(file: Path) -> SubmittedZip:
    """Opens a submission's zip, and checks every entry before anything is read.

    Raises:
        LabkitError: it is no zip, empty, encrypted, or has an entry that leads out of its folder,
            a link, or sizes that no submission has.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(8)
        if not start:
            raise LabkitError("the file is empty (0 bytes)", file=file)
        archive = zipfile.ZipFile(file)
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise LabkitError(f"cannot be read: {error.strerror}", file=file) from None
        found = next((what for begins, what in _STARTS.items() if start.startswith(begins)), None)
        what = f"is {found} with the name of a zip" if found else "is not a zip, or a part of one"
        raise LabkitError(what, file=file, hint="ask for a zip by labkit submit") from None
    with archive:
        entries = _checked(file, archive.infolist())
    _check_sizes(file, entries)
    opened = SubmittedZip(file, _without_folder(entries))
    _note(opened)
    return opened


def shown(name: str) -> str:
    """A name that can be printed: no control characters, no halves of letters, at most 120 letters;
    a letter that changes the direction of the text becomes its code."""
    name = name.encode("utf-8", "backslashreplace").decode("utf-8")
    kinds = ("Cc", "Cf", "Zl", "Zp")
    plain = (f"\\u{ord(c):04x}" if unicodedata.category(c) in kinds else c for c in name)
    name = "".join(plain)
    return name if len(name) <= 120 else f"{name[:100]}... ({len(name)} letters)"


def _checked(file: Path, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The files by name; junk of operating systems is left out."""
    if len(infos) > MOST_ENTRIES:
        what = f"it has {len(infos):,} entries; a submission has at most {MOST_ENTRIES:,}"
        raise LabkitError(what, file=file)
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in infos:
        name = _decoded(entry)
        if what := not_to_be_trusted(entry):
            hint = "nothing of it was read"
            raise LabkitError(f"its entry {shown(name)} {what}", file=file, hint=hint)
        if entry.flag_bits & 0x1:
            raise LabkitError(f"its entry {shown(name)} is encrypted", file=file)
        name = posixpath.normpath(name.replace("\\", "/"))
        parts = name.split("/")
        if entry.is_dir() or "__MACOSX" in parts or parts[-1] in (".DS_Store", "Thumbs.db"):
            continue
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            what = f"its entry {shown(name)} is compressed in an unusual way"
            raise LabkitError(what, file=file, hint="ask for a zip by labkit submit")
        if name in entries:
            raise LabkitError(f"its entry {shown(name)} is in it twice", file=file)
        entries[name] = entry
    if not entries:
        raise LabkitError("the zip holds no files", file=file)
    return entries


def _decoded(entry: zipfile.ZipInfo) -> str:
    """The entry's name. Python reads a name without the mark of UTF-8 as code page 437; programs in
    Taiwan write Big5, and others UTF-8 without the mark."""
    name = entry.orig_filename
    if entry.flag_bits & 0x800:
        return name
    try:
        data = name.encode("cp437")
    except UnicodeEncodeError:
        return name
    for encoding in ("utf-8", "big5hkscs"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return name


def _check_sizes(file: Path, entries: dict[str, zipfile.ZipInfo]) -> None:
    total = sum(entry.file_size for entry in entries.values())
    size = file.stat().st_size
    if total > MOST_TOTAL or (total > SMALL and total > MOST_INFLATION * size):
        what = f"it would grow from {size_text(size)} to {size_text(total)}"
        raise LabkitError(what, file=file, hint="nothing of it was read")


def _without_folder(entries: dict[str, zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Without the one folder around everything, which a zip has that was unpacked and packed again
    by a file manager."""
    if MANIFEST in entries:
        return entries
    tops = {name.partition("/")[0] for name in entries}
    top = f"{next(iter(tops))}/" if len(tops) == 1 else None
    if top is None or f"{top}{MANIFEST}" not in entries:
        return entries
    return {name.removeprefix(top): entry for name, entry in entries.items()}


def _note(opened: SubmittedZip) -> None:
    """Notes what does no harm, since it is not opened."""
    for name in opened.entries:
        ending = Path(name).suffix.lower()
        if ending in _ARCHIVES:
            opened.notes.append(f"It holds another archive, {shown(name)}, which is not opened.")
        if ending in _PICKLES:
            opened.notes.append(
                f"It holds {shown(name)}, which may be a pickle: a file that can run code when it "
                "is loaded. It is not opened."
            )
        if len(name) > LONGEST_NAME:
            opened.notes.append(f"The name of its file {shown(name)} is very long.")
