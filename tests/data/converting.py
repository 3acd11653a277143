"""Records as BAIR's folder has them, and conversions that end themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from labkit.data.convert import records as convert_records

BAIR = {
    # Numeric order is not the alphabet's; both folders have a traj_256_to_511.
    "train/traj_0_to_255": [0, 1],
    "train/traj_1024_to_1279": [2],
    "train/traj_256_to_511": [3, 4],
    "train/traj_512_to_767": [5, 6, 7],
    "test/traj_0_to_255": [8, 9],
    "test/traj_256_to_511": [10],
}
SPLITS = {
    "train": {"traj_0_to_255": [0, 1], "traj_512_to_767": [5, 6, 7], "traj_1024_to_1279": [2]},
    "validate": {"traj_256_to_511": [3, 4]},
    "test": {"traj_0_to_255": [8, 9], "traj_256_to_511": [10]},
}
COUNTS = {"train": 6, "validate": 2, "test": 3}


def tree(root: Path, *, about: bool = True) -> dict[str, bytes]:
    """Every file under `root`, hidden ones too; `about` False leaves out the manifest's remarks on
    the source."""
    files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    if not about and "manifest.json" in files:
        manifest = json.loads(files["manifest.json"])
        files["manifest.json"] = json.dumps(manifest["splits"]).encode()
    return files


def only(root: Path) -> list[str]:
    """Names in a folder, hidden ones too."""
    return sorted(os.listdir(root))


def tarred(bair: Path, file: Path, names: list[str] | None = None) -> Path:
    """A tar of the folder, with its files in an order that is nobody's."""
    with tarfile.open(file, "w:gz" if file.suffix == ".gz" else "w") as archive:
        archive.add(bair, bair.name, recursive=False)
        for name in names or [*BAIR][::-1]:
            archive.add(bair / f"{name}.tfrecords", f"./{bair.name}/{name}.tfrecords")
        archive.add(bair / "README.txt", f"{bair.name}/README.txt")
    return file


def counted(monkeypatch) -> list[int]:
    """How many examples are read from now on."""
    count, inner = [0], convert_records.read_example

    def read(*args):
        count[0] += 1
        return inner(*args)

    monkeypatch.setattr(convert_records, "read_example", read)
    return count


RUN = """
import os, signal, sys
from pathlib import Path
from labkit.data.convert import records as convert_records
from labkit.data.convert import convert
from labkit.data.pack import PackWriter
import PIL.Image

def die_at(call, number):
    def counted(*args, **kwargs):
        counted.left -= 1
        if not counted.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    counted.left = number
    return counted

if __name__ == "__main__":
    source, out, to, workers, where, number = sys.argv[1:]
    convert_records.CHECKPOINT = 2
    if where == "add":
        PackWriter.add = die_at(PackWriter.add, int(number))
    elif where == "checkpoint":
        PackWriter.checkpoint = die_at(PackWriter.checkpoint, int(number))
    elif where == "save":
        PIL.Image.Image.save = die_at(PIL.Image.Image.save, int(number))
    elif where == "unlink":
        Path.unlink = die_at(Path.unlink, int(number))
    elif where == "rename":
        os.rename = die_at(os.rename, int(number))
    convert(source, out, to=to, workers=int(workers))
"""


def killed(*arguments: object) -> None:
    """Converts in another process, which kills itself at a given place."""
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    with tempfile.TemporaryFile() as errors:  # a pipe would wait for workers that live on
        ended = subprocess.run(command, stdout=errors, stderr=errors, check=False)
        errors.seek(0)
        assert ended.returncode == -signal.SIGKILL, errors.read().decode()
