"""The order of windows: one joint batch shared by ranks, the same for any number of workers and
from any update on."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest
import torch

from labkit.data.dataset import ClipDataset
from labkit.data.loader import BatchLoader
from labkit.errors import ConfigError
from labkit.training.data_order import UpdateSampler


@pytest.fixture(scope="module")
def dataset(simulated) -> ClipDataset:
    """Six clips of 30 frames, 19 windows each."""
    return ClipDataset(simulated, "train", labels=False)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 12])
def test_ranks_share_the_joint_batch_without_overlap_or_loss(world: int) -> None:
    joint = UpdateSampler(50, 12, seed=3, updates=range(20))
    ranks = [
        UpdateSampler(50, 12, seed=3, updates=range(20), rank=rank, world=world)
        for rank in range(world)
    ]
    for update, shares in enumerate(zip(*ranks, strict=True)):
        assert {len(share) for share in shares} == {12 // world}
        assert list(chain.from_iterable(shares)) == joint.batch(update)
    seen = Counter(chain.from_iterable(chain.from_iterable(map(list, ranks))))
    # 20 batches of 12 are 4 permutations of 50 windows and 40 windows of a fifth.
    assert len(seen) == 50
    assert Counter(seen.values()) == {5: 40, 4: 10}


def test_one_permutation_is_read_to_its_end_before_the_next_begins() -> None:
    batches = list(UpdateSampler(10, 4, seed=0, updates=range(5)))
    places = list(chain.from_iterable(batches))
    assert sorted(places[:10]) == sorted(places[10:]) == list(range(10))
    assert places[:10] != places[10:]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 12, "world": 5}, r"batch of 12 .* 5 processes .*multiple of 5"),
        ({"batch_size": 0}, r"batch of 0"),
        ({"batch_size": 2, "world": 4}, r"batch of 2 .* 4 processes"),
        ({"rank": 2, "world": 2}, r"rank 2 among 2"),
        ({"rank": -1, "world": 2}, r"rank -1 among 2"),
        ({"rank": 0, "world": 0}, r"rank 0 among 0"),
        ({"n_windows": 0}, r"0 windows"),
    ],
)
def test_what_cannot_be_shared_is_refused_in_words(settings: dict[str, int], words: str) -> None:
    usual = {"n_windows": 10, "batch_size": 12, "seed": 0, "updates": range(3)}
    with pytest.raises(ConfigError, match=words):
        UpdateSampler(**(usual | settings))


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2)])
def test_a_loader_begun_in_the_middle_goes_on_alike_with_any_workers(
    dataset: ClipDataset, workers: int, rank: int, world: int
) -> None:
    """19 x 6 windows, 28.5 batches a permutation: updates 25 to 32 run over its end."""
    everything = UpdateSampler(len(dataset), 4, seed=7, updates=range(33), rank=rank, world=world)
    expected = [dataset.batch(everything.batch(update)) for update in range(25, 33)]
    middle = UpdateSampler(len(dataset), 4, seed=7, updates=range(25, 33), rank=rank, world=world)
    given = list(BatchLoader(dataset, middle, workers=workers))
    assert len(given) == len(expected) == 8
    for one, other in zip(given, expected, strict=True):
        assert len(one) == 4 // world
        assert torch.equal(one.frames, other.frames)
        assert torch.equal(one.condition, other.condition)


@pytest.mark.parametrize("workers", [0, 2])
def test_one_loader_serves_every_epoch_when_its_sampler_is_moved_on(
    dataset: ClipDataset, workers: int
) -> None:
    """Its workers stay, so the updates of the next epoch are told to the sampler alone."""
    sampler = UpdateSampler(len(dataset), 3, seed=1, updates=range(4))
    loader = BatchLoader(dataset, sampler, workers=workers)
    for first in (0, 4):
        sampler.updates = range(first, first + 4)
        for update, batch in zip(sampler.updates, loader, strict=True):
            assert torch.equal(batch.frames, dataset.batch(sampler.batch(update)).frames)


def test_the_order_does_not_hang_on_draws_made_elsewhere(dataset: ClipDataset) -> None:
    sampler = UpdateSampler(len(dataset), 4, seed=7, updates=range(3))
    before = list(sampler)
    torch.manual_seed(99)
    torch.rand(5)
    assert list(sampler) == before
