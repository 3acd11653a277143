"""How many key presses a second can the pilot answer?

    python benchmarks/pilot.py

One press is what the kernel does between a key's message and the frames it sends back: the model
predicts one frame, the simulator makes the true one, and both go into the widget's state. Beside
it, from the same run, the two alone. The browser's share is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from labkit.data.simulator import SPLIT_OFFSETS, simulate_clip
from labkit.training import load_model
from labkit.views import pilot

RUN = Path(__file__).parents[1] / "notebooks" / "demo_run"
PRESSES, THREADS = 40, 2
WAYS = ("right", "away", "left", "near")


def median(work: Callable[[int], object]) -> float:
    """Seconds of one call."""
    times = []
    for number in range(PRESSES):
        start = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - start)
    return sorted(times)[PRESSES // 2]


def main() -> None:
    """Presses and prints."""
    torch.set_num_threads(THREADS)
    model, _ = load_model(RUN)
    clip = simulate_clip(1, SPLIT_OFFSETS["test"], 4)
    driven = pilot(model, clip)
    widget = driven.widget()

    def press(number: int) -> None:
        driven.press(WAYS[number % 4])
        widget.refresh()

    press(0)
    whole = median(press)
    driven.press("reset")
    frames = torch.from_numpy(clip.frames[:2])[None].float() / 255
    condition = torch.zeros(1, 3, model.condition_size)
    with torch.inference_mode():
        state = model.begin(frames, condition)
        alone = median(lambda _: model.step(state, condition[:, 0]))
    print(f"{THREADS} CPU threads, medians of {PRESSES}; the demo's checkpoint")
    print(f"a press: {1000 * whole:.1f} ms, {1 / whole:.0f} a second (aimed at: 15)")
    print(f"the model's step in it: {1000 * alone:.1f} ms, {100 * alone / whole:.0f} %")


if __name__ == "__main__":
    main()
