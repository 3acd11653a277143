"""The model: batch -> rollout. Knows nothing of files, losses or plots."""

from labkit.model.gaussian import Gaussian, kl_divergence
from labkit.model.video_cvae import Rollout, VideoCVAE

__all__ = ["Gaussian", "Rollout", "VideoCVAE", "kl_divergence"]
