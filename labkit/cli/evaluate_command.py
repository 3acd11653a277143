"""The command `labkit evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from labkit.cli.options import Device, Threads, require_run, terminal_width, use, wrapped
from labkit.cli.reading import Flag


@dataclass(frozen=True)
class Evaluate:
    """Predict a split's clips with a run's model; write numbers, figures, GIFs, report.html.

    Measures PSNR and SSIM (and LPIPS, if its weights are installed) of every predicted frame, with
    intervals over clips. For comparison: the last context frame repeated, the prediction with z at
    the prior's mean, and the posterior's reconstruction, which sees its target. Also by region, if
    the clips have region labels.

    Protocols: frame (the run's own window, 2 -> 10 in all presets; one sample, PSNR over all pixels
    and channels), course (2 -> 10, the first 12 frames, PSNR per channel: the coursework's grade),
    long (2 -> 28), videogpt (1 -> 15), best-of-N (the run's own window, the best of N samples,
    chosen with the true frames), svg (2 -> 28, best of 100, for models without actions).
    """

    folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """folder of the run"""
    protocol: Annotated[str, arg(metavar="NAME")] = "frame"
    """frame, course, long, svg, videogpt, or best-of-N with N from 2 to 100"""
    n_past: Annotated[int | None, arg(metavar="N")] = None
    """context frames; those of the protocol if left out"""
    n_future: Annotated[int | None, arg(metavar="N")] = None
    """frames to predict; those of the protocol if left out"""
    split: str = "test"
    """split to evaluate"""
    clips: Annotated[int | None, arg(metavar="N")] = None
    """evaluate only the first N clips"""
    windows: Literal["first", "all"] = "first"
    """the first window of each clip, as in the course, or all windows"""
    samples: Annotated[int, arg(metavar="N")] = 5
    """sampled futures of each clip, to measure the diversity of samples; 1 skips it. best-of-N and
    svg have their own number"""
    lpips: Literal["alex", "vgg", "both", "none"] = "alex"
    """network of LPIPS; vgg is slow on a CPU"""
    positions: Literal["measured", "integrated"] = "measured"
    """end-effector positions at predicted steps: as measured, or added up from the actions"""
    i3d: Annotated[Path | None, arg(metavar="FILE")] = None
    """the network of FVD; if left out, that of LABKIT_I3D or of torch's cache, if there is one"""
    data: Annotated[Path | None, arg(metavar="ROOT")] = None
    """folder of another data set; the run's own if left out"""
    device: Device = None
    """cpu, cuda or mps; a GPU if there is one and this is left out"""
    threads: Threads = None
    """threads of the CPU; torch's own choice if left out"""
    progress: Flag = True
    """show no progress bar"""

    def run(self) -> None:
        from labkit.reporting.evaluate_run import evaluate_run
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
            device=use(self.device, self.threads),
            n_past=self.n_past,
            n_future=self.n_future,
            positions=self.positions,
            i3d=self.i3d,
        )
        print(wrapped(f"{evaluation.protocol[0].upper()}{evaluation.protocol[1:]}."))
        for table in tables_of(evaluation, steps=["psnr"]):
            print(f"\n{as_text(table, terminal_width())}")
        for sentence in sentences(evaluation):
            print(f"\n{wrapped(sentence)}")
        print(f"\nLook at {evaluation.report}")
