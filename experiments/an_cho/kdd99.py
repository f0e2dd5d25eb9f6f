"""KDD Cup 1999: connections to a military network, normal ones and attacks of four classes.

The files are http://kdd.ics.uci.edu/databases/kddcup99: `kddcup.data_10_percent.gz`, and `corrected.gz` with attacks of
two weeks later. They have no header; scikit-learn downloads the first.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vae_jax.data.downloads import local_data, network_answers
from vae_jax.data.errors import DataError, first_line
from vae_jax.data.unpacking import DAMAGE, gunzip
from vae_jax.tables.csv_file import LARGEST_CELL
from vae_jax.tables.scaling import Scaler

if TYPE_CHECKING:
    from jaxtyping import Float32

FIRST, LATER = "kddcup.data_10_percent.gz", "corrected.gz"
NAMES = """duration protocol_type service flag src_bytes dst_bytes land wrong_fragment urgent hot
num_failed_logins logged_in num_compromised root_shell su_attempted num_root num_file_creations num_shells
num_access_files num_outbound_cmds is_host_login is_guest_login count srv_count serror_rate srv_serror_rate rerror_rate
srv_rerror_rate same_srv_rate diff_srv_rate srv_diff_host_rate dst_host_count dst_host_srv_count dst_host_same_srv_rate
dst_host_diff_srv_rate dst_host_same_src_port_rate dst_host_srv_diff_host_rate dst_host_serror_rate
dst_host_srv_serror_rate dst_host_rerror_rate dst_host_srv_rerror_rate label"""
COLUMNS = NAMES.split()
LABEL = "label"
WORDS = ["protocol_type", "service", "flag"]  # columns that are not numbers
WORDS_AS_TEXT: dict[Any, Any] = {i: str for i, name in enumerate(COLUMNS) if name in (*WORDS, LABEL)}
KINDS = {
    "DoS": "back land neptune pod smurf teardrop apache2 mailbomb processtable udpstorm",
    "R2L": """ftp_write guess_passwd imap multihop phf spy warezclient warezmaster named sendmail snmpgetattack
        snmpguess worm xlock xsnoop httptunnel""",
    "U2R": "buffer_overflow loadmodule perl rootkit ps sqlattack xterm",
    "Probe": "ipsweep nmap portsweep satan mscan saint",
}  # of attack, by class
MOST_OF_A_CLASS = 20_000  # rows measured; DoS has hundreds of thousands, nearly all alike
LIMIT = 10.0  # standard deviations at which standardised numbers are clipped


@dataclass(frozen=True)
class Connections:
    """Normal connections, and attacks by class.

    Attributes:
      normal: the normal rows of the first file.
      attacks: the rows of each class of attack.
      source: description of where they come from.
    """

    normal: pd.DataFrame
    attacks: Mapping[str, pd.DataFrame]
    source: str

    @property
    def fingerprint(self) -> str:
        """Changes when the rows do."""
        digest = hashlib.sha256()
        for frame in (self.normal, *self.attacks.values()):
            digest.update(frame.drop(columns=WORDS).to_numpy().tobytes())
            for name in WORDS:
                digest.update("\n".join(frame[name]).encode())
        return digest.hexdigest()


def find_connections(source: str, later: bool) -> Connections | None:
    """Finds and reads the connections.

    Args:
      source: `auto`, or a folder with the files. `auto` takes the first of `$VAE_JAX_DATA/kdd99`, `data/kdd99`, and
        scikit-learn's download.
      later: whether to take the attacks of the later file.

    Returns:
      The connections; None if `auto` finds none.

    Raises:
      DataError: if a file is missing or can't be used.
    """
    if source != "auto":
        return read_folder(Path(source), later)
    if folder := local_data("kdd99"):
        return read_folder(folder, later)
    if later:
        raise DataError(f"--attacks later: needs a folder with {LATER}; scikit-learn's download has {FIRST} alone")
    frame = _fetch()
    return None if frame is None else divide_by_class(frame, frame, "scikit-learn's fetch_kddcup99")


def read_folder(folder: Path, later: bool) -> Connections:
    """Reads the files of a folder."""
    first = _read(folder / FIRST)
    return divide_by_class(first, _read(folder / LATER) if later else first, str(folder))


def divide_by_class(first: pd.DataFrame, rows: pd.DataFrame, source: str) -> Connections:
    """Takes the normal rows of one table and the attacks of another; classes without rows are left out."""
    first_kinds, kinds = (frame[LABEL].str.rstrip(".") for frame in (first, rows))
    if not (first_kinds == "normal").any():
        raise DataError(f"{source}: no normal connection")

    def without_label(frame: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
        return frame.loc[chosen].drop(columns=LABEL).reset_index(drop=True)

    classes = {name: without_label(rows, kinds.isin(of.split())) for name, of in KINDS.items()}
    found = {name: frame for name, frame in classes.items() if len(frame) > 1}  # a row to validate on, and one to test
    if not found:
        raise DataError(f"{source}: no attack")
    return Connections(without_label(first, first_kinds == "normal"), found, source)


def _read(path: Path) -> pd.DataFrame:
    try:
        text = io.BytesIO(gunzip(path.read_bytes()))
        frame = pd.read_csv(text, header=None, dtype=WORDS_AS_TEXT, keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except DAMAGE as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{path}: {first_line(error)}") from error
    return _typed(frame, str(path))


def _typed(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    if frame.shape[1] != len(COLUMNS):
        raise DataError(f"{source}: has {frame.shape[1]} columns; {len(COLUMNS)} are expected")
    frame.columns = COLUMNS
    numbers = {name: _numbers(frame[name], source) for name in COLUMNS if name not in (*WORDS, LABEL)}
    return frame.assign(**numbers)


def _numbers(column: Any, source: str) -> np.ndarray:
    values = np.asarray(pd.to_numeric(column, errors="coerce"), np.float64)
    bad = ~(np.abs(values) <= LARGEST_CELL)  # also true for NaN
    if bad.any():
        row = int(bad.argmax())
        cell = str(column.iloc[row])[:40]
        raise DataError(f"{source}: line {row + 1}, column {column.name}: {cell!r} is no finite number")
    return values


def _fetch() -> pd.DataFrame | None:
    """Takes scikit-learn's copy, downloading it on first use; None without a network."""
    from sklearn.datasets import fetch_kddcup99

    bunch: Any
    try:
        bunch = fetch_kddcup99(download_if_missing=False, as_frame=True)
    except OSError:
        if not network_answers():
            return None
        try:
            bunch = fetch_kddcup99(as_frame=True)
        except Exception:  # a dozen types; the run goes on without
            return None
    frame = bunch.frame
    for name in (*WORDS, frame.columns[-1]):
        frame[name] = frame[name].map(lambda value: value.decode() if isinstance(value, bytes) else value)
    return _typed(frame, "scikit-learn's fetch_kddcup99")


@dataclass(frozen=True)
class Rows:
    """Normal rows to train on, and rows to measure.

    Attributes:
      train: normal rows.
      normal: other normal rows.
      attacks: the rows of each class.
    """

    train: pd.DataFrame
    normal: pd.DataFrame
    attacks: Mapping[str, pd.DataFrame]


def split(connections: Connections, on: str, train_rows: int | None, seed: int) -> Rows:
    """Splits at random: normal rows 70/10/20 into training, validation and test, attacks 20/80 into the last two."""
    rng = np.random.default_rng(seed)
    train, normal = _split(connections.normal, (0.7, 0.8), on, train_rows, rng)
    attacks = {name: _split(frame, (0.0, 0.2), on, 0, rng)[1] for name, frame in connections.attacks.items()}
    return Rows(train, normal, attacks)


def _split(
    frame: pd.DataFrame, shares: tuple[float, float], on: str, train_rows: int | None, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    order = rng.permutation(len(frame))
    # At least a row to validate on and one to test on.
    ends = [min(round(share * len(frame)), len(frame) - 2 + i) for i, share in enumerate(shares)]
    train, validation, test = np.split(order, [ends[0], max(ends[1], ends[0] + 1)])
    measured = validation if on == "validation" else test
    return frame.iloc[train[:train_rows]], frame.iloc[measured[:MOST_OF_A_CLASS]]


def levels_of(connections: Connections) -> dict[str, list[str]]:
    """The levels of each column of words: of all rows, so that every seed has the same columns."""
    frames = (connections.normal, *connections.attacks.values())
    return {name: sorted(set().union(*(frame[name].unique() for frame in frames))) for name in WORDS}


@dataclass(frozen=True)
class Encoding:
    """Rows as numbers: standardised and clipped ones, then 0 or 1 for each level."""

    scaler: Scaler
    levels: Mapping[str, list[str]]

    @classmethod
    def fit(cls, train: pd.DataFrame, levels: Mapping[str, list[str]]) -> Encoding:
        """Learns mean and standard deviation from the training rows."""
        numbers = train.drop(columns=WORDS)
        return cls(Scaler.fit(numbers.to_numpy(), tuple(numbers.columns), LIMIT), levels)

    def encode(self, frame: pd.DataFrame) -> Float32[np.ndarray, "N D"]:
        """Encodes rows."""
        numbers = self.scaler.transform(frame.drop(columns=WORDS).to_numpy())
        one_hot = [frame[name].to_numpy()[:, None] == np.array(of, object)[None] for name, of in self.levels.items()]
        return np.concatenate([numbers, *one_hot], axis=1).astype(np.float32)
