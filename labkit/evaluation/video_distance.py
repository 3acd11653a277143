"""FVD, the Frechet video distance (Unterthiner et al. 2018): the distance between the distributions
of true and predicted videos in the features of an I3D network trained on Kinetics-400.

The network is a TorchScript file. It is used if it is at hand, and never downloaded without being
asked for. Published figures depend on this file, on the number of frames and on the number of
clips: compare figures of one setting only.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from labkit.errors import LabkitError

VARIABLE = "LABKIT_I3D"
"""environment variable with the path of the network's file"""

FILE = "i3d_torchscript.pt"
"""the file's name in torch's cache, where it is searched without the variable"""

LEAST_FRAMES = 10
"""fewest frames of a video that the network takes"""

HINT = (
    f"download {FILE}, 51 MB, which the repository universome/stylegan-v links to, and give its "
    f"path by --i3d or by the environment variable {VARIABLE}"
)


class VideoFeatures:
    """The features of videos by the I3D network."""

    def __init__(self, file: Path | str | None = None, device: torch.device | str = "cpu") -> None:
        """
        Args:
            file: a TorchScript module, called as net(videos, rescale=True, resize=True,
                return_features=True) with videos (B, 3, T, H, W) in 0..255, which returns (B, D).
                None takes `weights_file()`.
            device: where to compute.
        Raises:
            LabkitError: the file is not there, or is not a TorchScript module.
        """
        place = weights_file() if file is None else Path(file)
        if not place.is_file():
            what = "FVD is not measured: its network's weights are not there"
            raise LabkitError(what, file=place, hint=HINT)
        try:
            with warnings.catch_warnings():  # TorchScript is deprecated; the file has no other form
                warnings.simplefilter("ignore")
                self._net = torch.jit.load(str(place), map_location=device).eval()
        except Exception as error:  # torch raises many kinds for a damaged file
            reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
            what = f"FVD is not measured: not a readable network: {reason}"
            raise LabkitError(what, file=place, hint=HINT) from None
        self._device = device

    def __call__(self, videos: Float[Tensor, "B T 3 H W"]) -> Float[Tensor, "B D"]:
        """The features of videos in [0, 1].

        Raises:
            LabkitError: the videos are too short, or the network does not return one row a video.
        """
        if videos.shape[1] < LEAST_FRAMES:
            raise LabkitError(
                f"FVD is not measured: its network takes videos of {LEAST_FRAMES} frames or more, "
                f"and these have {videos.shape[1]}",
                hint="give a longer horizon by --n-future",
            )
        pixels = (videos.clamp(0, 1) * 255).transpose(1, 2).to(self._device)
        try:
            with torch.inference_mode():
                features = self._net(pixels, rescale=True, resize=True, return_features=True)
        except (RuntimeError, TypeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            what = f"FVD is not measured: its network cannot be called: {reason}"
            raise LabkitError(what, hint=HINT) from None
        if features.ndim != 2 or len(features) != len(videos):
            shape = tuple(features.shape)
            what = f"FVD is not measured: its network returns {shape}, not one row a video"
            raise LabkitError(what, hint=HINT)
        return features.float()


def weights_file() -> Path:
    """Where the network's file is searched: at the path in LABKIT_I3D, else in torch's cache."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else Path(torch.hub.get_dir(), "checkpoints", FILE)


def frechet_distance(a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "M D"]) -> float:
    """The squared Frechet distance of two Gaussians fitted to samples (Dowson & Landau 1982):

    |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))

    Raises:
        LabkitError: fewer than two samples.
    """
    if min(len(a), len(b)) < 2:
        raise LabkitError("FVD is not measured: it needs two clips or more", hint="give more clips")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    s_a, s_b = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (a, b))
    # tr (S_a S_b)^(1/2) = tr (R S_b R)^(1/2) with the symmetric root R of S_a
    values, vectors = np.linalg.eigh(s_a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ s_b @ root).clip(min=0)).sum()
    mean = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(mean + np.trace(s_a) + np.trace(s_b) - 2 * cross)
