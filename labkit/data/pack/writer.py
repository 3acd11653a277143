"""PackWriter: the one way a pack is written, clip by clip, whole or not at all.

While it is written, a pack lies in a hidden folder beside its place:

    .NAME.<id>.tmp or .part/pack/           what will be the pack
    .NAME.<key>.part/progress.json          how far it is safely on disk, for going on
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from labkit.data import layout
from labkit.data.clip import ACTION_COLUMNS, POSITION_COLUMNS, SPLITS, Clip
from labkit.data.pack.files import SplitFiles, shapes_of
from labkit.data.pack.packed import (
    FORMAT,
    MANIFEST,
    NEWER,
    VERSION,
    Pack,
    is_pack,
    open_pack,
)
from labkit.errors import DataError, LabkitError
from labkit.files import clear_lasting, holds_things, lasting, put, temporary, write_whole, writing

PROGRESS = "progress.json"


class PackWriter:
    """Writes a pack clip by clip.

        with PackWriter(root, "my robot") as writer:
            for clip in clips:
                writer.add("train", clip)
            pack = writer.finish()

    Nothing is at `root` before `finish`, and an earlier pack there stays until then. Left without
    `finish`, the writer leaves nothing; with a `resume_key` it leaves what `checkpoint` recorded,
    and the next writer of `root` goes on there if it has that key, even where the process was
    killed; with another it begins anew. The bytes are the same, whether it was interrupted or
    not and however the splits take turns.
    """

    def __init__(
        self,
        root: Path | str,
        source: str,
        *,
        fingerprint: str = "",
        resume_key: str | None = None,
        wait: float = 0.0,
    ) -> None:
        """
        Args:
            root: the pack's folder.
            source: where the clips come from, for the manifest.
            fingerprint: state of the source, for the manifest: see `pack.ensure_pack`.
            resume_key: what the work must have in common with earlier work to go on with it,
                besides `source` and `fingerprint`; None never goes on.
            wait: for how many seconds to wait where another process is writing the pack.
        """
        self.root = Path(root)
        self._about = {
            "format": FORMAT,
            "version": VERSION,
            "source": source,
            "fingerprint": fingerprint,
        }
        self._resume_key, self._wait = resume_key, wait
        self._notes: dict[str, Any] = {}
        self._splits: dict[str, SplitFiles] = {}
        self._done: dict[str, int] = {}
        self._held = contextlib.ExitStack()

    # ---------------------------------------------------------------------- begin and end

    def __enter__(self) -> PackWriter:
        """
        Raises:
            DataError: `root` holds something else, cannot be written, or another process is
                writing it.
        """
        with contextlib.ExitStack() as held:
            self._place = held.enter_context(writing(self.root, self._wait))
            self._refuse_other_things()
            self._work = temporary(self._place)
            if self._resume_key is not None:
                same = json.dumps([self._resume_key, self._about], sort_keys=True)
                self._work = lasting(self._place, same)
            clear_lasting(self._place, keep=self._work)  # its disk space may be needed
            held.callback(self._leave)
            if not self._go_on():
                shutil.rmtree(self._work, ignore_errors=True)
                self._fresh.mkdir(parents=True)
            self._held = held.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.__exit__(kind, error, trace)

    @property
    def _fresh(self) -> Path:
        """The folder that will be the pack."""
        return self._work / "pack"

    def _refuse_other_things(self) -> None:
        place = self._place
        if place.is_dir() and holds_things(place) and not is_pack(place):
            hint = "choose another folder, or delete this one"
            raise DataError("holds something that is not a pack", file=self.root, hint=hint)

    def _go_on(self) -> bool:
        """Opens earlier work at its last checkpoint, if there is any that is whole."""
        try:
            state = json.loads((self._work / PROGRESS).read_text(encoding="utf-8"))
            for name, split in state["splits"].items():
                shapes = {kind: tuple(shape) for kind, shape in split["shapes"].items()}
                files = SplitFiles(
                    self._fresh / name, shapes, split["names"], split["lengths"], split["columns"]
                )
                self._splits[name] = files
        except (OSError, ValueError, KeyError):
            self._close()
            return False
        self._notes = state["notes"]
        self._done = {name: len(split.names) for name, split in self._splits.items()}
        for folder in self._fresh.iterdir():  # a split begun after the checkpoint
            if folder.name not in self._splits:
                shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
        return True

    def _close(self) -> None:
        for split in self._splits.values():
            split.close()
        self._splits = {}

    def _leave(self) -> None:
        self._close()
        if self._resume_key is None or not (self._work / PROGRESS).is_file():
            shutil.rmtree(self._work, ignore_errors=True)

    # ----------------------------------------------------------------------------- writing

    def done(self, split: str) -> int:
        """Number of clips of that split that are safely on disk: those of the last checkpoint,
        in the order in which they were added."""
        return self._done.get(layout.canonical_split(split), 0)

    def add(self, split: str, clip: Clip, file: Path | None = None) -> None:
        """Appends a clip to a split.

        Args:
            split: the split's name.
            clip: the clip.
            file: where it comes from, for messages; the pack's folder if None.

        Raises:
            DataError: a clip of another shape than the split's first, one with positions or
                labels where that one has none, or the other way round; the message names it.
                Or the disk is full.
        """
        try:
            self._add(layout.canonical_split(split), clip)
        except DataError as fault:
            if fault.file is not None:
                raise
            raise DataError(fault.what, file=file or self.root, hint=fault.hint) from None

    def _add(self, name: str, clip: Clip) -> None:
        if name not in self._splits:
            if not name or name[0] == "." or Path(name).name != name or name == MANIFEST:
                raise DataError(f"{name!r} cannot be a split's name", hint="give another one")
            shapes = shapes_of(clip, f"clip {clip.name or 0}")
            with self._write_errors():
                self._splits[name] = SplitFiles(self._fresh / name, shapes, [], [], {})
        with self._write_errors():
            self._splits[name].add(clip)

    def set_note(self, key: str, value: Any) -> None:
        """A further entry of the manifest, such as `splits_from`; a value for JSON.

        Raises:
            ValueError: the key is one of the manifest's own.
        """
        if key in (*self._about, "splits"):
            raise ValueError(f"the manifest has its own {key!r}")
        self._notes[key] = value

    def checkpoint(self) -> None:
        """Brings all clips so far safely to disk; a later writer with the key goes on here.

        Raises:
            DataError: the disk is full.
        """
        splits = {}
        with self._write_errors():
            for name, split in self._splits.items():
                split.sync()
                splits[name] = {
                    "shapes": split.shapes,
                    "names": split.names,
                    "lengths": split.lengths,
                    "columns": split.columns,
                }
            state = {"notes": self._notes, "splits": splits}
            write_whole(self._work / PROGRESS, json.dumps(state))
        self._done = {name: len(split.names) for name, split in self._splits.items()}

    def finish(self) -> Pack:
        """Completes the pack, puts it in its place and opens it.

        Raises:
            DataError: there are no clips, or the disk is full.
        """
        if not self._splits:
            raise DataError("no clips to pack", file=self.root, hint="give it some clips")
        usual = [name for name in SPLITS if name in self._splits]
        names = [*usual, *sorted(self._splits.keys() - set(usual))]
        with self._write_errors():
            splits = {name: self._splits[name].finish() for name in names}
            manifest = {
                **self._about,
                "version": VERSION if all(map(_is_usual, splits.values())) else NEWER,
                **{key: self._notes[key] for key in sorted(self._notes)},
                "splits": splits,
            }
            write_whole(self._fresh / MANIFEST, json.dumps(manifest, indent=1) + "\n")
            open_pack(self._fresh)  # its files fit its manifest, or the earlier pack stays
            self._refuse_other_things()
            put(self._fresh, self._place)
        shutil.rmtree(self._work, ignore_errors=True)
        return open_pack(self.root)

    @contextlib.contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Failures to write, in our words."""
        try:
            yield
        except DataError:
            raise
        except (OSError, LabkitError) as error:
            what = f"cannot be written: {getattr(error, 'strerror', None) or error}"
            if isinstance(error, LabkitError):  # write_whole's, which says so already
                what = error.what
            hint = "free some disk space, or choose a folder that can be written"
            if (self._work / PROGRESS).is_file():
                hint += "; the same command then goes on where this one stopped"
            raise DataError(what, file=self.root, hint=hint) from error


def _is_usual(split: dict[str, Any]) -> bool:
    """Whether an earlier labkit reads the split: one length, and the columns of BAIR."""
    files = split["files"]
    widths = {kind: files[kind]["shape"][-1] for kind in ("actions", "positions") if kind in files}
    usual = {"actions": len(ACTION_COLUMNS), "positions": len(POSITION_COLUMNS)}
    known = all(usual[kind] == width for kind, width in widths.items())
    return known and "lengths" not in files and "columns" not in split
