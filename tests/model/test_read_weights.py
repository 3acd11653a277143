"""Files of other programs: their state dicts are read, their pickles are not run."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from labkit.errors import RunError
from labkit.model.import_weights import read_states
from labkit.model.read_weights import conversion, read_checkpoint


def some_part(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "embed.weight": torch.rand(4, 3, generator=generator),
        "embed.bias": torch.rand(4, generator=generator),
        "output.1.num_batches_tracked": torch.tensor(3),
    }


PARTS = {name: some_part(n) for n, name in enumerate(("encoder", "decoder", "posterior"))}


def saved(folder: Path, what: object, **how: object) -> Path:
    file = folder / "model.pth"
    torch.save(what, file, **how)
    return file


def same(read: dict[str, dict[str, Tensor]]) -> bool:
    return set(read) == set(PARTS) and all(
        set(read[part]) == set(state) and all(torch.equal(read[part][n], state[n]) for n in state)
        for part, state in PARTS.items()
    )


def wrapped(prefix: str) -> dict[str, dict[str, Tensor]]:
    return {part: {f"{prefix}{n}": v for n, v in state.items()} for part, state in PARTS.items()}


WAYS = {
    "plain": PARTS,
    "DataParallel": wrapped("module."),
    "compiled": wrapped("_orig_mod."),
    "compiled DataParallel": wrapped("_orig_mod.module."),
    "one of them wrapped": {**PARTS, "decoder": wrapped("module.")["decoder"]},
    "inside of another table": {"epoch": 3, "modules": PARTS},
    "one flat state dict": {f"{p}.{n}": v for p, state in PARTS.items() for n, v in state.items()},
    "flat, wrapped, inside": {
        "state_dict": {f"module.{p}.{n}": v for p, state in PARTS.items() for n, v in state.items()}
    },
}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("zipped", [True, False])
def test_parts_are_found_in_each_way_to_save_them(name, zipped, tmp_path) -> None:
    file = saved(tmp_path, WAYS[name], _use_new_zipfile_serialization=zipped)
    assert same(read_states(file))


def test_safetensors_are_read(tmp_path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(WAYS["one flat state dict"], file)
    assert same(read_states(file))


@pytest.mark.parametrize("zipped", [True, False])
def test_optimizer_options_and_figures_beside_the_parts_are_left(zipped, tmp_path) -> None:
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters())
    options = argparse.Namespace(n_past=3, last_frame_skip=True, lr=0.002)
    beside = {
        "args": options,
        "optimizer": optimizer.state_dict(),
        "epoch": 7,
        "best_psnr": np.float64(23.5),
        "losses": np.arange(3.0),
    }
    file = saved(tmp_path, {**PARTS, **beside}, _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(file)
    assert same(checkpoint.parts)
    assert checkpoint.options == vars(options)
    assert set(checkpoint.ignored) == set(beside)


# ------------------------------------------------------------------------------- refusals


class Harmful:
    """Its pickle makes a folder when it is opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["beside", "as a part", "in a part", "alone"])
def test_no_pickle_runs(where, zipped, tmp_path) -> None:
    harm = Harmful(tmp_path / "harmed")
    what = {
        "beside": {**PARTS, "args": harm},
        "as a part": {**PARTS, "encoder": harm},
        "in a part": {**PARTS, "encoder": {"a": harm}},
        "alone": harm,
    }[where]
    file = saved(tmp_path, what, _use_new_zipfile_serialization=zipped)
    with pytest.raises(RunError, match=r"holds more than tensors: .*mkdir"):
        read_checkpoint(file)
    assert not (tmp_path / "harmed").exists()


MODULES = """
import argparse, torch
from torch import nn

class encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Linear(3, 2)

if __name__ == "__main__":
    import networks
    torch.manual_seed(0)
    parts = {name: networks.encoder() for name in ("encoder", "decoder")}
    torch.save({**parts, "opt": argparse.Namespace(lr=1), "epoch": 3}, "it's a model.pth")
"""


def test_whole_modules_are_refused_with_two_lines_that_convert_them(tmp_path) -> None:
    (tmp_path / "networks.py").write_text(MODULES)
    subprocess.run([sys.executable, "networks.py"], cwd=tmp_path, check=True)
    file = tmp_path / "it's a model.pth"
    with pytest.raises(RunError, match=r"holds more than tensors: networks\.encoder") as refused:
        read_checkpoint(file)
    command = conversion(file)
    assert command in str(refused.value)
    assert len(command.splitlines()) == 2
    for how, shown in (("two lines", command), ("one line", " ".join(command.split()))):
        converted = tmp_path / "it's a model-states.pth"
        converted.unlink(missing_ok=True)
        shown = shown.replace("python", sys.executable, 1)
        subprocess.run(shown, shell=True, cwd=tmp_path, check=True)
        read = read_states(converted)
        assert set(read) == {"encoder", "decoder"}, how
        assert set(read["encoder"]) == {"c1.weight", "c1.bias"}


def test_not_a_number_is_named(tmp_path) -> None:
    bad = {**PARTS, "decoder": {**some_part(), "embed.weight": torch.full((4, 3), torch.nan)}}
    with pytest.raises(RunError, match=r"decoder\.embed\.weight: all its values are NaN") as error:
        read_states(saved(tmp_path, bad))
    assert "earlier checkpoint" in str(error.value)
    bad["decoder"]["embed.weight"] = torch.tensor([1.0, torch.inf])
    with pytest.raises(RunError, match="1 of its 2 values are NaN or infinite"):
        read_states(saved(tmp_path, bad))


def test_arrays_are_named_with_what_converts_them(tmp_path) -> None:
    arrays = {part: {n: v.numpy() for n, v in state.items()} for part, state in PARTS.items()}
    with pytest.raises(RunError, match=r"encoder\.embed\.weight is a NumPy array.*from_numpy"):
        read_states(saved(tmp_path, arrays))


def test_other_contents_are_named(tmp_path) -> None:
    with pytest.raises(RunError, match=r"encoder\.a is str; expected a tensor"):
        read_states(saved(tmp_path, {"encoder": {"a": "text"}}))
    with pytest.raises(RunError, match="encoder is list; expected a state dict"):
        read_states(saved(tmp_path, {"encoder": [1]}))
    with pytest.raises(RunError, match="encoder is empty"):
        read_states(saved(tmp_path, {"encoder": {}}))
    sparse = torch.eye(2).to_sparse()
    with pytest.raises(RunError, match=r"encoder\.a is sparse"):
        read_states(saved(tmp_path, {"encoder": {"a": sparse}}))
    with pytest.raises(RunError, match=r"no table of state dicts: it has generator, epoch"):
        read_states(saved(tmp_path, {"generator": some_part(), "epoch": 3}))
    with pytest.raises(RunError, match=r"no table of state dicts: list"):
        read_states(saved(tmp_path, [1, 2]))


def test_files_that_are_none_are_named(tmp_path) -> None:
    with pytest.raises(RunError, match="no such file"):
        read_states(tmp_path / "nothing.pth")
    with pytest.raises(RunError, match="is not a regular file"):
        read_states(tmp_path)
    with pytest.raises(RunError, match="is not a regular file"):
        read_states("/dev/zero")
    (tmp_path / "a.pth").write_bytes(b"not weights")
    with pytest.raises(RunError, match="is damaged, or was not written by"):
        read_states(tmp_path / "a.pth")
    (tmp_path / "a.safetensors").write_bytes(b"not weights")
    with pytest.raises(RunError, match="is damaged"):
        read_states(tmp_path / "a.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_are_refused_or_read_and_nothing_else(zipped, tmp_path) -> None:
    what = {**PARTS, "args": argparse.Namespace(lr=1), "best": np.float64(1.0)}
    file = saved(tmp_path, what, _use_new_zipfile_serialization=zipped)
    whole, draw = file.read_bytes(), np.random.default_rng(0)
    for number in range(300):
        data = bytearray(whole)
        for _ in range(draw.integers(1, 4)):
            data[draw.integers(len(data))] = draw.integers(256)
        if number % 5 == 0:
            data = data[: draw.integers(len(data))]
        file.write_bytes(data)
        try:
            read_checkpoint(file)
        except RunError:
            continue
