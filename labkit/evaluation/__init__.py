"""How good a prediction is: metrics, and the protocol they are taken by."""

from labkit.evaluation.metrics import psnr, ssim
from labkit.evaluation.protocol import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate", "psnr", "ssim"]
