"""How strictly `make test` compares the notebooks with their stored outputs.

Text is compared letter by letter: what is printed, a cell's value, HTML, LaTeX, and stderr
too, so that a new warning is noticed. Notebooks therefore print no more digits than hold on
another processor.

Pictures are not compared by their bytes, since a last bit of a float can move a pixel: nbval
leaves out PNG and JPEG by itself, GIF and SVG are left out here, and pictures inside HTML by
nbval.cfg. That a picture is there at all is still compared, by the text stored beside it.
The same holds for widgets: nbval leaves out their view, whose id is random.
"""

from __future__ import annotations

from typing import Any


def pytest_collectstart(collector: Any) -> None:
    """Adds to what nbval leaves out, in the way its documentation describes."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("image/gif", "image/svg+xml")
