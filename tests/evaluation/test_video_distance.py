"""FVD: the distance against scipy and by hand, the network's file, and the sentence without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from labkit.data.dataset import ClipDataset
from labkit.errors import LabkitError
from labkit.evaluation import Evaluation, evaluate
from labkit.evaluation.video_distance import VARIABLE, VideoFeatures, frechet_distance
from labkit.model import VideoCVAE

# The file is TorchScript, whose makers advise other ways now.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning"
)


class StandIn(nn.Module):
    """Called as the I3D network is; its features are means over the thirds of a video."""

    def forward(self, videos: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        assert rescale
        assert resize
        assert return_features
        b, c, t = videos.shape[:3]
        return videos.mean(dim=(3, 4)).reshape(b, c, 3, t // 3).mean(dim=3).flatten(1)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    file = tmp_path_factory.mktemp("i3d") / "stand_in.pt"
    torch.jit.script(StandIn()).save(str(file))
    return file


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def test_the_distance_is_that_of_the_fitted_gaussians() -> None:
    random = np.random.default_rng(0)
    a = random.normal(size=(400, 6)) @ random.normal(size=(6, 6))
    b = random.normal(size=(300, 6)) @ random.normal(size=(6, 6)) + random.normal(size=6)
    s_a, s_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = np.square(a.mean(0) - b.mean(0)).sum()
    expected += np.trace(s_a + s_b - 2 * sqrtm(s_a @ s_b).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_known_gaussians() -> None:
    """N(0, I) and N(3, 4 I) in two dimensions: 2 x 9 + 2 x (1 - 2)^2 = 20."""
    random = np.random.default_rng(1)
    a, b = random.normal(0, 1, (200_000, 2)), random.normal(3, 2, (200_000, 2))
    assert frechet_distance(a, b) == pytest.approx(20, rel=0.02)


def test_fewer_clips_than_features_have_a_distance() -> None:
    random = np.random.default_rng(2)
    a, b = random.normal(size=(3, 40)), random.normal(size=(4, 40))
    assert np.isfinite(frechet_distance(a, b))
    with pytest.raises(LabkitError, match="two clips or more"):
        frechet_distance(a[:1], b)


def test_the_network_gets_bytes_and_the_channels_first(network) -> None:
    videos = torch.rand(2, 12, 3, 8, 8)
    found = VideoFeatures(network)(videos)
    expected = 255 * videos.mean(dim=(3, 4)).transpose(1, 2).reshape(2, 3, 3, 4).mean(dim=3)
    torch.testing.assert_close(found, expected.flatten(1))
    with pytest.raises(LabkitError, match="10 frames or more, and these have 9"):
        VideoFeatures(network)(videos[:, :9])


def test_what_is_no_network_is_one_sentence(tmp_path, monkeypatch) -> None:
    with pytest.raises(LabkitError, match=r"weights are not there.*--i3d") as caught:
        VideoFeatures()
    assert str(tmp_path) in str(caught.value)
    (tmp_path / "half.pt").write_bytes(b"half")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "half.pt"))
    with pytest.raises(LabkitError, match="not a readable network") as caught:
        VideoFeatures()
    assert "\n" not in str(caught.value)
    plain = tmp_path / "plain.pt"
    torch.jit.script(nn.Identity()).save(str(plain))
    with pytest.raises(LabkitError, match="cannot be called"):
        VideoFeatures(plain)(torch.rand(2, 12, 3, 8, 8))


def test_an_evaluation_has_it(smoke, simulated, network, tmp_path) -> None:
    torch.manual_seed(0)
    model = VideoCVAE(smoke.model, 7).eval()
    dataset = ClipDataset(simulated, "test", windows="first")
    features = VideoFeatures(network)
    result = evaluate(model, dataset, samples=2, batch_size=2, fvd=features, progress=False)
    with torch.inference_mode():
        true, predicted = (
            torch.from_numpy(result.examples[name]).float() / 255
            for name in ("truth", "prediction")
        )
        expected = frechet_distance(features(true).numpy(), features(predicted).numpy())
    assert result.fvd == pytest.approx(expected, rel=0.01)
    assert result.fvd > 0
    result.save(tmp_path / "evaluation.json")
    assert Evaluation.load(tmp_path / "evaluation.json").fvd == result.fvd
    assert evaluate(model, dataset, samples=1, clips=1, progress=False).fvd is None
