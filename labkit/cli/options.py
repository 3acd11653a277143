"""Options that several commands share, and the checks of their values."""

from __future__ import annotations

import shlex
import shutil
import textwrap
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from labkit.cores import usable_cores
from labkit.errors import LabkitError, RunError

Device = Annotated[Literal["cpu", "cuda", "mps"] | None, arg(metavar="NAME")]
Threads = Annotated[int | None, arg(metavar="N")]

LARGEST_SEED = 2**31 - 1


def use(device: str | None, threads: int | None) -> str:
    """Sets the number of torch's threads, and chooses the device to compute on.

    Args:
        device: cpu, cuda or mps; None: a GPU if there is one.
        threads: of the CPU; None: torch's own choice.

    Raises:
        LabkitError: there is no such device, or less than one thread.
    """
    import torch

    if threads is not None:
        if threads < 1:
            raise LabkitError(f"--threads is {threads}", hint="give 1 or more, or leave it out")
        torch.set_num_threads(threads)
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device is None:
        return "cuda" if found["cuda"] else "cpu"
    if not found.get(device, True):
        raise LabkitError(f"this machine has no {device} device", hint="leave --device out")
    return device


def checked_seed(seed: int) -> int:
    """The seed.

    Raises:
        LabkitError: it is outside 0..2**31 - 1.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise LabkitError(f"--seed is {seed}", hint=f"give a whole number in 0..{LARGEST_SEED}")
    return seed


def cores(workers: int | None) -> int:
    """The number of processes: as given, or one per core.

    Raises:
        LabkitError: a number below 1.
    """
    if workers is not None and workers < 1:
        raise LabkitError(f"--workers is {workers}", hint="give 1 or more, or leave it out")
    return usable_cores() if workers is None else workers


def require_run(folder: Path) -> None:
    """Raises RunError unless `folder` is that of a run."""
    if not (folder / "config.json").is_file():
        hint = "labkit train writes one"
        raise RunError("not the folder of a run: it has no config.json", file=folder, hint=hint)


def quoted(path: Path) -> str:
    """A path as it is typed in a shell."""
    return shlex.quote(path.as_posix())


def evaluation_of(run: Path, root: Path | str) -> str:
    """The command that evaluates a run, with the split to take where its data set has no test."""
    from labkit.data.pack import splits_of

    try:
        there = splits_of(root)
    except LabkitError:  # the data set is elsewhere now
        there = ["test"]
    names = [name for name in ("test", "validate", "train") if name in there]
    split = f" --split {names[0]}" if names and names[0] != "test" else ""
    return f"labkit evaluate {quoted(run)}{split}"


def wrapped(text: str) -> str:
    """Sentences in lines that fit the terminal, of at most 100 characters."""
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def terminal_width() -> int | None:
    """Characters in a line of the terminal; None where the output is no terminal."""
    return shutil.get_terminal_size((0, 24)).columns or None


def fitted(text: str) -> str:
    """Lines that fit the terminal: longer ones go on in the next line, indented. Where the output
    is no terminal the lines stay whole."""
    width = terminal_width()
    if width is None:
        return text
    lines = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        lines += textwrap.wrap(
            line,
            width,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return "\n".join(lines)
