"""LPIPS (Zhang et al. 2018), by torchmetrics: a distance between the features that a network
trained on photographs has of two pictures. 0 is equal; published figures mix AlexNet and VGG.

The weights of LPIPS itself come with torchmetrics; those of the network are torchvision's. They are
used if they are in torch's cache, and are never downloaded without being asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.errors import LabkitError

Network = Literal["alex", "vgg"]

NETWORKS: dict[str, tuple[str, str]] = {
    "alex": ("alexnet", "AlexNet_Weights"),
    "vgg": ("vgg16", "VGG16_Weights"),
}
"""torchvision's names of each network and of its weights"""


class Lpips:
    """LPIPS by one network, of frames in [0, 1]: a `Metric`."""

    def __init__(self, network: Network, device: torch.device | str = "cpu") -> None:
        """
        Args:
            network: alex, as most papers on video; or vgg, as some.
            device: where to compute.
        Raises:
            LabkitError: the network's weights are not there, or cannot be read; the message says
                how to get them.
        """
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        file = weights_file(network)
        if not file.is_file():
            what = f"LPIPS ({network}) is not measured: its network's weights are not there"
            raise LabkitError(what, file=file, hint=how_to_get(network))
        try:
            whole = LearnedPerceptualImagePatchSimilarity(net_type=network, normalize=True)
        except Exception as error:  # torch raises anything at a file that was half fetched
            first_line = str(error).partition("\n")[0]
            what = f"LPIPS ({network}) is not measured: not readable weights: {first_line}"
            hint = f"delete the file and fetch it again; {how_to_get(network)}"
            raise LabkitError(what, file=file, hint=hint) from None
        self._net = whole.net.to(device).eval()

    def __call__(
        self, prediction: Float[Tensor, "*batch 3 H W"], truth: Float[Tensor, "*batch 3 H W"]
    ) -> Float[Tensor, "*batch"]:
        """The distance of each frame from the true one."""
        batch = prediction.shape[:-3]
        pairs = (frames.flatten(0, -4).clamp(0, 1) for frames in (prediction, truth))
        return self._net(*pairs, normalize=True).view(batch)


def weights_file(network: Network) -> Path:
    """Where torchvision keeps the weights of that network."""
    return Path(torch.hub.get_dir(), "checkpoints", Path(_weights(network).url).name)


def how_to_get(network: Network) -> str:
    """The command that fetches the weights, and how much that is."""
    name, size = NETWORKS[network][0], _weights(network).meta["_file_size"]
    command = f"import torchvision; torchvision.models.{name}(weights='DEFAULT')"
    return f'once, {size:.0f} MB: python -c "{command}"'


def _weights(network: Network):  # type: ignore[no-untyped-def]
    import torchvision

    return getattr(torchvision.models, NETWORKS[network][1]).DEFAULT
