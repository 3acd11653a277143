"""`labkit data download`: BAIR's official files, whole and checked, or not there at all.

OUT/NAME                the file
OUT/NAME.sha256         its digest, in the form that `sha256sum -c` reads
OUT/NAME.rejected       a file that came whole but is another one than was expected
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import filelock
import httpx
from tqdm.auto import tqdm

from labkit.data.convert.tfrecord import read_records
from labkit.data.download.transfer import PAUSES, Transfer, fetch, size_text
from labkit.errors import DataError
from labkit.files import locked, write_whole


@dataclasses.dataclass(frozen=True)
class Official:
    """A file that others publish, and what is known of it."""

    name: str
    url: str
    size: int | None = None
    """bytes"""
    sha256: str | None = None


OFFICIAL: Mapping[str, Official] = MappingProxyType(
    {
        # Size and digest as the project tensorflow/datasets recorded them, in
        # datasets/bair_robot_pushing_small/checksums.tsv.
        "bair": Official(
            name="bair_robot_pushing_dataset_v0.tar",
            url="https://rail.eecs.berkeley.edu/datasets/bair_robot_pushing_dataset_v0.tar",
            size=32_274_964_480,
            sha256="c6f8d164ab2be07174ef597e3e070d7466f3142caddc467b6af119b9458cd9cd",
        ),
        # No record of its size or digest was found; the checksums inside it are compared instead.
        "bair-test": Official(
            name="bair_test_traj_0_to_255.tfrecords",
            url="https://storage.googleapis.com/download.tensorflow.org/data/bair_test_traj_0_to_255.tfrecords",
        ),
    }
)

_TIMEOUT = httpx.Timeout(60.0, connect=20.0)
"""seconds without a single byte, and until there is a connection"""


def download(
    what: str,
    out: Path | str,
    *,
    url: str | None = None,
    progress: bool = True,
    client: httpx.Client | None = None,
    say: Callable[[str], None] = print,
    pauses: Sequence[float] = PAUSES,
) -> Path:
    """Fetches a file of `OFFICIAL` into the folder `out`, or finds it there.

    It comes to a hidden partial file, with which the next call goes on, and takes its name only
    when it is complete and was checked: its size and digest where they are known (or were noted
    at an earlier download), the checksums of every record, the chain of an archive's members.

    Args:
        what: its key in `OFFICIAL`.
        out: folder, made where missing.
        url: another address of the same file.
        progress: show progress bars in bytes.
        client: whatever asks the server; a plain one if None.
        say: takes each line on what is happening.
        pauses: seconds before each further try after a broken connection.

    Returns:
        The file.

    Raises:
        DataError: there is no such key; the file cannot be had, is another one, or does not
            fit on the disk; another process is fetching it; or what lies there is damaged.
    """
    if what not in OFFICIAL:
        raise DataError(f"nothing is called {what!r}", hint=f"there are: {', '.join(OFFICIAL)}")
    official, place = OFFICIAL[what], Path(out) / OFFICIAL[what].name
    expected = official.sha256 or _noted(place)
    with contextlib.ExitStack() as stack:
        _lock(stack, place)
        if place.exists():
            _look_at(place, official, progress, say)
            return place
        asker = client or stack.enter_context(httpx.Client(timeout=_TIMEOUT))
        job = Transfer(
            url=url or official.url,
            place=place,
            client=asker,
            size=official.size,
            progress=progress,
            say=say,
            pauses=pauses,
        )
        fetch(job)
        _accept(job, expected, official)
    say(f"{place} is complete; its digest is in {_digest_file(place).name}")
    return place


def _accept(job: Transfer, expected: str | None, official: Official) -> None:
    """Gives the complete file its name, unless it is another one than expected."""
    rejected = job.place.with_name(f"{job.place.name}.rejected")
    try:
        digest = check_file(job.file, job.place.suffix, expected, job.progress)
    except DataError as fault:
        job.file.replace(rejected)
        what = f"what came is not as expected: {fault.what}"
        hint = f"it is kept as {rejected.name}; give another address with --url"
        if official.sha256 is None and expected is not None:
            hint += f", or delete {_digest_file(job.place).name}, which an earlier download left"
        raise DataError(what, file=job.url, hint=hint) from None
    write_whole(_digest_file(job.place), f"{digest}  {job.place.name}\n")
    job.file.replace(job.place)


def _look_at(place: Path, official: Official, progress: bool, say: Callable[[str], None]) -> None:
    """Says that the file is there; one that came another way is checked first.

    Raises:
        DataError: it is not what it should be; it stays as it is.
    """
    if not place.is_file():
        raise DataError("is there, but is not a file", file=place, hint="move it away")
    size = place.stat().st_size
    hint = "move it away, and the same command fetches it anew"
    if official.size is not None and size != official.size:
        what = f"has {size:,} bytes, but the complete file has {official.size:,}"
        raise DataError(what, file=place, hint=hint)
    if _noted(place) is None:
        say(f"{place} came another way: checking it")
        try:
            digest = check_file(place, place.suffix, official.sha256, progress)
        except DataError as fault:
            raise DataError(fault.what, file=place, row=fault.row, hint=hint) from None
        write_whole(_digest_file(place), f"{digest}  {place.name}\n")
    say(f"{place} is there already ({size_text(size)}); nothing to fetch")


# ------------------------------------------------------------------------------- checking


def check_file(file: Path, kind: str, expected: str | None, progress: bool = False) -> str:
    """The SHA-256 of a file that proved to be what it should be.

    Args:
        file: the file.
        kind: `.tfrecords` (both checksums of every record are compared), `.tar` (the chain of
            its members is followed to the end), or anything else.
        expected: the digest that it must have, where known.
        progress: show a progress bar.

    Raises:
        DataError: it is not.
    """
    if kind == ".tfrecords":
        with file.open("rb") as stream:
            if not sum(1 for _ in read_records(stream, file, file.stat().st_size)):
                raise DataError("it holds no records", file=file)
    if kind == ".tar":
        _check_tar(file)
    digest = hashlib.sha256()
    size = file.stat().st_size
    bar = tqdm(
        desc="checking", total=size, unit="B", unit_scale=True, disable=not progress, leave=False
    )
    with bar, file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            bar.update(len(chunk))
    if expected not in (None, digest.hexdigest()):
        what = f"its SHA-256 is {digest.hexdigest()}, not {expected}"
        raise DataError(what, file=file)
    return digest.hexdigest()


def _check_tar(file: Path) -> None:
    """Raises DataError unless the archive opens and ends where its members say it does."""
    try:
        with tarfile.open(file, "r:") as archive:
            members = sum(1 for _ in archive)
    except (tarfile.TarError, EOFError):
        raise DataError("it is no tar archive, or not a whole one", file=file) from None
    if not members:
        raise DataError("it is an archive of nothing", file=file)


def _digest_file(place: Path) -> Path:
    return place.with_name(f"{place.name}.sha256")


def _noted(place: Path) -> str | None:
    """The digest that an earlier download noted beside the file."""
    try:
        words = _digest_file(place).read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return None
    return words[0].lower() if words and len(words[0]) == 64 else None


def _lock(stack: contextlib.ExitStack, place: Path) -> None:
    """Holds the file for this process alone.

    Raises:
        DataError: another process is fetching it, or the folder cannot be written.
    """
    if place.parent.exists() and not place.parent.is_dir():
        hint = "give the name of a folder with --out"
        raise DataError("is a file", file=place.parent, hint=hint)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(place.with_name(f".{place.name}.lock")))
    except filelock.Timeout:
        hint = "wait for it, or end it"
        raise DataError("is being fetched by another process", file=place, hint=hint) from None
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise DataError(what, file=place.parent, hint="choose another folder with --out") from None
