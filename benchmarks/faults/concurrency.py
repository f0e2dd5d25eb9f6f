"""Several commands at once on the same files: each does its work, or is refused in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.faults import runs
from benchmarks.faults.outcome import Outcome, counted
from benchmarks.faults.settings import Settings

USUAL = 5  # tries of each


def outcomes(settings: Settings) -> Iterator[Outcome]:
    """Two of everything at once."""
    tries = settings.number(USUAL)
    both = {"fraud": "two runs start at once", "celeba": "two runs prepare the same pictures at once"}
    for experiment, what in both.items():
        expected = runs.undisturbed(experiment, settings.folder / experiment)
        yield counted(f"{experiment}: {what}", [both_start(expected, experiment, i) for i in range(tries)])
        found = [both_resume(expected, experiment, i) for i in range(tries)]
        yield counted(f"{experiment}: two --resume of one run at once", found)
    found = [score_while_it_trains(settings.folder / "fraud" / "undisturbed", i) for i in range(tries)]
    yield counted("score a run that is trained and written at once", [lost for lost, _ in found], _summed(found))


def both_start(expected: Path, experiment: str, number: int) -> list[str]:
    """Starts two runs; both must end like one alone."""
    folder = runs.empty(expected.parent / f"started_{number}")
    processes = [runs.start(experiment, runs.options(experiment), folder) for _ in range(2)]
    lost = [ended.last_words for ended in map(runs.finish, processes) if ended.code != 0]
    made = [path for path in (folder / "runs" / experiment).iterdir() if not path.is_symlink()]
    if len(made) != 2 or runs.newest(folder, experiment) not in made:
        lost.append(f"{len(made)} runs")
    for run in made:
        lost += runs.differences(run, runs.newest(expected, experiment))
    return lost + sorted(runs.files(folder) ^ runs.files(expected))


def both_resume(expected: Path, experiment: str, number: int) -> list[str]:
    """Kills a run and continues it twice; one must be refused, and the other end as if alone."""
    folder = runs.empty(expected.parent / f"resumed_{number}")
    process = runs.start(experiment, runs.options(experiment), folder)
    runs.wait_for(process, lambda: next(runs.newest(folder, experiment).glob("checkpoints/*/*/state"), None))
    process.kill()
    process.communicate()
    ended = [runs.finish(process) for process in [runs.start(experiment, ["--resume"], folder) for _ in range(2)]]
    refused = [end.refusals for end in ended if end.code == 2 and end.tidy]
    lost = [end.last_words for end in ended if end.code not in (0, 2) or not end.tidy]
    if len(refused) != 1 or "another process is using this run" not in refused[0][0]:
        lost.append(f"{len(refused)} refused, one of two expected")
    lost += runs.differences(runs.newest(folder, experiment), runs.newest(expected, experiment))
    return lost + sorted(runs.files(folder) ^ runs.files(expected))


def score_while_it_trains(expected: Path, number: int) -> tuple[list[str], Mapping[str, int]]:
    """Scores with a run's model again and again while the run trains and writes it.

    Each time the scores must be those of the finished model, or the command be refused in one line.
    """
    folder, lost, counts = runs.empty(expected.parent / f"scored_{number}"), [], {"scored": 0, "refused": 0}
    arguments = ["--input", "../small.csv", "--output", "scores.csv", "--model"]
    ended = runs.do("score", [*arguments, runs.newest(expected, "fraud") / "model"], folder)
    assert ended.code == 0, ended.errors
    wanted = (folder / "scores.csv").read_bytes()
    for words in ([*runs.options("fraud"), "--run-dir", "run"], ["--resume", "run"]):  # a second time
        process = runs.start("fraud", words, folder)
        while process.poll() is None:
            (folder / "scores.csv").unlink(missing_ok=True)
            ended = runs.do("score", [*arguments, "run/model"], folder)
            counts["refused" if ended.code else "scored"] += 1
            if ended.code == 0 and (folder / "scores.csv").read_bytes() != wanted:
                lost.append("other scores")
            if ended.code and (ended.code != 2 or not ended.tidy or (folder / "scores.csv").exists()):
                lost.append(ended.last_words)
        if (ended := runs.finish(process)).code != 0:
            lost.append(ended.last_words)
    return lost + runs.differences(folder / "run", runs.newest(expected, "fraud")), counts


def _summed(found: list[tuple[list[str], Mapping[str, int]]]) -> str:
    totals = {name: sum(counts[name] for _, counts in found) for name in ("scored", "refused")}
    return f"{totals['scored']} times scored, {totals['refused']} times refused in a line"
