"""Arrays in, pictures out. Nothing here runs a model or reads a run folder."""

from labkit.views.columns import side_by_side
from labkit.views.figures import figure_png, psnr_over_time, schedules, training_curves
from labkit.views.filmstrip import filmstrip, png_bytes, to_uint8
from labkit.views.gif import gif_bytes, save_gif
from labkit.views.report import write_report
from labkit.views.scrubber import Scrubber, scrub
from labkit.views.style import label_of, use_style

__all__ = [
    "Scrubber",
    "figure_png",
    "filmstrip",
    "gif_bytes",
    "label_of",
    "png_bytes",
    "psnr_over_time",
    "save_gif",
    "schedules",
    "scrub",
    "side_by_side",
    "to_uint8",
    "training_curves",
    "use_style",
    "write_report",
]
