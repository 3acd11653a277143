"""Are pushed objects in their new place at the last predicted frame, and gone from the old one?

    python benchmarks/studies/pushed_objects.py notebooks/best_run --picture pushed.png

First the regions' PSNR with three gates: shut, so that nothing is pushed; as learned; and one that
knows the true frames and moves a pixel where that is better. The last is what the arm's own
displacement is worth. PSNR is that of the mean squared error over all pixels of a region.

Then it looks at the first test clips of the simulated table in which an object moves after the
context: of the pixels that it covers in the last frame or in the last context frame, at least 20
are not in both. PSNR over a few pixels says little of one object, so they are counted. An object
counts as

    in its new place   where it is in the last true frame and was not before: the prediction is
                       nearer to the true frame than to the last context frame
    gone               where it was and is no more: the same

each by the squared error over those pixels that the arm does not cover in either frame. A clip
with several moving objects is counted once, over the pixels of all of them. 2 -> 10 frames,
free-running, the mean of the prior (z = 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from jaxtyping import Bool, Float
from torch import Tensor

from labkit.data.dataset import ClipDataset
from labkit.evaluation.regions import REGIONS, RegionErrors, joined_errors, region_errors
from labkit.files import write_whole
from labkit.frames import to_uint8
from labkit.model import VideoCVAE
from labkit.model.pusher import ArmMotion, PushCandidates, Pusher, blend
from labkit.training.checkpoint import load_model
from labkit.views import figure_png

N_PAST, HORIZON = 2, 10
CLEARLY = 0.02
"""squared error, summed over colours, by which moving must be better for the gate that knows"""
LEAST = 20
"""pixels that an object must leave or newly cover to count as pushed"""


@dataclass(frozen=True)
class Options:
    """Which run, and which clips."""

    run: tyro.conf.Positional[Path]
    """a run folder"""
    data: Path = Path("data/simulated")
    """the data set whose test clips these are; it must have labels"""
    clips: int = 16
    """how many clips with a pushed object"""
    judged: int = 64
    """test clips for the table of gates; 0 leaves it out"""
    picture: Path | None = None
    """draw these clips: last context frame, last true frame, prediction"""


@dataclass(frozen=True)
class Pushed:
    """One clip with a pushed object."""

    number: int
    before: Float[Tensor, "3 H W"]
    """the last context frame"""
    after: Float[Tensor, "3 H W"]
    """the last true frame"""
    new: Bool[Tensor, "H W"]
    """where an object came to"""
    old: Bool[Tensor, "H W"]
    """where it was"""


def pushed_clips(clips: ClipDataset, count: int) -> list[Pushed]:
    """The first so many of them."""
    arm, moved = REGIONS["arm"], REGIONS["moved"]
    found: list[Pushed] = []
    for number in range(len(clips)):
        batch = clips.batch([number]).to("cpu")
        assert batch.labels is not None
        before, after = batch.labels[0, N_PAST - 1], batch.labels[0, -1]
        seen = (before != arm) & (after != arm)
        new = seen & (after == moved) & (before != moved)
        old = seen & (before == moved) & (after != moved)
        if new.sum() + old.sum() >= LEAST and new.any() and old.any():
            found.append(Pushed(number, batch.frames[0, N_PAST - 1], batch.frames[0, -1], new, old))
        if len(found) == count:
            break
    return found


def nearer_to_truth(
    predicted: Float[Tensor, "3 H W"], clip: Pushed, where: Bool[Tensor, "H W"]
) -> bool:
    """Whether the prediction is nearer to the last true frame than to the last context frame."""
    true, same = (
        (predicted - other).square().sum(0)[where].sum() for other in (clip.after, clip.before)
    )
    return bool(true < same)


class OtherGate(Pusher):
    """A pusher that moves all or nothing of each pixel, and corrects no displacement."""

    targets: Float[Tensor, "B T 3 H W"] | None = None
    """true frames of the steps; None: the gate is shut"""
    step = 0

    def forward(
        self,
        table: Float[Tensor, "N 3 H W"],
        displaced: Float[Tensor, "N 2 H W"],
        now: Float[Tensor, "N 3 H W"],
        frame: Float[Tensor, "N 3 H W"],
        arm: ArmMotion,
        condition: Float[Tensor, "N c"],
    ) -> tuple[Float[Tensor, "N 2 H W"], Float[Tensor, "N 3 H W"], PushCandidates]:
        """As `Pusher.forward`."""
        gate = torch.zeros_like(arm.after)
        candidates = blend(table, displaced, arm, arm.displacement, gate)[2]
        if self.targets is not None:
            true = self.targets[:, self.step]
            still, moved = (
                (each - true).square().sum(1, keepdim=True) * (1 - arm.after)
                for each in (candidates.still, candidates.moved)
            )
            gate = (still > moved + CLEARLY).to(gate.dtype)
        self.step += 1
        return blend(table, displaced, arm, arm.displacement, gate)


def judged_gates(model: VideoCVAE, clips: ClipDataset, count: int) -> None:
    """Prints the table of gates."""
    learned = model.output.pusher
    print("| gate | all pixels | " + " | ".join(REGIONS) + " |")
    print("| --- |" + " --: |" * (1 + len(REGIONS)))
    for name in ("shut", "learned", "knows the true frames"):
        errors: list[dict[str, RegionErrors]] = []
        for first in range(0, count, 32):
            batch = clips.batch(range(first, min(first + 32, count))).to("cpu")
            truth = batch.frames[:, N_PAST:]
            if name != "learned":
                other = OtherGate(model.condition_size, 4)
                other.targets = None if name == "shut" else truth
                model.output.pusher = other
            with torch.inference_mode():
                predicted = model.predict(
                    batch.frames[:, :N_PAST], batch.condition, HORIZON, sample=False
                )
            model.output.pusher = learned
            errors.append(region_errors(predicted, truth, batch.labels[:, N_PAST:]))
        regions = {each: joined_errors([part[each] for part in errors]) for each in REGIONS}
        whole = RegionErrors(
            torch.stack([each.squared.sum() for each in regions.values()]),
            torch.stack([each.count.sum() for each in regions.values()]),
        )
        figures = [whole.psnr(), *(regions[region].psnr() for region in REGIONS)]
        print(f"| {name} | " + " | ".join(f"{each:.2f}" for each in figures) + " |")
    print()


def main(options: Options) -> None:
    """Prints the table of gates, a row for each clip, and the counts."""
    model, config = load_model(options.run)
    clips = ClipDataset(options.data, "test", windows="first", condition=config.data.condition)
    if options.judged and model.output.carries:
        judged_gates(model, clips, min(options.judged, len(clips)))
    pictures, counts = [], [0, 0, 0]
    print("| clip | in its new place | gone from the old |\n| --: | --- | --- |")
    for clip in pushed_clips(clips, options.clips):
        batch = clips.batch([clip.number]).to("cpu")
        with torch.inference_mode():
            predicted = model.predict(
                batch.frames[:, :N_PAST], batch.condition, HORIZON, sample=False
            )[0, -1]
        new, old = (nearer_to_truth(predicted, clip, each) for each in (clip.new, clip.old))
        for place, yes in enumerate((new, old, new and old)):
            counts[place] += yes
        print(f"| {clip.number} | {'yes' if new else 'no'} | {'yes' if old else 'no'} |")
        pictures.append([clip.before, clip.after, predicted])
    print(
        f"\nOf {len(pictures)} clips with a pushed object: {counts[0]} in the new place, "
        f"{counts[1]} gone from the old one, {counts[2]} both."
    )
    if options.picture is not None:
        write_whole(options.picture, drawn(pictures))
        print(f"Look at {options.picture}")


def drawn(rows: list[list[Float[Tensor, "3 H W"]]]) -> bytes:
    """The frames as a PNG, a row for each clip."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 1.6 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 3, squeeze=False)
    for row, frames in zip(axes, rows, strict=True):
        for axis, frame in zip(row, frames, strict=True):
            axis.imshow(to_uint8(frame.permute(1, 2, 0).numpy()))
            axis.set_axis_off()
    for axis, title in zip(
        axes[0], ("last context frame", "last frame", "prediction"), strict=True
    ):
        axis.set_title(title, fontsize=9)
    return figure_png(figure)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
