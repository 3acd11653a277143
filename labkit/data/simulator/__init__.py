"""A simulated robot table: clips as BAIR's, made from (seed, index) alone."""

from labkit.data.simulator.generate import (
    SPLIT_OFFSETS,
    SimulatedSplit,
    check_counts,
    manifest_seed,
    simulate,
    simulate_clip,
    simulate_pack,
)
from labkit.data.simulator.world import SimulatedClip, SimulatedWorld

__all__ = [
    "SPLIT_OFFSETS",
    "SimulatedClip",
    "SimulatedSplit",
    "SimulatedWorld",
    "check_counts",
    "manifest_seed",
    "simulate",
    "simulate_clip",
    "simulate_pack",
]
