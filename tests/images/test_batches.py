import itertools

import numpy as np
import pytest

from vae_jax.images.batches import stream_batches

BATCH, PER_CALL = 3, 4
ROWS = np.array([2, 3, 5, 7, 8, 11, 12, 13, 17, 18, 19, 20, 23, 24, 26, 29, 30, 31, 33, 34, 36, 37])  # 22
PER_EPOCH = len(ROWS) // BATCH  # 7, with one picture left over


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """Forty pictures mapped from disk, each of its own colour."""
    path = tmp_path_factory.mktemp("pixels") / "pixels.npy"
    np.save(path, np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8))
    return np.load(path, mmap_mode="r")


def order(epoch: int) -> np.ndarray:
    return np.random.default_rng(epoch).permutation(len(ROWS))


def sequence(epochs: int) -> np.ndarray:
    """The row numbers of the batches, one after another."""
    return np.concatenate([ROWS[order(epoch)][: PER_EPOCH * BATCH].reshape(-1, BATCH) for epoch in range(epochs)])


def groups_of(pixels, first_step: int, count: int) -> list[np.ndarray]:
    return list(itertools.islice(stream_batches(pixels, ROWS, order, BATCH, PER_CALL, first_step), count))


def test_groups_are_the_rows_of_each_epochs_order_in_turn(pixels):
    groups = groups_of(pixels, 0, 6)  # three epochs of a whole group and the rest
    assert [group.shape for group in groups] == [(4, BATCH, 2, 2, 3), (3, BATCH, 2, 2, 3)] * 3
    assert groups[0].dtype == np.uint8
    batches = np.concatenate(groups)
    np.testing.assert_array_equal(batches[..., 0, 0, 0], sequence(3))
    np.testing.assert_array_equal(batches, pixels[sequence(3)])


def test_an_epoch_shows_no_picture_twice(pixels):
    for epoch in np.concatenate(groups_of(pixels, 0, 4))[..., 0, 0, 0].reshape(2, -1):
        assert len(set(epoch)) == PER_EPOCH * BATCH
        assert set(epoch) < set(ROWS)


@pytest.mark.parametrize("first_step", range(2 * PER_EPOCH + 1))
def test_starting_later_gives_the_tail_of_the_same_sequence(pixels, first_step):
    groups = groups_of(pixels, first_step, 4)
    batches = np.concatenate(groups)[..., 0, 0, 0]
    np.testing.assert_array_equal(batches, sequence(6)[first_step : first_step + len(batches)])
    step = first_step
    for group in groups:  # as long as a training loop asks for
        assert len(group) == min(PER_CALL, PER_EPOCH - step % PER_EPOCH)
        step += len(group)


@pytest.mark.parametrize("per_call", [1, 7, 100])
def test_groups_never_reach_into_the_next_epoch(pixels, per_call):
    stream = stream_batches(pixels, ROWS, order, BATCH, per_call, 0)
    groups = list(itertools.islice(stream, 2 * -(-PER_EPOCH // per_call)))
    np.testing.assert_array_equal(np.concatenate(groups)[..., 0, 0, 0], sequence(2))
    assert max(map(len, groups)) == min(per_call, PER_EPOCH)


def test_one_batch_of_all_pictures(pixels):
    stream = stream_batches(pixels, ROWS, order, len(ROWS), PER_CALL, 1)
    np.testing.assert_array_equal(next(stream)[0, :, 0, 0, 0], ROWS[order(1)])
    np.testing.assert_array_equal(next(stream)[0, :, 0, 0, 0], ROWS[order(2)])


def test_only_the_columns_asked_for_are_read(pixels):
    columns = np.array([0, 2])
    groups = list(itertools.islice(stream_batches(pixels, ROWS, order, BATCH, PER_CALL, 5, columns), 3))
    batches = np.concatenate(groups)
    np.testing.assert_array_equal(batches, pixels[sequence(3)[5 : 5 + len(batches), columns]])
