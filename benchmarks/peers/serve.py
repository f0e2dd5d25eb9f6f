"""Every side's part of the protocol: get ready, say so in one line, then work on request.

Uses only the standard library, because the peers run without this project's packages. The first line is JSON:

    {"name": ..., "left_out": what was done before and is not measured, "amount": rows or images in a unit of work,
     "parameters": numbers in the model, or null, "peak_bytes": largest resident memory so far}

Then each line of stdin is a number of units, answered with the seconds they took. A waiting side uses no CPU.
"""

import json
import os
import resource
import sys
import time


def task(sees_gpu):
    """Reads the task, a JSON object on the command line; refuses to run a GPU task on a CPU."""
    todo = json.loads(sys.argv[1])
    if todo["device"] == "gpu" and not sees_gpu():
        raise RuntimeError("sees no GPU")
    return todo


def serve(name, work, amount, left_out, parameters=None):
    """Speaks the protocol on stdin and stdout until stdin ends.

    Args:
      name: of the side in tables.
      work: does a number of units and returns once all is done, on the device too.
      amount: rows, images, steps or the like per unit.
      left_out: what was done before this call, in words.
      parameters: of the model, if there is one.
    """
    # A library's own output on stdout must not be taken for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ready = {"name": name, "left_out": left_out, "amount": amount, "parameters": parameters}
    print(json.dumps({**ready, "peak_bytes": 1024 * kibibytes}), file=answers, flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        work(int(line))
        print(time.perf_counter() - started, file=answers, flush=True)
