"""The model: batch -> rollout. Knows nothing of files, losses or plots."""

from labkit.model.gaussian import Gaussian, kl_divergence
from labkit.model.state import Rollout, RolloutState
from labkit.model.video_cvae import VideoCVAE

__all__ = ["Gaussian", "Rollout", "RolloutState", "VideoCVAE", "kl_divergence"]
