"""The command `labkit import`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from labkit.cli.options import evaluation_of
from labkit.config import CONDITION_SIZES, Config, DataConfig
from labkit.errors import LabkitError, RunError
from labkit.presets import preset

if TYPE_CHECKING:
    from labkit.model.match_weights import Agreement, Choices, Recorded
    from labkit.model.read_weights import Checkpoint

IMPORTED = "import.json"
"""In the run's folder: the file it was imported from, and the settings that were guessed."""


@dataclass(frozen=True)
class Import:
    """Make a run of a checkpoint of SVG's code or of the course's sample code.

    FILE is what torch.save wrote: a dictionary of the state dicts of encoder, decoder,
    frame_predictor, posterior and, where it is learned, prior. The run works with labkit evaluate,
    prove, predict and compare.

    Sizes are read from the weights. The skip features' frame, the order of the frame predictor's
    inputs and the condition of a step are not in the weights: give them, or have them guessed, or
    give --check and they are found. FRAMES.npz has the arrays frames, condition, predicted and
    noise: inputs and outputs of the old model in evaluation mode (see labkit/model/README.md).
    """

    file: Annotated[Positional[Path], arg(metavar="FILE")]
    """the checkpoint"""
    out: Annotated[Path, arg(metavar="RUN")]
    """folder of the new run"""
    like: Literal["course", "svg"] | None = None
    """whose program saved it: the preset whose training settings are noted in the run, since FILE
    has none. If left out: course if there is a condition, else svg"""
    skip: Literal["svg", "last_context", "previous", "first"] | None = None
    """frame of the skip features: svg (i < n_past in the loop: frame n_past - 2), last_context
    (i <= n_past), previous (last_frame_skip) or first (frame 0)"""
    order: Annotated[str | None, arg(metavar="hcz|chz|hzc|...")] = None
    """how encoding h, condition c and latent z are joined for the frame predictor"""
    condition_at: Literal["previous", "target"] | None = None
    """condition of the step to frame t: c[t-1] (previous) or c[t] (target)"""
    n_past: Annotated[int | None, arg(metavar="N")] = None
    """context frames; from the options in FILE, or 2, if left out"""
    n_future: Annotated[int | None, arg(metavar="N")] = None
    """frames to predict; from the options in FILE, or 10, if left out"""
    check: Annotated[Path | None, arg(metavar="FRAMES.npz")] = None
    """recorded inputs and outputs of the old model, which decide what is not given"""
    data: Annotated[Path | None, arg(metavar="ROOT")] = None
    """folder of the data set that the run is evaluated on; data/simulated if left out"""

    def run(self) -> None:
        from labkit.files import replacing, write_whole
        from labkit.model.match_weights import Choices, build, config_of, read_recorded
        from labkit.model.read_weights import read_checkpoint
        from labkit.training.checkpoint import CONFIG, WEIGHTS, save_model

        if self.order is not None and sorted(self.order) != ["c", "h", "z"]:
            raise LabkitError(
                f"--order is {self.order}", hint="give the letters h, c and z, such as hcz or chz"
            )
        if self.out.is_dir() and any(self.out.iterdir()):
            raise RunError("the folder is not empty", file=self.out, hint="choose another folder")
        try:
            checkpoint = read_checkpoint(self.file)
            model_config, columns = config_of(checkpoint.parts)
        except RunError as error:
            raise RunError(error.what, file=self.file, hint=error.hint) from None
        recorded = None if self.check is None else read_recorded(self.check)
        stored = _stored(checkpoint)
        data = self._window(stored, columns)
        given = {
            name: value
            for name in ("skip", "order", "condition_at")
            if (value := getattr(self, name)) is not None
        }
        like = self.like or ("course" if columns else "svg")
        # In SVG's loop, and in most programs of the course, skip features are renewed while
        # i < n_past, where frame i-1 is encoded: the last ones are those of frame n_past - 2.
        guess = Choices(skip="previous" if stored.get("last_frame_skip") else "svg")
        found: list[Agreement] = []
        if recorded is None:
            choices = replace(guess, **given)
        else:
            found = self._checked(checkpoint, recorded, data.n_past, given)
            choices = found[0].choices
        try:
            model = build(checkpoint.parts, choices)
        except RunError as error:
            raise RunError(error.what, file=self.file, hint=error.hint) from None
        base = preset(like)
        config = replace(base, data=data, model=choices.applied(model_config))
        how = _origins(choices, given, found, stored, columns)
        note: dict[str, Any] = {
            "file": self.file.name,
            "sha256": hashlib.sha256(self.file.read_bytes()).hexdigest(),
            "like": like,
            "settings": {name: dict(value=value, how=why) for name, value, why in how},
            "ignored": list(checkpoint.ignored),
        }
        if found:
            note["largest_pixel_error"] = found[0].error
        with replacing(self.out) as fresh:
            save_model(model, fresh / WEIGHTS)
            write_whole(fresh / IMPORTED, json.dumps(note, indent=1) + "\n")
            config.save(fresh / CONFIG)
        _report(self, config, checkpoint, how, found)

    def _window(self, stored: Mapping[str, Any], columns: int) -> DataConfig:
        """The run's data: window and condition."""
        kind = next(name for name, size in CONDITION_SIZES.items() if size == columns)
        base = preset("course").data
        return replace(
            base,
            root=base.root if self.data is None else self.data.as_posix(),
            condition=kind,  # type: ignore[arg-type]
            n_past=stored.get("n_past", 2) if self.n_past is None else self.n_past,
            n_future=stored.get("n_future", 10) if self.n_future is None else self.n_future,
        )

    def _checked(
        self,
        checkpoint: Checkpoint,
        recorded: Recorded,
        n_past: int,
        given: Mapping[str, str],
    ) -> list[Agreement]:
        """The combinations that agree with the recorded outputs.

        Raises:
            RunError: none does.
        """
        from labkit.model.match_weights import agreements, as_near

        try:
            found = agreements(checkpoint.parts, recorded, n_past, given)
        except RunError as error:
            raise RunError(error.what, file=self.check, hint=error.hint) from None
        if not found or found[0].error > recorded.tolerance:
            nearest = ""
            if found:
                best = found[0]
                nearest = f"; the nearest, {_words(best.choices)}, differs by {best.error:.2g}"
            raise RunError(
                f"no combination gives the recorded frames{nearest} in a pixel of [0, 1]",
                file=self.check,
                hint="record them with the old model in evaluation mode, frame by frame, with the "
                "noise of z; leave out what you gave of --skip, --order, --condition-at; or see "
                "whether --n-past is right",
            )
        return as_near(found)


def _stored(checkpoint: Checkpoint) -> dict[str, Any]:
    """The options of the old program that are used here, where they make sense."""
    options = checkpoint.options
    found: dict[str, Any] = {}
    for name, limit in (("n_past", 100), ("n_future", 1000)):
        value = options.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= limit:
            found[name] = value
    if isinstance(options.get("last_frame_skip"), bool):
        found["last_frame_skip"] = options["last_frame_skip"]
    return found


def _origins(
    choices: Choices,
    given: Mapping[str, str],
    found: list[Agreement],
    stored: Mapping[str, Any],
    columns: int,
) -> list[tuple[str, str, str]]:
    """Each choice: name, value, and where it comes from."""
    origins = []
    for name, value in asdict(choices).items():
        if name in given:
            how = "given"
        elif name == "condition_at" and not columns:
            continue
        elif found:
            same = {asdict(each.choices)[name] for each in found} == {value}
            how = "found by --check" if same else "guessed: --check does not decide it"
        elif name == "skip" and stored.get("last_frame_skip"):
            how = "from the options in the file"
        elif name == "order" and not columns:
            how = "guessed: SVG's own"
        else:
            how = "guessed"
        origins.append((name, value, how))
    return origins


def _words(choices: Choices) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(choices).items())


def _report(
    command: Import,
    config: Config,
    checkpoint: Checkpoint,
    origins: list[tuple[str, str, str]],
    found: list[Agreement],
) -> None:
    """Prints what was read, what was guessed, and what comes next."""
    model, data = config.model, config.data
    print(
        f"Read from the weights: {model.backbone}, width {model.width}, frames of "
        f"{model.frame_size}, encoding {model.encoding_size}, latent {model.latent_size}, hidden "
        f"{model.hidden_size}, {model.prior} prior, condition: {data.condition}."
    )
    if checkpoint.ignored:
        print(f"Also in the file, and left: {', '.join(map(str, checkpoint.ignored))}.")
    print(
        f"Window: {data.n_past} -> {data.n_future} frames. The training settings in config.json "
        "are those of a preset: FILE has none."
    )
    for name, value, how in origins:
        print(f"  --{name.replace('_', '-')} {value:<14}{how}")
    if found:
        print(
            f"The recorded frames agree to {found[0].error:.2g} in a pixel of [0, 1], with z from "
            f"the {found[0].z_from} after the context."
        )
    if any(how.startswith("guessed") for _, _, how in origins):
        print(
            "What is guessed may be wrong, and no error would show it: the predictions would only "
            "be worse. Compare with the loop of the old program, or give --check FRAMES.npz."
        )
    print(f"{command.out} is imported; next: {evaluation_of(command.out, data.root)}")
