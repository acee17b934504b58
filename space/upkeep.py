"""What a page lets go of while it runs: models that nobody talks to, old jobs, and memory that is free again."""

import ctypes
import gc
import sys
import threading

from .state import Page

EVERY = 15.0
"""Seconds between two rounds."""


def start_upkeep(page: Page) -> None:
    """Does a round every now and then, as long as the process lives."""
    pause, known = threading.Event(), [0]

    def work() -> None:
        while not pause.wait(EVERY):
            ended = page.jobs.ended
            round_of(page, collect=ended != known[0])
            known[0] = ended

    threading.Thread(target=work, name="hubmerge-upkeep", daemon=True).start()


def round_of(page: Page, *, collect: bool) -> None:
    """One round; `collect` looks for unreachable objects too, as jobs leave them, which stops the page for a moment."""
    page.jobs.forget_old()
    swept = sum([shelf.sweep() for shelf in (page.sources, page.loaded, page.drawn)])
    if collect or swept:
        gc.collect()
    # Threads share what malloc keeps for each of them badly: without this, jobs and chats of many people leave the
    # process some 100 MB larger than what it uses.
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):  # glibc's alone
        trim(0)
