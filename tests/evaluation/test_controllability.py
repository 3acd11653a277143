"""Control by the actions: measured with models whose control is known."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.cli import main
from labkit.data.dataset import ClipDataset
from labkit.data.simulator import SPLIT_OFFSETS, manifest_seed, simulate_clip
from labkit.errors import LabkitError
from labkit.evaluation import controllability as measured
from labkit.evaluation.controllability import IGNORED, OTHER, OWN, REPEATED, SHUFFLED
from labkit.evaluation.counterfactual import ClipSimulator, SimulatedBatch
from labkit.evaluation.gripper import arm_pixels, backdrop, gripper_offset, tip_pixels
from labkit.model import VideoCVAE
from labkit.training.checkpoint import CONFIG, WEIGHTS, save_model

controllability = measured.controllability


@pytest.fixture(scope="module")
def dataset(simulated) -> ClipDataset:
    return ClipDataset(simulated, "train", n_past=2, n_future=4, windows="first")


@functools.cache
def outcome(simulator: ClipSimulator, number: int, told: bytes) -> torch.Tensor:
    """What becomes of a clip with those actions, after its first two frames."""
    actions = np.frombuffer(told, np.float32).reshape(-1, 4)
    clip = simulator.clip(number, actions, 1, len(actions), 64)
    return torch.from_numpy(clip.frames[2:]).float() / 255


class Oracle(VideoCVAE):
    """Predicts by the simulator: it knows which scene it sees, and obeys the actions it is told,
    or does not listen."""

    def __init__(self, config, dataset: ClipDataset, listens: bool = True) -> None:
        super().__init__(config, 7)
        self.simulator, self.data, self.listens = ClipSimulator.of(dataset), dataset, listens
        self.scenes = [dataset.batch([n]).to("cpu").frames[0, :2] for n in range(len(dataset))]

    def predict(self, context, condition, horizon, **rest):
        made = []
        for frames, told in zip(context, condition, strict=True):
            number = next(n for n, seen in enumerate(self.scenes) if torch.equal(seen, frames))
            actions = told[:, :4].numpy() if self.listens else self.data.clip(number).actions
            made.append(outcome(self.simulator, number, actions[: 2 + horizon].tobytes()))
        return torch.stack(made)


def test_a_model_that_obeys_and_one_that_does_not_listen(smoke, dataset) -> None:
    obeys = controllability(Oracle(smoke.model, dataset), dataset, clips=4)
    deaf = controllability(Oracle(smoke.model, dataset, listens=False), dataset, clips=4)
    assert obeys.simulated
    for name in (OWN, OTHER, IGNORED, REPEATED, SHUFFLED):
        assert obeys.psnr[name].shape == (4, 4)
    # What it obeys is the truth of the other actions, to the last bit.
    assert obeys.psnr[OTHER].min() == 100
    assert np.nanmax(obeys.effector_error[OTHER]) < 0.5
    assert min(obeys.regions.values()) == 100
    assert obeys.psnr[OTHER].mean() > obeys.psnr[IGNORED].mean() + 10
    np.testing.assert_allclose(deaf.psnr[OTHER], deaf.psnr[IGNORED])
    np.testing.assert_allclose(deaf.effector_error[OTHER], deaf.effector_error[IGNORED])
    assert np.nanmean(deaf.effector_error[OTHER]) > 2
    gain = obeys.condition_gain
    assert 5 < gain.low < gain.value < gain.high
    assert vars(deaf.condition_gain) == {"value": 0, "low": 0, "high": 0}


def test_figures_do_not_depend_on_the_batch(smoke, dataset) -> None:
    model = Oracle(smoke.model, dataset)
    one, all_at_once = (
        controllability(model, dataset, clips=4, batch_size=size) for size in (3, 4)
    )
    for name, values in one.psnr.items():
        np.testing.assert_allclose(values, all_at_once.psnr[name], rtol=1e-6)
    assert one.locator_error == pytest.approx(all_at_once.locator_error)
    assert one.regions == pytest.approx(all_at_once.regions)


def test_the_gripper_is_found_where_it_was_put(dataset) -> None:
    """The arm of one true frame, found from that of another: the projected finger tips say how
    far they are apart."""
    clips = [dataset.clip(number) for number in range(6)]
    own_batch = SimulatedBatch.of(clips, dataset, torch.device("cpu"))
    arms = arm_pixels(own_batch.labels, own_batch.tips)
    plates = backdrop(own_batch.frames, own_batch.labels)[:, None]
    found = gripper_offset(own_batch.frames[:, :-1], own_batch.frames[:, 1:], arms[:, 1:], plates)
    known = own_batch.tips[:, :-1] - own_batch.tips[:, 1:]
    far = (found - known).norm(dim=-1)
    seen = arms[:, 1:].flatten(2).any(-1)
    assert seen.float().mean() > 0.8
    assert far[seen].mean() < 1.5
    assert far[seen].mean() < 0.4 * known[seen].norm(dim=-1).mean()
    assert found[~seen].isnan().all()
    same = gripper_offset(own_batch.frames, own_batch.frames, arms, plates)
    assert same[arms.flatten(2).any(-1)].abs().max() < 0.5


def test_a_moved_picture_is_found_to_have_moved() -> None:
    """Without the camera's say: a dark bar, pasted elsewhere over the same backdrop."""
    plate = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.6

    def picture(u: int, v: int) -> torch.Tensor:
        frame = plate.clone()
        frame[:, :v, u - 3 : u + 3] = 0.05
        return frame

    labels = torch.zeros(1, 64, 64, dtype=torch.uint8)
    labels[0, :40, 29:35] = 1
    arms = arm_pixels(labels, torch.tensor([[32.0, 39.0]]))
    for u, v in ((32, 40), (22, 40), (40, 30), (32, 55), (10, 20)):
        found = gripper_offset(picture(u, v)[None], picture(32, 40)[None], arms, plate[None])
        assert found[0].tolist() == pytest.approx([u - 32, v - 40], abs=0.5)


def test_a_gripper_out_of_sight_counts_for_nothing() -> None:
    labels = torch.ones(2, 64, 64, dtype=torch.uint8)
    labels[1, :, 3:] = 0
    labels[1, 9:] = 0
    tips = torch.tensor([[70.0, 30.0], [2.0, 8.0]])
    assert not arm_pixels(labels, tips).any()


def test_the_tips_pixel_is_the_cameras(dataset) -> None:
    """The dark fingers end there: below the tips there is no arm."""
    clip = dataset.clip(0)
    tips = tip_pixels(clip.positions, 64)
    for t in range(len(tips)):
        u, v = tips[t].round().int().tolist()
        if 4 < u < 60 and 4 < v < 58:
            assert clip.labels[t, v - 12 : v + 1, u - 3 : u + 4].any()
            assert not (clip.labels[t, v + 4 :, max(0, u - 4) : u + 5] == 1).any()


def test_on_other_data_only_the_conditions_are_shuffled(smoke, dataset, monkeypatch) -> None:
    torch.manual_seed(0)
    model = VideoCVAE(smoke.model, 7).eval()
    monkeypatch.setattr("labkit.evaluation.counterfactual.manifest_seed", lambda manifest: None)
    result = controllability(model, dataset, clips=3)
    assert not result.simulated
    assert set(result.psnr) == {OWN, SHUFFLED}
    assert "the clips are not simulated" in result.text()
    assert result.summary()["locator_error"] is None
    assert json.dumps(result.summary(), allow_nan=False)


def test_the_world_is_known_by_its_manifest_and_checked(dataset, simulated, monkeypatch) -> None:
    simulator = ClipSimulator.of(dataset)
    assert simulator == ClipSimulator(0, SPLIT_OFFSETS["train"])
    assert ClipSimulator.of(ClipDataset(simulated, "test")) == ClipSimulator(
        0, SPLIT_OFFSETS["test"]
    )
    clip = simulate_clip(0, 1, 6)
    again = simulator.clip(1, clip.actions, 1, 6, 64)
    np.testing.assert_array_equal(again.frames, clip.frames)
    # A manifest that names another seed: the clips are not those.
    monkeypatch.setattr(
        "labkit.evaluation.counterfactual.manifest_seed",
        lambda manifest: manifest_seed(manifest) + 1,
    )
    assert ClipSimulator.of(dataset) is None


def test_what_cannot_be_controlled(smoke, simulated, dataset) -> None:
    model = VideoCVAE(smoke.model, 7).eval()
    with pytest.raises(LabkitError, match="2 or more"):
        controllability(model, dataset, clips=1)
    blind = ClipDataset(simulated, "test", condition="none")
    with pytest.raises(LabkitError, match="the model has no condition"):
        controllability(model, blind)


# -------------------------------------------------------------------------------- commands


@pytest.fixture
def run(smoke, tmp_path) -> Path:
    """The folder of a run of random weights."""
    torch.manual_seed(0)
    config = dataclasses.replace(smoke, data=dataclasses.replace(smoke.data, n_future=3))
    config.save(tmp_path / "run" / CONFIG)
    save_model(VideoCVAE(config.model, 7), tmp_path / "run" / WEIGHTS)
    return tmp_path / "run"


def test_labkit_control(run, capsys) -> None:
    assert main(["control", str(run), "--clips", "3", "--no-progress"]) == 0
    said = capsys.readouterr().out
    for words in (
        OTHER,
        "gripper off by",
        "the condition contributes",
        "by region: rest",
        "2 -> 3",
    ):
        assert words in said
    told = json.loads((run / "control.json").read_text())
    assert told["clips"] == 3
    assert set(told["psnr"]) == {OWN, SHUFFLED, OTHER, IGNORED, REPEATED}
    assert (run / "control.png").stat().st_size > 1000


def test_labkit_prove(run, capsys, monkeypatch) -> None:
    assert main(["prove", str(run), "--clips", "2", "--no-progress"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("no leak found (2 -> 3 frames, 2 clips of the test split")
    told = json.loads((run / "certificate.json").read_text())
    assert told["clean"]
    assert told["convention"] == "c_{t-1}"
    assert len(told["weights_sha256"]) == 64
    assert (run / "certificate.png").stat().st_size > 1000

    # The same run, called the way that sees its target.
    monkeypatch.setattr("labkit.evaluation.leakage.predictor_of", lambda model: model.reconstruct)
    assert main(["prove", str(run), "--clips", "2", "--no-progress"]) == 1
    assert "not clean: target" in capsys.readouterr().out
    assert not json.loads((run / "certificate.json").read_text())["clean"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--clips 0", "--clips is 0: no clip to evaluate"),
        ("--split nowhere", "no split 'nowhere'"),
        ("--data gone", "gone: no such folder"),
    ],
)
@pytest.mark.parametrize("command", ["prove", "control"])
def test_mistakes_are_one_line_and_leave_nothing(run, capsys, command, words, said) -> None:
    before = sorted(run.iterdir())
    assert main([command, str(run), *words.split()]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(run.iterdir()) == before


def test_a_run_without_weights(run, capsys) -> None:
    (run / WEIGHTS).unlink()
    assert main(["prove", str(run)]) == 2
    assert "the run has no model.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("count", [2, 3, 4, 17, 256])
def test_shuffled_conditions_are_never_a_clips_own(count: int) -> None:
    """A derangement: every clip gives its condition once, and none keeps its own."""
    for seed in range(40):
        order = measured.shuffled_indices(count, seed)
        assert sorted(order.tolist()) == list(range(count))
        assert (order != np.arange(count)).all()
    if count > 3:
        draws = {tuple(measured.shuffled_indices(count, seed).tolist()) for seed in range(20)}
        assert len(draws) > 1
