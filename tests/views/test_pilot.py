"""Episodes, plans and the pilot without a browser."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from labkit.data.clip import Clip
from labkit.data.simulator import simulate_clip
from labkit.errors import LabkitError, ShapeError
from labkit.model import VideoCVAE
from labkit.presets import SMOKE
from labkit.views import futures_of_draws, futures_of_plans, pilot, plan
from labkit.views.controls import Statistics
from labkit.views.episode import Episode, condition_rows, expected_position
from labkit.views.pilot import MAX_SPEED, PRESSES

N_PAST = 2
MEAN, STD = [0.0, 0.0, 0.9, 0.25, 0.0, 0.0, 0.05], [0.04, 0.04, 1.25, 0.43, 0.13, 0.1, 0.04]
MOVES = np.float32([[0.04, 0, 0, 0], [0, -0.03, 1, 1], [-0.02, 0.02, 0, 1]])


@pytest.fixture(scope="module")
def model() -> VideoCVAE:
    torch.manual_seed(0)
    made = VideoCVAE(SMOKE.model, condition_size=7).eval()
    made.set_condition_statistics(torch.tensor(MEAN), torch.tensor(STD))
    return made


@pytest.fixture(scope="module")
def clip():
    return simulate_clip(0, 1, n_frames=6)


@pytest.fixture(scope="module")
def bare(clip) -> Clip:
    """The same clip as a data set gives it: nobody knows what else could have happened."""
    return Clip(clip.frames, clip.actions, clip.positions)


def driven(model, clip, **options) -> Episode:
    episode = Episode(model, clip, n_past=N_PAST, **options)
    for row in MOVES:
        episode.act(row)
    return episode


# ---------------------------------------------------------------------------------- an episode


def test_step_by_step_is_what_the_model_predicts_in_one_go(model, clip) -> None:
    episode = driven(model, clip)
    rows = torch.from_numpy(condition_rows(clip, episode.actions, N_PAST, 7, clip.world))
    frames = torch.from_numpy(clip.frames[:N_PAST]).float() / 255
    steps = [N_PAST - 1, *[1] * len(MOVES)]
    noise = [
        torch.empty(1, count, sum(model.latent_sizes)).normal_(generator=episode._noise(number))
        for number, count in enumerate(steps)
    ]
    with torch.inference_mode():
        made = model.predict(frames[None], rows[None], len(MOVES), noise=torch.cat(noise, dim=1))
    expected = (255 * made[0].numpy()).round()
    np.testing.assert_allclose(episode.frames[N_PAST:], expected, atol=1)
    np.testing.assert_array_equal(episode.frames[:N_PAST], clip.frames[:N_PAST])


def test_beside_it_stands_what_the_simulator_does(model, clip) -> None:
    episode = driven(model, clip)
    actions = np.concatenate([clip.actions[:1], MOVES])
    np.testing.assert_array_equal(episode.actions, actions)
    other = simulate_clip(
        0, 1, n_frames=5, actions=np.concatenate([actions, np.zeros((1, 4), np.float32)]), since=1
    )
    assert (np.abs(episode.truth.astype(int) - other.frames) > 1).mean() < 0.01
    assert (np.abs(other.frames[-1].astype(int) - clip.frames[4]) > 1).mean() > 0.02


def test_without_a_simulator_there_is_no_truth(model, bare, clip) -> None:
    episode = driven(model, bare)
    assert episode.truth is None
    assert list(episode.rows()) == ["prediction"]
    assert list(driven(model, bare, world=clip.world).rows()) == ["prediction", "truth"]


def test_nothing_of_the_clip_after_its_context_is_read(model, clip) -> None:
    poisoned = replace(
        clip,
        frames=np.concatenate([clip.frames[:N_PAST], 255 - clip.frames[N_PAST:]]),
        actions=np.concatenate([clip.actions[: N_PAST - 1], np.full((5, 4), np.nan, np.float32)]),
        positions=np.concatenate([clip.positions[:N_PAST], np.full((4, 3), np.nan, np.float32)]),
    )
    honest, blind = driven(model, clip), driven(model, poisoned)
    np.testing.assert_array_equal(blind.frames, honest.frames)
    np.testing.assert_array_equal(blind.truth, honest.truth)


def test_positions_are_the_actions_added_up(bare, clip) -> None:
    actions = np.concatenate([clip.actions[:1], MOVES])
    rows = condition_rows(bare, actions, N_PAST, 7)
    np.testing.assert_array_equal(rows[:, :4], actions)
    np.testing.assert_array_equal(rows[:N_PAST, 4:], clip.positions[:N_PAST])
    x, y, z = clip.positions[1]
    np.testing.assert_allclose(rows[2:, 4:], [[x + 0.04, y, z], [x + 0.04, y - 0.03, z]], atol=1e-6)
    lifted = expected_position(clip.positions[1], np.float32([0, 0, 0, 1]), clip.world)
    assert lifted[2] > clip.positions[1][2] or clip.positions[1][2] > 0.119
    assert condition_rows(bare, actions, N_PAST, 4).shape == (4, 4)


def test_undone_and_done_again_it_is_the_same(model, clip) -> None:
    episode = driven(model, clip)
    before = episode.frames
    assert episode.undo()
    assert len(episode.frames) == len(before) - 1
    episode.act(MOVES[-1])
    np.testing.assert_array_equal(episode.frames, before)
    episode.reset()
    assert (len(episode), len(episode.frames), episode.undo()) == (0, N_PAST, False)
    for row in MOVES:
        episode.act(row)
    np.testing.assert_array_equal(episode.frames, before)


def test_another_z_is_another_future_of_the_same_actions(model, clip) -> None:
    episode = driven(model, clip)
    frames, truth = episode.frames, episode.truth
    episode.resample()
    assert (episode.frames[N_PAST:] != frames[N_PAST:]).any()
    np.testing.assert_array_equal(episode.truth, truth)
    np.testing.assert_array_equal(episode.actions[1:], MOVES)
    np.testing.assert_array_equal(driven(model, clip).frames, frames)
    assert (driven(model, clip, seed=1).frames != frames).any()


def test_it_is_saved_as_gif_and_table(model, clip, tmp_path: Path) -> None:
    episode = driven(model, clip)
    gif, actions = episode.save(tmp_path / "new" / "episode")
    assert (gif.name, actions.name) == ("episode.gif", "actions.csv")
    assert Image.open(io.BytesIO(gif.read_bytes())).n_frames == len(episode.frames)
    with actions.open(newline="") as file:
        rows = np.float32([[float(value) for value in row] for row in csv.reader(file)])
    np.testing.assert_array_equal(rows, episode.actions)
    (tmp_path / "file").write_text("")
    with pytest.raises(LabkitError, match="is a file"):
        episode.save(tmp_path / "file")


@pytest.mark.parametrize("n_past", [1, 3])
def test_other_contexts(model, clip, n_past: int) -> None:
    episode = Episode(model, clip, n_past=n_past)
    episode.act(MOVES[0])
    assert episode.frames.shape == episode.truth.shape == (n_past + 1, 3, 64, 64)
    assert episode.actions.shape == (n_past, 4)


# ------------------------------------------------------------------------------------- futures


def test_plans_share_their_z_and_differ_by_their_actions(model, clip) -> None:
    right = plan("right", 3)
    made = futures_of_plans(model, clip, {"a": right, "b": right, "c": plan("near", 3)})
    np.testing.assert_array_equal(made.predicted["a"], made.predicted["b"])
    assert (made.predicted["a"] != made.predicted["c"]).any()
    assert list(made.rows()) == [
        *("a", "a, simulated", "b", "b, simulated", "c", "c, simulated"),
    ]
    actions = np.concatenate([clip.actions[:1], right])
    np.testing.assert_array_equal(made.simulated["a"], clip.world.all_frames(actions, 1))
    alone = futures_of_plans(model, clip, {"c": plan("near", 3)}).predicted["c"]
    np.testing.assert_allclose(made.predicted["c"], alone.astype(int), atol=1)


def test_draws_share_their_plan_and_differ_by_their_z(model, clip, bare) -> None:
    made = futures_of_draws(model, clip, plan("right", 3), 2)
    assert list(made.rows()) == ["z 1", "z 2", "z 2, simulated"]
    assert (made.predicted["z 1"] != made.predicted["z 2"]).any()
    assert futures_of_draws(model, bare, plan("right", 3), 1).simulated == {}


def test_a_plan_is_a_move_over_and_over() -> None:
    np.testing.assert_allclose(
        plan("near", 2, speed=0.05, lifted=True), [[0, -0.05, 0, 1]] * 2, atol=1e-7
    )


# ----------------------------------------------------------------------------------- the pilot


def test_presses_become_actions(model, clip) -> None:
    view = pilot(model, clip, speed=1.25)
    view.controls.start(None)
    view.drive(["right", "away", "raise", "left", "fingers", "near", "lower", "stay"])
    expected = [
        [0.05, 0, 0, 0],
        [0, 0.05, 0, 0],
        [0, 0, 0, 1],
        [-0.05, 0, 0, 1],
        [0, -0.05, 1, 1],
        [0, 0, 1, 0],
        [0, 0, 1, 0],
    ]
    np.testing.assert_allclose(view.episode.actions[1:], expected, atol=1e-7)
    view.drive(["undo", "undo", "reset", "undo"])
    assert (len(view.episode), view.note) == (0, "nothing to undo")


def test_the_contexts_gripper_goes_on_as_it_is(model, bare) -> None:
    for lift, close in ((0, 0), (1, 3)):
        actions = bare.actions.copy()
        actions[0, 2:] = close, lift
        actions[1:, 2:] = 3 - close, 1 - lift  # which nobody knows yet
        view = pilot(model, replace(bare, actions=actions)).press("right")
        assert view.episode.actions[-1, 2:].tolist() == [close > 0, lift]


def test_the_repr_is_the_same_at_every_run(model, clip, bare) -> None:
    first, second = (pilot(model, clip).drive(["right"] * 2) for _ in range(2))
    assert repr(first) == "Pilot(steps=2, frames=4, simulated too)"
    assert repr(first.widget()) == f"PilotWidget({first!r})"
    assert first.still() == second.still()
    assert set(first.still()) == {"text/html", "text/plain"}
    assert repr(pilot(model, bare)) == "Pilot(steps=0, frames=2)"


def test_a_long_episode_has_a_strip_of_its_end(model, bare) -> None:
    view = pilot(model, bare).drive(["stay"] * 20)
    assert view.strip().shape[1] < 8 * 2 * 64 + 250


def test_the_widget_answers_each_message_with_the_frames(model, clip, tmp_path: Path) -> None:
    view = pilot(model, clip, folder=tmp_path / "out")
    widget = view.widget()
    assert widget.shown["psnr"] == ""
    for number, press in enumerate((*PRESSES, "right"), start=1):
        widget._obey(widget, {"press": press}, [])
        assert widget.shown["answered"] == number
    screens = np.frombuffer(widget.screens, np.uint8).reshape(2, 64, 64, 3)
    wanted = [rows[-1].transpose(1, 2, 0) for rows in view.episode.rows().values()]
    np.testing.assert_array_equal(screens, wanted)
    assert widget.shown["psnr"].endswith(" dB")
    assert (tmp_path / "out" / "episode.gif").is_file()
    widget._obey(widget, {"speed": 99}, [])
    assert view.speed == MAX_SPEED
    widget._obey(widget, {"press": "jump"}, [])
    assert "nothing is called 'jump'" in widget.shown["note"]


def test_a_notebook_shows_the_widget_without_its_repr(model, clip, monkeypatch) -> None:
    shown: list[set[str]] = []

    def display(thing, raw: bool = False, include: list[str] | None = None) -> None:
        kinds = thing if raw else DisplayFormatter().format(thing, include=include)[0]
        shown.append(set(kinds))

    monkeypatch.setattr("IPython.display.display", display)
    pilot(model, clip)._ipython_display_()
    view = "application/vnd.jupyter.widget-view+json"
    assert shown == [{"text/html", "text/plain"}, {view}]


# -------------------------------------------------------------------------------- other robots

FETCH = Statistics(
    np.float32([0.0, 0.1, 0.002, -0.5, 1.3, 0.7, 0.45]),
    np.float32([0.5, 0.4, 0.01, 0.3, 0.1, 0.1, 0.02]),
)
"""three moves and the fingers, the third of another size: 1 is 100 standard deviations away"""


@pytest.fixture
def fetch(bare) -> tuple[VideoCVAE, Clip]:
    model = conditioned(7, normalise_condition=True)
    model.set_condition_statistics(*map(torch.from_numpy, FETCH))
    actions = np.float32(FETCH.mean[:4] + [[0.1, 0, 0.01, 0]] * len(bare.actions))
    positions = np.tile(FETCH.mean[4:], (len(bare.frames), 1)).astype(np.float32)
    return model, replace(bare, actions=actions, positions=positions)


def test_another_robots_keys_come_from_its_columns(fetch) -> None:
    view = pilot(*fetch, speed=2.0).drive(["right", "near", "raise", "fingers", "stay"])
    np.testing.assert_allclose(
        view.episode.actions[1:],
        [[1.0, 0, 0, -0.8], [0, -0.8, 0, -0.8], [0, 0, 0.02, -0.8], [0, 0, 0, -0.2]],
        atol=1e-6,
    )
    assert view.controls.effects(2.0)["raise"] == "action_3 +0.02"
    conditions = condition_rows(view.episode.clip, view.episode.actions, N_PAST, 7, None, FETCH)
    np.testing.assert_array_equal(conditions[:, 4:], [FETCH.mean[4:]] * 5)


def test_keys_can_be_given_for_named_columns(fetch) -> None:
    model, clip = fetch
    named = replace(clip, action_columns=("dz", "dx", "dy", "grip"))
    keys = {"raise": ("dz", 1), "lower": ("dz", -1), "right": ("dx", 1), "left": ("dx", -1)}
    view = pilot(model, named, keys=keys).drive(["right", "lower"])
    np.testing.assert_allclose(view.episode.actions[1:, :3], [[0, 0.4, 0], [-0.5, 0, 0]], atol=1e-6)
    with pytest.raises(ShapeError, match="no key 'up' for a column 'dz'"):
        pilot(model, named, keys={"up": ("dz", 1)})
    with pytest.raises(ShapeError, match="no key 'raise' for a column 'lift'"):
        pilot(model, named, keys={"raise": ("lift", 1)})


def test_two_columns_have_four_keys(bare) -> None:
    model = conditioned(2, normalise_condition=True)
    model.set_condition_statistics(torch.zeros(2), torch.ones(2))
    view = pilot(model, replace(bare, actions=bare.actions[:, :2], positions=None))
    assert set(view.controls.keys) == {"right", "left", "away", "near"}
    assert view.widget().shown["raised"] is None
    with pytest.raises(ShapeError, match="no column for 'raise' among action_1, action_2"):
        view.press("raise")


def test_an_input_far_outside_the_training_data_is_clipped_and_said(fetch) -> None:
    view = pilot(*fetch)
    view.episode.act([0, 0, 1.0, -0.5])
    np.testing.assert_allclose(view.episode.actions[-1], [0, 0, 0.052, -0.5], atol=1e-6)
    assert view.episode.clipped == ["action_3 1 is outside the training data; clipped to 0.052"]
    view.press("stay")
    assert view.episode.clipped == []


def test_an_expected_position_is_clipped_too(model, bare) -> None:
    view = pilot(model, bare, speed=3.0).drive(["right"] * 8)
    assert view.note.startswith("moved right; x 0.")
    assert "clipped to 0.65" in view.note


def test_other_columns_need_statistics(bare) -> None:
    model = conditioned(7, normalise_condition=False)
    clip = replace(bare, action_columns=("a", "b", "c", "d"))
    with pytest.raises(
        ShapeError, match=r"no statistics of the actions a, b, c, d.*condition_stat"
    ):
        pilot(model, clip)
    view = pilot(model, clip, statistics=FETCH, speed=1.0).press("right")
    assert view.episode.actions[-1, 0] == 0.5
    assert len(pilot(model, bare).press("right").episode) == 1  # BAIR's need none


# ----------------------------------------------------------------------------------- bad input


def conditioned(size: int, **options) -> VideoCVAE:
    config = replace(SMOKE.model, conditioning="input", **options)
    return VideoCVAE(config, condition_size=size).eval()


def test_what_cannot_be_driven_is_named(model, clip, bare) -> None:
    with pytest.raises(ShapeError, match="no action to drive it by"):
        Episode(conditioned(0), clip)
    with pytest.raises(ShapeError, match="condition of the next frame"):
        Episode(conditioned(7, condition_at="target"), clip)
    with pytest.raises(ShapeError, match="n_past is 7; the clip has 6 frames"):
        Episode(model, clip, n_past=7)
    with pytest.raises(ShapeError, match="no positions"):
        Episode(model, replace(bare, positions=None))
    assert len(driven(conditioned(4), replace(bare, positions=None)).frames) == 5
    with pytest.raises(ShapeError, match="4 finite numbers \\(dx, dy, close_gripper, lift\\)"):
        Episode(model, clip).act([0.01, 0.0])
    with pytest.raises(ShapeError, match="4 finite numbers \\(dx, dy, close_gripper, lift\\)"):
        Episode(model, clip).act([float("nan"), 0, 0, 0])


def test_arguments_out_of_range_are_named(model, clip) -> None:
    with pytest.raises(ShapeError, match="speed is 4"):
        pilot(model, clip, speed=4)
    with pytest.raises(ShapeError, match="scale is 0"):
        pilot(model, clip, scale=0)
    with pytest.raises(ShapeError, match="nothing is called 'up'"):
        pilot(model, clip).press("up")
    with pytest.raises(ShapeError, match="no direction 'up'"):
        plan("up")
    for plans in ({}, {"a": plan("left", 2), "b": plan("left", 3)}, {"a": np.zeros((2, 3))}):
        with pytest.raises(ShapeError, match="one shape"):
            futures_of_plans(model, clip, plans)
    with pytest.raises(ShapeError, match="count is 0"):
        futures_of_draws(model, clip, plan("left", 2), 0)
