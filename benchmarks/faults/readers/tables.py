"""Readers of whole tables: the transactions, and tables of any columns as text, Excel, Parquet and Arrow."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.faults.readers.reader import Reader, WrongError
from vae_jax.data.errors import DataError
from vae_jax.tables.files import SEPARATORS, read_frame
from vae_jax.tables.schema import Schema
from vae_jax.tables.transactions import COLUMNS, load_transactions, read_csv

WORDS = (
    *b"nan inf -inf 1e400 -0 1_000 0x1F 1,5 1.234,5 12% (3) NA ? true 2024-02-29 31/12/1999 =1+1 Class Time".split(),
    *(b"1/2/24 10:00 PM", b"0000-00-00", b"9" * 30, "€7".encode(), b"\x1b[2J"),
    *(bytes([code]) for code in b',;\t|"\n\r \0\x0b\x1c\x85'),
    *(b'""', b"\r\n", b"\xff\xfe", codecs.BOM_UTF8, b"\xed\xa0\x80", "\u00a0".encode(), "\u2028".encode()),
)
TABLE = "id,city,paid,day,count\n1,Rome,1.50,2024-01-31,3\n2,Oslo,,2024-02-01,4\n3,Rome,$7,2024-02-29,0\n"
OTHERS = (
    "a;b\n1,5;x\n2.000,5;y\n",
    'a,b\n"1","say ""hi"""\n2,"two\nlines"\n',
    "a\tb\t\n1\t2\t\n3\t4\t\n",
    "a,b\n" + "".join(f"{i},{i % 3}\n" for i in range(30)),
    ",x,y\n0,1.5,no\n1,2.5,yes\n",
)


def packed(text: bytes) -> list[bytes]:
    """A text as it is, as gzip and in a zip."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("table.csv", text)
    return [text, gzip.compress(text, mtime=0), file.getvalue()]


def _plain(data: bytes) -> str | None:
    """The text of an input that is neither packed nor in another encoding; None for any other."""
    if data[:2] in (b"\x1f\x8b", b"PK", codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return None
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        return None


def _rows(text: str, separator: str, **options: bool) -> list[list[str]]:
    """The rows by Python's own module; none if it refuses the text."""
    try:
        return list(csv.reader(io.StringIO(text, newline="\n"), delimiter=separator, **options))
    except csv.Error:
        return []


# Transactions


def _transaction_seeds() -> list[bytes]:
    numbers = [",".join(f"{(i * 7 + row) % 13 - 6.5}" for i in range(30)) for row in range(3)]
    text = "\n".join([",".join(COLUMNS), *(f"{line},{row % 2}" for row, line in enumerate(numbers))]) + "\n"
    quoted = '"' + text.replace(",", '";"').replace("\n", '"\n"').removesuffix('"')
    return [*packed(text.encode()), quoted.encode()]


def _prepare_transactions(folder: Path) -> Callable[[bytes], object]:
    path = folder / "creditcard.csv"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        frame = read_csv(path)
        if (text := _plain(data)) is not None:
            _check_numbers(frame, text)

    return read


def _check_numbers(frame: pd.DataFrame, text: str) -> None:
    """Compares with Python's own module, which reads the same cells with the right separator."""
    for separator in ",;\t":
        header, *rows = _rows(text.rstrip("\n"), separator) or [[]]
        names = [name.strip() for name in header]
        if not set(COLUMNS) <= set(names):
            continue
        expected = [[float(row[names.index(name)]) for name in COLUMNS] for row in rows]
        if frame.shape != (len(rows), len(COLUMNS)) or not np.array_equal(frame.to_numpy(float), np.array(expected)):
            raise WrongError(f"read {frame.to_numpy().tolist()}, expected {expected}")


transactions = Reader("transactions, CSV", _transaction_seeds, _prepare_transactions, DataError, WORDS)


# Tables of any columns


def _table_seeds() -> list[bytes]:
    text = TABLE.encode()
    return [*packed(text), codecs.BOM_UTF8 + text, TABLE.encode("utf-16"), *(other.encode() for other in OTHERS)]


def _read_columns(path: Path) -> None:
    """Reads a table as the fraud command does, and learns its columns as the detector does."""
    features = load_transactions(str(path)).features
    if isinstance(features, pd.DataFrame):
        Schema.fit(features).transform(features)


def _prepare_table(folder: Path) -> Callable[[bytes], object]:
    path = folder / "table.csv"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        frame, _ = read_frame(path)
        text = _plain(data)
        if text is not None and not any(_is_same(frame, rows) for rows in _tables(text)):
            raise WrongError(f"no separator gives {frame.to_dict('list')}")

    return read


def _tables(text: str) -> Iterator[list[list[str | None]]]:
    """The rows that have any cell, with the cells stripped, by each separator."""
    for separator in SEPARATORS:
        rows = _rows(text.rstrip("\n") + "\n", separator, skipinitialspace=True, strict=True)
        yield [cells for row in rows if any(cells := [cell.strip() or None for cell in row])]


def _is_same(frame: pd.DataFrame, rows: list[list[str | None]]) -> bool:
    """Whether a frame holds the rows below a header; a column of row numbers and blank ones may be left out."""
    header, *body = rows or [[]]
    cells = frame.to_numpy(object).tolist()
    first = len(header) - len(frame.columns) if not any(header[len(frame.columns) :]) else 1
    return any(
        len(cells) == len(body) and cells == [row[start : start + len(frame.columns)] for row in body]
        for start in {0, min(first, 1), 1}
    )


table = Reader("any table, text", _table_seeds, _prepare_table, DataError, WORDS)


def _excel_seeds() -> list[bytes]:
    file = io.BytesIO()
    frame = pd.DataFrame({"city": ["Rome", "Oslo", None], "paid": [1.5, None, 7], "yes": [True, False, True]})
    frame.to_excel(file, index=False)
    packed_as_is = io.BytesIO()  # so that changes reach the XML
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(packed_as_is, "w") as copy:
        for name in archive.namelist():
            if "theme" not in name:
                copy.writestr(name, archive.read(name))
    return [file.getvalue(), packed_as_is.getvalue()]


def _parquet_seeds() -> list[bytes]:
    table = pa.table(
        {
            "a": pa.array([1, None, 3], pa.int32()),
            "b": pa.array(["x", "y", None]).dictionary_encode(),
            "c": pa.array([1.5, 2.5, None]),
            "d": pa.array([0, 1, 2], pa.timestamp("ms")),
        }
    )
    files = [io.BytesIO() for _ in range(3)]
    pq.write_table(table, files[0])
    pq.write_table(table, files[1], compression="none", use_dictionary=False)
    with pa.ipc.new_file(files[2], table.schema) as writer:
        writer.write_table(table)
    return [file.getvalue() for file in files]


def _prepare_with(function: Callable[[Path], object]) -> Callable[[Path], Callable[[bytes], object]]:
    def prepare(folder: Path) -> Callable[[bytes], object]:
        path = folder / "table"

        def read(data: bytes) -> None:
            path.write_bytes(data)
            function(path)

        return read

    return prepare


XML = b'<c r= t="s" t="inlineStr" <v> </v> XFD1048576 <!DOCTYPE <!ENTITY 1e999 <row'.split()
columns = Reader("any table, kinds of columns", _table_seeds, _prepare_with(_read_columns), DataError, WORDS)
excel = Reader("any table, Excel", _excel_seeds, _prepare_with(read_frame), DataError, XML)
parquet = Reader(
    "any table, Parquet and Arrow", _parquet_seeds, _prepare_with(read_frame), DataError, (b"PAR1", b"ARROW1")
)
