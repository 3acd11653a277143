"""How good a prediction is: metrics, and the protocols that say how they are computed."""

from labkit.evaluation.evaluate import evaluate
from labkit.evaluation.evaluation import Evaluation
from labkit.evaluation.metrics import psnr, ssim
from labkit.evaluation.protocol import Protocol, find_protocol

__all__ = ["Evaluation", "Protocol", "evaluate", "find_protocol", "psnr", "ssim"]
