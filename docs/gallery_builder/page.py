"""The gallery: every picture on one page, each with the command and the protocol it comes from."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from gallery_builder import curves, inside, strips
from gallery_builder.picture import Material, Picture
from labkit.data.dataset import ClipDataset
from labkit.data.simulator import simulate_pack
from labkit.evaluation.controllability import controllability
from labkit.files import write_whole
from labkit.training import load_model
from labkit.views.gif import in_256_colours

PAGE, FOLDER, ANIMATION = "gallery.md", "gallery", "demo.gif"

CLIPS = 32
"""number of test clips simulated for the pictures; the first ones are shown"""

HEAD = """\
# Gallery

The pictures that labkit draws of one run: here of `{run}`, a run of `labkit demo`. `make gallery`
writes this page and its pictures from that run's files and from {clips} simulated test clips.
Where clips are shown, they are the first of the split; none was selected.

Frames are enlarged by repeating pixels. The colours can be distinguished with any common form of
colour blindness, and a series has the same colour in every picture. The pictures of this page are
reduced to 256 colours to keep the files small; the functions below them return all colours.
"""


def write_gallery(
    run: Path | str, out: Path | str, clips: int = CLIPS, experiment: str = ""
) -> Path:
    """Writes `gallery.md`, its pictures in `gallery/`, and the animation `demo.gif`.

    Args:
        run: the folder of a finished and evaluated run.
        out: the folder of the page.
        clips: test clips to simulate.
        experiment: a folder in `out` with an experiment's comparison; "" for none.

    Returns:
        the page.

    Raises:
        RunError: the run, its history, its evaluation or the comparison is missing or cannot
            be read.
        LabkitError: a file cannot be written.
    """
    run, out = Path(run), Path(out)
    drawn = list(pictures(run, clips))
    if experiment:
        drawn.append(curves.side_by_side(out / experiment))
    for picture in drawn:
        small = in_256_colours(picture.data) if picture.file.endswith(".png") else picture.data
        write_whole(out / place_of(picture), small)
        for name, data in picture.more.items():
            write_whole(out / FOLDER / name, data)
    page = out / PAGE
    write_whole(page, page_text(drawn, HEAD.format(run=run.name, clips=clips)))
    return page


def pictures(run: Path | str, clips: int = CLIPS) -> Iterator[Picture]:
    """Draws the pictures one after the other, the animation first.

    Args:
        run: the folder of a finished and evaluated run.
        clips: test clips to simulate.
    Raises:
        RunError: the run, its history or its evaluation is missing or cannot be read.
    """
    run = Path(run)
    model, config = load_model(run)
    evaluation = curves.stored_evaluation(run)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "simulated"
        simulate_pack(root, config.seed, {"test": clips}, progress=False)
        here = dataclasses.replace(config.data, root=str(root))
        with_clips = Material(
            run, model, config, ClipDataset.from_config(here, "test", windows="first")
        )
        control = controllability(
            model, with_clips.dataset, clips=clips, seed=config.seed, keep=strips.IN_GIF
        )
        yield strips.animation(with_clips, control)
        yield from strips.strips_and_scrubber(with_clips)
        yield strips.control_strip(control)
        yield strips.plans(with_clips)
        yield curves.scores(evaluation)
        yield curves.training(run, config)
        yield curves.schedules()
        yield inside.deviation(with_clips)
        yield from inside.latents(with_clips)
        yield inside.leak_certificate(with_clips)
        yield from inside.graphs(config)


def place_of(picture: Picture) -> str:
    """The path of a picture relative to the page."""
    return picture.file if picture.file == ANIMATION else f"{FOLDER}/{picture.file}"


def page_text(drawn: Iterable[Picture], head: str) -> str:
    """The page in Markdown: one section for each picture."""
    parts = [head]
    for picture in drawn:
        fence = "sh" if picture.command.startswith("labkit ") else "python"
        protocol = picture.protocol[0].upper() + picture.protocol[1:]
        parts.append(
            f"## {picture.title}\n\n{picture.text}\n\n"
            f"![{picture.alt}]({place_of(picture)})\n\n"
            f"*{protocol}.*\n\n"
            f"```{fence}\n{picture.command}\n```\n"
        )
    return "\n".join(parts)
