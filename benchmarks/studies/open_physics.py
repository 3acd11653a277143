"""How much of the simulated table do two frames, the actions and the positions leave open?

    python benchmarks/studies/open_physics.py
    python benchmarks/studies/open_physics.py --run runs/latent --picture docs/latent.png

Masses and frictions cannot be seen. From the last context frame on, each test clip is run again
with others, drawn as the simulator draws them; the actions, the arm's errors and all that can be
seen stay. Each of these futures is one sample of a predictor that knows everything but the hidden
physics. Where they are alike, no latent is needed.

Printed by region, over all its pixels in the 10 frames after 2: PSNR of repeating the last context
frame, of one such sample, of the mean of all, and of the best (chosen for each clip and region);
and the standard deviation over the samples. A model that has not learned the rest of the world has
more to guess than this, and so has one that cannot see what is behind the arm at first.

With a run, its samples of one clip are drawn beside these futures instead.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pymunk
import torch
import tyro
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from labkit.data.dataset import ClipDataset
from labkit.data.pack import open_pack
from labkit.data.simulator import SPLIT_OFFSETS
from labkit.data.simulator.generate import manifest_seed
from labkit.data.simulator.physics import LiveTable, Motion, run
from labkit.data.simulator.render import render
from labkit.data.simulator.scene import Thing, sample_scene
from labkit.data.simulator.world import SimulatedWorld
from labkit.evaluation.regions import REGIONS, psnr_of_mse
from labkit.files import write_whole
from labkit.frames import to_uint8
from labkit.training.checkpoint import load_model
from labkit.views import figure_png
from labkit.views.deviation import deviation_map

N_PAST, HORIZON = 2, 10
N_FRAMES = N_PAST + HORIZON


@dataclass(frozen=True)
class Options:
    """Of which clips, and how many futures."""

    data: Path = Path("data/simulated")
    """the pack whose test clips these are"""
    clips: int = 256
    """test clips"""
    samples: int = 20
    """futures of each"""
    run: Path | None = None
    """a run folder: draw where its samples of one clip differ, and where these futures do"""
    picture: Path = Path("open_physics.png")
    """where to draw that"""
    clip: int = 5
    """which test clip"""


def hidden_physics(rng: np.random.Generator, count: int) -> list[Thing]:
    """So many objects as the simulator draws them, for their masses and frictions."""
    things: list[Thing] = []
    while len(things) < count:
        things += sample_scene(rng).things
    return things[:count]


def give(body: pymunk.Body, was: Thing, new: Thing) -> None:
    """Another mass and friction, in the midst of the motion."""
    for shape in body.shapes:
        shape.density *= new.mass / was.mass
    for joint in body.constraints:
        joint.max_force *= (new.friction * new.mass) / (was.friction * was.mass)


def first_frames(motion: Motion) -> Motion:
    """The window that is predicted. An object that moves anywhere in the clip stays `moved`."""
    return dataclasses.replace(
        motion,
        actions=motion.actions[:N_FRAMES],
        effector=motion.effector[:N_FRAMES],
        fingers=motion.fingers[:N_FRAMES],
        poses=motion.poses[:N_FRAMES],
    )


def another_future(world: SimulatedWorld, actual: Motion, rng: np.random.Generator) -> Motion:
    """The window's motion, with other hidden physics from the last context frame on."""
    table = LiveTable(world.scene, world.control())
    poses = np.zeros_like(actual.poses)
    effector, fingers = np.zeros_like(actual.effector), np.zeros_like(actual.fingers)
    for t in range(N_FRAMES):
        if t == N_PAST - 1:
            things = world.scene.things
            drawn = hidden_physics(rng, len(things))
            for body, was, new in zip(table.table.bodies, things, drawn, strict=True):
                give(body, was, new)
        effector[t], fingers[t], poses[t] = table.now()
        table.advance(actual.actions[t])
    return dataclasses.replace(actual, effector=effector, fingers=fingers, poses=poses)


@dataclass
class Region:
    """What is summed over a region's pixels."""

    squared: dict[str, float] = field(default_factory=dict)
    """squared errors, by what is compared with the truth"""
    values: int = 0
    deviations: list[float] = field(default_factory=list)
    """mean over the region, of each clip that has one"""

    def add(
        self,
        mask: Bool[Tensor, "S 1 H W"],
        truth: Float[Tensor, "S 3 H W"],
        last: Float[Tensor, "3 H W"],
        futures: Float[Tensor, "N S 3 H W"],
    ) -> None:
        """Takes up a clip: its pixels, frames, last context frame and other futures."""
        if not mask.any():
            return

        def errors(guess: Tensor) -> Tensor:
            return ((guess - truth).square() * mask).sum(dim=(-4, -3, -2, -1))

        each = errors(futures)
        found = {
            "repeat": errors(last),
            "one": each.mean(),
            "mean": errors(futures.mean(0)),
            "best": each.min(),
        }
        for name, squared in found.items():
            self.squared[name] = self.squared.get(name, 0.0) + squared.item()
        self.values += 3 * int(mask.sum())
        deviation = futures.std(dim=0).mean(dim=1, keepdim=True)
        self.deviations.append(deviation[mask].mean().item())

    def row(self, name: str) -> str:
        """A row of the table."""
        psnrs = [f"{psnr_of_mse(one / self.values):.2f}" for one in self.squared.values()]
        return f"| {' | '.join([name, *psnrs])} | {np.mean(self.deviations):.4f} |"


def futures_of(
    world: SimulatedWorld, actual: Motion, samples: int, rng: np.random.Generator
) -> Float[Tensor, "N S 3 H W"]:
    """The frames after the context, so many times."""
    each = (render(world.scene, another_future(world, actual, rng), 64) for _ in range(samples))
    return torch.stack([pixels(frames[N_PAST:]) for frames, _ in each])


def main(options: Options) -> None:
    """Simulates and prints, or draws."""
    seed = manifest_seed(open_pack(options.data).manifest)
    if seed is None:
        raise SystemExit(f"{options.data} was not made by this simulator")
    rng = np.random.default_rng(0)
    if options.run is not None:
        draw(options, options.run, SimulatedWorld(seed, SPLIT_OFFSETS["test"] + options.clip), rng)
        return
    regions = {name: Region() for name in REGIONS}
    for index in range(options.clips):
        world = SimulatedWorld(seed, SPLIT_OFFSETS["test"] + index)
        actual = first_frames(run(world.scene, world.control(), 30))
        frames, labels = render(world.scene, actual, 64)
        futures = futures_of(world, actual, options.samples, rng)
        whole, where = pixels(frames), torch.from_numpy(labels[N_PAST:])[:, None]
        for name, label in REGIONS.items():
            regions[name].add(where == label, whole[N_PAST:], whole[N_PAST - 1], futures)
    print("| region | repeat | one sample | mean of samples | best | deviation |")
    print("| --- | --: | --: | --: | --: | --: |")
    for name, region in regions.items():
        print(region.row(name))


def draw(options: Options, folder: Path, world: SimulatedWorld, rng: np.random.Generator) -> None:
    """Where the model's samples of one clip differ, above where its physics is open."""
    model, config = load_model(folder)
    data = dataclasses.replace(config.data, root=str(options.data))
    batch = ClipDataset.from_config(data, "test", windows="first").batch([options.clip]).to("cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        made = model.predict(
            batch.frames[:, :N_PAST],
            batch.condition,
            HORIZON,
            samples=options.samples,
            generator=generator,
        )[0]
    actual = first_frames(run(world.scene, world.control(), 30))
    futures = futures_of(world, actual, options.samples, rng)
    maps = [255 * each.std(dim=0).mean(dim=1).numpy() for each in (made, futures)]
    figure = deviation_map(
        to_uint8(batch.frames[0, N_PAST:]),
        to_uint8(made[0], clip=True),
        maps[0],
        N_PAST,
        f"{folder.name}, simulated test clip {options.clip}: 2 -> 10 frames, free-running, "
        f"{options.samples} samples from the prior, the same actions; last row: "
        f"{options.samples} simulations with other masses and frictions.",
        maps[1],
    )
    write_whole(options.picture, figure_png(figure))


def pixels(frames: UInt8[np.ndarray, "T 3 H W"]) -> Float[Tensor, "T 3 H W"]:
    """In [0, 1]."""
    return torch.from_numpy(frames).float() / 255


if __name__ == "__main__":
    main(tyro.cli(Options))
