"""The files of a run as damaged data: every reader ends in a value or in one sentence.

2,000 mutations of each file; 300 of the weights, since each reading builds a model.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from labkit.config import Config
from labkit.errors import LabkitError
from labkit.model import VideoCVAE
from labkit.presets import SMOKE
from labkit.training.checkpoint import (
    Progress,
    load_model,
    load_progress,
    save_model,
    save_progress,
)
from labkit.training.history import EpochRow, read_history, read_timing, write_history

BYTES = [
    b"[",
    b"{",
    b"]",
    b"}",
    b"null",
    b"1e999",
    b"nan",
    b"-1",
    b"\xff",
    b'"',
    b",",
    b"\n",
    b"\0",
]
"""What a mutation inserts, besides repetitions."""


def mutated(whole: bytes, draw: random.Random) -> bytes:
    """The bytes with one to twenty changes: a byte replaced, a part removed, inserted, repeated, or
    the end cut off."""
    data = bytearray(whole)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        place, kind = draw.randrange(len(data)), draw.randrange(9)
        if kind == 8:
            del data[place:]
        elif kind >= 6:
            data[place:place] = data[place : place + draw.randrange(1, 80)]
        elif kind >= 4:
            data[place:place] = draw.choice(BYTES)
        elif kind >= 2:
            del data[place : place + draw.randrange(1, 40)]
        else:
            data[place] = draw.randrange(256)
        if not data:
            break
    return bytes(data)


def assert_values_or_sentences(
    file: Path, read: Callable[[], object], count: int, change=mutated
) -> None:
    """Reads mutations of a file. Any exception but a LabkitError fails the test."""
    draw, whole = random.Random(0), file.read_bytes()
    read()
    sentences = []
    for _ in range(count):
        file.write_bytes(change(whole, draw))
        try:
            read()
        except LabkitError as error:
            sentences.append(str(error))
    file.write_bytes(whole)
    assert len(sentences) > count / 10
    read()
    wrong = [each for each in sentences if "\n" in each or file.name not in each]
    assert not wrong, wrong[:3]


ROW = EpochRow(1, 2, 0.5, 0.4, 3.0, 20.0, 1.0, 1.0, 0.002, 1.5, 3, 0.25)


def test_mutated_histories(tmp_path: Path) -> None:
    assert_mutated_histories(tmp_path, 200)


@pytest.mark.fuzz
def test_two_thousand_mutated_histories(tmp_path: Path) -> None:
    assert_mutated_histories(tmp_path, 2000)


def assert_mutated_histories(run: Path, count: int) -> None:
    write_history(run, [ROW] * 4)
    assert_values_or_sentences(run / "history.csv", lambda: read_history(run), count)


@pytest.mark.fuzz
def test_two_thousand_mutated_timings(tmp_path: Path) -> None:
    file = tmp_path / "timing.csv"
    file.write_text("epoch,seconds\n1,2.50\n2,2.25\n")
    assert_values_or_sentences(file, lambda: read_timing(tmp_path), 2000)


def test_mutated_configs(tmp_path: Path) -> None:
    assert_mutated_configs(tmp_path, 200)


@pytest.mark.fuzz
def test_two_thousand_mutated_configs(tmp_path: Path) -> None:
    assert_mutated_configs(tmp_path, 2000)


def assert_mutated_configs(run: Path, count: int) -> None:
    file = run / "config.json"
    SMOKE.save(file)
    assert_values_or_sentences(file, lambda: Config.load(file), count)


def test_a_config_of_ten_thousand_levels(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text("[" * 10000 + "]" * 10000)
    with pytest.raises(LabkitError, match="nested too deeply"):
        Config.load(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.json", lambda run: Config.load(run / "config.json")),
        ("history.csv", read_history),
        ("timing.csv", read_timing),
    ],
)
def test_a_pipe_is_not_waited_for(name: str, read: Callable[[Path], object], tmp_path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(LabkitError, match=name):
        read(tmp_path)


def with_checkpoint(run: Path) -> Path:
    """A small checkpoint: the parts of a training, its progress, displaced weights."""
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    tensors = {
        "module": layer.state_dict(),
        "average": layer.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    shown = torch.arange(20, dtype=torch.uint8)
    progress = Progress(5, 20.0, [ROW], {"loss": 1.0}, 1, shown, "digest", 1)
    save_progress(run, tensors, progress)
    return run / "checkpoint.pt"


def test_mutated_checkpoints(tmp_path: Path) -> None:
    file = with_checkpoint(tmp_path)
    assert_values_or_sentences(file, lambda: load_progress(tmp_path), 200)


@pytest.mark.fuzz
def test_two_thousand_mutated_checkpoints(tmp_path: Path) -> None:
    file = with_checkpoint(tmp_path)
    assert_values_or_sentences(file, lambda: load_progress(tmp_path), 2000)


def with_weights(run: Path) -> Path:
    SMOKE.save(run / "config.json")
    save_model(VideoCVAE(SMOKE.model, SMOKE.data.condition_size), run / "model.safetensors")
    return run / "model.safetensors"


def in_the_header(whole: bytes, draw: random.Random) -> bytes:
    """A mutation of the header of a safetensors file, whose length is corrected: the names, types
    and places of the tensors, and the metadata."""
    length = int.from_bytes(whole[:8], "little")
    header = mutated(whole[8 : 8 + length], draw)
    return len(header).to_bytes(8, "little") + header + whole[8 + length :]


def in_the_metadata(whole: bytes, draw: random.Random) -> bytes:
    """A mutation of the JSON text within the metadata; the rest of the header is sound."""
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    shape = header["__metadata__"]["shape"].encode()
    header["__metadata__"]["shape"] = mutated(shape, draw).decode("utf-8", "replace")
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + whole[8 + length :]


@pytest.mark.parametrize("change", [in_the_header, in_the_metadata])
def test_mutated_weights(change, tmp_path: Path) -> None:
    file = with_weights(tmp_path)
    assert_values_or_sentences(file, lambda: load_model(tmp_path), 15, change)


@pytest.mark.fuzz
@pytest.mark.parametrize("change", [in_the_header, in_the_metadata])
def test_three_hundred_mutated_weights(change, tmp_path: Path) -> None:
    file = with_weights(tmp_path)
    assert_values_or_sentences(file, lambda: load_model(tmp_path), 150, change)


def test_weights_of_other_sizes_name_the_difference(tmp_path: Path) -> None:
    file = with_weights(tmp_path)
    tensors = load_file(file)
    first = next(iter(tensors))
    save_file({**tensors, first: tensors[first][:1].clone()}, file)
    with pytest.raises(LabkitError, match=first):
        load_model(tmp_path)
