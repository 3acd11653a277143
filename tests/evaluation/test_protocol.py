"""The protocols: what each predicts and scores, beside what, and that figures read back."""

from __future__ import annotations

import dataclasses
import gc
import json

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from labkit.data.dataset import ClipDataset
from labkit.errors import LabkitError, RunError, ShapeError
from labkit.evaluation import Evaluation, evaluate, find_protocol, psnr
from labkit.evaluation.metrics import channel_psnr
from labkit.evaluation.protocol import validation_psnr
from labkit.evaluation.sample_diversity import sample_diversity
from labkit.evaluation.sampling import Sampler
from labkit.evaluation.scoring import Scorer
from labkit.model import VideoCVAE


@pytest.fixture(scope="module")
def dataset(simulated) -> ClipDataset:
    return ClipDataset(simulated, "test", windows="first")


@pytest.fixture
def model(smoke) -> VideoCVAE:
    return made(smoke)


def made(smoke, condition_size: int = 7) -> VideoCVAE:
    """A model whose latent is heard: untrained, its samples would differ by next to nothing."""
    torch.manual_seed(0)
    config = smoke.model
    if not condition_size:
        config = dataclasses.replace(config, conditioning="input")
    model = VideoCVAE(config, condition_size).eval()
    with torch.no_grad():
        model.predictor.embed_conditioning.weight[:, -config.latent_size :] *= 30
    return model


def test_every_clip_and_step_is_scored(model, dataset) -> None:
    result = evaluate(model, dataset, batch_size=2, keep=2, samples=2, progress=False)
    assert result.clips == 3
    for table in (result.psnr, result.ssim):
        assert set(table) == {"prediction", "repeat_last", "prior_mean", "posterior"}
        assert {values.shape for values in table.values()} == {(3, 10)}
    assert result.examples["prediction"].shape == (2, 12, 3, 64, 64)
    for name in ("prediction", "posterior"):  # the context is shown, not predicted
        assert np.array_equal(result.examples[name][:, :2], result.examples["truth"][:, :2])
    for words in ("protocol frame", "2 -> 10", "one sample", "not best of N", "3 first windows"):
        assert words in result.protocol
    assert "action+position of the frame before" in result.protocol
    assert "test split of simulated" in result.protocol


def test_each_predictor_is_what_its_name_says(model, dataset) -> None:
    result = evaluate(model, dataset, samples=1, progress=False)
    batch = dataset.batch(range(3)).to("cpu")
    context, truth = batch.frames[:, :2], batch.frames[:, 2:]
    with torch.inference_mode():
        mean = model.predict(context, batch.condition, 10, sample=False)
    expected = {"repeat_last": context[:, 1:].expand_as(truth), "prior_mean": mean}
    for name, frames in expected.items():
        np.testing.assert_allclose(result.psnr[name], psnr(frames, truth).numpy(), rtol=1e-5)
    assert result.deviation is None
    assert sample_diversity(result) is None
    assert not np.allclose(result.psnr["prediction"], result.psnr["prior_mean"], atol=1e-3)
    assert not np.allclose(result.psnr["prediction"], result.psnr["posterior"], atol=1e-3)


def test_a_sample_depends_on_the_seed_and_its_clip_alone(model, simulated, dataset) -> None:
    """Not on the batch, on how many are drawn, on the order, nor on how far ahead."""
    one = evaluate(model, dataset, batch_size=1, at_once=1, samples=3, progress=False)
    many = evaluate(model, dataset, batch_size=3, at_once=64, samples=4, progress=False)
    np.testing.assert_allclose(one.psnr["prediction"], many.psnr["prediction"], atol=1e-3)
    np.testing.assert_allclose(one.samples_psnr, many.samples_psnr[:, :3], atol=1e-3)
    long = ClipDataset(simulated, "test", windows="first", n_future=28)
    further = evaluate(model, long, protocol="long", clips=1, samples=1, progress=False)
    first = further.psnr["prediction"][:, :10]
    np.testing.assert_allclose(first, one.psnr["prediction"][:1], atol=1e-3)
    other = evaluate(model, dataset, clips=1, samples=1, seed=1, progress=False)
    assert not np.allclose(other.psnr["prediction"], one.psnr["prediction"][:1], atol=1e-3)


def test_the_course_averages_over_channels_first(model, dataset) -> None:
    course = evaluate(model, dataset, protocol="course", samples=1, progress=False)
    frame = evaluate(model, dataset, samples=1, progress=False)
    np.testing.assert_array_equal(
        course.psnr["prediction"], frame.scores["channel_psnr"]["prediction"]
    )
    assert (course.psnr["prediction"] > frame.psnr["prediction"]).all()
    assert "averaged over the channels" in course.protocol
    batch = dataset.batch(range(3)).to("cpu")
    still = batch.frames[:, 1:2].expand(-1, 10, -1, -1, -1)
    expected = channel_psnr(still, batch.frames[:, 2:]).numpy()
    np.testing.assert_allclose(course.psnr["repeat_last"], expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "interior"), [("course", True), ("svg", True), ("frame", False)])
def test_ssim_is_that_of_scikit_image_where_the_course_uses_it(name, interior, dataset) -> None:
    batch = dataset.batch(range(3)).to("cpu")
    truth = batch.frames[:, 2:5]
    still = batch.frames[:, 1:2].expand_as(truth)
    found = Scorer(find_protocol(name))(still, truth, None).values["ssim"]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [
        [
            structural_similarity(a.numpy(), b.numpy(), data_range=1, channel_axis=0, **options)
            for a, b in zip(*frames, strict=True)
        ]
        for frames in zip(still.double(), truth.double(), strict=True)
    ]
    assert np.allclose(found, expected, rtol=0, atol=1e-5) == interior


def test_best_of_n_is_chosen_for_each_clip_and_metric(model, dataset) -> None:
    result = evaluate(model, dataset, protocol="best-of-5", at_once=6, progress=False)
    assert result.samples_psnr.shape == (3, 5)
    best = result.psnr["prediction"].mean(axis=1)
    np.testing.assert_allclose(best, result.samples_psnr.max(axis=1), atol=1e-4)
    single = result.psnr["one_sample"].mean(axis=1)
    np.testing.assert_allclose(single, result.samples_psnr[:, 0], atol=1e-4)
    assert (best > single).any()
    assert (result.ssim["prediction"].mean(axis=1) >= result.ssim["one_sample"].mean(axis=1)).all()
    for words in ("protocol best-of-5", "best of 5 samples", "by looking at the truth"):
        assert words in result.protocol
    # The example shown is the sample that was chosen.
    shown = torch.from_numpy(result.examples["prediction"][:, 2:]).float() / 255
    truth = dataset.batch(range(3)).to("cpu").frames[:, 2:]
    np.testing.assert_allclose(psnr(shown, truth).mean(dim=1), best, atol=0.05)


def test_of_a_distance_the_best_is_the_least(model, dataset) -> None:
    def distance(prediction, truth):
        return (prediction - truth).abs().mean(dim=(-3, -2, -1))

    further = {"lpips_alex": distance}
    result = evaluate(
        model, dataset, protocol="best-of-3", perceptual=further, clips=2, progress=False
    )
    table = result.scores["lpips_alex"]
    best, single = (table[name].mean(axis=1) for name in ("prediction", "one_sample"))
    assert (best <= single).all()
    assert (best < single).any()


def test_every_clip_and_sample_has_noise_of_its_own(model) -> None:
    noise = Sampler(model, 1, 9).noise([(0, 0), (1, 0), (0, 1)], range(2), 11)
    assert noise.shape == (6, 11, sum(model.latent_sizes))
    assert len({tuple(row.tolist()) for row in noise[:, 0]}) == 6
    assert not torch.equal(
        noise, Sampler(model, 2, 9).noise([(0, 0), (1, 0), (0, 1)], range(2), 11)
    )


def test_the_spread_is_the_deviation_between_samples(model, dataset) -> None:
    result = evaluate(model, dataset, samples=4, at_once=3, clips=2, progress=False)
    assert result.deviation is not None
    batch = dataset.batch(range(2)).to("cpu")
    noise = Sampler(model, 0, 99).noise([(0, 0), (1, 0)], range(4), 11)
    with torch.inference_mode():
        made = model.predict(batch.frames[:, :2], batch.condition, 10, samples=4, noise=noise)
    expected = 255 * made.std(dim=1).mean(dim=(-3, -2, -1))
    np.testing.assert_allclose(result.deviation, expected, rtol=1e-3)


def test_a_deaf_model_has_no_spread_and_is_called_collapsed(model, dataset) -> None:
    with torch.no_grad():
        model.predictor.embed_conditioning.weight[:, -model.config.latent_size :] = 0
    found = sample_diversity(evaluate(model, dataset, samples=3, progress=False))
    assert found is not None
    assert found.deviation.value < 1e-3
    assert abs(found.best_gain.value) < 1e-3
    assert "collapsed" in found.sentence()


def test_regions_come_with_labels_and_add_up(model, dataset) -> None:
    result = evaluate(model, dataset, samples=2, progress=False)
    regions = result.regions
    assert regions is not None
    assert (regions.count.sum(axis=2) == 64 * 64).all()
    mse = regions.squared["prediction"].sum(axis=2) / (3 * 64 * 64)
    np.testing.assert_allclose(-10 * np.log10(mse), result.psnr["prediction"], rtol=1e-4)
    ssim = regions.ssim["prediction"].sum(axis=2) / (64 * 64)
    np.testing.assert_allclose(ssim, result.ssim["prediction"], rtol=1e-4)
    spots = regions.deviation.sum(axis=2) / (64 * 64)
    np.testing.assert_allclose(spots, result.deviation, rtol=1e-4)
    assert sum(regions.shares().values()) == pytest.approx(1)


def test_without_labels_there_are_no_regions(model, simulated) -> None:
    bare = ClipDataset(simulated, "test", windows="first", labels=False)
    result = evaluate(model, bare, clips=1, samples=1, progress=False)
    assert result.regions is None
    assert "regions" not in result.summary()


def test_svg_is_action_free(model, smoke, simulated) -> None:
    told = ClipDataset(simulated, "test", windows="first", n_future=28)
    with pytest.raises(LabkitError, match=r"models without a condition.*best-of-100"):
        evaluate(model, told, protocol="svg", progress=False)
    free = ClipDataset(simulated, "test", windows="first", n_future=28, condition="none")
    few = dataclasses.replace(find_protocol("svg"), best_of=2)
    result = evaluate(made(smoke, 0), free, protocol=few, clips=1, progress=False)
    assert result.psnr["prediction"].shape == (1, 28)
    assert "action-free" in result.protocol
    assert "averaged over the channels" in result.protocol
    assert find_protocol("svg").best_of == 100


def test_a_context_or_horizon_of_its_own_is_told(model, simulated) -> None:
    short = ClipDataset(simulated, "test", windows="first", n_past=3, n_future=2)
    result = evaluate(model, short, protocol="course", clips=1, samples=1, progress=False)
    assert "3 -> 2 frames (not the 2 -> 10 of its name)" in result.protocol
    result = evaluate(model, short, clips=1, samples=1, progress=False)
    assert "protocol frame: 3 -> 2 frames, free-running" in result.protocol


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("frames", "no protocol 'frames'.*did you mean frame"),
        ("best", "there are frame, course, long, svg, videogpt and best-of-N"),
        ("best-of-0", "from 2 to 100"),
        ("best-of-1", "for one sample take frame"),
        ("best-of-101", "from 2 to 100"),
        ("best-of-", "best of nothing"),
        ("best-of-٣", "from 2 to 100"),
    ],
)
def test_an_unknown_protocol_is_named(name: str, words: str) -> None:
    with pytest.raises(LabkitError, match=words):
        find_protocol(name)
    assert find_protocol("best-of-007").name == "best-of-7"


def test_what_does_not_fit_is_one_sentence(model, simulated, dataset) -> None:
    for wrong, words in (({"clips": 0}, "clips is 0"), ({"samples": 0}, "samples is 0")):
        with pytest.raises(LabkitError, match=words):
            evaluate(model, dataset, progress=False, **wrong)
    other = ClipDataset(simulated, "test", windows="first", condition="action")
    with pytest.raises(LabkitError, match=r"4 columns \(action\), and the model takes 7"):
        evaluate(model, other, progress=False)
    every = ClipDataset(simulated, "test", windows="all")
    with pytest.raises(LabkitError, match="first frames of each clip alone"):
        evaluate(model, every, protocol="course", progress=False)
    small = dataclasses.replace(model.config, frame_size=32)
    with pytest.raises(LabkitError, match=r"64 x 64 pixels.*expects 32 x 32"):
        evaluate(VideoCVAE(small, 7).eval(), dataset, progress=False)
    batch = dataset.batch(range(1)).to("cpu")
    with pytest.raises(ShapeError, match="the noise is"):
        model.predict(batch.frames[:, :2], batch.condition, 10, noise=torch.zeros(1, 3, 4))


def test_nothing_of_a_frame_stays(model, simulated, monkeypatch) -> None:
    """Memory is flat: at each batch as many bytes are held by tensors as at the one before, but
    for the figures."""
    every = ClipDataset(simulated, "test", windows="all", n_future=2)
    held, whole = [], VideoCVAE.predict

    def watched(*args, **more):
        if more.get("sample", True):  # once a batch will do
            return whole(*args, **more)
        gc.collect()
        things = gc.get_objects()
        tensors = [each for each in things if type(each) in (torch.Tensor, torch.nn.Parameter)]
        stores = {each.untyped_storage().data_ptr(): each.untyped_storage() for each in tensors}
        parts = [part for each in things if type(each) is list for part in each]
        arrays = {id(part): _bytes(part) for part in parts if type(part) is np.ndarray}
        held.append(sum(store.nbytes() for store in stores.values()) + sum(arrays.values()))
        return whole(*args, **more)

    monkeypatch.setattr(VideoCVAE, "predict", watched)
    evaluate(model, every, batch_size=4, keep=1, samples=2, clips=16, progress=False)
    growth = np.diff(held[1:])
    frame = 3 * 64 * 64
    assert len(growth) == 2
    assert growth.max() < frame


def _bytes(array: np.ndarray) -> int:
    """What an array keeps alive: itself, or all of what it is a view of."""
    base = array.base if isinstance(array.base, np.ndarray) else array
    return base.nbytes


def test_validation_is_the_mean_of_the_same_figures(model, dataset) -> None:
    """With z switched off, sampled or not: the same PSNR as the table's mean."""
    with torch.no_grad():
        model.predictor.embed_conditioning.weight[:, -model.config.latent_size :] = 0
    table = evaluate(model, dataset, samples=1, progress=False).psnr["prediction"]
    told = validation_psnr(model, dataset, clips=99, seed=3, device=torch.device("cpu"))
    assert told == pytest.approx(table.mean(), rel=1e-5)


def test_save_and_load(model, dataset, tmp_path) -> None:
    file = tmp_path / "evaluation.json"
    result = evaluate(
        model,
        dataset,
        clips=2,
        samples=2,
        seed=5,
        made_with={"config": "ab"},
        notes=("A note.",),
        progress=False,
    )
    result.save(file)
    again = Evaluation.load(file)
    for plain in ("protocol", "name", "n_past", "best_of", "seed", "made_with", "notes"):
        assert getattr(again, plain) == getattr(result, plain)
    for metric, table in result.scores.items():
        for name, values in table.items():
            np.testing.assert_array_equal(again.scores[metric][name], values)
    for name in ("samples_psnr", "deviation", "clip_ids", "clip_numbers", "starts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(result, name))
    np.testing.assert_array_equal(again.regions.count, result.regions.count)
    np.testing.assert_array_equal(again.examples["truth"], result.examples["truth"])
    assert again.summary() == result.summary()
    told = json.loads(file.read_text())
    assert told["clips"] == 2
    mean = result.psnr["prediction"].mean()
    assert told["psnr"]["prediction"]["mean"] == pytest.approx(mean, abs=1e-3)
    low, high = told["psnr"]["prediction"]["interval"]
    assert low < mean < high
    assert len(told["per_clip"]["psnr"]["prediction"]) == len(set(told["per_clip"]["ids"])) == 2

    result.save(tmp_path / "other.json")
    whole = (tmp_path / "evaluation.npz").read_bytes()
    (tmp_path / "evaluation.npz").write_bytes(whole[:-1])
    with pytest.raises(RunError, match="of another evaluation"):
        Evaluation.load(file)
    (tmp_path / "evaluation.npz").unlink()
    with pytest.raises(RunError, match="labkit evaluate"):
        Evaluation.load(file)
    file.write_text('{"protocol": "", "clips": 2}')
    (tmp_path / "evaluation.npz").write_bytes(whole)
    with pytest.raises(RunError, match="older labkit"):
        Evaluation.load(file)


def test_a_clip_is_known_by_what_it_shows(model, smoke, simulated) -> None:
    """Whatever a model is told of it: pairs of runs are found by it."""
    told = ClipDataset(simulated, "test", windows="first")
    less = ClipDataset(simulated, "test", windows="first", condition="action")
    one, other = (
        evaluate(each, dataset, samples=1, progress=False).clip_ids
        for each, dataset in ((model, told), (made(smoke, 4), less))
    )
    assert len(set(one)) == 3
    np.testing.assert_array_equal(one, other)
