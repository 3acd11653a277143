"""A simulated robot table: clips as BAIR's, made from (seed, index) alone."""

from labkit.data.simulator.generate import (
    SPLIT_OFFSETS,
    SimulatedSplit,
    check_counts,
    simulate,
    simulate_clip,
    simulate_pack,
)

__all__ = [
    "SPLIT_OFFSETS",
    "SimulatedSplit",
    "check_counts",
    "simulate",
    "simulate_clip",
    "simulate_pack",
]
