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
"""test clips simulated for the pictures; the first ones are shown, and none is chosen"""

HEAD = """\
# Gallery

The pictures that labkit makes of one run: here of `{run}`, a run of `labkit demo`. `make gallery`
makes this page and its pictures anew, from that run's files and from {clips} test clips that it
simulates on the spot. Nothing was chosen: where clips are shown, they are the first of the split.

Frames are enlarged by repeating pixels. Colours are told apart with any common form of colour
blindness, and a series has the same one in every picture. The pictures of this page are reduced to
256 colours, to be small; the functions beside them are not.
"""


def write_gallery(
    run: Path | str, out: Path | str, clips: int = CLIPS, experiment: str = ""
) -> Path:
    """Writes `gallery.md`, its pictures in `gallery/`, and the animation `demo.gif`.

    Args:
        run: the folder of a finished and evaluated run.
        out: the folder of the page.
        clips: test clips to simulate.
        experiment: a folder in `out` that holds an experiment's comparison; left out, there is
            none to show.
    Returns:
        the page.
    Raises:
        RunError: the run, its history or its evaluation, or the comparison, is not there or
            cannot be read.
        LabkitError: a file cannot be written.
    """
    run, out = Path(run), Path(out)
    made = list(pictures(run, clips))
    if experiment:
        made.append(curves.side_by_side(out / experiment))
    for picture in made:
        small = in_256_colours(picture.data) if picture.file.endswith(".png") else picture.data
        write_whole(out / place_of(picture), small)
        for name, data in picture.more.items():
            write_whole(out / FOLDER / name, data)
    page = out / PAGE
    write_whole(page, page_text(made, HEAD.format(run=run.name, clips=clips)))
    return page


def pictures(run: Path | str, clips: int = CLIPS) -> Iterator[Picture]:
    """Makes them one after the other, the animated one first.

    Args:
        run: the folder of a finished and evaluated run.
        clips: test clips to simulate.
    Raises:
        RunError: the run, its history or its evaluation is not there or cannot be read.
    """
    run = Path(run)
    model, config = load_model(run)
    told = curves.stored_evaluation(run)
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
        yield curves.scores(told)
        yield curves.training(run, config)
        yield curves.schedules()
        yield inside.deviation(with_clips)
        yield from inside.latents(with_clips)
        yield inside.leak_certificate(with_clips)
        yield from inside.graphs(config)


def place_of(picture: Picture) -> str:
    """Where a picture lies, seen from the page."""
    return picture.file if picture.file == ANIMATION else f"{FOLDER}/{picture.file}"


def page_text(made: Iterable[Picture], head: str) -> str:
    """The page in Markdown: a section a picture."""
    parts = [head]
    for picture in made:
        fence = "sh" if picture.command.startswith("labkit ") else "python"
        protocol = picture.protocol[0].upper() + picture.protocol[1:]
        parts.append(
            f"## {picture.title}\n\n{picture.text}\n\n"
            f"![{picture.alt}]({place_of(picture)})\n\n"
            f"*{protocol}.*\n\n"
            f"```{fence}\n{picture.command}\n```\n"
        )
    return "\n".join(parts)
