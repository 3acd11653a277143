"""How good a prediction is: metrics, and the protocol they are taken by."""

from labkit.evaluation.evaluating import evaluate
from labkit.evaluation.metrics import psnr, ssim
from labkit.evaluation.protocol import Protocol, find_protocol
from labkit.evaluation.result import Evaluation

__all__ = ["Evaluation", "Protocol", "evaluate", "find_protocol", "psnr", "ssim"]
