"""Arrays -> figures of the latents: KL, effect on a prediction, prior and posterior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer, UInt8
from matplotlib.ticker import MaxNLocator

from labkit.errors import ShapeError
from labkit.views import style
from labkit.views.figures import LabFigure, freeze_layout

MOST = 24
"""largest number of latents in one heat map"""
GAIN = 8
"""factor by which difference pictures are brightened"""
POSTERIOR, PRIOR = style.series("posterior").color, style.INK


def kl_heat_map(
    kl: Float[np.ndarray, "S z"], *, n_past: int | None = None, most: int = MOST
) -> LabFigure:
    """Draws the KL of each latent at each step, the largest on top, and the mean over the steps.

    Args:
        kl: nats, for the steps t = 1 .. S.
        n_past: number of context frames; a line marks the first predicted step.
        most: how many latents to show, those with the largest KL.

    Returns:
        figure with the heat map and a bar for each latent.

    Raises:
        ShapeError: no steps or no latents.
    """
    if kl.ndim != 2 or 0 in kl.shape:
        raise ShapeError(f"the KL is {kl.shape}; expected (steps, latents), at least 1 of each")
    steps, size = kl.shape
    order = np.argsort(-kl.mean(axis=0), kind="stable")[:most]
    shown = kl[:, order].T
    with style.use_style():
        figure = LabFigure(figsize=(8, 1.9 + 0.21 * len(order)), layout="constrained")
        heat, bars = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1.3))
        # White is 0.
        image = heat.imshow(
            shown,
            aspect="auto",
            cmap="PuBu",
            vmin=0,
            vmax=max(float(shown.max()), 1e-6),
            extent=(0.5, steps + 0.5, len(order) - 0.5, -0.5),
            interpolation="nearest",
        )
        heat.set(xlabel="time step t", ylabel="latent", yticks=range(len(order)))
        heat.set_yticklabels([str(n) for n in order])
        heat.xaxis.set_major_locator(MaxNLocator(integer=True))
        heat.grid(visible=False)
        if n_past is not None and 1 < n_past <= steps:
            heat.axvline(n_past - 0.5, color=style.VERMILION, lw=1.2, ls="--")
        bars.barh(range(len(order)), shown.mean(axis=1), color=style.series("kl").color)
        bars.set(xlabel="mean, nats per frame")
        bars.grid(axis="y", visible=False)
        figure.colorbar(image, ax=heat, label="KL, nats", pad=0.02)
        which = f"the {len(order)} largest of {size}" if len(order) < size else f"all {size}"
        total = float(kl.sum(axis=1).mean())
        figure.suptitle(
            f"KL(q || p) by latent and time step: {which}; {total:.2g} nats per frame in all",
            fontsize=10,
        )
    return freeze_layout(figure)


def traversal_strips(
    frames: UInt8[np.ndarray, "L V 3 H W"],
    latents: Sequence[int],
    values: Sequence[float],
    *,
    scores: Sequence[float] | None = None,
    gain: int = GAIN,
) -> LabFigure:
    """Draws one predicted frame for each value of each latent, and what the latent changes.

    Args:
        frames: by latent and value.
        latents: numbers of the latents.
        values: values of the latent, in standard deviations of the prior.
        scores: KL of each latent in nats, for the label.
        gain: the last column shows gain x |frame of the highest value - of the lowest|.

    Returns:
        figure with one row for each latent.

    Raises:
        ShapeError: the numbers of latents and values differ from those of the frames.
    """
    shape = len(latents), len(values)
    if frames.ndim != 5 or frames.shape[:2] != shape or 0 in shape or gain < 1:
        raise ShapeError(f"frames are {frames.shape} for {shape[0]} latents, {shape[1]} values")
    wide = shape[1] + 1
    with style.use_style():
        figure = LabFigure(figsize=(8, 0.5 + 8 / (wide + 0.8) * shape[0]), layout="constrained")
        grid = figure.subplots(shape[0], wide, squeeze=False)
        for row, (axes, row_frames, latent) in enumerate(zip(grid, frames, latents, strict=True)):
            change = np.abs(row_frames[-1].astype(int) - row_frames[0])
            pictures = [*row_frames, np.minimum(gain * change, 255).astype(np.uint8)]
            for place, picture in zip(axes, pictures, strict=True):
                place.imshow(picture.transpose(1, 2, 0), interpolation="nearest")
                place.set(xticks=[], yticks=[])
                place.spines[:].set_visible(False)
                place.grid(visible=False)
            extra = "" if scores is None else f"\n{scores[row]:.2g} nats"
            axes[0].set_ylabel(f"latent {latent}{extra}")
        for place, value in zip(grid[0], values, strict=False):
            place.set_title(f"{value:+g} σ" if value else "mean", loc="center")
        grid[0, -1].set_title(f"change × {gain}", loc="center")
    return freeze_layout(figure)


def prior_and_posterior(
    q_mean: Float[np.ndarray, "N z"],
    q_std: Float[np.ndarray, "N z"],
    p_mean: Float[np.ndarray, "N z"],
    p_std: Float[np.ndarray, "N z"],
    latents: Integer[np.ndarray, " L"] | Sequence[int],
) -> LabFigure:
    """Draws the aggregated posterior (the mean of the posteriors of all clips) and the prior.

    Samples from the prior look like data only if the aggregated posterior equals the prior. The
    posterior of a single clip must differ from the prior, or z carries no information.

    Args:
        q_mean, q_std, p_mean, p_std: of N clips (and steps), by latent.
        latents: which latents to draw, at most 6.

    Returns:
        figure with one panel for each latent.

    Raises:
        ShapeError: no latents, or a number that does not exist.
    """
    size = q_mean.shape[1]
    chosen = [int(n) for n in latents][:6]
    if not chosen or not all(0 <= n < size for n in chosen):
        raise ShapeError(f"latents are {chosen}; choose from 0..{size - 1}")
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    with style.use_style():
        figure = LabFigure(figsize=(8, 0.7 + 2.1 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, n in zip(grid.flat, chosen, strict=False):
            far = max(3.5, float(np.abs(q_mean[:, n]).max() + 2 * q_std[:, n].max()))
            z = np.linspace(-far, far, 241)
            prior = _mixture(z, p_mean[:, n], p_std[:, n])
            axes.plot(z, prior, color=PRIOR, label="prior p(z)", zorder=3)
            together = _mixture(z, q_mean[:, n], q_std[:, n])
            label = "aggregated posterior, all clips"
            axes.plot(z, together, color=POSTERIOR, ls="--", label=label, zorder=4)
            ends = np.argsort(q_mean[:, n], kind="stable")[[0, -1]]
            for number, end in enumerate(ends):
                alone = _mixture(z, q_mean[end : end + 1, n], q_std[end : end + 1, n])
                label = (
                    "posteriors of single frames: lowest and highest mean" if number == 0 else None
                )
                axes.fill_between(z, alone, color=style.SKY, alpha=0.3, lw=0, label=label)
            axes.set(title=f"latent {n}", xlabel="z", yticks=[], ylim=(0, None))
        for axes in grid.flat[len(chosen) :]:
            axes.set_visible(False)
        handles = grid.flat[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper left", ncols=3)
    return freeze_layout(figure)


def _mixture(z: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """1/N sum_n N(z; mean_n, std_n^2) at each of the z."""
    apart = (z[:, None] - mean) / std
    return (np.exp(-0.5 * apart**2) / (std * np.sqrt(2 * np.pi))).mean(axis=1)
