"""The project's readers as a fuzzer calls them: each with valid files to begin with and checks of what is read."""

from __future__ import annotations

import importlib

from benchmarks.faults.readers.reader import Reader

# By subject. A fuzzer imports only the subject that it needs, so that it follows no more code than that.
SUBJECTS = {
    "tables": ("transactions", "table", "columns", "excel", "parquet"),
    "streams": ("score_csv", "score_json", "score_parquet", "score_columns"),
    "pictures": ("picture", "picture_zip", "lists", "idx"),
    "kdd99": ("kdd99",),
    "saved": ("run", "model", "damaged_model", "checkpoint"),
}
NAMES = tuple(name for names in SUBJECTS.values() for name in names)


def reader_of(name: str) -> Reader:
    """Returns a reader by its name."""
    subject = next(subject for subject, names in SUBJECTS.items() if name in names)
    return getattr(importlib.import_module(f"benchmarks.faults.readers.{subject}"), name)
