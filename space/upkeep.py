"""What a page lets go of while it runs: models that nobody talks to, old jobs, and memory that is free again."""

import ctypes
import sys
import threading

from .state import Page

EVERY = 15.0
"""Seconds between two rounds."""


def start_upkeep(page: Page) -> None:
    """Does a round every now and then, as long as the process lives."""
    pause = threading.Event()

    def work() -> None:
        while not pause.wait(EVERY):
            round_of(page)

    threading.Thread(target=work, name="hubmerge-upkeep", daemon=True).start()


def round_of(page: Page) -> None:
    """One round."""
    page.jobs.forget_old()
    for shelf in (page.sources, page.loaded, page.drawn):
        shelf.sweep()
    # glibc keeps what is freed, apart for each thread: the jobs and chats of many people would leave some 100 MB of it.
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
