"""The questions. Each has a few arms: ways to train that differ in one thing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labkit.config import Config, from_dict
from labkit.errors import ConfigError

Changes = dict[str, Any]
"""values by the dotted name of a setting: "kl.schedule" """


@dataclass(frozen=True)
class Question:
    """A question, and the arms that answer it."""

    text: str
    arms: Callable[[Config], dict[str, Changes]]
    """by name, what each arm changes in the common config"""
    preset: str = "demo"
    """name of the preset that is asked, where no other is named"""


SMALL_WEIGHT = 0.1
"""the constant small KL weight of the question `annealing`, as a share of the largest one"""

FREE_BITS = 1.0
"""nats a step and unit of z that cost nothing in the question `annealing`"""


def _annealing(base: Config) -> dict[str, Changes]:
    from_start: Changes = {"kl.wait": 0.0, "kl.free_bits": 0.0}
    constant: Changes = {**from_start, "kl.schedule": "constant"}
    return {
        "waiting": {**constant, "kl.wait": base.kl.wait or 0.5},
        # The course's kl_anneal_type: None, Cyclical, Monotonic
        "none": constant,
        "cyclical": {**from_start, "kl.schedule": "cyclical"},
        "monotonic": {**from_start, "kl.schedule": "monotonic"},
        "small-weight": {**constant, "kl.max_weight": SMALL_WEIGHT * base.kl.max_weight},
        "free-bits": {**constant, "kl.free_bits": FREE_BITS * base.model.latent_size},
    }


def _teacher_forcing(base: Config) -> dict[str, Changes]:
    constant: Changes = {
        "teacher_forcing.schedule": "constant",
        "teacher_forcing.decay_start": 0,
        "teacher_forcing.lower_bound": 0.0,
    }
    # The course's decay, 0.01 an epoch in 300 epochs, ends a third of the way in.
    step = min(1.0, 3 / base.training.epochs)
    falling = {"teacher_forcing.schedule": "linear", "teacher_forcing.decay_step": step}
    return {
        "always": {**constant, "teacher_forcing.start": 1.0},
        "decayed": {**constant, **falling, "teacher_forcing.start": 1.0},
        "never": {**constant, "teacher_forcing.start": 0.0},
    }


def _condition(base: Config) -> dict[str, Changes]:
    return {
        "action+position": {"data.condition": "action+position"},
        "action": {"data.condition": "action"},
        # FiLM needs a condition to scale and shift the decoder by.
        "none": {"data.condition": "none", "model.conditioning": "input"},
    }


def _prior(base: Config) -> dict[str, Changes]:
    fixed: Changes = {"model.prior": "fixed"}
    if not base.kl.anneal_prior:
        fixed["kl.anneal_prior"] = True  # of a learned prior alone
    return {"learned": {"model.prior": "learned"}, "fixed": fixed}


def _skip(base: Config) -> dict[str, Changes]:
    choices = ("last_context", "previous", "first", "random_context")
    return {choice: {"model.skip": choice} for choice in choices}


QUESTIONS: dict[str, Question] = {
    "annealing": Question(
        "What should the KL weight do: rise in cycles, rise once, be 1 throughout, be small "
        "throughout, be 1 with free bits, or wait at 0 for half of the training?",
        _annealing,
        preset="free",
    ),
    "teacher-forcing": Question(
        "What does teacher forcing do: always (ratio 1), decayed from 1 to 0 over the first third "
        "of the training, or never (ratio 0)?",
        _teacher_forcing,
    ),
    "condition": Question(
        "Which condition is best: action and end-effector position, the action alone, or none?",
        _condition,
    ),
    "prior": Question("Is a learned prior better than the fixed N(0, I)?", _prior),
    "skip": Question("From which frame should the skip connections come?", _skip),
}
"""The questions by name."""


def arms_of(question: str, base: Config) -> dict[str, Config]:
    """Each arm's config, by name: `base` with that arm's changes.

    Raises:
        ConfigError: there is no such question, or an arm does not fit `base`.
    """
    if question not in QUESTIONS:
        raise ConfigError(f"no question {question!r}; there are: {', '.join(QUESTIONS)}")
    return {arm: changed(base, each) for arm, each in QUESTIONS[question].arms(base).items()}


def changed(config: Config, changes: Changes) -> Config:
    """The config with other values of the settings named: {"kl.schedule": "cyclical"}."""
    values = config.to_dict()
    for name, value in changes.items():
        section, _, field = name.rpartition(".")
        (values[section] if section else values)[field] = value
    return from_dict(values)


def budgeted(config: Config, epochs: int | None, updates: int | None) -> Config:
    """The config with another number of epochs, of updates in all, or of both.

    Raises:
        ConfigError: the updates cannot be divided evenly among the epochs.
    """
    training = config.training
    epochs = training.epochs if epochs is None else epochs
    each = training.updates_per_epoch
    if updates is not None:
        each, over = divmod(updates, max(1, epochs))
        if over or each < 1:
            near = max(1, round(updates / max(1, epochs))) * epochs
            raise ConfigError(
                f"{updates} updates cannot be divided evenly among {epochs} epochs",
                hint=f"take --updates {near}, or another --epochs",
            )
    training = dataclasses.replace(training, epochs=epochs, updates_per_epoch=each)
    return dataclasses.replace(config, training=training)
