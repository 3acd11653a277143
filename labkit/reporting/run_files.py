"""Where the results of a run are stored in its folder."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

EVALUATION = "evaluation.json"
REPORT = "report.html"
CERTIFICATE, CERTIFICATE_PICTURE = "certificate.json", "certificate.png"


@dataclass(frozen=True)
class Selection:
    """What an evaluation is of. Each choice that is not the default is part of the file names, so
    that a part never replaces the whole, nor another split the test split."""

    protocol: str = "frame"
    split: str = "test"
    data: Path | None = None
    """folder of another data set; None is the run's own"""
    clips: int | None = None
    """the first clips only; None is all"""
    all_windows: bool = False
    """every window of a clip instead of the first"""
    window: tuple[int, int] | None = None
    """n_past and n_future, where they are not the protocol's or the run's own"""
    integrated: bool = False
    """positions added up from the actions instead of measured ones"""

    @property
    def suffix(self) -> str:
        """ "" for the default; "-course", "-long-train-first-4", "-others-3f9ac1", ..."""
        parts = [
            "" if self.protocol == "frame" else self.protocol,
            "" if self.window is None else "{}to{}".format(*self.window),
            "" if self.split == "test" else self.split,
            "" if self.data is None else _name_of(self.data),
            "all-windows" if self.all_windows else "",
            "integrated" if self.integrated else "",
            "" if self.clips is None else f"first-{self.clips}",
        ]
        return "".join(f"-{_plain(part)}" for part in parts if part)

    def name(self, file: str) -> str:
        """A file's name for this selection: "report.html" is "report-course.html"."""
        stem, _, kind = file.partition(".")
        return f"{stem}{self.suffix}.{kind}"


DEFAULT = Selection()


def evaluation_file(run: Path | str, selection: Selection | str = DEFAULT) -> Path:
    """Where a run's evaluation is stored; `Evaluation.load` reads it.

    Args:
        run: the run's folder.
        selection: what it is of; a text is the name of a protocol.
    """
    return Path(run) / _selection(selection).name(EVALUATION)


def report_file(run: Path | str, selection: Selection | str = DEFAULT) -> Path:
    """Where the page of a run's evaluation is stored."""
    return Path(run) / _selection(selection).name(REPORT)


def _selection(selection: Selection | str) -> Selection:
    return Selection(selection) if isinstance(selection, str) else selection


def _name_of(folder: Path) -> str:
    """The folder's name, and six digits of its place: two folders may have one name."""
    place = folder.resolve()
    digest = hashlib.sha256(str(place).encode(errors="surrogateescape")).hexdigest()
    return f"{place.name}-{digest[:6]}"


def _plain(part: str) -> str:
    """Letters, digits, dots, dashes and underscores; what else a folder's name has is a dash."""
    return re.sub(r"[^\w.-]", "-", part, flags=re.ASCII)
