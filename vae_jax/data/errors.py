"""What goes wrong with data, said in one line."""


class DataError(ValueError):
    """Data that can't be used. The message is one line that names the file, the row or the column."""
