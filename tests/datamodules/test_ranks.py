"""What ranks get of a data set: together the batches of one process, for sizes that nothing divides."""

import pytest

from datamodules.loading import Draws, Unrepeated

SIZES = (1, 2, 5, 7, 12, 13)
RANKS = (1, 2, 3, 8)


def in_batches(samples, size):
    samples = list(samples)
    return [samples[first : first + size] for first in range(0, len(samples), size)]


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("ranks", RANKS)
def test_in_evaluation_every_batch_is_one_that_a_single_process_has(count, size, ranks):
    whole = in_batches(range(count), size)
    for rank in range(ranks):
        sampler = Unrepeated(range(count), size, ranks, rank)
        assert in_batches(sampler, size) == whole[rank::ranks]
        assert len(sampler) == max(1, len(list(sampler)))  # Lightning would skip a rank without batches


def test_an_empty_split_is_empty_on_every_rank():
    assert [len(Unrepeated([], 4, 3, rank)) for rank in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("ranks", RANKS)
def test_in_training_the_batches_of_all_ranks_are_those_of_one_process_with_larger_ones(count, size, ranks):
    """Whole batches; those that one process has but for the last short one."""
    if count < size * ranks:
        return
    for epoch in (0, 1):
        samplers = [Draws(range(count), 7, ranks, rank) for rank in range(ranks)]
        alone = Draws(range(count), 7)
        for sampler in (*samplers, alone):
            sampler.set_epoch(epoch)
        shares = [[batch for batch in in_batches(sampler, size) if len(batch) == size] for sampler in samplers]
        whole = [batch for batch in in_batches(alone, size * ranks) if len(batch) == size * ranks]
        together = [sorted(draw for batch in batches for draw in batch) for batches in zip(*shares, strict=True)]
        assert together == [sorted(batch) for batch in whole]
        assert len({len(sampler) for sampler in samplers}) == 1


def test_fewer_samples_than_ranks_come_twice_rather_than_leave_a_rank_without_one():
    found = [[draw.index for draw in Draws(range(2), 7, 3, rank)] for rank in range(3)]
    assert [len(one) for one in found] == [1, 1, 1]
    assert {one for (one,) in found} == {0, 1}
