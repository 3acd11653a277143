"""`labkit evaluate`: a run judged by a protocol."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from labkit.cli.commands import require_run
from labkit.cli.reading import Flag


@dataclass(frozen=True)
class Evaluate:
    """Predict a split's clips with a run's model; write numbers, figures, GIFs, report.html.

    PSNR and SSIM (and LPIPS, where its weights are at hand) of every predicted frame, with
    intervals over clips, beside repeating the last context frame, the mean of the prior, and
    posterior reconstructions, which see their target. By region, where the clips have labels.

    Protocols: frame (2 -> 10 frames, one sample, PSNR over all pixels and channels), course (the
    same of the first 12 frames, PSNR per channel: what is graded), long (2 -> 28), best-of-N (the
    best of N samples, chosen by looking at the truth), svg (2 -> 28, best of 100, for models that
    are told no action).
    """

    folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """folder of the run"""
    protocol: Annotated[str, arg(metavar="NAME")] = "frame"
    """frame, course, long, svg, or best-of-N with N from 2 to 100"""
    split: str = "test"
    """split to predict"""
    clips: Annotated[int | None, arg(metavar="N")] = None
    """take only the first N clips"""
    windows: Literal["first", "all"] = "first"
    """the first window of each clip, as the course does, or every one"""
    samples: Annotated[int, arg(metavar="N")] = 5
    """futures of each clip from which the spread between samples is measured; 1 leaves it out.
    best-of-N and svg take their own number"""
    lpips: Literal["alex", "vgg", "both", "none"] = "alex"
    """the network of LPIPS; vgg takes long on a CPU"""
    data: Annotated[Path | None, arg(metavar="ROOT")] = None
    """another data set's folder; the run's own if left out"""
    progress: Flag = True
    """switch the progress bar off"""

    def run(self) -> None:
        from labkit.reporting.evaluate_run import evaluate_run, report_file
        from labkit.reporting.tables import as_text, sentences, tables_of

        require_run(self.folder)
        evaluation = evaluate_run(
            self.folder,
            self.split,
            self.clips,
            self.progress,
            self.windows,
            self.data,
            self.protocol,
            self.samples,
            {"both": ("alex", "vgg"), "none": ()}.get(self.lpips, (self.lpips,)),  # type: ignore[arg-type]
        )
        print(_wrapped(f"{evaluation.protocol[0].upper()}{evaluation.protocol[1:]}."))
        for table in tables_of(evaluation, steps=["psnr"]):
            print(f"\n{as_text(table)}")
        for sentence in sentences(evaluation):
            print(f"\n{_wrapped(sentence)}")
        print(f"\nLook at {report_file(self.folder, evaluation.name)}")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)
