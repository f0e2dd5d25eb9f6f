"""Sizes that pages and buffers say of themselves, beside those that Arrow counts."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vae_jax.tables.packed_sizes import size_of_batches, size_of_pages

ROWS = 20_000
TABLE = pa.table(
    {
        "number": np.random.default_rng(0).normal(size=ROWS),
        "word": pa.array(["x", "y", None, "z"] * (ROWS // 4)).dictionary_encode(),
        "text": [f"{i % 7} and the rest" for i in range(ROWS)],
        "list": [[1, 2], [], None, [3]] * (ROWS // 4),
        "struct": [{"a": True, "b": i} for i in range(ROWS)],
    }
)


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
@pytest.mark.parametrize(
    "options",
    [{}, {"data_page_version": "2.0"}, {"row_group_size": 3_000, "write_page_index": True}, {"use_dictionary": False}],
    ids=["usual", "version 2", "groups", "no dictionaries"],
)
def test_pages_of_parquet(compression, options):
    file = io.BytesIO()
    pq.write_table(TABLE, file, compression=compression, data_page_size=5_000, **options)
    metadata = pq.ParquetFile(file).metadata
    said = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    assert size_of_pages(file) == sum(said)


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("rows", [ROWS, 777], ids=["one batch", "many"])
def test_batches_of_arrow(compression, rows):
    def written(compression):
        file = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_file(file, TABLE.schema, options=options) as writer:
            writer.write_table(TABLE, max_chunksize=rows)
        return file.getvalue()

    plain, content = written(None), written(compression)
    assert size_of_batches(content) == size_of_batches(plain)
    assert 0.95 * len(plain) < size_of_batches(plain) < len(plain)  # the rest is headers and padding


def test_files_of_no_rows():
    parquet, arrow = io.BytesIO(), io.BytesIO()
    pq.write_table(TABLE[:0], parquet)
    with pa.ipc.new_file(arrow, TABLE.schema):
        pass
    assert size_of_batches(arrow.getvalue()) == 0
    assert size_of_pages(parquet) == 0


def test_what_is_no_page_or_batch_is_refused():
    parquet, arrow = io.BytesIO(), io.BytesIO()
    pq.write_table(TABLE, parquet)
    with pa.ipc.new_file(arrow, TABLE.schema) as writer:
        writer.write_table(TABLE)
    content = parquet.getvalue()
    body = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for filling in (b"\0", b"\xff", b"\x1c", b"\x18", b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\x01"):
        with pytest.raises(ValueError, match=r"page|header|number"):
            size_of_pages(io.BytesIO((filling * body)[:body] + content[body:]))
    # A header of a page whose number of values is `true`.
    header = b"\x15\x00\x15\x10\x15\x10\x2c\x11\x00\x00"
    with pytest.raises(ValueError, match="no page"):
        size_of_pages(io.BytesIO(b"PAR1" + header + content[4 + len(header) :]))
    with pytest.raises(ValueError, match="row groups"):
        size_of_pages(io.BytesIO(content[:body] + b"\0" * (len(content) - body)))
    with pytest.raises(ValueError, match="no batch"):
        size_of_batches(b"ARROW1\0\0" + b"\1" * 100)
    with pytest.raises(ValueError, match="no batch"):
        size_of_batches(arrow.getvalue()[:100])
