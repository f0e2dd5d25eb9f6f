"""Where public data sets are: on this machine, or on Kaggle; and a check for a network."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vae_jax.data.errors import DataError, first_line

NETWORK_TIMEOUT = 5.0  # seconds


def local_data(name: str) -> Path | None:
    """The file or folder of this name in `$VAE_JAX_DATA` or else in `data`; None if there is none."""
    places = [Path(folder, name) for folder in (os.environ.get("VAE_JAX_DATA"), "data") if folder]
    return next((place for place in places if place.exists()), None)


def network_answers() -> bool:
    """Whether Kaggle answers within `NETWORK_TIMEOUT`."""
    import requests

    answered = threading.Event()

    def ask() -> None:
        try:
            requests.head("https://www.kaggle.com", timeout=NETWORK_TIMEOUT)
        except requests.RequestException:
            return
        answered.set()

    # In a thread, because name resolution has its own, often far longer time-out.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(NETWORK_TIMEOUT)
    return answered.is_set()


def earlier_download(name: str) -> Path | None:
    """The folder of a data set (owner/set) that was downloaded from Kaggle before, its newest version; or None."""
    try:
        folder = _cached(name)
    except RuntimeError:  # there is no home, without which kagglehub can't even be imported
        return None
    # kagglehub leaves a file like 3.complete beside versions/3.
    complete = [int(mark.stem) for mark in folder.glob("*.complete") if mark.stem.isdecimal()]
    found = [folder / "versions" / str(version) for version in sorted(complete, reverse=True)]
    return next((version for version in found if version.is_dir()), None)


def _cached(name: str) -> Path:
    from kagglehub.config import get_cache_folder

    return Path(get_cache_folder(), "datasets", name)


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Lets one process download a data set while others wait for it."""
    _cached(name).mkdir(parents=True, exist_ok=True)
    with open(_cached(name) / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def download_from_kaggle(name: str, by_hand: str) -> Path:
    """Downloads a public data set (owner/set) without credentials, and returns its folder.

    Later calls reuse the download and need no network: a run must be continued with the version that it began with.
    Raises DataError if the download fails; `by_hand` is what to pass to `--data` after a manual one.
    """
    if earlier := earlier_download(name):
        return earlier
    try:
        import kagglehub

        with _locked(name):
            return earlier_download(name) or Path(kagglehub.dataset_download(name))
    except Exception as error:  # kagglehub, requests, zipfile and the disk each raise their own
        raise DataError(
            f"downloading {name} from Kaggle failed ({first_line(error)[:200]}); download it by hand and pass "
            f"--data {by_hand}, or use --data synthetic"
        ) from error
