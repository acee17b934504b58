"""The part of the Hub's package `spaces` that ZeroGPU shows: a call runs in a forked process, pickled in and out.

Calls are noted in the file FAKE_SPACES_LOG, one JSON line each. As there, only gradio's errors keep their text.
"""

import functools
import json
import multiprocessing
import os

import gradio as gr

_fork = multiprocessing.get_context("fork")


def GPU(task, duration):
    """Decorates a generator function."""
    _note(declared=task.__name__, duration=duration)

    @functools.wraps(task)
    def called(*args):
        _note(called=task.__name__, parent=os.getpid())
        outcomes, stop = _fork.Queue(), _fork.Event()
        process = _fork.Process(target=_run, args=(task, args, outcomes, stop), daemon=True)
        process.start()
        try:
            while (outcome := outcomes.get(timeout=60)) is not None:
                if isinstance(outcome, gr.Error):
                    raise outcome
                yield outcome[0]
        finally:
            stop.set()
            process.join(20)
            assert process.exitcode == 0

    return called


def gradio_auto_wrap(task):
    """What gradio calls on every handler where the package is there."""
    return task


def _run(task, args, outcomes, stop):
    items = task(*args)
    try:
        for item in items:
            if stop.is_set():
                items.close()
                break
            outcomes.put((item,))
    except gr.Error as error:
        outcomes.put(error)
    except Exception as error:
        outcomes.put(gr.Error(type(error).__name__))
    outcomes.put(None)
    outcomes.cancel_join_thread() if stop.is_set() else outcomes.close()


def _note(**what):
    with open(os.environ["FAKE_SPACES_LOG"], "a") as log:
        log.write(json.dumps(what) + "\n")
