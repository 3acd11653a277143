"""The proof: students' leaks are caught and named; honest predictors of any make pass."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import numpy as np
import pytest
import torch
from leaky import CONDITION, HONEST, LEAKY, SIDE, STORE, Student, opaque, rollout, student

from labkit.config import ModelConfig
from labkit.errors import LabkitError
from labkit.evaluation.leakage import LEAKS, Certificate, hooked, predictor_of, prove
from labkit.evaluation.leakage.diagnosis import convention
from labkit.model import VideoCVAE
from labkit.presets import COURSE, SVG


def batch_of(length: int = 8, clips: int = 3, side: int = SIDE, columns: int = CONDITION):
    """Random frames and conditions: whatever a predictor reads of them, it cannot guess."""
    generator = torch.Generator().manual_seed(3)
    frames = torch.rand(clips, length, 3, side, side, generator=generator)
    return frames, torch.randn(clips, length, columns, generator=generator)


def verdicts(certificate: Certificate) -> dict[str, str]:
    return {trial.name: trial.verdict for trial in certificate.trials}


# ------------------------------------------------------------------------------------ leaks


@pytest.fixture(autouse=True)
def _nothing_stored() -> None:
    STORE.clear()


@pytest.mark.parametrize("name", LEAKY)
def test_a_students_leak_is_caught_and_named(name: str) -> None:
    predict, leak = LEAKY[name]
    certificate = prove(predict, batch_of())
    assert not certificate.clean
    assert certificate.findings[0].leak == leak
    assert leak in certificate.headline
    assert f"hint: {certificate.findings[0].hint}" in certificate.text()


def test_every_name_has_a_leak_that_earns_it() -> None:
    """But for what is left when no pattern fits, and feeding back now and then: see below."""
    assert set(LEAKS) - {leak for _, leak in LEAKY.values()} == {"unknown", "partial feedback"}


@pytest.mark.parametrize("name", ["posterior at test time", "teacher forcing left on"])
@pytest.mark.parametrize(("length", "n_past"), [(4, 2), (12, 1), (7, 4)])
def test_names_hold_for_other_horizons(name: str, length: int, n_past: int) -> None:
    predict, leak = LEAKY[name]
    assert prove(predict, batch_of(length), n_past).findings[0].leak == leak


def test_each_of_the_three_trials_fails_by_itself() -> None:
    for name in ("posterior at test time", "teacher forcing left on", "divided by the maximum"):
        assert [trial.verdict for trial in prove(LEAKY[name][0], batch_of()).trials[:3]] == [
            "failed"
        ] * 3


def test_a_mask_is_seen_by_nan_alone() -> None:
    found = verdicts(prove(LEAKY["masked by zero"][0], batch_of()))
    assert (found["noise"], found["nan"], found["gradient"]) == ("passed", "failed", "passed")


def test_a_maximum_that_the_context_holds_is_found_all_the_same() -> None:
    """No frame in [0, 1] can move a maximum of 1: NaN and the gradient tell."""
    frames, condition = batch_of()
    frames[:, 0, 0, 0, 0] = 1.0
    certificate = prove(LEAKY["divided by the maximum"][0], (frames, condition))
    assert verdicts(certificate)["noise"] == "passed"
    assert certificate.findings[0].leak == "clip extremes"


def test_asking_whether_frames_are_bytes_is_no_leak() -> None:
    def predict(frames, condition, n_past):
        return HONEST(frames / 255 if frames.max() > 1.5 else frames, condition, n_past)

    assert prove(predict, batch_of()).clean


def test_the_sentence_says_which_steps_are_forced() -> None:
    certificate = prove(LEAKY["teacher forcing at two steps"][0], batch_of())
    assert "at t = 5, 6" in certificate.findings[0].says
    assert "at t =" not in prove(student(feed="true"), batch_of()).findings[0].says


def test_the_clips_last_frame_is_called_so() -> None:
    finding = prove(student(skip_from=-1), batch_of()).findings[0]
    assert "x_7 (the clip's last)" in finding.says
    assert "frames[:, n_past - 1]" in finding.hint


def test_two_faults_are_both_said() -> None:
    certificate = prove(student(latent="posterior", feed="last"), batch_of())
    assert [one.leak for one in certificate.findings] == ["target", "no feedback"]


def test_reading_the_future_where_no_frame_alone_counts() -> None:
    """A predictor that notices only when two frames of the future are other than they were."""
    frames, condition = batch_of()

    def predict(given, condition, n_past):
        strange = (given != frames)[:, n_past:].flatten(2).any(dim=2).sum(dim=1) > 1
        return (HONEST(given, condition, n_past) + 0.1 * strange[:, None, None, None, None]).clamp(
            0, 1
        )

    certificate = prove(predict, (frames, condition))
    assert [one.leak for one in certificate.findings] == ["unknown"]


def test_the_seeds_are_counted() -> None:
    """Of 60 seeds 4 leak, about one in twenty; with 2 seeds the same leak is missed."""
    predict = LEAKY["in one of twenty calls"][0]
    seeds = {trial.name: trial for trial in prove(predict, batch_of()).trials}["seeds"]
    assert "60 seeds" in seeds.text
    assert "with 4 of them, the first is 3" in seeds.text
    few = prove(predict, batch_of(), seeds=2)
    assert few.clean
    assert few.seeds == 2


def test_the_trials_of_other_futures_say_which() -> None:
    trials = {one.name: one for one in prove(LEAKY["of bright frames"][0], batch_of()).trials}
    assert trials["noise"].verdict == "passed"
    assert "white" in trials["other futures"].text
    assert "black" not in trials["other futures"].text


# --------------------------------------------------------------------- the model stays as it was


class Counting(torch.nn.Module):
    """Batch norm over all frames, and a buffer that counts the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, frames):
        self.calls += 1
        self.norm.train(not self.norm.training)
        return self.norm(frames.flatten(0, 1)).view_as(frames)


@pytest.mark.parametrize("held", ["closure", "attribute", "argument", "made in the call"])
def test_buffers_and_modes_of_every_module_are_restored(held: str) -> None:
    """After every call, also one that raises, and wherever the predictor keeps its module."""
    torch.manual_seed(0)
    model = Counting().train()
    stored = {name: value.clone() for name, value in model.state_dict().items()}

    def predict(frames, condition, n_past, module=model if held == "argument" else None):
        used = module or (holder.model if held == "attribute" else model)
        if held == "made in the call":
            used = vars(globals_of)["model"]
        used.eval()
        made = used(frames).sigmoid()
        return made[:, n_past - 1 : n_past].expand_as(frames[:, n_past:])

    class Holder:
        pass

    holder, globals_of = Holder(), Holder()
    holder.model = globals_of.model = model
    with contextlib.suppress(LabkitError):
        prove(predict, batch_of())
    assert model.training
    assert model.norm.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, stored[name]), name


def test_the_nan_trial_leaves_a_model_in_training_mode_as_it_was() -> None:
    torch.manual_seed(0)
    model = VideoCVAE(models()["course"], 7).train()
    stored = {name: value.clone() for name, value in model.state_dict().items()}

    def predict(frames, condition, n_past):  # all frames are encoded in one call
        model.encoder(frames.flatten(0, 1))
        return predictor_of(model)(frames, condition, n_past)

    prove(predict, batch_of(4, 2, side=64, columns=7), seeds=1)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, stored[name]), name


# ---------------------------------------------------------------------------------- honest


def test_an_honest_student_passes_every_trial() -> None:
    certificate = prove(HONEST, batch_of())
    assert certificate.clean
    assert certificate.headline == "no leak found"
    assert set(verdicts(certificate).values()) == {"passed"}
    assert certificate.frames[2:].max() == 0
    assert (certificate.frames[:2] > 0).all()


def test_batch_norm_in_evaluation_mode_passes() -> None:
    assert prove(student(norm=True), batch_of()).clean


def models() -> dict[str, ModelConfig]:
    """Three architectures of the lab, at a width that costs nothing."""
    small = {"width": 4, "encoding_size": 8, "latent_size": 4, "hidden_size": 8}
    return {
        "course": dataclasses.replace(COURSE.model, backbone="dcgan64", **small),
        "svg, learned prior": dataclasses.replace(SVG.model, backbone="dcgan64", **small),
    }


@pytest.mark.parametrize("name", ["smoke", *models()])
def test_honest_models_of_three_architectures_pass(name: str, smoke) -> None:
    torch.manual_seed(0)
    columns = 0 if name.startswith("svg") else 7
    model = VideoCVAE(smoke.model if name == "smoke" else models()[name], columns).eval()
    certificate = prove(predictor_of(model), batch_of(4, 2, side=64, columns=columns))
    found = verdicts(certificate)
    assert certificate.clean
    assert found.pop("conditions") == ("passed" if columns else "not applicable")
    assert set(found.values()) == {"passed"}
    assert certificate.convention == ("c_{t-1}" if columns else "none")


def test_the_labs_own_reconstructions_are_found_out(smoke) -> None:
    """They see their target: the same model, called the wrong way."""
    torch.manual_seed(0)
    model = VideoCVAE(smoke.model, 7).eval()
    certificate = prove(model.reconstruct, batch_of(4, 2, side=64, columns=7))
    assert certificate.findings[0].leak == "target"
    nan = certificate.trials[1]
    assert nan.verdict == "not applicable"
    assert "ShapeError" in nan.text


def test_a_model_left_in_training_mode_is_found_out() -> None:
    torch.manual_seed(0)
    model = VideoCVAE(models()["course"], 7).train()
    certificate = prove(predictor_of(model), batch_of(4, 2, side=64, columns=7))
    assert [one.leak for one in certificate.findings] == ["other clips"]


def test_repeating_the_last_frame_is_honest_and_feeds_nothing_back() -> None:
    def repeat(frames, condition, n_past):
        return frames[:, n_past - 1 : n_past].expand_as(frames[:, n_past:])

    certificate = prove(repeat, batch_of())
    assert certificate.clean
    found = verdicts(certificate)
    assert found["feedback"] == found["conditions"] == "not applicable"


def test_the_whole_clip_may_be_returned() -> None:
    def whole(frames, condition, n_past):
        return torch.cat([frames[:, :n_past], HONEST(frames, condition, n_past)], dim=1)

    assert prove(whole, batch_of()).clean


def test_a_predictor_without_gradient_is_not_said_to_pass_that_trial() -> None:
    def numpy_only(frames, condition, n_past):
        last = frames[:, n_past - 1].numpy()
        steps = frames.shape[1] - n_past
        return torch.from_numpy(np.stack([last * 0.9**k for k in range(steps)], axis=1))

    def detached(frames, condition, n_past):
        return HONEST(frames, condition, n_past).detach()

    for predict in (numpy_only, detached):
        certificate = prove(predict, batch_of())
        assert certificate.clean
        assert verdicts(certificate)["gradient"] == "not applicable"


def test_a_gradient_that_is_cut_off_is_called_so() -> None:
    """The weights have one, so that the predictions have a graph, but it ends before the frames."""
    scale = torch.nn.Parameter(torch.ones(()))

    def cut(frames, condition, n_past):
        return scale * HONEST(frames, condition, n_past).detach() + 0 * frames.sum() * 0

    trial = {one.name: one for one in prove(cut, batch_of()).trials}["gradient"]
    assert trial.verdict == "not applicable"
    assert "it is cut off (.detach(), torch.no_grad)" in trial.text


# -------------------------------------------------------------------- conditions, feedback


@pytest.mark.parametrize(("at", "name"), [(-1, "c_{t-1}"), (0, "c_t"), (-2, "c_{t-2}")])
def test_the_convention_is_found(at: int, name: str) -> None:
    certificate = prove(student(at=at), batch_of())
    assert certificate.clean
    assert certificate.convention == name


def test_the_labs_other_convention_is_found_too(smoke) -> None:
    model = VideoCVAE(dataclasses.replace(smoke.model, condition_at="target"), 7).eval()
    assert prove(predictor_of(model), batch_of(4, 2, side=64, columns=7)).convention == "c_t"


def test_conditions_of_the_context_alone() -> None:
    influence = np.zeros((6, 4))
    influence[:2] = 1.0
    assert convention(influence, 2) == ("c_{t-1}", -1)
    influence[1] = 0
    assert convention(influence, 2) == ("of the context alone", -2)


def test_feeding_back_now_and_then_is_named() -> None:
    def lazy(frames, condition, n_past, disturb=None):
        known = frames[:, n_past - 1]
        made = [known]
        for t in range(n_past, frames.shape[1]):
            frame = 0.9 * (known if t == 5 else made[-1])
            made.append(disturb(t, frame) if disturb else frame)
        return torch.stack(made[1:], dim=1)

    certificate = prove(lazy, batch_of())
    assert [one.leak for one in certificate.findings] == ["partial feedback"]
    assert "at t = 4" in certificate.findings[0].says


def test_an_opaque_predictor_is_seen_through_the_module_that_makes_its_frames() -> None:
    torch.manual_seed(0)
    model = Student().eval()
    found = {}
    for feed in ("own", "last"):

        def predict(frames, condition, n_past, feed=feed):
            return rollout(model, frames, condition, n_past, feed=feed)

        assert verdicts(prove(predict, batch_of()))["feedback"] == "not applicable"
        # The decoder is called for the context's frames too; the hook must skip those.
        certificate = prove(hooked(predict, Unflat(model)), batch_of())
        found[feed] = verdicts(certificate)["feedback"]
    assert found == {"own": "passed", "last": "failed"}
    assert not model.decoder._forward_hooks


class Unflat(torch.nn.Module):
    """The student's decoder returns flat pixels: this hooks it, and shows frames."""

    def __init__(self, model: Student) -> None:
        super().__init__()
        self.decoder = [model.decoder]

    def register_forward_hook(self, hook, **rest):
        def flat(module, given, made):
            frames = hook(module, given, made.view(-1, 3, SIDE, SIDE))
            return made if frames is None else frames.flatten(1)

        return self.decoder[0].register_forward_hook(flat, **rest)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda t, f, d: f, "disturb is called with t = []"),
        (lambda t, f, d: d(t - 2, f), "expected t = [2, 3, 4, 5, 6, 7], in order"),
        (lambda t, f, d: d(t, f) + 0.1, "predicts other frames than without"),
        (lambda t, f, d: d(t, f, t), "fails with disturb=: TypeError"),
    ],
)
def test_a_disturb_that_does_not_keep_to_its_word_proves_nothing(wrong, said: str) -> None:
    def predict(frames, condition, n_past, disturb=None):
        hook = None if disturb is None else lambda t, frame: wrong(t, frame, disturb)
        return HONEST(frames, condition, n_past, disturb=hook)

    trial = prove(predict, batch_of()).trials[-1]
    assert trial.verdict == "not applicable"
    assert said in trial.text


# ------------------------------------------------------------------------------- on paper


def test_the_certificate_is_json_with_everything_in_it(tmp_path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"abc")
    certificate = prove(
        LEAKY["bidirectional"][0], batch_of(), seed=5, weights=weights, data="random clips"
    )
    certificate.save(tmp_path / "certificate.json")
    told = json.loads((tmp_path / "certificate.json").read_text())
    assert told["clean"] is False
    assert told["protocol"] == "2 -> 6 frames, 3 clips of random clips"
    assert (told["n_past"], told["horizon"], told["seed"]) == (2, 6, 5)
    assert np.shape(told["influence"]["frames"]) == np.shape(told["influence"]["conditions"])
    assert told["influence"]["feedback"] is None
    assert len(told["trials"]) == 9
    assert told["seeds"] == 60
    assert "looks up by their context" in told["not_covered"]
    assert told["findings"][0]["leak"] == "whole clip"
    # printf abc | sha256sum
    assert told["weights_sha256"].startswith("ba7816bf8f01cfea414140de5dae2223")
    assert set(told["versions"]) == {"labkit", "python", "torch", "numpy"}


def test_the_same_seed_proves_the_same_and_nobodys_generators_move() -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, two = (prove(opaque(HONEST), batch_of(5)) for _ in range(2))
    np.testing.assert_array_equal(one.frames, two.frames)
    np.testing.assert_array_equal(one.conditions, two.conditions)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
