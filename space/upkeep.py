"""What a page lets go of while it runs: models that nobody talks to, downloads or measures again, old jobs, memory."""

import ctypes
import sys
import threading
from itertools import count

import gradio as gr

from .limits import GIGABYTE
from .state import Page
from .work import cache

EVERY = 15.0
"""Seconds between two rounds."""
_TRIMMED_EVERY = 20
"""Rounds between two looks at the disk."""
LOOK = 0.02
"""Seconds that gradio's queue waits, where it is empty, before it looks again."""
_M_ARENA_MAX = -8  # of malloc.h


def start_upkeep(page: Page) -> None:
    """Does a round every now and then, as long as the process lives."""
    pause = threading.Event()

    def work() -> None:
        for number in count():
            if pause.wait(EVERY):
                return
            round_of(page)
            if number % _TRIMMED_EVERY == 0 and page.settings.cache_gb:
                for trim in (cache.trim, cache.trim_statistics):
                    trim(int(page.settings.cache_gb * GIGABYTE))

    threading.Thread(target=work, name="hubmerge-upkeep", daemon=True).start()


def round_of(page: Page) -> None:
    """One round."""
    page.jobs.forget_old()
    for kept in (page.sources, page.loaded, page.drawn, page.studios, page.lookers):
        kept.sweep()
    _glibc("malloc_trim", 0)


def share_memory() -> None:
    """Makes all threads take their memory from two places; called before there are any.

    glibc gives threads up to 8 places a core and keeps in each what is freed there: the jobs and chats of many people
    leave the process some 100 MB larger than what it uses.
    """
    _glibc("mallopt", _M_ARENA_MAX, 2)


def rest(blocks: gr.Blocks) -> None:
    """Lets a page that nobody visits sleep; called after `blocks.queue()`.

    gradio looks into its empty queue a thousand times a second, which keeps a twentieth of a core busy, day and night.
    """
    blocks._queue.sleep_when_free = LOOK


def _glibc(name: str, *numbers: int) -> None:
    """Calls a function that the C library of Linux has and others lack."""
    if sys.platform == "linux" and (function := getattr(ctypes.CDLL(None), name, None)):
        function(*numbers)
