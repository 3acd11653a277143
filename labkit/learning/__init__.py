"""How a model is fitted: objective, schedules, the loop and its files."""

from labkit.learning.checkpoint import load_model, save_model
from labkit.learning.fitting import train
from labkit.learning.history import EpochRow, read_history
from labkit.learning.objective import Objective, negative_elbo
from labkit.learning.schedules import kl_weight, learning_rate, teacher_forcing_ratio

__all__ = [
    "EpochRow",
    "Objective",
    "kl_weight",
    "learning_rate",
    "load_model",
    "negative_elbo",
    "read_history",
    "save_model",
    "teacher_forcing_ratio",
    "train",
]
