"""The commands that put a run to the test: no leak, and control by the actions."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from labkit.cli.commands import require_run
from labkit.cli.reading import Flag
from labkit.errors import LabkitError

if TYPE_CHECKING:
    from labkit.config import Config
    from labkit.data.dataset import ClipDataset
    from labkit.model import VideoCVAE


@dataclass(frozen=True)
class Prove:
    """Prove that a run's predictions read no future frame, or name the leak.

    Future frames are replaced by noise and by NaN, and their gradient is taken; each frame,
    condition and prediction is disturbed alone. Writes RUN/certificate.json and
    RUN/certificate.png; the exit code is 1 where a leak was found. For a predictor of your own:
    labkit.evaluation.leakage.prove.
    """

    folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """folder of the run"""
    split: str = "test"
    """split whose first clips are taken"""
    clips: Annotated[int, arg(metavar="N")] = 4
    """how many; with 2 or more it shows whether a clip depends on others"""
    data: Annotated[Path | None, arg(metavar="ROOT")] = None
    """another data set's folder; the run's own if left out"""
    seed: int = 0
    """seed of the predictions and of the noise"""
    progress: Flag = True
    """switch the progress bars off"""

    def run(self) -> int:
        from labkit.evaluation.leakage import predictor_of, prove
        from labkit.files import write_whole
        from labkit.reporting.evaluate_run import CERTIFICATE, CERTIFICATE_PICTURE, certificate_png
        from labkit.training.checkpoint import WEIGHTS

        model, config, dataset = _opened(self.folder, self.split, self.clips, self.data)
        proof = prove(
            predictor_of(model),
            dataset.batch(range(min(self.clips, len(dataset)))),
            config.data.n_past,
            seed=self.seed,
            weights=self.folder / WEIGHTS,
            data=f"the {self.split} split of {Path(dataset.root).name}",
            progress=self.progress,
        )
        write_whole(self.folder / CERTIFICATE_PICTURE, certificate_png(proof))
        proof.save(self.folder / CERTIFICATE)
        print(proof.text())
        print(f"Look at {self.folder / 'certificate.png'}")
        return 0 if proof.clean else 1


@dataclass(frozen=True)
class Control:
    """Measure how a run's predictions follow the actions: same past, other actions.

    On simulated clips each scene is simulated again with another clip's actions, and the
    prediction is held against that: PSNR, and how far off the gripper is. On any clips: the PSNR
    that shuffling the conditions costs. Writes RUN/control.json, and on simulated clips
    RUN/control.png.
    """

    folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """folder of the run"""
    split: str = "test"
    """split whose first clips are taken"""
    clips: Annotated[int, arg(metavar="N")] = 64
    """how many"""
    data: Annotated[Path | None, arg(metavar="ROOT")] = None
    """another data set's folder; the run's own if left out"""
    seed: int = 0
    """seed of the predictions and of the shuffling"""
    progress: Flag = True
    """switch the progress bar off"""

    def run(self) -> None:
        from labkit.evaluation.controllability import controllability
        from labkit.files import write_whole
        from labkit.views.filmstrip import filmstrip, png_bytes

        model, _, dataset = _opened(self.folder, self.split, self.clips, self.data)
        result = controllability(
            model, dataset, clips=self.clips, seed=self.seed, progress=self.progress
        )
        told = json.dumps(result.summary(), indent=1, allow_nan=False)
        write_whole(self.folder / "control.json", told + "\n")
        print(result.text())
        if result.simulated:
            rows = {name: frames[0] for name, frames in result.examples.items()}
            picture = png_bytes(filmstrip(rows, n_past=result.n_past))
            write_whole(self.folder / "control.png", picture)
            print(f"Look at {self.folder / 'control.png'}")


def _opened(
    folder: Path, split: str, clips: int, data: Path | None
) -> tuple[VideoCVAE, Config, ClipDataset]:
    """A run's model on the CPU, its config, and the first window of each clip of a split."""
    from labkit.data.dataset import ClipDataset
    from labkit.training.checkpoint import load_model

    require_run(folder)
    if clips < 1:
        raise LabkitError(f"--clips is {clips}: nothing to judge", hint="give 1 or more")
    model, config = load_model(folder)
    where = config.data if data is None else dataclasses.replace(config.data, root=data.as_posix())
    return model, config, ClipDataset.from_config(where, split, windows="first")
