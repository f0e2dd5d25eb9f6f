"""Checkpoints: equal in every bit when read back, and every way to fail is one line."""

import gc
import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import ADAM, assert_same, is_key, tiny_state

from vae_jax.training.checkpoints import DELETED, CheckpointError, Checkpoints
from vae_jax.training.parallel import data_mesh, replicate

# The validation losses of epochs 1 to 5: the second is the best.
LOSSES = (3.0, 1.0, 2.0, 5.0, 4.0)


def small_state(seed=0, **settings):
    # Without hidden layers: a checkpoint's time goes by the number of arrays.
    return tiny_state(seed, **{"hidden": (), **settings})


def state_at(epoch):
    """A state whose every array tells of its epoch, the optimiser's and the key too."""
    state = small_state()
    numbers = jax.tree.map(lambda leaf: leaf + jnp.ones_like(leaf) * epoch, (state.params, state.opt_state))
    params, opt_state = numbers
    return state.replace(
        step=jnp.int32(100 * epoch), params=params, opt_state=opt_state, key=jax.random.fold_in(state.key, epoch)
    )


def one_line(error):
    return "\n" not in str(error.value) and len(str(error.value)) < 1000


@pytest.fixture(scope="module")
def five_epochs(tmp_path_factory):
    """A folder to which five epochs were saved. Not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with Checkpoints(folder) as checkpoints:
        for epoch, loss in enumerate(LOSSES, start=1):
            checkpoints.save(epoch, state_at(epoch), loss)
    return folder


@pytest.fixture
def folder(five_epochs, tmp_path):
    """A copy of it that may be changed."""
    return Path(shutil.copytree(five_epochs, tmp_path / "checkpoints"))


def epochs_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_round_trip_is_equal_in_every_bit(five_epochs):
    with Checkpoints(five_epochs) as checkpoints:
        for epoch in (2, 5):
            restored = checkpoints.restore(small_state(9), epoch)
            assert_same(restored, state_at(epoch))
            # What was not saved comes from the state that was given.
            assert restored.optimizer is ADAM
            assert jax.tree.structure(restored) == jax.tree.structure(small_state(9))


def test_a_folder_of_any_name_is_read_back(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    folder = tmp_path / "[1] a*b?c\\d \udce9"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, state_at(1), 1.0)
    for read_only in (False, True):
        with Checkpoints(folder, read_only=read_only) as checkpoints:
            assert_same(checkpoints.restore(small_state(9), checkpoints.best), state_at(1))
            with pytest.raises(CheckpointError) as caught:
                checkpoints.restore(small_state(9), 7)
            assert "temporary" not in str(caught.value)
    assert epochs_in(folder) == ["1"]
    assert not list((tmp_path / "temporary").iterdir())


def test_the_last_two_and_the_best_are_kept(five_epochs):
    assert epochs_in(five_epochs) == ["2", "4", "5"]
    with Checkpoints(five_epochs) as checkpoints:
        assert checkpoints.latest == 5
        assert checkpoints.best == 2


def test_an_empty_folder_has_neither(tmp_path):
    with Checkpoints(tmp_path / "new" / "folder") as checkpoints:
        assert checkpoints.latest is None
        assert checkpoints.best is None


def test_keep_latest(tmp_path):
    with Checkpoints(tmp_path, keep_latest=1) as checkpoints:
        for epoch, loss in ((1, 1.0), (2, 3.0), (3, 2.0)):
            checkpoints.save(epoch, state_at(epoch), loss)
    assert epochs_in(tmp_path) == ["1", "3"]


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_is_never_the_best(tmp_path, loss):
    with Checkpoints(tmp_path, keep_latest=1) as checkpoints:
        for epoch, value in ((1, 2.0), (2, loss), (3, 3.0)):
            checkpoints.save(epoch, state_at(epoch), value)
            checkpoints.wait()
            assert checkpoints.best == 1
            assert "1" in epochs_in(tmp_path)


@pytest.mark.parametrize("epoch", [5, 4, 2], ids=["the newest", "an older one", "the best"])
def test_saving_an_epoch_that_exists_does_nothing(folder, epoch):
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(epoch, state_at(7), 0.5)
        checkpoints.wait()
        assert checkpoints.best == 2
        assert_same(checkpoints.restore(small_state(9), epoch), state_at(epoch))
    assert epochs_in(folder) == ["2", "4", "5"]


def test_saving_goes_on_after_the_folder_is_opened_again(folder):
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(6, state_at(6), 0.5)
    with Checkpoints(folder) as checkpoints:
        assert (checkpoints.latest, checkpoints.best) == (6, 6)
        assert_same(checkpoints.restore(small_state(9), 6), state_at(6))
    assert epochs_in(folder) == ["5", "6"]


def test_a_state_may_be_donated_as_soon_as_it_is_saved(tmp_path):
    overwrite = jax.jit(
        lambda tree: jax.tree.map(lambda leaf: leaf if is_key(leaf) else -leaf - 1, tree), donate_argnums=0
    )
    donated = jax.tree.map(jnp.copy, state_at(3))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, donated, 1.0)
        # JAX may or may not have found the memory free to be written to.
        overwrite(donated)
        assert_same(checkpoints.restore(small_state(9), 1), state_at(3))


def test_numbers_of_jax_and_numpy_are_saved(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(jnp.int32(3), state_at(3), jnp.float32(1.5), {"loss": np.float32(0.25), "kl": jnp.float32(2)})
        assert checkpoints.latest == checkpoints.best == 3
        assert checkpoints.sums(3) == {"loss": 0.25, "kl": 2}
        assert_same(checkpoints.restore(small_state(9), 3), state_at(3))


def test_a_key_of_the_older_kind_is_restored_as_one(five_epochs):
    like = small_state(9).replace(key=jax.random.PRNGKey(9))
    with Checkpoints(five_epochs) as checkpoints:
        found = checkpoints.restore(like, 5).key
    assert found.dtype == like.key.dtype
    assert (found == jax.random.key_data(state_at(5).key)).all()


def test_restored_arrays_are_on_the_devices_of_the_given_state(five_epochs):
    mesh = data_mesh()
    with Checkpoints(five_epochs) as checkpoints:
        for like in (jax.device_put(small_state(9), jax.devices()[2]), replicate(small_state(9), mesh)):
            restored = checkpoints.restore(like, 5)
            assert_same(restored, state_at(5))
            for actual, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(like), strict=True):
                assert actual.sharding.is_equivalent_to(wanted.sharding, actual.ndim)


OTHER_MODELS = {
    "hidden layers": ({"hidden": (6,)}, "params/params/decoder/Dense_0/bias is missing, expected float32[6]"),
    "output": ({"learned_variance": False}, "params/params/decoder/log_var/bias is float32[4], expected nothing"),
    "optimiser": ({"optimizer": optax.sgd(0.1)}, "opt_state/0/count is int32[], expected nothing"),
}


@pytest.mark.parametrize(("settings", "difference"), OTHER_MODELS.values(), ids=OTHER_MODELS)
def test_another_model_is_refused_by_the_name_of_what_differs(five_epochs, settings, difference):
    with Checkpoints(five_epochs) as checkpoints, pytest.raises(CheckpointError) as error:
        checkpoints.restore(small_state(**settings), 5)
    # The first difference, parameters before the optimiser's state, and how many more there are.
    assert f"checkpoint 5 in {five_epochs} does not fit this model: {difference} (and " in str(error.value)
    assert one_line(error)


def test_another_hidden_size_is_refused_by_the_parameter_and_both_shapes(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tiny_state(hidden=(5,)), 1.0)
        with pytest.raises(CheckpointError) as error:
            checkpoints.restore(tiny_state(hidden=(7,)), 1)
    assert "params/params/decoder/Dense_0/bias is float32[5], expected float32[7]" in str(error.value)
    assert one_line(error)


def test_another_dtype_is_refused(five_epochs):
    like = small_state()
    half = like.replace(params=jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), like.params))
    with Checkpoints(five_epochs) as checkpoints, pytest.raises(CheckpointError, match="expected bfloat16"):
        checkpoints.restore(half, 5)


def test_an_epoch_that_was_never_saved_is_refused(five_epochs):
    with Checkpoints(five_epochs) as checkpoints, pytest.raises(CheckpointError, match="99") as error:
        checkpoints.restore(small_state(), 99)
    assert one_line(error)


def restore_latest(folder):
    """The latest checkpoint that is whole: its step, its state, and what was said of the others."""
    warnings = []
    with Checkpoints(folder, warn=warnings.append) as checkpoints:
        return checkpoints.latest, checkpoints.restore(small_state(9), checkpoints.latest), warnings


def assert_noticed(folder, harmless=False):
    """Epoch 5 is named as damaged, set aside, and epoch 4 read; or it is read whole, where that may be."""
    step, state, warnings = restore_latest(folder)
    assert_same(state, state_at(step))
    if harmless and step == 5:
        assert not warnings
        return
    assert step == 4
    (warning,) = warnings
    assert warning.startswith(f"checkpoint 5 in {folder} is damaged: ")
    assert warning.endswith("; it is kept as damaged-5")
    assert "\n" not in warning
    assert epochs_in(folder) == ["2", "4", "damaged-5"]


@pytest.fixture
def dropped_reads():
    """Lets go of the reads that Orbax leaves unfinished beside the one that failed, and complains of as warnings."""
    yield
    gc.collect()


def damaging(test):
    """Marks a test that reads what is damaged."""
    test = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")(test)
    return pytest.mark.usefixtures("dropped_reads")(test)


def remove_metadata(epoch):
    (epoch / "state" / "_METADATA").unlink()


def remove_state(epoch):
    shutil.rmtree(epoch / "state")


def remove_everything(epoch):
    shutil.rmtree(epoch)
    epoch.mkdir()


def remove_data(epoch):
    shutil.rmtree(epoch / "state" / "d")


def truncate_everything(epoch):
    for path in files_of(epoch):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def files_of(epoch):
    return [path for path in sorted(epoch.rglob("*")) if path.is_file()]


def swap_with_another(epoch):
    shutil.rmtree(epoch)
    shutil.copytree(epoch.with_name("2"), epoch)


def swap_state_with_another(epoch):
    shutil.rmtree(epoch / "state")
    shutil.copytree(epoch.with_name("2") / "state", epoch / "state")


def change_metrics(epoch):
    path = epoch / "metrics" / "metrics"
    path.write_text(path.read_text().replace('"validation_loss": 4.0', '"validation_loss": 0.5'))


def empty_metrics(epoch):
    (epoch / "metrics" / "metrics").write_bytes(b"")


DAMAGES = [
    remove_metadata,
    remove_state,
    remove_everything,
    remove_data,
    truncate_everything,
    swap_with_another,
    swap_state_with_another,
    change_metrics,
    empty_metrics,
]


@damaging
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_read(folder, damage):
    damage(folder / "5")
    assert_noticed(folder)


@damaging
@pytest.mark.parametrize("keep", [0.0, 0.5], ids=["empty", "half"])
def test_whatever_file_is_cut_short_nothing_wrong_is_read(five_epochs, tmp_path, keep):
    for number, path in enumerate(files_of(five_epochs / "5")):
        copy = Path(shutil.copytree(five_epochs, tmp_path / str(number)))
        whole = path.read_bytes()
        (copy / path.relative_to(five_epochs)).write_bytes(whole[: int(keep * len(whole))])
        assert_noticed(copy, harmless=True)


@damaging
def test_whatever_bit_is_flipped_nothing_wrong_is_read(five_epochs, tmp_path, rng):
    for number, path in enumerate(files_of(five_epochs / "5")):
        copy = Path(shutil.copytree(five_epochs, tmp_path / str(number)))
        flipped = bytearray(path.read_bytes())
        flipped[rng.integers(len(flipped))] ^= 1 << rng.integers(8)
        (copy / path.relative_to(five_epochs)).write_bytes(flipped)
        assert_noticed(copy, harmless=True)


@damaging
def test_the_second_best_is_used_where_the_best_is_damaged(folder):
    remove_data(folder / "2")
    warnings = []
    with Checkpoints(folder, warn=warnings.append) as checkpoints:
        assert checkpoints.best == 5  # its loss is 4, that of epoch 4 is 5
        assert_same(checkpoints.restore(small_state(9), 5), state_at(5))
    assert epochs_in(folder) == ["4", "5", "damaged-2"]
    assert len(warnings) == 1


@damaging
def test_reading_alone_changes_nothing(folder):
    def content():
        return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}

    remove_data(folder / "2")
    (folder / "6.orbax-checkpoint-tmp-1").mkdir()  # as another process may be writing
    (folder / DELETED).mkdir()
    before, warnings = content(), []
    with Checkpoints(folder, warn=warnings.append, read_only=True) as checkpoints:
        assert checkpoints.best == 5  # its loss is 4, that of epoch 4 is 5
        assert_same(checkpoints.restore(small_state(9), 5), state_at(5))
    assert content() == before
    (warning,) = warnings
    assert warning.startswith(f"checkpoint 2 in {folder} is damaged: ")
    assert warning.endswith("; it is passed over")


@damaging
def test_a_loss_that_was_altered_makes_no_best(folder):
    change_metrics(folder / "5")  # from 4.0 to 0.5, lower than any
    with Checkpoints(folder, warn=lambda line: None) as checkpoints:
        assert checkpoints.best == 2
    assert epochs_in(folder) == ["2", "4", "damaged-5"]


@damaging
def test_an_epoch_that_was_damaged_is_saved_again(folder):
    remove_data(folder / "5")
    with Checkpoints(folder, warn=lambda line: None) as checkpoints:
        checkpoints.save(5, state_at(5), 4.0)
    assert epochs_in(folder) == ["2", "4", "5", "damaged-5"]
    assert restore_latest(folder)[0] == 5


@damaging
@pytest.mark.parametrize("damage", [remove_data, empty_metrics])
def test_where_none_is_whole_all_stay_and_the_latest_is_named(folder, damage):
    for epoch in ("2", "4", "5"):
        damage(folder / epoch)
    with pytest.raises(CheckpointError, match=r"can't open the checkpoints in .*: checkpoint 5 is damaged") as error:
        restore_latest(folder)
    assert one_line(error)
    assert epochs_in(folder) == ["2", "4", "5"]


@damaging
def test_a_name_among_the_checksums_gives_the_terminal_no_orders(folder):
    path = folder / "5" / "checksums.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "sha256": {"state/\x1b[2J\n": ""}}))
    (warning,) = restore_latest(folder)[2]
    assert r" is damaged: state/\x1b[2J\n is missing; " in warning


def without_checksums(folder):
    """The folder as an earlier version would have left it."""
    for epoch in ("2", "4", "5"):
        (folder / epoch / "checksums.json").unlink()


def test_checkpoints_of_before_had_no_checksums(folder):
    without_checksums(folder)
    assert_same(restore_latest(folder)[1], state_at(5))


@damaging
@pytest.mark.parametrize("damage", [remove_metadata, remove_state, remove_data, truncate_everything])
def test_one_without_checksums_is_refused_in_one_line(folder, damage):
    without_checksums(folder)
    damage(folder / "5")
    if damage is truncate_everything:  # the metrics, too, without which Orbax opens no folder
        assert_noticed(folder)
        return
    with pytest.raises(CheckpointError, match=str(folder)) as error:
        restore_latest(folder)
    assert one_line(error)


def test_what_a_killed_save_left_is_ignored_and_removed(folder):
    shutil.copytree(folder / "5", folder / "6.orbax-checkpoint-tmp")
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest == 5
        assert_same(checkpoints.restore(small_state(9), 5), state_at(5))
        # It is removed in the background, and at the latest before the next save.
        checkpoints.save(6, state_at(6), 6.0)
    assert epochs_in(folder) == ["2", "5", "6"]


def test_a_kill_while_one_is_deleted_leaves_no_damaged_one(folder, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda *_, **__: None)
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(6, state_at(6), 6.0)
    assert epochs_in(folder) == ["2", "5", "6", DELETED]
    (folder / DELETED / "4" / "state" / "_METADATA").unlink()  # it got no further
    warned = []
    with Checkpoints(folder, warn=warned.append) as checkpoints:
        assert (checkpoints.latest, warned) == (6, [])
    assert epochs_in(folder) == ["2", "5", "6"]


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=str(tmp_path / place)) as error:
        Checkpoints(tmp_path / place)
    assert one_line(error)


SAVE_WITHOUT_SPACE = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from helpers import tiny_state
from vae_jax.training.checkpoints import DELETED, CheckpointError, Checkpoints
state = tiny_state(hidden=())
try:
    with Checkpoints(sys.argv[2]) as checkpoints:
        checkpoints.save(1, state, 1.0)
        checkpoints.wait()
        # No file may grow beyond this, as on a disk that is full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        checkpoints.save(2, state, 0.5)
except CheckpointError as error:
    print(error)
"""


def test_a_save_that_fails_is_refused_and_leaves_the_one_before(tmp_path):
    folder = tmp_path / "checkpoints"
    arguments = [sys.executable, "-c", SAVE_WITHOUT_SPACE, str(Path(__file__).parents[1]), str(folder)]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"can't write a checkpoint in {folder}: ")
    assert len(result.stdout.splitlines()) == 1
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest == checkpoints.best == 1
        assert_same(checkpoints.restore(small_state(9), 1), small_state())


def test_sums_of_an_unfinished_epoch_come_back(tmp_path):
    sums = {"loss": 0.1 + 0.2, "kl": -1e-300, "steps": 3, "unfinished": math.nan}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, small_state(), math.inf, sums)
        sums_at_once = checkpoints.sums(3)
    with Checkpoints(tmp_path) as checkpoints:
        for found in (sums_at_once, checkpoints.sums(3)):
            assert math.isnan(found.pop("unfinished"))
            assert found == {"loss": 0.1 + 0.2, "kl": -1e-300, "steps": 3}


def test_there_are_no_sums_where_none_were_saved(five_epochs):
    with Checkpoints(five_epochs) as checkpoints:
        assert [checkpoints.sums(epoch) for epoch in (2, 4, 5)] == [{}, {}, {}]


def test_steps_may_be_any_numbers(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step, loss in ((7, 2.0), (10, math.inf), (23, math.inf), (1001, 3.0), (1013, math.inf)):
            checkpoints.save(step, state_at(step), loss, {"loss": float(step)})
    with Checkpoints(tmp_path) as checkpoints:
        # A save within an epoch has no validation loss, and is never the best.
        assert (checkpoints.latest, checkpoints.best) == (1013, 7)
        for step in (7, 1001, 1013):
            assert checkpoints.sums(step) == {"loss": step}
            assert_same(checkpoints.restore(small_state(9), step), state_at(step))
    assert epochs_in(tmp_path) == ["1001", "1013", "7"]
