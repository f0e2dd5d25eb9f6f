"""Reads a table file as it comes: CSV in its dialects and encodings, Excel, Parquet and Arrow."""

from __future__ import annotations

import array
import codecs
import csv
import io
import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_jax.data.errors import DataError, first_line
from vae_jax.data.unpacking import MOST_BYTES, MOST_TIMES
from vae_jax.tables.csv_file import LONGEST_NAME, Places, read_bytes, repeated, unpack
from vae_jax.tables.packed_sizes import size_of_batches, size_of_pages

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

SEPARATORS = "\t;,|"  # if several fit equally well, the first: one that is rarely part of a cell, or else the usual one
TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
WORKBOOK = "xl/workbook.xml"  # the member that makes a zip an Excel file
SAMPLE = 1 << 20  # characters that the separator is recognised from
SAMPLE_ROWS = 1_000
EXCEL_ROWS = 1_048_576  # the most that a sheet can have
# A sheet of so many cells may be blank save for one cell in so many; more is damage, and would fill the memory.
MANY_CELLS, MOST_BLANK = 10_000_000, 20
MOST_TABLE = 1_000_000_000  # bytes of a Parquet or Arrow file when unpacked, if that is also many times its own size
OLD_EXCEL = b"\xd0\xcf\x11\xe0"
_NUMBER = re.compile(r"[-+]?(?=[.,]*\d)[\d.,]+([eE][-+]?\d+)?")
_FOR_EXCEL = re.compile(r'"?sep=.?"?', re.IGNORECASE)
_JSON = re.compile(r'\s*(\[\s*)?\{\s*"')
_SAVED_INDEX = re.compile(r"__index_level_\d+__")  # what pandas calls an index without a name in Parquet


def read_frame(
    path: str | Path, encoding: str | None = None, drop: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Reads a table, whatever kind of file it is in; the kind is recognised by content.

    - Text (CSV separated by commas, semicolons, tabs or pipes; plain, gzip or the only one in a zip) in UTF-8, in
      UTF-16 with a byte order mark, or in `encoding`: every column has dtype object with stripped text, and None for a
      blank cell. Blank lines are skipped.
    - Excel (.xlsx), the first sheet with a table: numbers, dates and text as typed; mixed columns have dtype object.
    - Parquet and Arrow (Feather version 2): typed columns; dictionaries become their values, decimals float64, integers
      with gaps pandas' Int64 or UInt64, dates and timestamps datetime64[us] in UTC.

    Left out are columns without name and cells at the right end (a separator at the end of each line) and, with a
    notice, a first column that is pandas' row index.

    Args:
      path: the file.
      encoding: of a text file without byte order mark, if it is not UTF-8.
      drop: columns to leave out before the others are checked.

    Returns:
      The table, and sentences that the user should see.

    Raises:
      DataError: if the file can't be read, is damaged, has no header or no rows, names a column twice or not at all, or
        has a row of another length than the header; if a column of `drop` or the encoding doesn't exist.

    Examples:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from vae_jax.tables.files import read_frame
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder, "mine.csv")
      ...     _ = path.write_text("amount;shop\\n1,50;Bern\\n20,00;\\n")
      ...     frame, notices = read_frame(path)
      >>> frame.to_dict("list"), notices
      ({'amount': ['1,50', '20,00'], 'shop': ['Bern', None]}, [])
    """
    return read_with_places(path, encoding, drop)[:2]


def read_with_places(
    path: str | Path, encoding: str | None = None, drop: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[str], Places | None]:
    """As `read_frame`; also returns where its rows are, or None if each line of a text is a row."""
    path = Path(path)
    check_encoding(encoding)
    content = unpack(path, read_bytes(path), TEXT_SUFFIXES, kept=WORKBOOK)
    notices: list[str] = []
    places = None
    if content[:4] == b"PAR1" or content[:6] == b"ARROW1":
        names, columns = _read_arrow(path, content, drop, notices)
        places = Places(range(next((len(column) for column in columns if column is not None), 0)), ())
    elif content[:2] == b"PK":
        names, columns, places = _read_excel(path, content, notices)
    else:
        names, columns, places = _read_text(path, _decode(path, content, encoding), notices)
    return _frame(path, names, columns, drop, notices), notices, places


def check_encoding(encoding: str | None) -> None:
    """Raises DataError for an encoding that Python doesn't know."""
    if encoding is not None:
        try:
            b"a".decode(encoding)
        except UnicodeError:  # a part of a character of UTF-16
            pass
        except (LookupError, ValueError):
            raise DataError(f"--encoding {encoding}: no such encoding") from None


def _decode(path: Path, content: bytes, encoding: str | None) -> str:
    """Returns the text, with "\\n" at line ends. A byte order mark says more than `encoding`."""
    if not content.strip():
        raise DataError(f"{path}: the file is empty")
    if content[:4] == OLD_EXCEL:
        raise DataError(f"{path}: an Excel file of the old kind (.xls); save it as .xlsx or CSV")
    if content[:3] == codecs.BOM_UTF8:
        used = "utf-8-sig"
    elif content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        used = "utf-16"
    else:
        used = encoding or "utf-8"
    try:
        text = content.decode(used)
    except UnicodeError:
        if b"\0" in content or used == "utf-16":
            raise DataError(f"{path}: not a text file") from None
        if encoding and used == encoding:
            raise DataError(f"{path}: not in the encoding of --encoding {encoding}") from None
        raise DataError(f"{path}: not UTF-8; say its encoding, for example --encoding latin-1") from None
    if "\0" in text:
        raise DataError(f"{path}: not a text file")
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n") + "\n"


def _read_text(path: Path, text: str, notices: list[str]) -> tuple[list[str], list[Any], Places | None]:
    line = text.partition("\n")[0].strip()
    if _FOR_EXCEL.fullmatch(line):
        raise DataError(f"{path}: its first line, {line}, is for Excel alone; remove it")
    if _JSON.match(text):
        raise DataError(f"{path}: looks like JSON, which is not read here; save it as CSV or Parquet")
    separator = _separator(text)
    blank: list[int] = []
    records = _records(path, text, separator, blank)
    try:
        header = next(records)[-1]
    except DataError:  # an endless line, or a quote that is not closed
        header = []
    names = _check_header(path, header)
    first = next(records, None)
    if first is None:
        raise DataError(f"{path}: a header, but no rows")
    # A separator at the end of each row, but not of the header, adds a blank cell to each.
    trailing = len(first[-1]) == len(names) + 1 and not first[-1][-1].strip()
    width = len(names) + trailing
    columns = _parse_quickly(text, separator, width)
    if columns is not None and not (trailing and columns[-1].any()):
        return names, columns[: len(names)], None
    cells: list[str] = []  # of all rows in one list: a list for each row would take twice the memory
    rows, lines = array.array("q"), array.array("q")
    for number, line, row in itertools.chain([first], records):
        if len(row) != width or (trailing and row[-1].strip()):
            raise DataError(
                f"{path}: row {number} (line {line}): {len(row)} cells, the header names {len(names)} columns"
            )
        cells += row
        rows.append(number)
        lines.append(line)
    if between := [str(line) for line in blank if line < lines[-1]]:
        more = f" and {len(between) - 5} more" if len(between) > 5 else ""
        notices.append(f"{path}: blank lines are skipped: {', '.join(between[:5])}{more}")
    return names, [_text_column(cells[j::width]) for j in range(len(names))], Places(rows, lines)


def _separator(text: str) -> str:
    """Recognises the separator: it divides the header, and most rows into as many cells as the header."""
    sample, is_all = text[:SAMPLE], len(text) <= SAMPLE
    fits: dict[str, tuple[bool, float]] = {}
    for separator in SEPARATORS:
        reader = csv.reader(io.StringIO(sample, newline="\n"), delimiter=separator, skipinitialspace=True)
        try:
            rows = [row for row in itertools.islice(reader, SAMPLE_ROWS) if any(map(str.strip, row))]
        except csv.Error:
            continue
        if not rows:
            continue
        header, *body = rows if is_all or len(rows) < 3 else rows[:-1]  # the last one may be cut
        names = len(header)
        fitting = sum(len(row) == names or (len(row) == names + 1 and not row[-1].strip()) for row in body)
        fits[separator] = (names > 1, fitting / max(len(body), 1))
    # max takes the first of equals.
    return max(fits, key=fits.__getitem__) if fits else ","


def _records(path: Path, text: str, separator: str, blank: list[int]) -> Iterator[tuple[int, int, list[str]]]:
    """Yields the header, as row -1, and the rows with cells, each with its number and line; notes the blank lines."""
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=separator, skipinitialspace=True, strict=True)
    number, line = -1, 1
    try:
        for row in reader:
            # A line of separators only, as Excel writes for a row whose cells were deleted, is a blank line too.
            if line == 1 or any(map(str.strip, row)):
                yield number, line, row
            else:
                blank.append(line)
            number, line = number + bool(row), reader.line_num + 1
    except csv.Error as error:
        what = str(error)
        if "unexpected end" in what or "field limit" in what:
            what = "a quote is not closed"
        raise DataError(f"{path}: line {line}: {what}") from None


def _parse_quickly(text: str, separator: str, width: int) -> list[np.ndarray] | None:
    """Reads the rows of a text without quotes and blank lines in a fraction of the time; None for any other."""
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    if '"' in text or "\n\n" in text:
        return None
    names = [str(j) for j in range(width)]
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(text.encode()),
            arrow_csv.ReadOptions(column_names=names, skip_rows=1),
            arrow_csv.ParseOptions(delimiter=separator),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.large_string())),
        )
    except pa.ArrowInvalid:  # the row of another length is named by the slower parser
        return None
    columns = [_words(column) for column in table.columns]
    blank = np.flatnonzero(columns[0] == None)  # noqa: E711 (by element)
    return None if any(not any(column[row] for column in columns) for row in blank) else columns


def _words(column: pa.ChunkedArray) -> np.ndarray:
    """Strips text, and makes blank cells None."""
    import pyarrow as pa

    from vae_jax.tables.arrow import pc

    kind = pa.large_string()
    text = pc.utf8_trim_whitespace(column.cast(kind))
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, kind), text).to_numpy()


def _text_column(cells: list[str]) -> np.ndarray:
    column = np.empty(len(cells), object)
    column[:] = [cell.strip() or None for cell in cells]
    return column


def _check_header(path: Path, cells: Sequence[Any]) -> list[str]:
    """Returns the names, each in one line; refuses a header without names."""
    names = [" ".join(filter(None, map(str.strip, str(cell).split("\n")))) for cell in cells]
    named = [name for name in names if name]
    if not named or max(map(len, named)) > LONGEST_NAME or all(map(_NUMBER.fullmatch, named)):
        raise DataError(f"{path}: no header with the names of the columns in the first line")
    return names


def _read_excel(path: Path, content: bytes, notices: list[str]) -> tuple[list[str], list[Any], Places]:
    try:
        import openpyxl
    except ImportError:
        raise DataError(f"{path}: to read Excel files, install openpyxl: pip install openpyxl") from None
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
        # A first sheet of one column is likelier to be remarks than a table.
        for least, sheet in itertools.product((2, 1), book.worksheets):
            cells, lines = _used_cells(*_sheet_cells(sheet))
            if cells.shape[0] >= 2 and cells.shape[1] >= least:
                break
        else:
            raise DataError("no sheet with a header and rows")
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # whatever openpyxl's readers of zip and XML come across
        raise DataError(f"{path}: damaged or unsupported Excel file ({first_line(error)})") from None
    if len(book.worksheets) > 1:
        notices.append(f"{path}: of {len(book.worksheets)} sheets, {sheet.title!r} is read")
    names = _check_header(path, ["" if cell is None else cell for cell in cells[0]])
    columns = [_typed_column(cells[1:, j]) for j in range(len(names))]
    return names, columns, Places(range(len(lines) - 1), lines[1:].tolist())


def _sheet_cells(sheet: Any) -> tuple[np.ndarray, np.ndarray]:
    """The rows that have any cell, as objects, and their numbers in the sheet, from 1.

    Not by pandas, which makes room for all cells up to the last one: a file of 5 kB may place one a million rows and
    16,000 columns away.
    """
    sheet.reset_dimensions()  # where it says that its cells are
    rows: list[list[Any]] = []
    numbers: list[int] = []
    size = given = 0
    for number, row in enumerate(sheet.rows, 1):
        if number > EXCEL_ROWS + 1:
            raise DataError(f"more than {EXCEL_ROWS:,} rows")
        cells = [_excel_value(cell) for cell in row]
        if any(cell is not None for cell in cells):
            rows.append(cells)
            numbers.append(number)
            size, given = size + len(cells), given + len(cells) - cells.count(None)
            if size > max(MANY_CELLS, MOST_BLANK * given):
                raise DataError(f"of its first {size:,} cells, all but {given:,} are blank")
    width = max(map(len, rows), default=0)
    if len(rows) * width > max(MANY_CELLS, MOST_BLANK * given):
        raise DataError(f"of {len(rows) * width:,} cells, all but {given:,} are blank")
    found = np.full((len(rows), width), None, object)
    for i, cells in enumerate(rows):
        found[i, : len(cells)] = cells
    return found, np.array(numbers, np.int64)


def _excel_value(cell: Any) -> Any:
    """A cell's value; None for an error such as #DIV/0!. Excel has no whole numbers, only those without a fraction."""
    if cell.data_type == "e":
        return None
    value = cell.value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _used_cells(cells: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strips text, makes blank cells None, and cuts off columns, and rows with their numbers, without any cell."""
    import pandas as pd

    for j in range(cells.shape[1]):
        text = [cell.strip() if isinstance(cell, str) else cell for cell in cells[:, j]]
        cells[:, j] = [
            None if gap or cell == "" else cell for cell, gap in zip(text, pd.isna(cells[:, j]), strict=True)
        ]
    used = cells != None  # noqa: E711 (by element)
    if not used.any():
        return cells[:0], numbers[:0]
    rows, columns = used.any(1), np.flatnonzero(used.any(0))
    return cells[rows, columns[0] : columns[-1] + 1], numbers[rows]


def _typed_column(cells: np.ndarray) -> pd.Series:
    """Gives a column of one type that type."""
    import pandas as pd

    kinds = {datetime if isinstance(cell, datetime) else type(cell) for cell in cells if cell is not None}
    gaps = any(cell is None for cell in cells)
    if kinds == {datetime}:
        return pd.Series(pd.to_datetime(pd.Series(cells)).to_numpy("datetime64[us]"))
    if kinds == {int} and not gaps and all(abs(cell) < 2**63 for cell in cells):
        return pd.Series(cells.astype(np.int64))
    if kinds and kinds <= {int, float}:
        return pd.Series(cells.astype(np.float64))
    if kinds == {bool} and not gaps:
        return pd.Series(cells.astype(bool))
    return pd.Series(cells, dtype=object)


def _read_arrow(path: Path, content: bytes, drop: Sequence[str], notices: list[str]) -> tuple[list[str], list[Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(f"{path}: to read Parquet and Arrow files, install pyarrow: pip install pyarrow") from None
    try:
        if content[:4] == b"PAR1":
            file = pq.ParquetFile(io.BytesIO(content))
            _refuse_bomb(path, content, file.metadata)
            # Texts as dictionaries: one that is repeated, however long, is still one.
            texts = [field.name for field in file.schema_arrow if _is_text(field.type)]
            table = pq.ParquetFile(io.BytesIO(content), metadata=file.metadata, read_dictionary=texts).read()
        else:
            with pa.ipc.open_file(pa.BufferReader(content)) as file:
                _refuse_size(path, content, size_of_batches(content))
                table = file.read_all()
        table.validate()
        _refuse_size(path, content, sum(map(_length_of_texts, table.columns)))
        table.validate(full=True)
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: damaged, truncated or unsupported file ({first_line(error)[:200]})") from None
    names, columns = [], []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if _SAVED_INDEX.fullmatch(name) and name not in drop:
            notices.append(f"{path}: the row index {name} is left out")
            continue
        names.append(name.strip())
        # What is dropped needs no type that can be read.
        columns.append(None if name.strip() in drop else _arrow_column(path, name.strip(), column))
    return names, columns


def _refuse_bomb(path: Path, content: bytes, metadata: pq.FileMetaData) -> None:
    """Refuses the same cells over and over: a few bytes may say that there are billions."""
    rows, columns = metadata.num_rows, metadata.num_columns
    if rows * columns > max(MOST_BYTES, MOST_TIMES * len(content)):
        most = f"more than {MOST_BYTES:,} cells and {MOST_TIMES} for each of its bytes"
        raise DataError(f"{path}: {rows:,} rows of {columns:,} columns, {most}")
    _refuse_size(path, content, size_of_pages(io.BytesIO(content)))


def _refuse_size(path: Path, content: bytes, size: int) -> None:
    if size > max(MOST_TABLE, MOST_TIMES * len(content)):
        most = f"more than {MOST_TABLE:,} and {MOST_TIMES} times its size"
        raise DataError(f"{path}: {size:,} bytes when unpacked, {most}")


def _length_of_texts(column: pa.ChunkedArray) -> int:
    """Bytes of a column's texts where a text may be kept once for many cells, and has to be repeated to be read."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type) and _is_text(column.type.value_type):
        lengths = [_lengths(chunk.dictionary).take(chunk.indices) for chunk in column.chunks]
    elif pa.types.is_string_view(column.type):
        lengths = map(_lengths, column.chunks)
    else:
        return 0
    return sum(of_chunk.sum().as_py() or 0 for of_chunk in lengths)


def _lengths(texts: pa.Array) -> pa.Array:
    import pyarrow as pa

    from vae_jax.tables.arrow import pc

    if not pa.types.is_string_view(texts.type):
        return pc.binary_length(texts).cast(pa.int64())
    if not len(texts):
        return pa.array([], pa.int64())
    views = np.frombuffer(texts.buffers()[1], np.int32).reshape(-1, 4)[texts.offset :][: len(texts)]
    return pa.array(views[:, 0].astype(np.int64))  # the first of the four numbers of a cell is its length


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    of_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary)
    return any(is_kind(kind) for is_kind in of_text)


def _arrow_column(path: Path, name: str, column: pa.ChunkedArray) -> pd.Series:
    import pandas as pd
    import pyarrow as pa

    kinds = pa.types
    try:
        if isinstance(column.type, pa.BaseExtensionType):
            column = column.cast(column.type.storage_type)
        if kinds.is_dictionary(column.type):
            if kinds.is_string_view(column.type.value_type):  # Polars's categories, which Arrow can't decode
                column = column.cast(pa.dictionary(column.type.index_type, pa.large_string()))
            column = column.cast(column.type.value_type)
        kind = column.type
        if kinds.is_decimal(kind) or kinds.is_float16(kind):
            column = column.cast(pa.float64())
        elif kinds.is_timestamp(kind) or kinds.is_date(kind):
            column = column.cast(pa.timestamp("us"), safe=False)  # in UTC; nanoseconds are cut
        elif kinds.is_integer(kind) and column.null_count:
            wide, nullable = (
                (pa.uint64(), pd.UInt64Dtype()) if kinds.is_unsigned_integer(kind) else (pa.int64(), pd.Int64Dtype())
            )
            return column.cast(wide).to_pandas(types_mapper={wide: nullable}.get)
        elif not (kinds.is_primitive(kind) or kinds.is_null(kind) or kinds.is_boolean(kind)):
            return pd.Series(_words(column), dtype=object)
        series = column.to_pandas()
    except (pa.ArrowException, ValueError):
        advice = f"leave it out with --drop {shlex.quote(name)}"
        raise DataError(
            f"{path}: column {name}: {column.type} is no type of single numbers or words; {advice}"
        ) from None
    return series.astype(object).where(series.notna(), None) if series.dtype == object else series


def _frame(path: Path, names: list[str], columns: list[Any], drop: Sequence[str], notices: list[str]) -> pd.DataFrame:
    """Leaves out what is not wanted, checks the names of the rest and puts the table together."""
    import pandas as pd

    if unknown := [name for name in drop if name not in names]:
        raise DataError(f"{path}: --drop {unknown[0]}: no such column; there are {', '.join(names[:40])}")
    last = len(names)
    while last and not names[last - 1] and columns[last - 1] is not None and pd.isna(columns[last - 1]).all():
        last -= 1
    kept = [j for j in range(last) if names[j] not in drop]
    if kept[:1] == [0] and names[0] in ("", "Unnamed: 0") and _counts(columns[0]):
        notices.append(f"{path}: the first column ({names[0] or 'without a name'}) counts the rows, and is left out")
        kept = kept[1:]
    if not kept:
        raise DataError(f"{path}: no column is left")
    for j in kept:
        if not names[j]:
            advice = "name it, or leave it out with --drop ''"
            raise DataError(f"{path}: column {j + 1} of {last} has no name; {advice}")
    left = [names[j] for j in kept]
    if found := repeated(left):
        raise DataError(f"{path}: column repeated {', '.join(map(repr, found[:5]))}")
    if not len(columns[kept[0]]):
        raise DataError(f"{path}: a header, but no rows")
    series = [pd.Series(columns[j], dtype=object if isinstance(columns[j], np.ndarray) else None) for j in kept]
    return pd.DataFrame(dict(zip(left, series, strict=True)))


def _counts(column: Any) -> bool:
    """Whether a column is 0, 1, 2, ... or 1, 2, 3, ..., as numbers or text."""
    cells = np.asarray(column)
    counted = np.arange(len(cells) + 1)
    if cells.dtype == object:
        counted = counted.astype(str).astype(object)
    return bool((cells == counted[:-1]).all() or (cells == counted[1:]).all())
