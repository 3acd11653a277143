"""The LSTMs over time: the frame predictor LSTM_theta and the posterior LSTM_phi.

State is explicit: each call takes the state (h, c) and returns the new one, so two rollouts
can run side by side and nothing leaks from one clip to the next.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from labkit.model.gaussian import Gaussian

State = tuple[Tensor, Tensor]
"""(h, c) of an LSTM, each (layers, B, hidden)."""


class FramePredictor(nn.Module):
    """LSTM_theta: from (h_{t-1}, c, z_t) to the predicted encoding g_t (SVG, section 3)."""

    def __init__(
        self, input_size: int, output_size: int, hidden_size: int, layers: int, norm: bool
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(input_size, hidden_size)
        self.lstm = nn.LSTM(hidden_size, hidden_size, layers, batch_first=True)
        self.output = nn.Linear(hidden_size, output_size)
        # The course's sample code puts a batch norm here; SVG does not.
        self.norm = nn.BatchNorm1d(output_size) if norm else nn.Identity()

    def forward(
        self, inputs: Float[Tensor, "B S n"], state: State | None = None
    ) -> tuple[Float[Tensor, "B S g"], State]:
        """Advances S steps from `state` (None: zeros); returns g of each and the new state."""
        hidden, state = self.lstm(self.embed(inputs), state)
        output = self.output(hidden)
        return self.norm(output.flatten(0, 1)).view_as(output).tanh(), state


class GaussianLSTM(nn.Module):
    """LSTM_phi: from encodings h_{1:t} (and the condition) to q_phi(z_t | x_{1:t}, c)."""

    def __init__(self, input_size: int, latent_size: int, hidden_size: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Linear(input_size, hidden_size)
        self.lstm = nn.LSTM(hidden_size, hidden_size, layers, batch_first=True)
        self.mean = nn.Linear(hidden_size, latent_size)
        self.log_variance = nn.Linear(hidden_size, latent_size)

    def forward(
        self, inputs: Float[Tensor, "B S n"], state: State | None = None
    ) -> tuple[Gaussian, State]:
        """Advances S steps from `state` (None: zeros); returns the Gaussian of each step,
        (B, S, z), and the new state."""
        hidden, state = self.lstm(self.embed(inputs), state)
        return Gaussian(self.mean(hidden), self.log_variance(hidden)), state
