"""Makes docs/gallery.md, its pictures, and docs/demo.gif: `make gallery`."""

from __future__ import annotations

from pathlib import Path

import labkit
from gallery_builder import write_gallery

HERE = Path(__file__).parent
RUN = HERE.parent / "notebooks" / "demo_run"
EXPERIMENT = "annealing"

if __name__ == "__main__":
    labkit.lab_setup()
    print(f"Look at {write_gallery(RUN, HERE, experiment=EXPERIMENT)}")
