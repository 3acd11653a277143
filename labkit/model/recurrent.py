"""What runs over time: the frame predictor LSTM_theta, as a vector or as a map, and the Gaussian
LSTMs: the posterior LSTM_phi and the prior LSTM_psi.

State is explicit: each call takes the state (h, c) and returns the new one, so two rollouts
can run side by side and nothing leaks from one clip to the next.

What is summed over time is summed in fp32, under autocast too: a bf16 state forgets small steps.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labkit.model.gaussian import Gaussian
from labkit.model.layers import norm_1d

State = tuple[Tensor, Tensor]
"""(h, c): each (layers, B, hidden) of an LSTM, (layers, B, hidden, side, side) of a ConvLSTM."""


def in_full(like: Tensor) -> torch.autocast:
    """A context in which the tensor's device computes in the weights' own precision."""
    return torch.autocast(like.device.type, enabled=False)


class FramePredictor(nn.Module):
    """LSTM_theta: from (h_{t-1}, c, z_t) to the predicted encoding g_t (SVG, section 3)."""

    def __init__(
        self, input_size: int, output_size: int, hidden_size: int, layers: int, norm: str
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(input_size, hidden_size)
        self.lstm = nn.LSTM(hidden_size, hidden_size, layers, batch_first=True)
        self.output = nn.Linear(hidden_size, output_size)
        # The course's sample code puts a batch norm here; SVG does not.
        self.norm = norm_1d(norm, output_size)

    def forward(
        self,
        h: Float[Tensor, "B S n"],
        conditioning: Float[Tensor, "B S m"],
        state: State | None = None,
    ) -> tuple[Float[Tensor, "B S g"], State]:
        """Advances S steps from `state` (None: zeros).

        Args:
            h: encodings of the frames fed.
            conditioning: condition and latent of each step.
        Returns:
            g of each step, and the new state.
        """
        with in_full(h):
            inputs = torch.cat([h, conditioning], dim=-1).to(self.embed.weight.dtype)
            hidden, state = self.lstm(self.embed(inputs), state)
            output = self.output(hidden)
            return self.norm(output.flatten(0, 1)).view_as(output).tanh(), state


class GaussianLSTM(nn.Module):
    """LSTM_phi: from encodings h_{1:t} (and the condition) to q_phi(z_t | x_{1:t}, c); LSTM_psi:
    from h_{0:t-1} and the condition to p_psi(z_t | x_{0:t-1}, c) (SVG-LP)."""

    def __init__(
        self,
        input_size: int,
        latent_size: int,
        hidden_size: int,
        layers: int,
        log_variance_start: float = 0.0,
        mean_norm: str = "none",
    ) -> None:
        """
        Args:
            input_size, latent_size, hidden_size, layers: of the LSTM.
            log_variance_start: log sigma^2 before training, about.
            mean_norm: none or batch; batch gives each unit of the mean variance 1 over the batch.
        """
        super().__init__()
        self.embed = nn.Linear(input_size, hidden_size)
        self.lstm = nn.LSTM(hidden_size, hidden_size, layers, batch_first=True)
        self.mean = nn.Linear(hidden_size, latent_size)
        self.log_variance = nn.Linear(hidden_size, latent_size)
        if log_variance_start:
            nn.init.constant_(self.log_variance.bias, log_variance_start)
        # BN-VAE (Zhu et al. 2020), without learned scale and shift
        self.mean_norm = nn.BatchNorm1d(latent_size, affine=False) if mean_norm == "batch" else None

    def forward(
        self, inputs: Float[Tensor, "B S n"], state: State | None = None
    ) -> tuple[Gaussian, State]:
        """Advances S steps from `state` (None: zeros); returns the Gaussian of each step,
        (B, S, z), and the new state."""
        with in_full(inputs):
            hidden, state = self.lstm(self.embed(inputs.to(self.embed.weight.dtype)), state)
            mean = self.mean(hidden)
            if self.mean_norm is not None:
                mean = self.mean_norm(mean.flatten(0, 1)).view_as(mean)
            return Gaussian(mean, self.log_variance(hidden)), state


class ConvLSTMPredictor(nn.Module):
    """LSTM_theta with a convolutional state (Shi et al. 2015): what is where stays there, instead
    of passing through a vector.

    It reads and returns maps of an eighth of the frame's side; condition and latent come in as
    one bias a channel, the same at every place.
    """

    def __init__(
        self,
        in_channels: int,
        conditioning_size: int,
        out_channels: int,
        hidden: int,
        layers: int,
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(in_channels, hidden, 1)
        self.embed_conditioning = nn.Linear(conditioning_size, hidden)
        # All four gates at once, from the layer's input beside its last h.
        self.gates = nn.ModuleList(
            nn.Conv2d(2 * hidden, 4 * hidden, 3, padding=1) for _ in range(layers)
        )
        self.output = nn.Conv2d(hidden, out_channels, 1)

    def forward(
        self,
        maps: Float[Tensor, "B S i side side"],
        conditioning: Float[Tensor, "B S m"],
        state: State | None = None,
    ) -> tuple[Float[Tensor, "B S o side side"], State]:
        """Advances S steps from `state` (None: zeros); as `FramePredictor.forward`."""
        batch, steps = conditioning.shape[:2]
        bias = self.embed_conditioning(conditioning).flatten(0, 1)[:, :, None, None]
        x = self.embed(maps.flatten(0, 1)) + bias
        x = x.unflatten(0, (batch, steps))
        if state is None:
            zeros = self.embed_conditioning.weight.new_zeros(len(self.gates), *x[:, 0].shape)
            state = (zeros, zeros)
        hidden = []
        for t in range(steps):
            state = self._step(x[:, t], state)
            hidden.append(state[0][-1])
        output = self.output(torch.stack(hidden, dim=1).flatten(0, 1)).tanh()
        return output.unflatten(0, (batch, steps)), state

    def _step(self, x: Float[Tensor, "B c side side"], state: State) -> State:
        new = []
        for layer, (h, c) in zip(self.gates, zip(*state, strict=True), strict=True):
            i, f, o, g = layer(torch.cat([x, h], dim=1)).to(c.dtype).chunk(4, dim=1)
            # c' = sigma(f) c + sigma(i) tanh(g),  h' = sigma(o) tanh(c');  a forget gate that
            # starts open remembers (Jozefowicz et al. 2015)
            c = (f + 1).sigmoid() * c + i.sigmoid() * g.tanh()
            x = o.sigmoid() * c.tanh()
            new.append((x, c))
        h, c = (torch.stack(parts) for parts in zip(*new, strict=True))
        return h, c
