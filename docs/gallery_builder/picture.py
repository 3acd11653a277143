"""What the gallery is made of: a picture with its words, and a run with clips to try it on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from labkit.config import Config
from labkit.data.dataset import ClipDataset
from labkit.model import VideoCVAE


@dataclass(frozen=True)
class Picture:
    """A picture, and what must stand beside it."""

    file: str
    """its name"""
    data: bytes
    title: str
    text: str
    """what it shows, one or two sentences"""
    alt: str
    """the same for who cannot see it, one sentence"""
    protocol: str
    """how what it shows was made: data, frames in and out, samples"""
    command: str
    """what makes such a picture of a run or of one's own arrays"""
    more: dict[str, bytes] = field(default_factory=dict)
    """files that belong to it, by name"""


@dataclass(frozen=True)
class Material:
    """A run, and clips to try it on."""

    run: Path
    model: VideoCVAE
    config: Config
    dataset: ClipDataset
    """test clips that are simulated on the spot"""

    @property
    def n_past(self) -> int:
        """Number of context frames."""
        return self.config.data.n_past

    @property
    def task(self) -> str:
        """What is predicted of what, in a few words."""
        data = self.config.data
        return f"{data.n_past} -> {data.n_future} frames, free-running"

    @property
    def seed(self) -> int:
        """Of the clips and of every draw."""
        return self.config.seed
