"""Checkpoints of a `TrainState`: the latest few and the best by validation loss. Only this file imports Orbax.

A checkpoint holds the step, parameters, optimiser state and key as arrays, never pickled. The module, objective and
optimiser come from the configuration; a checkpoint that does not fit is rejected, and the error names the difference.
Each has the checksums of its files in `checksums.json`, and is not used if one differs.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from vae_jax.data.errors import OneLineError, first_line, one_line
from vae_jax.training import TrainState

KEEP_LATEST = 2
CHECKSUMS = "checksums.json"  # in each checkpoint's folder, but for those of earlier versions
# Checkpoints that are no longer needed go there before they are deleted, or one that is half deleted looks damaged.
DELETED = "deleted.tmp"
# In a path, Orbax takes these for a pattern, and then writes checkpoints that it can't read. The last stand for bytes
# that are not UTF-8, which it can't write.
ODD = re.compile("[*?\\[\\]\\\\\udc80-\udcff]")


class CheckpointError(OneLineError):
    """A checkpoint that can't be read, can't be written, or does not fit the model; the message is one line.

    Examples:
      >>> import tempfile
      >>> from vae_jax.training.checkpoints import CheckpointError, Checkpoints
      >>> with tempfile.NamedTemporaryFile() as file:
      ...     try:
      ...         Checkpoints(file.name)
      ...     except CheckpointError as error:
      ...         print(str(error).startswith(f"can't open the checkpoints in {file.name}"))
      True
    """


class Checkpoints:
    """The checkpoints of one training run, in one folder.

    Saving is asynchronous: a step's folder gets its name only once it is complete. Use as a context manager, or call
    `close`, to wait for the last save.

    Examples:
      >>> import tempfile
      >>> import jax
      >>> import optax
      >>> import vae_jax
      >>> from vae_jax.training.checkpoints import Checkpoints
      >>> vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(8,))
      >>> state = vae_jax.create_train_state(jax.random.key(0), vae, vae_jax.Objective(), optax.adam(1e-3), (3,))
      >>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
      ...     checkpoints.save(step=0, state=state, validation_loss=1.5)
      ...     checkpoints.wait()
      ...     restored = checkpoints.restore(like=state, step=checkpoints.latest)
      >>> bool(restored.key == state.key)
      True
    """

    def __init__(
        self,
        folder: str | Path,
        keep_latest: int = KEEP_LATEST,
        warn: Callable[[str], object] = warnings.warn,
        read_only: bool = False,
    ):
        """Opens a folder of checkpoints, creating it if needed and removing what a killed save left behind.

        Damaged checkpoints are set aside, by the name `damaged-STEP`, as long as there is a whole one.

        Args:
          folder: folder of the checkpoints.
          keep_latest: number of latest checkpoints to keep, besides the best.
          warn: called with a line about each checkpoint that is set aside or passed over.
          read_only: change nothing in the folder, in which another process may be writing. What is damaged is passed
            over where it is. Only `best` and `restore` may be used.

        Raises:
          CheckpointError: if the folder can't be created or read, or if all checkpoints in it are damaged.
        """
        self.folder: Path = Path(folder).absolute()
        self._by = self.folder
        self._saving = -1  # step of the last save that was started
        self._read_only = read_only
        with self._one_line("open the checkpoints"):
            if read_only:
                # Without best_fn, for which Orbax would read the metrics of damaged checkpoints, too.
                options = ocp.CheckpointManagerOptions(read_only=True, save_interval_steps=0, create=False)
                whole = _whole_steps(self.folder, warn)
                self._losses = {step: _validation_loss(self.folder / str(step)) for step in whole}
            else:
                options = self._writing_options(keep_latest)
                self.folder.mkdir(parents=True, exist_ok=True)  # Orbax treats a file here as an empty folder
                self._empty_deleted()
                _set_damaged_aside(self.folder, warn)
            self._by, self._link = _path_for_orbax(self.folder)
            self._manager = ocp.CheckpointManager(
                self._by, options=options, item_handlers={"state": ocp.StandardCheckpointHandler()}
            )

    def _writing_options(self, keep_latest: int) -> ocp.CheckpointManagerOptions:
        policy = AnyPreservationPolicy([LatestN(keep_latest), BestN(get_metric_fn=_negative_loss, n=1)])
        return ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=_negative_loss,
            cleanup_tmp_directories=True,
            todelete_subdir=DELETED,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if not _other_process_is_gone(error):  # else waiting for a save never ends
            self.close()

    @property
    def latest(self) -> int | None:
        """The latest saved step, or None."""
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """The saved step with the lowest validation loss, or None."""
        if self._read_only:
            return min(self._losses, key=lambda step: (self._losses[step], -step), default=None)
        return self._manager.best_step()

    def save(
        self, step: int, state: TrainState, validation_loss: float, sums: Mapping[str, float] | None = None
    ) -> None:
        """Starts saving a state; does nothing if the step is already saved.

        Args:
          step: number of training steps taken, of any type.
          state: the state to save. It may be donated to the next step at once.
          validation_loss: selects the best checkpoint, lower = better; a number, or an array of one.
          sums: a log's running sums over an unfinished epoch; the method `sums` returns them.

        Raises:
          CheckpointError: if this save, or the one before it, can't be written.
        """
        step, validation_loss = int(step), float(validation_loss)  # JAX's and NumPy's numbers can't be written as JSON
        if step in self._manager.all_steps():
            return
        if math.isnan(validation_loss):
            validation_loss = math.inf  # NaN compares as neither better nor worse, and would rank as the best
        metrics = {
            "validation_loss": validation_loss,
            "sums": {name: float(value) for name, value in (sums or {}).items()},
        }
        self.wait()
        self._saving = step
        with self._one_line("write a checkpoint"):
            arguments = ocp.args.Composite(state=ocp.args.StandardSave(_arrays(state)))
            self._manager.save(step, args=arguments, metrics=metrics, force=True)

    def sums(self, step: int) -> dict[str, float]:
        """Returns the `sums` saved with a step, empty if there are none."""
        self.wait()
        with self._one_line(f"read checkpoint {step}"):
            return dict((self._manager.metrics(step) or {}).get("sums", {}))

    def restore(self, like: TrainState, step: int) -> TrainState:
        """Restores a state.

        Args:
          like: a state of the same configuration, whose devices are kept.
          step: step of the checkpoint.

        Returns:
          The saved state.

        Raises:
          CheckpointError: if the checkpoint is damaged, or differs from `like` in names, shapes or dtypes.
        """
        self.wait()
        target = jax.tree.map(ocp.tree.to_shape_dtype_struct, _arrays(like))
        with self._one_line(f"read checkpoint {step}"):
            saved = self._manager.item_metadata(step)["state"]
        if saved is None:
            raise CheckpointError(f"can't read checkpoint {step} in {self.folder}: its state is missing or damaged")
        if differences := _differences(saved.tree, target):
            raise CheckpointError(
                f"checkpoint {step} in {self.folder} does not fit this model: {differences[0]}"
                + (f" (and {len(differences) - 1} more)" if len(differences) > 1 else "")
            )
        with self._one_line(f"read checkpoint {step}"):
            restored = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))
        arrays = restored["state"]
        if jnp.issubdtype(like.key.dtype, jax.dtypes.prng_key):
            arrays["key"] = jax.random.wrap_key_data(arrays["key"], impl=jax.random.key_impl(like.key))
        return like.replace(**arrays)

    def wait(self) -> None:
        """Waits until everything is on disk; raises CheckpointError if it can't be written."""
        with self._one_line("write a checkpoint"):
            self._manager.wait_until_finished()
            self._empty_deleted()

    def close(self) -> None:
        """Waits like `wait`, then releases the folder."""
        self.wait()
        self._manager.close()
        if self._link is not None:
            self._link.cleanup()

    def _write_checksums(self) -> None:
        """Orbax calls this, in one process, when all files of a step are written and its folder has no name yet."""
        (folder,) = self.folder.glob(f"{self._saving}.orbax-checkpoint-tmp*")
        record = {"step": self._saving, "sha256": _checksums(folder)}
        (folder / CHECKSUMS).write_text(json.dumps(record, indent=2), encoding="utf-8")

    def _empty_deleted(self) -> None:
        if jax.process_index() == 0 and not self._read_only:
            shutil.rmtree(self.folder / DELETED, ignore_errors=True)

    @contextmanager
    def _one_line(self, action: str) -> Iterator[None]:
        """Turns any of Orbax's many exception types into one line that names the folder."""
        try:
            yield
        except Exception as error:
            if _other_process_is_gone(error):
                raise
            reason = first_line(error).replace(str(self._by), str(self.folder))[:300]
            raise CheckpointError(f"can't {action} in {self.folder}: {reason}") from error


def _path_for_orbax(folder: Path) -> tuple[Path, tempfile.TemporaryDirectory | None]:
    """The path by which Orbax reaches a folder, and the temporary folder to clean up if it is a link."""
    if not ODD.search(str(folder)):
        return folder, None
    place = tempfile.TemporaryDirectory(prefix="vae_jax_")
    link = Path(place.name, "checkpoints")
    link.symlink_to(folder)
    return link, place


def _other_process_is_gone(error: BaseException | None) -> bool:
    """Whether the error may mean that another process has ended, rather than that the disk failed."""
    return isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1


def _set_damaged_aside(folder: Path, warn: Callable[[str], object]) -> None:
    """Renames damaged checkpoints, so that neither Orbax nor a later save of the same step meets them.

    Raises:
      CheckpointError: if there are only damaged ones, which then stay.
    """
    if jax.process_index() > 0:  # process 0 goes first
        multihost_utils.sync_global_devices("damaged checkpoints are set aside")
    steps, damaged = _look_through(folder)
    if len(damaged) < len(steps):
        for step, reason in damaged.items():
            place = folder / f"damaged-{step}"
            shutil.rmtree(place, ignore_errors=True)
            (folder / str(step)).rename(place)
            warn(one_line(f"checkpoint {step} in {folder} is damaged: {reason}; it is kept as {place.name}"))
    if jax.process_index() == 0:
        multihost_utils.sync_global_devices("damaged checkpoints are set aside")
    _refuse_if_all(damaged, steps)


def _whole_steps(folder: Path, warn: Callable[[str], object]) -> list[int]:
    """The steps whose checkpoints are not damaged; raises CheckpointError if there are only damaged ones."""
    steps, damaged = _look_through(folder)
    _refuse_if_all(damaged, steps)
    for step, reason in damaged.items():
        warn(f"checkpoint {step} in {folder} is damaged: {reason}; it is passed over")
    return [step for step in steps if step not in damaged]


def _look_through(folder: Path) -> tuple[list[int], dict[int, str]]:
    """All steps, and what is wrong with those that are damaged."""
    steps = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
    return steps, {step: reason for step in steps if (reason := _damage(folder / str(step), step))}


def _refuse_if_all(damaged: Mapping[int, str], steps: list[int]) -> None:
    if steps and len(damaged) == len(steps):
        raise CheckpointError(f"checkpoint {max(steps)} is damaged, and no other is whole: {damaged[max(steps)]}")


def _validation_loss(folder: Path) -> float:
    """A checkpoint's, from its metrics."""
    return json.loads((folder / "metrics" / "metrics").read_text(encoding="utf-8"))["validation_loss"]


def _damage(folder: Path, step: int) -> str | None:
    """What is wrong with the files of a checkpoint; None if nothing is."""
    try:
        if not (folder / CHECKSUMS).exists():  # an earlier version's
            return None if isinstance(_validation_loss(folder), float) else "its validation loss is no number"
        record = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        if record["step"] != step:
            return f"it is that of step {record['step']}"
        found = _checksums(folder)
        wrong = [name for name, checksum in record["sha256"].items() if found.get(name) != checksum]
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its metrics or checksums can't be read"
    return f"{wrong[0]} is {'altered' if wrong[0] in found else 'missing'}" if wrong else None


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of a checkpoint's files, by path, but for those directly in its folder, which Orbax changes later."""
    files = sorted(path for path in folder.glob("*/**/*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _negative_loss(metrics: dict[str, float]) -> float:
    return -metrics["validation_loss"]


def _arrays(state: TrainState) -> dict[str, Any]:
    # The key as plain integers, because typed keys are still new in Orbax's format.
    key = jax.random.key_data(state.key)
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state, "key": key}


def _differences(saved: Any, wanted: Any) -> list[str]:
    """Describes the leaves that differ in presence, shape or dtype."""
    saved, wanted = (
        {
            jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (saved, wanted)
    )
    return [
        f"{name} is {saved.get(name, 'missing')}, expected {wanted.get(name, 'nothing')}"
        for name in sorted(saved.keys() | wanted.keys(), key=lambda name: (not name.startswith("params"), name))
        if saved.get(name) != wanted.get(name)
    ]
