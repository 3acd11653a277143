"""How a model is fitted: objective, schedules, the loop and its files."""

from labkit.training.checkpoint import load_model, save_model
from labkit.training.history import EpochRow, read_history
from labkit.training.objective import Objective, negative_elbo
from labkit.training.run import train
from labkit.training.schedules import kl_weight, learning_rate, teacher_forcing_ratio

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
