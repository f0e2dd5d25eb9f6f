"""What the pages of a Parquet file and the batches of an Arrow file say that they unpack to, before any is unpacked.

The sums in a file's footer may lie. A page or buffer can't unpack to more than it says itself: that much memory is made
ready for it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from io import BytesIO
from itertools import chain
from typing import IO, Any, NamedTuple

DATA_PAGE, DATA_PAGE_V2 = 5, 8  # fields of a Parquet page's header that are headers of their own
DICTIONARY_BATCH, RECORD_BATCH = 2, 3  # types of an Arrow message
CONTINUATION = b"\xff\xff\xff\xff"
OLD_COMPRESSION = b"ARROW:experimental_compression"  # key in the metadata of messages by Arrow 0.17
DEEPEST = 20  # headers within headers


class Chunk(NamedTuple):
    """A column of a row group of a Parquet file, and where its pages begin, their bytes and values."""

    group: int
    column: str
    start: int
    size: int
    values: int


def chunks(file: IO[bytes]) -> Iterator[Chunk]:
    """Yields the chunks that a Parquet file's footer names, which is read at once; a damaged one makes pyarrow abort.

    Raises:
      ValueError: if the footer names no row groups and columns.

    References:
      https://parquet.apache.org/docs/file-format, https://github.com/apache/thrift, compact protocol.
    """
    end = file.seek(-8, os.SEEK_END)
    file.seek(max(0, end - int.from_bytes(file.read(4), "little")))
    footer = _Compact(BytesIO(file.read())).struct()
    for i, group in enumerate(_structs(footer.get(4))):
        for column in _structs(group.get(1)):
            (of_column,) = _structs([column.get(3)])
            start, dictionary = _amount(of_column, 9), of_column.get(11)
            if isinstance(dictionary, int) and 0 < dictionary < start:
                start = dictionary
            path: Any = of_column.get(3)
            names = [name.decode(errors="replace") for name in path] if _are(bytes, path) else []
            yield Chunk(i, ".".join(names), start, _amount(of_column, 7), _amount(of_column, 5))


def size_of_pages(file: IO[bytes]) -> int:
    """Returns the bytes of all pages of a Parquet file when unpacked, and of their headers; see `pages`."""
    return sum(header + unpacked for chunk in chunks(file) for header, _, unpacked in pages(file, chunk))


def pages(file: IO[bytes], chunk: Chunk) -> Iterator[tuple[int, int, int]]:
    """Yields the bytes of each page that Arrow reads: of its header, of itself, and of what it unpacks to.

    Args:
      file: may be read elsewhere in between.
      chunk: a column of a row group.

    Raises:
      ValueError: if there is something else where the footer says that there are pages.

    References:
      https://parquet.apache.org/docs/file-format/data-pages
    """
    length = file.seek(0, os.SEEK_END)
    place, seen = chunk.start, 0
    while place < chunk.start + chunk.size and seen < chunk.values:
        file.seek(place)
        header = _Compact(file).struct()
        start = file.tell()
        unpacked, packed = _amount(header, 2), _amount(header, 3)
        if packed > length - start:
            raise ValueError(f"a page of {packed:,} bytes in a file of {length:,}")
        yield start - place, packed, unpacked
        of_data = header.get(DATA_PAGE) or header.get(DATA_PAGE_V2)
        seen += _amount(of_data, 1) if isinstance(of_data, dict) else 0
        place = start + packed


def _structs(found: Any) -> list[dict[int, Any]]:
    if not _are(dict, found):
        raise ValueError("no row groups and columns where they should be")
    return found


def _are(kind: type, found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(element, kind) for element in found)


def _amount(fields: dict[int, Any], field: int) -> int:
    amount = fields.get(field)
    if not isinstance(amount, int) or amount < 0:
        raise ValueError("no page where there should be one")
    return amount


class _Compact:
    """Reads structs of Thrift's compact protocol: whole numbers, bytes, lists and structs by field; None for others."""

    def __init__(self, file: IO[bytes]):
        self._file = file

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Reads a struct."""
        if depth > DEEPEST:
            raise ValueError("headers within headers")
        fields: dict[int, Any] = {}
        field = 0
        while kind := self._byte():
            field = field + (kind >> 4) if kind >> 4 else self._number()
            fields[field] = self._value(kind & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):  # true and false are the kind itself
            return None
        if kind in (4, 5, 6):
            return self._number()
        if kind in (3, 7):
            self._bytes(1 if kind == 3 else 8)
            return None
        if kind == 8:
            return self._bytes(self._varint())
        if kind == 9:
            return self._list(depth + 1)
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError("no header where there should be one")  # none has sets or maps

    def _list(self, depth: int) -> list[Any]:
        if depth > DEEPEST:
            raise ValueError("headers within headers")
        head = self._byte()
        count, kind = head >> 4, head & 15
        if count == 15:
            count = self._varint()
        # As elements, true and false take a byte.
        return [self._byte() if kind in (1, 2) else self._value(kind, depth) for _ in range(count)]

    def _bytes(self, length: int) -> bytes:
        found = b"" if length >> 31 else self._file.read(length)
        if len(found) != length:
            raise ValueError("the end of the file within a header")
        return found

    def _number(self) -> int:
        number = self._varint()
        return number >> 1 ^ -(number & 1)

    def _varint(self) -> int:
        number = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise ValueError("no number")

    def _byte(self) -> int:
        if not (byte := self._file.read(1)):
            raise ValueError("the end of the file within a header")
        return byte[0]


def size_of_batches(content: bytes) -> int:
    """Returns the bytes of all buffers of an Arrow file when unpacked.

    Raises:
      ValueError: if there is something else where the footer says that there are batches.

    References:
      https://arrow.apache.org/docs/format/Columnar.html, IPC file format; https://flatbuffers.dev/internals.
    """
    try:
        end = len(content) - 10  # of the footer, which its length and six letters follow
        footer = _Flat.root(content, end - struct.unpack_from("<i", content, end)[0])
        blocks = chain(footer.structs(2, "<qi4xq"), footer.structs(3, "<qi4xq"))  # dictionaries and records
        return sum(_size_of_batch(content, offset, length) for offset, length, _ in blocks)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"no batch where there should be one: {error}") from None


def _size_of_batch(content: bytes, offset: int, length: int) -> int:
    start = offset + (8 if content[offset : offset + 4] == CONTINUATION else 4)
    message = _Flat.root(content, start)
    kind, batch = message.byte(1), message.table(2)
    if kind == DICTIONARY_BATCH and batch:
        batch = batch.table(1)
    elif kind != RECORD_BATCH:
        raise ValueError("no batch where there should be one")
    if not batch:
        return 0
    packed = batch.table(3) or OLD_COMPRESSION in content[start : offset + length]
    size = 0
    for place, of_buffer in batch.structs(2, "<qq"):
        if of_buffer < 0:
            raise ValueError("a buffer of fewer bytes than none")
        # A packed buffer begins with its size when unpacked, or -1 if it isn't.
        said = struct.unpack_from("<q", content, offset + length + place)[0] if packed and of_buffer else -1
        size += of_buffer if said < 0 else said
    return size


class _Flat:
    """Reads a table of a flatbuffer, field by field."""

    def __init__(self, content: bytes, place: int):
        self._content, self._place = content, place
        self._fields = place - self._at(place, "<i")

    @classmethod
    def root(cls, content: bytes, place: int) -> _Flat:
        """The table that a flatbuffer begins with."""
        return cls(content, place + struct.unpack_from("<I", content, place)[0])

    def byte(self, field: int) -> int:
        """A field of one byte, 0 by default."""
        place = self._field(field)
        return self._at(place, "<B") if place else 0

    def table(self, field: int) -> _Flat | None:
        """A field that is a table."""
        place = self._field(field)
        return _Flat(self._content, place + self._at(place, "<I")) if place else None

    def structs(self, field: int, form: str) -> Iterator[tuple[int, ...]]:
        """A field that is a vector of structs."""
        if not (place := self._field(field)):
            return iter(())
        place += self._at(place, "<I")
        count, start = self._at(place, "<I"), place + 4
        return struct.iter_unpack(form, self._content[start : start + count * struct.calcsize(form)])

    def _field(self, field: int) -> int:
        """Where a field is; 0 if the table lacks it."""
        place = 4 + 2 * field
        offset = self._at(self._fields + place, "<H") if place < self._at(self._fields, "<H") else 0
        return self._place + offset if offset else 0

    def _at(self, place: int, form: str) -> int:
        if place < 0:  # which would count from the end
            raise struct.error("a place before the file")
        return struct.unpack_from(form, self._content, place)[0]
