"""Arrays in, pictures out. Nothing here reads a run's folder. Only the pilot and `futures` run a
model; the caller passes it."""

from labkit.frames import to_uint8
from labkit.views.figures import figure_png, psnr_over_time, schedules, training_curves
from labkit.views.filmstrip import filmstrip, png_bytes
from labkit.views.futures import futures_of_draws, futures_of_plans, plan
from labkit.views.gif import animation, gif_bytes, save_gif
from labkit.views.latents import kl_heat_map, prior_and_posterior, traversal_strips
from labkit.views.live import LiveFigure
from labkit.views.model_graph import model_graph
from labkit.views.pilot import Pilot, pilot
from labkit.views.report import write_report
from labkit.views.score_panels import score_panels
from labkit.views.scrubber import Scrubber, scrub
from labkit.views.side_by_side import side_by_side
from labkit.views.style import label_of, use_style
from labkit.views.video import mp4_bytes, save_mp4

__all__ = [
    "LiveFigure",
    "Pilot",
    "Scrubber",
    "animation",
    "figure_png",
    "filmstrip",
    "futures_of_draws",
    "futures_of_plans",
    "gif_bytes",
    "kl_heat_map",
    "label_of",
    "model_graph",
    "mp4_bytes",
    "pilot",
    "plan",
    "png_bytes",
    "prior_and_posterior",
    "psnr_over_time",
    "save_gif",
    "save_mp4",
    "schedules",
    "score_panels",
    "scrub",
    "side_by_side",
    "to_uint8",
    "training_curves",
    "traversal_strips",
    "use_style",
    "write_report",
]
