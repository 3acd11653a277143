"""The protocol: what is scored, against what, and that figures read back as they were written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from labkit.data.dataset import ClipDataset
from labkit.errors import RunError
from labkit.evaluation import Evaluation, evaluate, psnr
from labkit.evaluation.protocol import validation_psnr
from labkit.model import VideoCVAE


@pytest.fixture(scope="module")
def dataset(simulated) -> ClipDataset:
    return ClipDataset(simulated, "test", windows="first")


@pytest.fixture
def model(smoke) -> VideoCVAE:
    torch.manual_seed(0)
    return VideoCVAE(smoke.model, 7).eval()


def test_every_clip_and_step_is_scored(model, dataset) -> None:
    result = evaluate(model, dataset, batch_size=2, keep=2, progress=False)
    assert result.clips == 3
    for table in (result.psnr, result.ssim):
        assert set(table) == {"prediction", "repeat_last", "posterior"}
        assert {values.shape for values in table.values()} == {(3, 10)}
    assert result.examples["prediction"].shape == (2, 12, 3, 64, 64)
    for name in ("prediction", "posterior"):  # the context is shown, not predicted
        assert np.array_equal(result.examples[name][:, :2], result.examples["truth"][:, :2])
    for words in ("2 -> 10", "one sample", "not best of N", "3 first windows", "test split"):
        assert words in result.protocol


def test_the_baseline_repeats_the_last_context_frame(model, dataset) -> None:
    result = evaluate(model, dataset, progress=False)
    frames = dataset.batch(range(3)).to("cpu").frames
    expected = psnr(frames[:, 1:2].expand(-1, 10, -1, -1, -1), frames[:, 2:])
    np.testing.assert_allclose(result.psnr["repeat_last"], expected.numpy(), rtol=1e-6)


def test_figures_do_not_depend_on_the_batch_where_nothing_is_sampled(model, dataset) -> None:
    one, all_at_once = (
        evaluate(model, dataset, batch_size=size, progress=False).psnr["repeat_last"]
        for size in (1, 3)
    )
    np.testing.assert_array_equal(one, all_at_once)


def test_validation_is_the_mean_of_the_same_figures(model, dataset) -> None:
    """With z switched off, sampled or not: the same PSNR as the table's mean."""
    with torch.no_grad():
        model.predictor.told.weight[:, -model.config.latent_size :] = 0
    table = evaluate(model, dataset, progress=False).psnr["prediction"]
    told = validation_psnr(model, dataset, clips=99, seed=3, device=torch.device("cpu"))
    assert told == pytest.approx(table.mean(), rel=1e-5)


def test_save_and_load(model, dataset, tmp_path) -> None:
    result = evaluate(model, dataset, clips=2, progress=False)
    result.save(tmp_path / "evaluation.json")
    again = Evaluation.load(tmp_path / "evaluation.json")
    assert again.protocol == result.protocol
    for name, values in result.psnr.items():
        np.testing.assert_array_equal(again.psnr[name], values)
    np.testing.assert_array_equal(again.examples["truth"], result.examples["truth"])
    told = json.loads((tmp_path / "evaluation.json").read_text())
    assert told["clips"] == 2
    assert told["psnr"]["prediction"]["mean"] == pytest.approx(
        result.psnr["prediction"].mean(), abs=1e-3
    )
    (tmp_path / "evaluation.npz").unlink()
    with pytest.raises(RunError, match="labkit evaluate"):
        Evaluation.load(tmp_path / "evaluation.json")
