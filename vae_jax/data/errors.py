"""Errors in data, reported in one line."""


def one_line(text: str) -> str:
    r"""Writes line ends and control characters as escapes.

    So a message that quotes a file is one line, and no file gives orders to the terminal.

    Examples:
      >>> from vae_jax.data.errors import one_line
      >>> one_line("a\nb")
      'a\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable(text: str) -> str:
    r"""Writes control characters as escapes, but keeps line ends: for a text of several lines on a terminal.

    Examples:
      >>> from vae_jax.data.errors import printable
      >>> print(printable("\x1b[31mred\nÄ"))
      \x1b[31mred
      Ä
    """
    return "\n".join(map(one_line, text.split("\n")))


def first_line(error: BaseException) -> str:
    r"""The first line of another library's error, or its type where it says nothing: to be quoted in a message.

    Examples:
      >>> from vae_jax.data.errors import first_line
      >>> first_line(OSError("no space left\nand more")), first_line(EOFError())
      ('no space left', 'EOFError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class OneLineError(Exception):
    """An error whose message is one line, whatever it quotes."""

    def __init__(self, message: object = ""):
        super().__init__(one_line(str(message)))


class DataError(OneLineError, ValueError):
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


class CellError(DataError):
    """A cell that can't be used.

    Attributes:
      row: its row, 0 = first row of data.
      column: the name of its column.
      wrong: what is wrong with it, in words.

    Examples:
      >>> from vae_jax.data.errors import CellError
      >>> print(CellError(3, "age", "'old' is not a number"))
      row 3, column age: 'old' is not a number
    """

    def __init__(self, row: int, column: str, wrong: str):
        super().__init__(f"row {row}, column {column}: {wrong}")
        self.row, self.column, self.wrong = row, column, wrong
