"""A picture of the gallery with its texts; the run and the clips that pictures are drawn from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from labkit.config import Config
from labkit.data.dataset import ClipDataset
from labkit.model import VideoCVAE


@dataclass(frozen=True)
class Picture:
    """A picture and its texts."""

    file: str
    """its name"""
    data: bytes
    title: str
    text: str
    """what it shows, one or two sentences"""
    alt: str
    """the same for readers who cannot see it, one sentence"""
    protocol: str
    """how it was measured: data, frames in and out, samples"""
    command: str
    """the command or call that draws such a picture"""
    more: dict[str, bytes] = field(default_factory=dict)
    """files that belong to it, by name"""


@dataclass(frozen=True)
class Material:
    """A run, and clips to predict."""

    run: Path
    model: VideoCVAE
    config: Config
    dataset: ClipDataset
    """simulated test clips"""

    @property
    def n_past(self) -> int:
        """Number of context frames."""
        return self.config.data.n_past

    @property
    def task(self) -> str:
        """The task in a few words."""
        data = self.config.data
        return f"{data.n_past} -> {data.n_future} frames, free-running"

    @property
    def seed(self) -> int:
        """Of the clips and of every draw."""
        return self.config.seed
