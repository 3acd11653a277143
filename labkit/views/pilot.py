"""Drive the arm: a robot inside a model, by arrow keys and buttons, the truth beside it.

Key presses need a script in the page, and ipywidgets has no events of the keyboard. The widget is
made with anywidget: the script is part of it and travels over the notebook's own channel, so it
needs no extension of ours to install, no network and no trust in saved HTML, and it is taken down
with its view.

A widget's view lasts as long as its session: opened again, JupyterLab shows an error in its
place. So a film strip is put above it, of all that was driven when the cell ran; where the view
lives, the strip is hidden, and where it does not, the error is.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from jaxtyping import UInt8

from labkit.errors import LabkitError, ShapeError
from labkit.views import style
from labkit.views.episode import Episode, Model, Recorded, Simulation
from labkit.views.filmstrip import filmstrip, png_bytes
from labkit.views.futures import DIRECTIONS
from labkit.views.scrub_page import png_uri, psnr_of_frames, psnr_text

MAX_SPEED = 0.066
"""largest |dx| or |dy| of an action in the data, metres a frame"""
STRIP_STEPS = 15
"""time steps in the film strip: the last ones, where there are more"""

PRESSES = (*DIRECTIONS, "raise", "lower", "fingers", "undo", "reset", "resample", "save")
"""What can be pressed. The moves, raise and lower take a step; fingers opens or closes them from
the next step on."""

_VIEW = "application/vnd.jupyter.widget-view+json"
# Both parts are in one output area; ":has" says which of them a reader can use.
_STILL = """<style>
.jp-OutputArea:has(.labkit-pilot) .labkit-pilot-still { display: none; }
.jp-OutputArea:has(.labkit-pilot-still) :is(.jupyter-widgets, [data-mime-type="%s"]):not(:has(*)) {
  display: none;
}
</style>
<div class="labkit-pilot-still"><img alt="%s" src="%s" style="max-width: none; background: #fff">
<p>This is a still picture. Run the cell to drive the arm.</p></div>"""


class Pilot:
    """An episode with a stick; made by `pilot`. As a cell's last line it shows itself."""

    def __init__(
        self, episode: Episode, *, speed: float, scale: int, folder: Path | str = "episode"
    ) -> None:
        self.episode, self.speed, self.scale, self.folder = episode, speed, scale, Path(folder)
        # The context's gripper goes on as it is until the pilot says otherwise.
        given = episode.actions
        self.lifted = bool(len(given) and given[-1, 3] > 0)
        self.closed = bool(len(given) and given[-1, 2] > 0)
        self.note = ""
        """what was done last, in words"""

    def __repr__(self) -> str:
        truth = "" if self.episode.world is None else ", simulated too"
        return f"Pilot(steps={len(self.episode)}, frames={len(self.episode.frames)}{truth})"

    def press(self, what: str) -> Pilot:
        """Does what a button or key does.

        Args:
            what: one of `PRESSES`.
        Raises:
            ShapeError: it is none of them.
            LabkitError: the episode cannot be saved.
        """
        if what not in PRESSES:
            raise ShapeError(f"nothing is called {what!r}", hint=f"press {', '.join(PRESSES)}")
        if what in DIRECTIONS or what in ("raise", "lower"):
            self._act(what)
        elif what == "fingers":
            self.closed = not self.closed
            self.note = f"fingers {'close' if self.closed else 'open'} from the next step on"
        elif what == "undo":
            self.note = "one step taken back" if self.episode.undo() else "nothing to take back"
        elif what == "reset":
            self.episode.reset()
            self.note = "back at the context"
        elif what == "resample":
            self.episode.resample()
            self.note = f"z drawn anew: future {self.episode.draw + 1}"
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
        """The episode as a film strip, its last time steps if it is long."""
        length = len(self.episode.frames)
        steps = range(max(0, length - STRIP_STEPS), length)
        return filmstrip(self.episode.rows(), scale=1, n_past=self.episode.n_past, steps=steps)

    def widget(self) -> PilotWidget:
        """The widget alone: its view is empty where there is no kernel."""
        return PilotWidget(self)

    def _act(self, what: str) -> None:
        if what in ("raise", "lower"):
            self.lifted = what == "raise"
        dx, dy = DIRECTIONS.get(what, (0, 0))
        self.episode.act([self.speed * dx, self.speed * dy, float(self.closed), float(self.lifted)])
        self.note = {"raise": "raised", "lower": "lowered", "stay": "stayed"}.get(
            what, f"moved {what}"
        )

    def still(self) -> dict[str, str]:
        """The film strip as a notebook keeps it, by MIME type: the same at every run."""
        names = ", ".join(style.label_of(name) for name in self.episode.rows())
        length = len(self.episode.frames)
        alt = html.escape(f"Film strip. Rows: {names}. Columns: the last of {length} time steps.")
        picture = _STILL % (_VIEW, alt, png_uri(png_bytes(self.strip())))
        return {"text/html": picture, "text/plain": f"{self!r}, as a still picture"}

    def _ipython_display_(self) -> None:
        """The film strip, and the widget below it: only one of them is seen."""
        from IPython.display import display

        display(self.still(), raw=True)
        display(self.widget())


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


class PilotWidget(anywidget.AnyWidget):
    """What is shown of a `Pilot`: a message a key press comes in, one with the frames goes out."""

    _esm = _beside("pilot.js")
    _css = _beside("pilot.css")
    screens = traitlets.Bytes().tag(sync=True)
    """the frames now, one after the other: (clips, H, W, 3) bytes"""
    shown = traitlets.Dict().tag(sync=True)
    """what is said of them, and the state of the controls"""

    def __init__(self, pilot: Pilot) -> None:
        super().__init__()
        self.pilot = pilot
        self.pressed = 0
        """how many messages were answered"""
        self.on_msg(self._obey)
        self.refresh()

    def __repr__(self) -> str:
        return f"PilotWidget({self.pilot!r})"

    def refresh(self) -> None:
        """Sends what is to be seen now, in one message."""
        episode, pilot = self.pilot.episode, self.pilot
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
                "lifted": pilot.lifted,
                "closed": pilot.closed,
                "speed": pilot.speed,
                "max_speed": MAX_SPEED,
                "note": pilot.note,
                "answered": self.pressed,
            }

    def _obey(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        """Does what a message of the page says."""
        self.pressed += 1
        try:
            if "speed" in content:
                self.pilot.speed = min(max(float(content["speed"]), 0.0), MAX_SPEED)
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
    speed: float = 0.04,
    seed: int = 0,
    scale: int = 5,
    world: Simulation | None = None,
    folder: Path | str = "episode",
) -> Pilot:
    """The model as a small world: choose the next action, see the next frame.

    The arrow keys move the gripper (right, left, away from the camera, near to it), u and d raise
    and lower it, f closes or opens the fingers, s lets time pass. Backspace takes a step back, r
    goes back to the context, z draws another future. Each step is one frame, while a decision in
    the data lasts for two.

    Where the model is told the end effector's position, that of the context is known and every
    later one is what the actions make expected (`labkit.views.episode.expected_position`): no
    position of a frame to come is read from the clip or from the simulator.

    Args:
        model: in evaluation mode.
        clip: its first n_past frames are the past. A simulated clip knows its world, and what
            really happens under the same actions is shown beside the prediction.
        n_past: number of context frames.
        speed: of a move, metres a frame, at most `MAX_SPEED`.
        seed: of the draws of z.
        scale: every pixel is a square of this side.
        world: what knows the truth; None is the clip's own, if it has one.
        folder: where `save` puts episode.gif and actions.csv.
    Returns:
        an object that shows itself, with `.press`, `.drive`, `.strip` and `.episode`.
    Raises:
        ShapeError: the clip cannot be driven in the model; a speed or scale out of its range.
    """
    if not 0 < speed <= MAX_SPEED:
        raise ShapeError(f"speed is {speed}; allowed: above 0, up to {MAX_SPEED} m a frame")
    if not 1 <= scale <= 16:
        raise ShapeError(f"scale is {scale}; allowed: 1..16")
    episode = Episode(model, clip, n_past=n_past, seed=seed, world=world)
    return Pilot(episode, speed=speed, scale=scale, folder=folder)
