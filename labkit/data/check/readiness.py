"""What training and evaluation would say to a data set: the splits and the lengths of its clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from shlex import quote

from labkit.config import DataConfig
from labkit.data.check.findings import WINDOW, CheckReport, SplitReport
from labkit.data.clip import SPLITS
from labkit.data.pack import is_pack
from labkit.errors import DataError


def cannot_be_used(report: CheckReport) -> Iterator[DataError]:
    """The faults with which every training and every evaluation refuses the data set."""
    found = _usual(report)
    if report.splits and not found:
        names = list(report.splits)
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        what = f"has no split train, validate or test, but {', '.join(names[:4])}{more}"
        hint = (
            "each folder is taken for a split: make the folders train, validate and test, and "
            "move each clip's folder into one of them"
        )
        if is_pack(report.root):
            hint = "make the pack again from folders called train, validate and test"
        yield DataError(what, file=report.root, hint=hint)
    for name, split in found.items():
        if _longest(split) == 1:
            what = f"no clip of {name} has two frames: there is nothing to predict"
            yield DataError(what, file=report.root, hint="record or keep more frames")


def missing_for_use(report: CheckReport) -> Iterator[str]:
    """Notes on what `labkit train` or `labkit evaluate` refuses without an option, and the option
    that makes it work."""
    found = _usual(report)
    if found:
        yield from _missing_splits(report, found)
    lengths = {name: _longest(split) for name, split in found.items()}
    short = [name for name, longest in lengths.items() if 1 < longest < WINDOW]
    if short:
        least = min(longest for longest in lengths.values() if longest > 1)
        past = min(DataConfig().n_past, least - 1)
        yield (
            f"no clip of {' or '.join(short)} has {WINDOW} frames ({DataConfig().n_past} of "
            f"context and {DataConfig().n_future} to predict), so training or evaluation refuses "
            f"them: make longer clips (keep more frames), or train with --data.n-past {past} "
            f"--data.n-future {least - past}, for which the longest clips are long enough"
        )


def _missing_splits(report: CheckReport, found: Mapping[str, SplitReport]) -> Iterator[str]:
    root = quote(str(report.root))
    move = "move some clips into folders called validate and test"
    if is_pack(report.root):
        move = "convert again with --split 0.8,0.1,0.1 (two recordings: 0.5,0,0.5)"
    if "train" not in found:
        other = "" if "test" in found else " --split validate"
        yield (
            "there is no split train, so labkit train refuses this data set; a run that is "
            f"trained on other data can be evaluated on it: labkit evaluate RUN --data {root}"
            f"{other}"
        )
        return
    one = found["train"].readable == 1 and "validate" not in found
    if one:
        yield (
            "train has one clip, and there is no split validate: train with "
            "--data.validation-split train; the weights are then chosen by the clip that they "
            "have learnt"
        )
    if "test" not in found and "validate" in found:
        yield (
            "there is no split test, so evaluate with labkit evaluate RUN --split validate; the "
            "best weights are chosen by these clips, so the result is a little too good"
        )
    elif "test" not in found:
        if one:
            move = "more recordings are needed"
        chosen = "" if one else "labkit train keeps a tenth of its clips for validation, and "
        windows = " --windows all" if one else ""
        yield (
            f"train is the only split: {chosen}labkit evaluate RUN refuses, since it takes the "
            f"split test. To have one, {move}. labkit evaluate RUN --split train{windows} measures "
            "clips that were trained on"
        )


def _usual(report: CheckReport) -> dict[str, SplitReport]:
    return {name: report.splits[name] for name in SPLITS if name in report.splits}


def _longest(split: SplitReport) -> int:
    """Frames of its longest readable clip; 0 where none can be read."""
    return max(split.lengths, default=0)
