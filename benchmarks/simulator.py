"""How fast is the simulator on one core, and what do its windows save?

    python benchmarks/simulator.py

Prints frames a second, the shares of physics and rendering, and, from the same run, the ratio
to a naive renderer: the same drawing code with every object and link in a window as large as
the frame. The ratio is the figure to compare between machines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from unittest import mock

import numpy as np

from labkit.data.simulator import arm, physics, simulate_clip, sprites
from labkit.data.simulator.patches import Windows
from labkit.data.simulator.scene import sample_scene

CLIPS, REPEATS, N_FRAMES, SIZE = 8, 3, 30, 64


def simulate_all() -> None:
    """Whole clips: scene, physics and pictures."""
    for index in range(CLIPS):
        simulate_clip(0, index, N_FRAMES, SIZE)


def move_all() -> None:
    """The same clips without their pictures."""
    for index in range(CLIPS):
        for_scene, for_control = np.random.SeedSequence([0, index]).spawn(2)
        scene = sample_scene(np.random.Generator(np.random.Philox(for_scene)))
        physics.run(scene, np.random.Generator(np.random.Philox(for_control)), N_FRAMES)


def whole_frames(points: np.ndarray, _margin: float, size: int) -> Windows:
    """In place of `windows_around`: no windows at all."""
    zeros = np.zeros(len(points), np.int64)
    return Windows(zeros, zeros, size, size)


def simulate_all_naively() -> None:
    """Whole clips, every part drawn over the whole frame."""
    with (
        mock.patch.object(sprites, "windows_around", whole_frames),
        mock.patch.object(arm, "windows_around", whole_frames),
    ):
        simulate_all()


def seconds(work: Callable[[], None]) -> float:
    """CPU time of one call, the best of a few: other programs only ever slow it down."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Measure and print."""
    simulate_clip(0, 0, N_FRAMES, SIZE)  # imports, caches
    whole, moving, naive = (seconds(f) for f in (simulate_all, move_all, simulate_all_naively))
    frames = CLIPS * N_FRAMES
    print(f"{CLIPS} clips of {N_FRAMES} frames, {SIZE} x {SIZE}, one core, best of {REPEATS}")
    print(
        f"simulator                 {frames / whole:7.0f} frames/s  {1e3 * whole / frames:6.2f} ms"
    )
    print(
        f"  of which physics        {moving / whole:7.0%}           {1e3 * moving / frames:6.2f} ms"
    )
    rest = whole - moving
    print(f"  of which rendering      {rest / whole:7.0%}           {1e3 * rest / frames:6.2f} ms")
    print(
        f"without windows           {frames / naive:7.0f} frames/s  {1e3 * naive / frames:6.2f} ms"
    )
    print(f"windows make it {naive / whole:.1f} times as fast")


if __name__ == "__main__":
    main()
