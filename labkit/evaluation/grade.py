"""The course's table: which PSNR, averaged over its test set, earns how much of the demo's PSNR
points."""

from __future__ import annotations

GRADES = ((25.0, 100), (24.0, 90), (23.0, 80), (22.0, 70), (21.0, 60), (20.0, 50))
"""(PSNR in dB, per cent): from that PSNR on so much; below the last, nothing"""


def grade(psnr: float) -> int:
    """Per cent of the points for a PSNR in dB of the protocol `course`, taken as it is: 24.99 dB
    is not 25."""
    return next((share for bound, share in GRADES if psnr >= bound), 0)
