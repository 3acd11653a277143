"""LPIPS: against its authors' own code; and without weights, a sentence.

The networks' weights are hundreds of megabytes, so a test puts untrained ones in their place.
"""

from __future__ import annotations

import lpips
import pytest
import torch
import torchvision

from labkit.errors import LabkitError
from labkit.evaluation.perceptual import Lpips, weights_file


@pytest.fixture
def untrained(monkeypatch, tmp_path) -> None:
    """Networks that somebody seems to have fetched, and that have learned nothing."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def alexnet(weights=None, pretrained=False, **_):
        torch.manual_seed(3)
        net = torch.nn.Module()
        make = torch.nn.Conv2d
        net.features = torch.nn.Sequential(
            make(3, 64, 11, 4, 2),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(3, 2),
            make(64, 192, 5, 1, 2),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(3, 2),
            make(192, 384, 3, 1, 1),
            torch.nn.ReLU(),
            make(384, 256, 3, 1, 1),
            torch.nn.ReLU(),
            make(256, 256, 3, 1, 1),
            torch.nn.ReLU(),
        )
        return net

    def vgg16(weights=None, pretrained=False, **_):
        torch.manual_seed(4)
        net = torch.nn.Module()
        net.features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
        return net

    monkeypatch.setattr(torchvision.models, "alexnet", alexnet)
    monkeypatch.setattr(torchvision.models, "vgg16", vgg16)
    weights_file("alex").parent.mkdir(parents=True)
    for network in ("alex", "vgg"):
        weights_file(network).touch()


@pytest.fixture
def frames() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 3, 64, 64, generator=generator)
    return (truth + 0.1 * torch.randn(truth.shape, generator=generator)).clamp(0, 1), truth


def test_a_frame_is_at_no_distance_from_itself_and_has_one_value(untrained, frames) -> None:
    measure = Lpips("alex")
    values = measure(*frames)
    assert values.shape == (2, 3)
    assert (values > 1e-4).all()
    assert measure(frames[1], frames[1]).abs().max() < 1e-6
    torch.testing.assert_close(measure(frames[0][1], frames[1][1]), values[1])
    further = (frames[1] + 3 * (frames[0] - frames[1])).clamp(0, 1)
    assert (measure(further, frames[1]) > values).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_it_is_what_the_authors_code_computes(network, untrained, frames, capsys) -> None:
    theirs = lpips.LPIPS(net=network, verbose=False).eval()
    pair = (2 * each.flatten(0, 1) - 1 for each in frames)
    with torch.no_grad():
        expected = theirs(*pair).view(2, 3)
    torch.testing.assert_close(Lpips(network)(*frames), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_without_weights_a_sentence_says_how_to_get_them(network, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(LabkitError, match=r"not measured.*once, \d+ MB: python -c .*torchvision"):
        Lpips(network)
    file = weights_file(network)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half of a file")
    with pytest.raises(LabkitError, match=r"not readable weights.*delete the file") as caught:
        Lpips(network)
    assert "\n" not in str(caught.value)
