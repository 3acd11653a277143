"""The questions: arms that differ in one thing, and the same budget for all."""

from __future__ import annotations

import pytest
import torch

from labkit.cli import comparison_commands
from labkit.errors import ConfigError, LabkitError
from labkit.experiments.evaluated_run import differing
from labkit.experiments.experiment import shared_out
from labkit.experiments.questions import QUESTIONS, arms_of, budgeted, changed
from labkit.model import VideoCVAE
from labkit.presets import COURSE, DEMO, PRESETS, SMOKE
from labkit.training.schedules import schedule_at

ALLOWED = {
    "annealing": {"kl.schedule", "kl.wait", "kl.max_weight", "kl.free_bits"},
    "teacher-forcing": {
        "teacher_forcing.start",
        "teacher_forcing.schedule",
        "teacher_forcing.decay_step",
    },
    "condition": {"data.condition", "model.conditioning"},
    "prior": {"model.prior", "kl.anneal_prior"},
    "skip": {"model.skip"},
}


@pytest.mark.parametrize("preset", ["demo", "course", "smoke", "free"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_arms_differ_in_what_is_asked_and_nothing_else(question, preset) -> None:
    arms = arms_of(question, PRESETS[preset])
    assert len(arms) >= 2
    found = set(differing(arms, seed=True))
    assert found
    assert found <= ALLOWED[question]
    assert len({str(config) for config in arms.values()}) == len(arms)


def test_the_commands_questions_are_those_there_are() -> None:
    assert set(comparison_commands.ASKED) == set(QUESTIONS)
    with pytest.raises(ConfigError, match="no question 'anealing'"):
        arms_of("anealing", DEMO)


def test_every_arm_of_every_question_makes_a_model() -> None:
    for question in QUESTIONS:
        for arm, config in arms_of(question, SMOKE).items():
            model = VideoCVAE(config.model, config.data.condition_size).eval()
            frames = torch.rand(1, 4, 3, 64, 64)
            made = model.predict(frames[:, :2], torch.rand(1, 4, config.data.condition_size), 2)
            assert made.shape == (1, 2, 3, 64, 64), arm


def test_the_courses_schedules_are_what_their_names_say() -> None:
    """KL weight and ratio at the start, in the middle and at the end of the course's training."""

    def at(question: str, arm: str, name: str) -> list[float]:
        config = arms_of(question, COURSE)[arm]
        return [schedule_at(epoch * 600, config)[name] for epoch in (0, 50, 99, 150, 200, 299)]

    assert at("annealing", "none", "kl_weight") == [1] * 6
    assert at("annealing", "monotonic", "kl_weight")[::3] == [0, 1]
    assert at("annealing", "cyclical", "kl_weight") == pytest.approx([0, 1, 1, 1, 0, 1])
    assert at("annealing", "waiting", "kl_weight") == [0, 0, 0, 1, 1, 1]
    assert at("annealing", "small-weight", "kl_weight") == pytest.approx([0.1] * 6)
    assert arms_of("annealing", COURSE)["free-bits"].kl.free_bits == COURSE.model.latent_size
    ratio = "teacher_forcing_ratio"
    assert at("teacher-forcing", "always", ratio) == [1] * 6
    assert at("teacher-forcing", "never", ratio) == [0] * 6
    # as the course's own settings: 0.01 an epoch
    decayed = at("teacher-forcing", "decayed", ratio)
    assert decayed == pytest.approx([1, 0.5, 0.01, 0, 0, 0])
    assert decayed == pytest.approx(
        [schedule_at(e * 600, COURSE)[ratio] for e in (0, 50, 99, 150, 200, 299)]
    )


def test_annealing_is_asked_where_the_latent_is_needed() -> None:
    """The arm that waits is the preset itself; every other question is asked of the demo."""
    free = PRESETS[QUESTIONS["annealing"].preset]
    assert free == PRESETS["free"]
    assert arms_of("annealing", free)["waiting"] == free
    others = {question.preset for name, question in QUESTIONS.items() if name != "annealing"}
    assert others == {"demo"}


def test_the_budget_is_divided_evenly_or_refused() -> None:
    base = budgeted(DEMO, 20, 600)
    training = budgeted(base, None, 300).training
    assert (training.epochs, training.updates_per_epoch) == (20, 15)
    training = budgeted(base, 6, None).training
    assert (training.epochs, training.updates_per_epoch) == (6, 30)
    assert budgeted(base, None, None) == base
    for updates, near in ((310, 320), (3, 20), (0, 20)):
        with pytest.raises(ConfigError, match=f"take --updates {near}"):
            budgeted(base, None, updates)
    with pytest.raises(ConfigError, match="epochs"):
        budgeted(base, 0, None)


def test_settings_are_changed_by_their_dotted_names() -> None:
    made = changed(DEMO, {"kl.schedule": "constant", "seed": 7})
    assert (made.kl.schedule, made.seed) == ("constant", 7)
    with pytest.raises(ConfigError):
        changed(DEMO, {"kl.shedule": "constant"})


def test_cores_become_trainings_and_then_threads() -> None:
    assert shared_out(9, 2) == (2, 1)
    assert shared_out(6, 16) == (6, 2)
    assert shared_out(9, 8, threads=4) == (2, 4)
    assert shared_out(9, 2, at_once=1) == (1, 2)
    assert shared_out(2, 1) == (1, 1)
    for wrong in ({"at_once": 0}, {"threads": 0}):
        with pytest.raises(LabkitError, match="1 or more"):
            shared_out(9, 2, **wrong)
