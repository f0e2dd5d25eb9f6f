"""What the PyTorch peers share: the device, the threads, and how losses are compiled and steps taken."""

import time

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def synchronise():
    """Waits for the device, once at the end of the work."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def side_name(how):
    """E.g. "PyTorch 2.13.0, eager, 1 thread"."""
    threads = torch.get_num_threads()
    suffix = "" if DEVICE == "cuda" else f", {threads} thread{'s' if threads > 1 else ''}"
    return f"PyTorch {torch.__version__.partition('+')[0]}, {how}{suffix}"


def compiled(function, how):
    """The function as it is, or compiled. On a GPU that waits for small kernels, CUDA graphs launch them together."""
    if how == "eager":
        return function
    return torch.compile(function, mode="reduce-overhead" if how == "CUDA graphs" else None, dynamic=False)


def mark_step(how):
    """Tells CUDA graphs that the previous step's results are no longer needed."""
    if how == "CUDA graphs":
        torch.compiler.cudagraph_mark_step_begin()


def choose(options, use, work):
    """Leaves in use the option with the fastest `work(1)`; tries each twice, first to warm up."""
    seconds = {}
    for option in options if len(options) > 1 else ():
        use(option)
        for _ in range(2):
            started = time.perf_counter()
            work(1)
            synchronise()
            seconds[option] = time.perf_counter() - started
    use(min(seconds, key=seconds.get) if seconds else options[0])


def use_fastest_threads(work):
    """Uses one thread or all: for a small network, handing over costs more than the second core gains."""
    most = torch.get_num_threads()
    choose([1, most] if DEVICE == "cpu" and most > 1 else [most], torch.set_num_threads, work)
