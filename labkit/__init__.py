"""labkit: the engine under the lab on conditional video prediction."""

from __future__ import annotations

from labkit.lab import lab_setup

__version__ = "0.1.0"
__all__ = ["lab_setup"]
