"""Errors in data, reported in one line."""


class DataError(ValueError):
    """Data that can't be used. The message is one line that names the file, the row or the column.

    Examples:
      >>> from vae_jax.data.errors import DataError
      >>> from vae_jax.tables.transactions import load_transactions
      >>> try:
      ...     load_transactions("no_such_file.csv")
      ... except DataError as error:
      ...     print(error)
      no_such_file.csv: no such file
    """
