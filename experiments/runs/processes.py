"""Several processes on one run: how they find each other, agree, wait and exit together.

Process 0 writes and prints. With a single process, every function returns at once with that process's own result.
"""

from __future__ import annotations

import importlib.util
import json
import os
import threading
import traceback
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import glob
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding

from experiments.command_line import FAILURE, USAGE_ERROR, Interrupted, RunError, UsageError, as_option, refusal, report
from experiments.runs.native_output import NativeOutput, exit_now
from vae_jax.data.errors import first_line
from vae_jax.training.parallel import data_mesh, divide, replicated

Result = TypeVar("Result")

OPTIONS = ("coordinator", "num_processes", "process_id")
CONNECT_SECONDS = 300  # for all processes to start
HEARTBEAT_SECONDS = 60  # without a sign of life before a process counts as lost
FAREWELL_SECONDS = 5  # that a process exiting early waits for others that exit with it
LOST = "another process has ended or can't be reached; restart all processes with --resume to continue"


def connect(
    coordinator: str | None, num_processes: int | None, process_id: int | None, seconds: int = CONNECT_SECONDS
) -> None:
    """Joins the other processes of a run, if a launcher or the options say there are any; call before using a device.

    Args:
      coordinator: HOST:PORT of process 0.
      num_processes: how many there are.
      process_id: this one's number, from 0.
      seconds: how long to wait for the others.

    Raises:
      UsageError: if only some of the options are given, or one is malformed.
      RunError: if the others can't be reached.
    """
    global _link
    _check(coordinator, num_processes, process_id)
    if num_processes == 1 or (coordinator is None and not launched(os.environ)):
        return
    where = coordinator or "process 0"
    native = NativeOutput(f"no connection of all processes by way of {where} within {seconds} seconds")
    options: dict[str, Any] = {"initialization_timeout": seconds, "heartbeat_timeout_seconds": HEARTBEAT_SECONDS}
    if coordinator is not None:
        options |= dict(
            zip(("coordinator_address", *OPTIONS[1:]), (coordinator, num_processes, process_id), strict=True)
        )
        options["cluster_detection_method"] = "deactivate"  # the options win, even under a launcher
    jax.config.update("jax_enable_preemption_service", False)  # it would intercept SIGTERM
    try:
        jax.distributed.initialize(**options)
        index, count = jax.process_index(), jax.process_count()
    except (RuntimeError, ValueError) as error:
        native.close()
        raise RunError(f"can't connect the processes through {where}: {first_line(error)[:300]}") from error
    if count == 1:  # e.g. a TPU on a single machine
        native.close()
        return
    native.meaning = LOST if index == 0 else f"process {index}: {LOST}"
    if index:
        native.silence()
    _link = _Link(index, native)


def _check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    values = (coordinator, num_processes, process_id)
    given: dict[str, Any] = dict(zip(OPTIONS, values, strict=True))
    absent = [name for name, value in given.items() if value is None]
    if absent and len(absent) < len(given):
        present = next(name for name in given if name not in absent)
        raise UsageError(f"{as_option(absent[0])}: needed with {as_option(present)} {given[present]}")
    if coordinator is None or num_processes is None or process_id is None:
        return
    host, _, port = coordinator.rpartition(":")
    rules = {
        "coordinator": (host and port.isdecimal() and 0 < int(port) < 2**16, "HOST:PORT, e.g. node1:9733"),
        "num_processes": (num_processes > 0, "1 or more"),
        "process_id": (0 <= process_id < num_processes, f"0 to {num_processes - 1}"),
    }
    for name, (fine, expected) in rules.items():
        if not fine:
            raise refusal(name, given[name], expected)


def launched(environment: Mapping[str, str]) -> bool:
    """Whether a launcher started this process as one of several, in a way that lets JAX find out the rest.

    Raises UsageError if there are several but JAX can't find out the rest.
    """
    if int(environment.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        if "OMPI_MCA_orte_hnp_uri" not in environment:
            raise UsageError(
                "--coordinator: needed with Open MPI 5 and later, which does not say where process 0 is; "
                "--num-processes is $OMPI_COMM_WORLD_SIZE, --process-id $OMPI_COMM_WORLD_RANK"
            )
        return True
    # In an allocation but without srun, the last one is absent.
    slurm = ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NODELIST")
    if all(name in environment for name in slurm):
        return int(environment["SLURM_NTASKS"]) > 1
    if importlib.util.find_spec("libtpu") is not None and _tpu_machines(environment) > 1:
        return True
    # A pod of an indexed job; JAX gets the rest through Kubernetes' Python client.
    indexed = "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment
    return indexed and importlib.util.find_spec("kubernetes") is not None


def _tpu_machines(environment: Mapping[str, str]) -> int:
    """Number of machines in the TPU slice of this machine."""
    named = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if named:
        return len(named.split(","))
    if "TPU_SKIP_MDS_QUERY" in environment or not glob("/dev/accel*") + glob("/dev/vfio/[0-9]*"):
        return 1
    host = environment.get("GCE_METADATA_IP", "metadata.google.internal")
    url = f"http://{host}/computeMetadata/v1/instance/attributes/worker-network-endpoints"
    try:
        request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return len(answer.read().decode().split(","))
    except (OSError, ValueError):
        return 1


class _Link:
    """This process's connection to the others; `index` is its number."""

    def __init__(self, index: int, native: NativeOutput):
        # Not public, but the only way to wait without device collectives, which time out after some minutes.
        from jax._src.distributed import global_state

        self.index = index
        self.native = native
        self._client: Any = global_state.client
        self._turn = 0  # the same in all processes

    def by_main(
        self, work: Callable[[], Result], tell: Callable[[Result], str], follow: Callable[[str], Result]
    ) -> Result:
        self._turn += 1
        if self.index == 0:
            result = self._try(lambda: (result := work(), tell(result)))
        else:
            told = self._hear(0)
            result = self._try(lambda: (follow(told), ""))
        for index in range(jax.process_count()):
            self._hear(index)
        return result

    def _try(self, work: Callable[[], tuple[Result, str]]) -> Result:
        """Does this process's work, and tells the others how it went."""
        try:
            result, text = work()
        except BaseException as error:
            self._say({"failed": _exit_code(error)})
            raise
        self._say({"text": text})
        return result

    def _say(self, record: dict) -> None:
        self._client.key_value_set(f"vae_jax/{self._turn}/{self.index}", json.dumps(record))

    def _hear(self, index: int) -> str:
        """Waits for a process's message of this turn; if that process failed, this one exits silently."""
        record = json.loads(self._wait(f"vae_jax/{self._turn}/{index}"))
        if "failed" in record:
            raise SystemExit(record["failed"])
        return record["text"]

    def _wait(self, key: str) -> str:
        # In short waits, so that Python handles signals; without a limit, because heartbeats detect lost processes.
        while True:
            try:
                return self._client.blocking_key_value_get(key, 1000)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise

    def end(self, error: BaseException) -> NoReturn:
        """Reports what ended this process, and exits.

        At once, because JAX and Orbax would wait for processes that may be gone if Python exited normally.
        """
        once = threading.Lock()

        def leave() -> NoReturn:
            once.acquire()  # never released: the first caller exits
            try:
                code = report(self._named(error))
            except BaseException:
                traceback.print_exc()
                code = FAILURE
            exit_now(code)

        # The first to exit is lost to the others; waiting lets those with an error of their own report that instead.
        with self.native.last_words:
            self.native.leave = leave
            if not isinstance(error, jax.errors.JaxRuntimeError):
                with suppress(jax.errors.JaxRuntimeError):
                    self._client.wait_at_barrier("vae_jax/end", 1000 * FAREWELL_SECONDS)
            leave()

    def _named(self, error: BaseException) -> BaseException:
        """The error to report, with this process's number unless it is 0."""
        if isinstance(error, jax.errors.JaxRuntimeError):
            error = RunError(f"a joint computation failed ({first_line(error)[:300]}); {LOST}")
        if self.index and isinstance(error, UsageError | RunError):
            return type(error)(f"process {self.index}: {error}")
        return error


_link: _Link | None = None


def is_main() -> bool:
    """Whether this process writes and prints."""
    return _link is None or _link.index == 0


def several() -> bool:
    """Whether there are other processes."""
    return _link is not None


def by_main(work: Callable[[], Result], tell: Callable[[Result], str], follow: Callable[[str], Result]) -> Result:
    """Runs `work` in process 0 and then `follow` in the others, and returns the result; if any fails, all exit.

    `tell` turns process 0's result into the text that `follow` gets.
    """
    return work() if _link is None else _link.by_main(work, tell, follow)


@contextmanager
def together() -> Iterator[None]:
    """Within this block, an error exits one of several processes at once, so that the others notice."""
    try:
        yield
    except BaseException as error:
        if _link is None:
            raise
        _link.end(error)


def finish() -> bool:
    """Disconnects once all joint work is done; returns whether this process goes on, which only process 0 does."""
    global _link
    if _link is None:
        return True
    jax.distributed.shutdown()  # waits for all
    goes_on, native, _link = _link.index == 0, _link.native, None
    native.close()
    return goes_on


class Votes:
    """Numbers that all processes must agree on while they train, such as whether a stop was requested.

    The devices exchange them along with their work, so that no process waits: what is cast in one call is known in the
    next. With one process it is known at once.
    """

    def __init__(self) -> None:
        self._previous: jax.Array | None = None
        if several():
            self._mesh = data_mesh()
            self._largest = jax.jit(lambda cast: cast.max(0), out_shardings=NamedSharding(self._mesh, replicated))

    def cast(self, *numbers: int, last: bool = False) -> tuple[int, ...]:
        """Casts this process's numbers, 0 or more and as many in every call, and returns the largest of all processes.

        These are the numbers of the previous call (zeros in the first); the last call also waits for its own.
        """
        if not several():
            return numbers
        own = np.tile(np.array(numbers, np.int32), (self._mesh.local_mesh.size, 1))
        before, self._previous = self._previous, self._largest(divide(own, self._mesh))
        known = np.zeros(len(numbers), np.int32) if before is None else np.asarray(before)
        if last:
            known = np.maximum(known, np.asarray(self._previous))
        return tuple(known.tolist())


def _exit_code(error: BaseException) -> int:
    if isinstance(error, UsageError):
        return USAGE_ERROR
    if isinstance(error, Interrupted):
        return 128 + error.signal_number
    return FAILURE
