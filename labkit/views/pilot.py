"""Drive the arm: a robot in a model, by arrow keys and buttons, with the truth beside it.

ipywidgets has no keyboard events, so the widget is made with anywidget: its script comes over the
notebook's own channel and needs no extension and no network.

A widget is lost when the notebook is closed: opened again, JupyterLab shows an error. So a film
strip of the steps that the cell drove is stored above it. Only one of the two is shown: the widget
while it works, the strip otherwise.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from jaxtyping import UInt8

from labkit.errors import LabkitError, ShapeError
from labkit.views import style
from labkit.views.controls import MOVES, Controls, Statistics
from labkit.views.episode import Episode, Model, Recorded, Simulation
from labkit.views.filmstrip import filmstrip, png_bytes
from labkit.views.scrub_page import png_uri, psnr_of_frames, psnr_text

MAX_SPEED = 3.0
"""largest speed on the slider, standard deviations of the training data per frame"""
STRIP_STEPS = 8
"""largest number of time steps in the film strip: the last ones"""

PRESSES = (*MOVES, "stay", "fingers", "undo", "reset", "resample", "save")
"""What can be pressed. The moves and stay take a step; fingers changes the steps after it."""

_VIEW = "application/vnd.jupyter.widget-view+json"
# Both parts are in one output area; ":has" says which of them a reader can use.
_STILL = """<style>
.jp-OutputArea:has(.labkit-pilot) .labkit-pilot-still { display: none; }
.jp-OutputArea:has(.labkit-pilot-still) :is(.jupyter-widgets, [data-mime-type="%s"]):not(:has(*)) {
  display: none;
}
</style>
<div class="labkit-pilot-still" style="overflow-x: auto">
<img alt="%s" src="%s" style="max-width: none; background: #fff">
<p>This is a still picture. Run the cell to drive the arm.</p></div>"""


class Pilot:
    """An episode with controls, made by `pilot`. A notebook shows it as a cell's last line."""

    def __init__(
        self,
        episode: Episode,
        controls: Controls,
        *,
        speed: float,
        scale: int,
        folder: Path | str = "episode",
    ) -> None:
        self.episode, self.controls = episode, controls
        self.speed, self.scale, self.folder = speed, scale, Path(folder)
        # The gripper stays as it is in the context until a key changes it.
        actions = episode.actions
        controls.start(actions[-1] if len(actions) else None)
        self.note = ""
        """the last press in words"""

    def __repr__(self) -> str:
        truth = "" if self.episode.world is None else ", simulated too"
        return f"Pilot(steps={len(self.episode)}, frames={len(self.episode.frames)}{truth})"

    def press(self, what: str) -> Pilot:
        """Does what a button or key does.

        Args:
            what: one of `PRESSES`.

        Raises:
            ShapeError: it is none of them, or this robot has no column for it.
            LabkitError: the episode cannot be saved.
        """
        if what not in PRESSES:
            raise ShapeError(f"nothing is called {what!r}", hint=f"press {', '.join(PRESSES)}")
        if what in (*MOVES, "fingers") and what not in self.controls.keys:
            raise ShapeError(
                f"no column for {what!r} among {', '.join(self.controls.names)}",
                hint=f'give keys={{"{what}": (column, 1)}}',
            )
        if what in (*MOVES, "stay"):
            self._act(what)
        elif what == "fingers":
            closed = self.controls.toggle(what)
            self.note = f"fingers {'close' if closed else 'open'} from the next step on"
        elif what == "undo":
            self.note = "one step undone" if self.episode.undo() else "nothing to undo"
        elif what == "reset":
            self.episode.reset()
            self.note = "back at the context"
        elif what == "resample":
            self.episode.resample()
            self.note = f"other samples of z: future {self.episode.draw + 1}"
        else:
            gif, actions = self.episode.save(self.folder)
            self.note = f"saved {gif.as_posix()} and {actions.name}"
        return self

    def drive(self, presses: Iterable[str]) -> Pilot:
        """Presses one after the other: `drive(["right"] * 4 + ["near"] * 4)`."""
        for what in presses:
            self.press(what)
        return self

    def strip(self) -> UInt8[np.ndarray, "H2 W2 3"]:
        """The episode as a film strip: at most its last `STRIP_STEPS` time steps."""
        length = len(self.episode.frames)
        steps = range(max(0, length - STRIP_STEPS), length)
        return filmstrip(self.episode.rows(), scale=2, n_past=self.episode.n_past, steps=steps)

    def widget(self) -> PilotWidget:
        """The widget alone; it is empty without a kernel."""
        return PilotWidget(self)

    def _act(self, what: str) -> None:
        self.episode.act(self.controls.action(what, self.speed))
        self.note = {"raise": "raised", "lower": "lowered", "stay": "stayed"}.get(
            what, f"moved {what}"
        )
        self.note = "; ".join([self.note, *self.episode.clipped])

    def still(self) -> dict[str, str]:
        """The film strip as a notebook stores it, by MIME type; the same at every run."""
        names = ", ".join(style.label_of(name) for name in self.episode.rows())
        length = len(self.episode.frames)
        alt = html.escape(f"Film strip. Rows: {names}. Columns: the last of {length} time steps.")
        picture = _STILL % (_VIEW, alt, png_uri(png_bytes(self.strip())))
        return {"text/html": picture, "text/plain": f"{self!r}, as a still picture"}

    def _ipython_display_(self) -> None:
        """Shows the film strip and the widget; only one of them is visible."""
        from IPython.display import display

        display(self.still(), raw=True)
        # The view alone: an exported page has no widget, and would show its repr instead.
        display(self.widget(), include=[_VIEW])


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


class PilotWidget(anywidget.AnyWidget):
    """The view of a `Pilot`: key presses come in as messages, frames go out."""

    _esm = _beside("pilot.js")
    _css = _beside("pilot.css")
    screens = traitlets.Bytes().tag(sync=True)
    """the current frames, one after the other: (clips, H, W, 3) bytes"""
    shown = traitlets.Dict().tag(sync=True)
    """the texts, and the state of the controls"""

    def __init__(self, pilot: Pilot) -> None:
        super().__init__()
        self.pilot = pilot
        self.pressed = 0
        """number of messages that were answered"""
        self.on_msg(self._obey)
        self.refresh()

    def __repr__(self) -> str:
        return f"PilotWidget({self.pilot!r})"

    def refresh(self) -> None:
        """Sends the current frames and texts in one message."""
        episode, pilot, controls = self.pilot.episode, self.pilot, self.pilot.controls
        rows = {name: frames[-1] for name, frames in episode.rows().items()}
        psnr = ""
        if "truth" in rows and len(episode):
            last = (rows[name][None] for name in ("truth", "prediction"))
            psnr = psnr_text(float(psnr_of_frames(*last)[0]))
        with self.hold_sync():
            self.screens = b"".join(x.transpose(1, 2, 0).tobytes() for x in rows.values())
            self.shown = {
                "labels": [_TITLES[name] for name in rows],
                "height": next(iter(rows.values())).shape[1],
                "width": next(iter(rows.values())).shape[2],
                "scale": pilot.scale,
                "t": len(episode.frames) - 1,
                "steps": len(episode),
                "future": episode.draw + 1,
                "psnr": psnr,
                "raised": controls.is_high("raise"),
                "closed": controls.is_high("fingers"),
                "effects": controls.effects(pilot.speed),
                "speed": pilot.speed,
                "max_speed": MAX_SPEED,
                "note": pilot.note,
                "answered": self.pressed,
            }

    def _obey(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        """Answers a message of the page."""
        self.pressed += 1
        try:
            if "speed" in content:
                self.pilot.speed = min(max(float(content["speed"]), 0.05), MAX_SPEED)
            if "press" in content:
                self.pilot.press(str(content["press"]))
        except LabkitError as error:
            self.pilot.note = str(error)
        self.refresh()


_TITLES = {"prediction": "the model predicts", "truth": "the simulator does"}


def pilot(
    model: Model,
    clip: Recorded,
    *,
    n_past: int = 2,
    speed: float = 1.0,
    seed: int = 0,
    scale: int = 5,
    world: Simulation | None = None,
    folder: Path | str = "episode",
    keys: Mapping[str, tuple[str, float]] | None = None,
    statistics: tuple[np.ndarray, np.ndarray] | None = None,
) -> Pilot:
    """Drives a robot in the model: choose the next action, see the predicted frame.

    The arrow keys move the gripper (right, left, away from the camera, near to it), u and d raise
    and lower it, f closes or opens the fingers, s takes a step without a move. Backspace undoes a
    step, r goes back to the context, z samples another future. A step is one frame.

    Each key changes one action column, by `speed` standard deviations of the training data
    (`labkit.views.controls`); the widget shows which. An input beyond 5 standard deviations is
    clipped, and the widget says so. If the model reads the end effector's position, later positions
    are computed from the actions (`labkit.views.episode.expected_position`): no later position is
    read from the clip.

    Args:
        model: in evaluation mode.
        clip: its first n_past frames are the context. For a simulated clip the true frames for the
            same actions are shown beside the prediction.
        n_past: number of context frames.
        speed: of a move, in standard deviations per frame, at most `MAX_SPEED`.
        seed: of the samples of z.
        scale: every pixel is a square of this side.
        world: the simulation that gives the truth; None: the clip's own, if it has one.
        folder: where `save` writes episode.gif and actions.csv.
        keys: other columns for some keys, with a sign: {"raise": ("dz", 1), "lower": ("dz", -1)}.
        statistics: mean and standard deviation of the condition columns, as
            `ClipDataset.condition_statistics()` gives them; None: those stored with the weights.

    Returns:
        an object that a notebook shows, with `.press`, `.drive`, `.strip` and `.episode`.

    Raises:
        ShapeError: the clip cannot be driven in the model; a speed or scale out of its range; an
            unknown key or column; no statistics of another robot's columns.
    """
    if not 0 < speed <= MAX_SPEED:
        raise ShapeError(
            f"speed is {speed}; allowed: above 0, up to {MAX_SPEED:g} standard deviations per frame"
        )
    if not 1 <= scale <= 16:
        raise ShapeError(f"scale is {scale}; allowed: 1..16")
    given = None if statistics is None else Statistics(*statistics)
    episode = Episode(model, clip, n_past=n_past, seed=seed, world=world, statistics=given)
    names, columns = getattr(clip, "action_columns", None), clip.actions.shape[1]
    controls = Controls.choose(names, columns, episode.statistics, keys)
    return Pilot(episode, controls, speed=speed, scale=scale, folder=folder)
