"""The commands that put a run to the test: no leak, and control by the actions."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from labkit.cli.options import Device, Threads, checked_seed, fitted, require_run, use
from labkit.cli.reading import Flag
from labkit.errors import LabkitError

if TYPE_CHECKING:
    from labkit.config import Config
    from labkit.data.dataset import ClipDataset
    from labkit.model import VideoCVAE


@dataclass(frozen=True)
class Prove:
    """Check that a run's predictions read no future frame, or name the leak.

    Future frames are replaced by noise and by NaN, their gradient is computed, and each frame,
    condition and prediction is changed alone. Writes RUN/certificate.json and RUN/certificate.png.
    The exit code is 1 if a leak was found. For your own predictor: labkit.evaluation.leakage.prove.
    """

    folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """folder of the run"""
    split: str = "test"
    """split with the clips"""
    clips: Annotated[int, arg(metavar="N")] = 4
    """number of clips; 2 or more show whether a prediction depends on other clips"""
    data: Annotated[Path | None, arg(metavar="ROOT")] = None
    """folder of another data set; the run's own if left out"""
    seed: int = 0
    """seed of the predictions and of the noise"""
    device: Device = None
    """cpu, cuda or mps; a GPU if there is one and this is left out"""
    threads: Threads = None
    """threads of the CPU; torch's own choice if left out"""
    progress: Flag = True
    """show no progress bars"""

    def run(self) -> int:
        from labkit.evaluation.leakage import predictor_of, prove
        from labkit.files import write_whole
        from labkit.reporting.certificate import certificate_png
        from labkit.reporting.run_files import CERTIFICATE, CERTIFICATE_PICTURE
        from labkit.training.checkpoint import WEIGHTS

        model, config, dataset, device = _opened(self)
        proof = prove(
            predictor_of(model),
            dataset.batch(range(min(self.clips, len(dataset)))).to(device),
            config.data.n_past,
            seed=self.seed,
            weights=self.folder / WEIGHTS,
            data=f"the {self.split} split of {Path(dataset.root).name}",
            progress=self.progress,
        )
        write_whole(self.folder / CERTIFICATE_PICTURE, certificate_png(proof))
        proof.save(self.folder / CERTIFICATE)
        print(fitted(proof.text()))
        print(f"Look at {self.folder / 'certificate.png'}")
        return 0 if proof.clean else 1


@dataclass(frozen=True)
class Control:
    """Measure how a run's predictions follow the actions: same context, other actions.

    A simulated clip is simulated again with another clip's actions and compared with the
    prediction: PSNR, and the error of the gripper's position. On all clips: the PSNR that is lost
    with shuffled conditions. Writes RUN/control.json, and for simulated clips RUN/control.png.
    """

    folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """folder of the run"""
    split: str = "test"
    """split with the clips"""
    clips: Annotated[int, arg(metavar="N")] = 64
    """number of clips"""
    data: Annotated[Path | None, arg(metavar="ROOT")] = None
    """folder of another data set; the run's own if left out"""
    seed: int = 0
    """seed of the predictions and of the shuffling"""
    device: Device = None
    """cpu, cuda or mps; a GPU if there is one and this is left out"""
    threads: Threads = None
    """threads of the CPU; torch's own choice if left out"""
    progress: Flag = True
    """show no progress bar"""

    def run(self) -> None:
        from labkit.evaluation.controllability import controllability
        from labkit.files import write_whole
        from labkit.views.filmstrip import filmstrip, png_bytes

        model, _, dataset, device = _opened(self)
        result = controllability(
            model,
            dataset,
            clips=self.clips,
            seed=self.seed,
            progress=self.progress,
            device=device,
        )
        summary = json.dumps(result.summary(), indent=1, allow_nan=False)
        write_whole(self.folder / "control.json", summary + "\n")
        print(fitted(result.text()))
        if result.simulated:
            rows = {name: frames[0] for name, frames in result.examples.items()}
            picture = png_bytes(filmstrip(rows, n_past=result.n_past))
            write_whole(self.folder / "control.png", picture)
            print(f"Look at {self.folder / 'control.png'}")


def _opened(command: Prove | Control) -> tuple[VideoCVAE, Config, ClipDataset, str]:
    """The run's model, its config, the first window of each clip of the split, and the device.

    Raises:
        LabkitError: the run, the split, or an option cannot be used.
    """
    from labkit.data.dataset import ClipDataset
    from labkit.training.checkpoint import load_model

    require_run(command.folder)
    checked_seed(command.seed)
    if command.clips < 1:
        hint = "give 1 or more"
        raise LabkitError(f"--clips is {command.clips}: no clip to evaluate", hint=hint)
    device = use(command.device, command.threads)
    model, config = load_model(command.folder, device)
    where = config.data
    if command.data is not None:
        where = dataclasses.replace(where, root=command.data.as_posix())
    return model, config, ClipDataset.from_config(where, command.split, windows="first"), device
