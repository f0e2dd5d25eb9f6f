"""The outcome of a fault that was tried many times, and the table of all outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

NOTHING = "nothing"
HEADER = ("fault", "tries", "survived", "what was lost")


@dataclass(frozen=True)
class Outcome:
    """One line of the table.

    Attributes:
      fault: what was done, in a few words.
      tries: how often.
      survived: how often everything was as it has to be afterwards.
      lost: what was lost where it wasn't, else `NOTHING`.
      figures: what else was measured, e.g. memory.
    """

    fault: str
    tries: int
    survived: int
    lost: str = NOTHING
    figures: str = ""

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The line of the table."""
        fault = f"{self.fault} ({self.figures})" if self.figures else self.fault
        return fault, f"{self.tries:,}", f"{self.survived:,}", self.lost


def counted(fault: str, lost: Sequence[Sequence[str]], figures: str = "") -> Outcome:
    """The outcome of as many tries as there are lists of what was lost, which are empty where nothing was."""
    words = sorted({word for of_try in lost for word in of_try})
    return Outcome(fault, len(lost), sum(not of_try for of_try in lost), "; ".join(words[:5]) or NOTHING, figures)


def write_section(path: Path, title: str, command: str, machine: str, outcomes: Iterable[Outcome]) -> None:
    """Puts a part's table into a Markdown file under a heading of its own; other headings keep their text.

    Args:
      path: the file; a missing one is made.
      title: the heading.
      command: what repeats the part.
      machine: where it was measured and when.
      outcomes: the lines.
    """
    lines = [HEADER, ("---", "---:", "---:", "---"), *(outcome.cells for outcome in outcomes)]
    table = "\n".join(map(_line, lines))
    section = f"{title}\n\n{table}\n\n`{command}`; {machine}.\n"
    before, *sections = path.read_text(encoding="utf-8").split("\n## ") if path.exists() else ["# Faults\n"]
    kept = [text for text in sections if text.partition("\n")[0] != title]
    place = next((i for i, text in enumerate(sections) if text.partition("\n")[0] == title), len(kept))
    kept.insert(place, section)
    path.write_text("\n## ".join([before, *kept]), encoding="utf-8")


def write_line(path: Path, title: str, outcome: Outcome) -> None:
    """Writes an outcome over its line in a part's table, e.g. after it was counted again.

    Raises:
      ValueError: if there is none, or more than one.
    """
    before, heading, section = path.read_text(encoding="utf-8").partition(f"## {title}\n")
    section, following, after = section.partition("\n## ")
    lines = section.split("\n")
    places = [i for i, line in enumerate(lines) if line.startswith(f"| {outcome.fault} ")]
    if len(places) != 1:
        raise ValueError(f"{path}: not one line of {outcome.fault!r} under {title!r}")
    lines[places[0]] = _line(outcome.cells)
    path.write_text(before + heading + "\n".join(lines) + following + after, encoding="utf-8")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
