"""What every side of a benchmark does: get ready, say so in one line, then work as much as it is asked to.

Uses the standard library alone, because the peers run without this project's packages. One line of JSON comes first:

    {"name": ..., "left_out": what was done before and is in no figure, "amount": rows or images in a unit of work,
     "parameters": numbers in the model, or null, "peak_bytes": largest resident memory so far}

Then each line of stdin is a number of units, answered with the seconds that they took. A side that waits for its next
line uses no processor.
"""

import json
import os
import resource
import sys
import time


def task(sees_gpu):
    """Reads what to do: the JSON object on the command line.

    Args:
      sees_gpu: tells whether the library has found a GPU. One that has not must not run in its place on a processor.
    """
    todo = json.loads(sys.argv[1])
    if todo["device"] == "gpu" and not sees_gpu():
        raise RuntimeError("sees no GPU")
    return todo


def serve(name, work, amount, left_out, parameters=None):
    """Speaks the protocol on stdin and stdout until stdin ends.

    Args:
      name: of the side, as tables show it.
      work: does so many units of work and returns when all of it is done, on the device too.
      amount: rows, images or steps in a unit.
      left_out: in words, what was done before this call.
      parameters: how many numbers the model has, if there is one.
    """
    # A library's own words on stdout must not be taken for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ready = {"name": name, "left_out": left_out, "amount": amount, "parameters": parameters}
    print(json.dumps({**ready, "peak_bytes": 1024 * kibibytes}), file=answers, flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        work(int(line))
        print(time.perf_counter() - started, file=answers, flush=True)
