"""The page put together, and served."""

import atexit
import importlib
import importlib.util
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import fields
from time import sleep
from typing import Any

import gradio as gr
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars

from hubmerge.documents import parse_object
from hubmerge.errors import HubmergeError
from hubmerge.evaluate import pictures
from hubmerge.evaluate.studio import Studios
from hubmerge.hub.cache import serve_many
from hubmerge.terminal import clean_output

from .api import add_endpoints
from .downloads import add_downloads
from .forms.search import MOST_BYTES
from .settings import Settings
from .state import PRODUCT, Examples, Page, new_owner_key, owner_of, products
from .tabs.answer import STRANGERS_PIXELS, WAITING
from .tabs.chat import chat_tab
from .tabs.evolve import evolve_tab
from .tabs.merge import merge_tab
from .tabs.panel import watch
from .tabs.pick import pick_tab
from .tabs.publish import publish_tab
from .tabs.tools import tools_tab
from .theme import HEAD, STYLE, html, theme
from .upkeep import rest, share_memory, start_upkeep
from .views.parts import note, render
from .visitors.access import forget_own_token, visitor_token
from .visitors.guard import shows_errors
from .visitors.tables import steady
from .work.health import health
from .work.jobs import Jobs
from .work.runners import runners
from .work.tools import TOOLS
from .work.zero_gpu import QUEUE, ZeroGpu, on_zero_gpu

TICK = 1.0
"""Seconds between two looks at the jobs; nobody looks where no job is under way and all is drawn as it is."""
SESSIONS = 1000
"""Visits that gradio remembers, each a quarter of a megabyte, also after they have ended."""
_SHOWN = ("merge", "evolve", "publish", "tool")
"""The panels of jobs, in the order in which they are watched."""
BEAT = 30.0
"""Seconds between two looks at the machine's health, and at the jobs also where none is known to be under way."""
ENDING = 20.0
"""Seconds that a job has to come to its next report once the page is stopped."""
TITLE = "hubmerge"
TAGLINE = "Merge models of the Hugging Face Hub, evolve the recipe, talk to the result, publish it."

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build(*, examples: dict[str, Any] | None = None, settings: Settings | None = None) -> gr.Blocks:
    """The page as gradio Blocks. `examples` is what it opens with: base_model, models, task, prompts to talk with."""
    return _page(examples, settings).blocks


def _page(examples: dict[str, Any] | None, settings: Settings | None = None) -> Page:
    # gradio touches pyplot around every call once anybody has imported it: half imported by a job, it breaks the call.
    importlib.import_module("matplotlib.pyplot")
    # transformers brings each of its parts when it is first asked for, and half of one to two threads that ask at once.
    transformers = importlib.import_module("transformers")
    for part in ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer", "StoppingCriteriaList", "TextIteratorStreamer"):
        getattr(transformers, part)
    settings = settings or Settings.from_environment()
    forget_own_token(settings)
    serve_many()
    gpu = ZeroGpu.borrow()
    work = runners(settings.limits, gpu)
    jobs = Jobs(
        settings.folder / "jobs",
        work,
        workers=settings.workers,
        active_per_owner=settings.active_jobs,
        keep_seconds=settings.keep_hours * 3600,
        most_minutes=settings.limits.minutes,
        shift_minutes=settings.shift_minutes,
    )
    studios = Studios(settings.limits.memory or 0, settings.on_space or settings.limits.memory is not None)
    # On a Space nobody's token outlives the server: a push waits until its owner is back.
    kinds = tuple(kind for kind in work if kind != "publish" or not settings.on_space)
    jobs.restart_lost(kinds, visitor_token(settings, None))
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, 24 * 3600)) as blocks:
        owner = gr.BrowserState(None, storage_key="hubmerge-owner", secret=settings.secret())
        kept = gr.BrowserState(None, storage_key="hubmerge-recipe", secret=settings.secret())
        timer = gr.Timer(TICK, active=False)
        ready = blocks.load(lambda key: key or new_owner_key(), [owner], [owner], **_QUIET)
        seen = {kind: gr.Textbox("", visible="hidden", elem_id=f"hm-{kind}-seen") for kind in _SHOWN}
        page = Page(settings, jobs, _examples(examples), owner, kept, timer, blocks, ready, seen, gpu, studios=studios)
        html(render("header", title=TITLE, tagline=TAGLINE))
        with gr.Tabs(elem_classes="hm-tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab("1 Pick", id="pick") as tab:
                pick = pick_tab(page, tab)
            with gr.Tab("2 Merge", id="merge"):
                merge = merge_tab(page, pick)
            with gr.Tab("3 Evolve", id="evolve") as tab:
                evolve = evolve_tab(page, pick, tab)
            with gr.Tab("4 Chat", id="chat") as tab:
                chat = chat_tab(page, pick, tab)
            with gr.Tab("5 Publish", id="publish") as tab:
                publish = publish_tab(page, tab)
            with gr.Tab("Tools", id="tools") as tab:
                tools = tools_tab(page, pick, tab)

        refresh = merge.panel.refresh, merge.panel.inputs, merge.panel.outputs
        evolve.made.success(lambda: gr.Tabs(selected="merge"), None, [tabs], **_QUIET).then(*refresh, **_QUIET)
        for panel, kinds in ((merge.panel, ("merge",)), (evolve.panel, ("evolve",)), (tools, TOOLS)):
            for button, place, model in ((panel.chat, "chat", chat.model), (panel.publish, "publish", publish.model)):
                button.click(_go(page, kinds, place), [owner], [tabs, model], **_QUIET)

        def told() -> str:
            """The machine's health."""
            return note(str(health(jobs, settings.folder)), "quiet", tag="p")

        # Not a live region: a figure that moves by itself must not be read out over the work.
        line = html(elem_id="hm-health")
        ready.then(told, None, [line], **_QUIET)
        add_endpoints(page)
        start_upkeep(page)

        beat = gr.Timer(BEAT)
        beat.tick(told, None, [line], **_QUIET)
        watch(page, (merge.panel, evolve.panel, publish.panel, tools), beat)
        for event in blocks.fns.values():  # a program can call each of them, with anything
            if event.fn is not None:
                event.fn = shows_errors(event.fn)
    steady(blocks)
    return page


def launch(*, port: int | None = None, open_browser: bool = False, examples: dict[str, Any] | None = None) -> None:
    """Serves the page until it is stopped; on 127.0.0.1 unless GRADIO_SERVER_NAME says otherwise, as Spaces do.

    `examples` (see `build`) may also come as JSON in HUBMERGE_SPACE_EXAMPLES.
    """
    if examples is None and (text := os.environ.get("HUBMERGE_SPACE_EXAMPLES")):
        hint = "it must be JSON: {base_model, models, task, prompts}"
        examples = parse_object(text, "HUBMERGE_SPACE_EXAMPLES", HubmergeError, hint=hint)
    clean_output()
    disable_progress_bars()  # nobody sees them, and a log has no lines to draw again
    share_memory()
    # After each call gradio makes statistics of the last 10,000 anew, up to 20 ms, also where monitoring is off.
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    page = _page(examples)
    waiting = QUEUE if on_zero_gpu() else None
    page.blocks.queue(default_concurrency_limit=8, max_size=waiting)
    rest(page.blocks)
    app, _, _ = page.blocks.launch(
        server_name=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        server_port=port or None,  # 0 is any free one
        inbrowser=open_browser,
        share=False,
        quiet=True,  # what gradio says of links to share is nothing that can be done here
        prevent_thread_lock=True,
        theme=theme(),
        css_paths=STYLE,
        head=HEAD,
        show_error=True,
        mcp_server=importlib.util.find_spec("mcp") is not None,  # an optional extra
        ssr_mode=False,
        footer_links=["api", "settings"],
        state_session_capacity=SESSIONS,
        max_file_size=largest_upload(page.settings),
        max_threads=2 * WAITING,  # questions that wait hold a thread each
        run_history=False,
        enable_monitoring=False,
    )
    add_downloads(page, app)
    _serve(page)


def largest_upload(settings: Settings) -> int:
    """Bytes of a file that anybody may send: gradio takes each before we see it, and keeps it for a day."""
    # Rows and pictures: of these strangers send a byte a pixel, which is more than a photograph has.
    return max(MOST_BYTES, STRANGERS_PIXELS if settings.on_space else pictures.MOST_BYTES)


def _serve(page: Page) -> None:
    """Says where the page is, and waits until it is interrupted; no job is at work when this returns. Ends the process
    where one still is."""
    for line in _where(page):
        print(line, flush=True)
    # Ended by another program, it ends as by Ctrl-C: what it said would be deleted at the end is.
    here = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if here else None
    try:
        while page.blocks.is_running:
            sleep(0.1)
    except KeyboardInterrupt:
        if page.jobs.counts()["running"]:
            print("\nStopping what is at work ...", flush=True)
    finally:
        page.jobs.close()
        for studios in (page.studios, page.lookers):
            studios.sweep(idle=0)
        page.blocks.close(verbose=False)
        ended = page.jobs.wait(ENDING)
        if here:
            signal.signal(signal.SIGTERM, before)
    print("Stopped.", flush=True)
    if not ended:
        # A thread that is inside torch when Python ends takes the process down with a cry; its work goes on next time.
        atexit._run_exitfuncs()
        os._exit(0)


def _where(page: Page) -> list[str]:
    """Where the page is, on which Hub and with whose rights, and where its files are."""
    settings = page.settings
    lines = [f"hubmerge at {page.blocks.local_url}; Ctrl-C stops it."]
    if not settings.on_space:
        whose = "the token of this machine" if visitor_token(settings, None) else "no token"
        lines.append(f"Hub: {constants.ENDPOINT}, with {whose}.")
        kept = "" if os.environ.get("HUBMERGE_SPACE_DIR") else ", deleted at the end (HUBMERGE_SPACE_DIR keeps them)"
        lines.append(f"Jobs and models made here: {settings.folder}{kept}.")
    return lines


def _go(page: Page, kinds: Sequence[str], place: str) -> Callable[..., Any]:
    """A handler that opens the tab `place` on the newest finished model of these kinds."""

    def go(key: str | None, request: gr.Request) -> tuple[gr.Tabs, gr.Dropdown]:
        listed = products(page.jobs, owner_of(key, request), answering=place == "chat")
        newest = next((f"{PRODUCT}{job.id}" for job in page.jobs.of(owner_of(key, request), *kinds)), None)
        return gr.Tabs(selected=place), gr.Dropdown(choices=listed, value=newest)

    return go


def _examples(given: dict[str, Any] | None) -> Examples:
    given = dict(given or {})
    known = [item.name for item in fields(Examples)]
    if unknown := sorted(set(given) - set(known)):
        raise HubmergeError(f"Unknown example {unknown[0]!r}; known: {', '.join(known)}.")
    lists = {name: tuple(given.get(name) or ()) for name in ("models", "prompts")}
    return Examples(given.get("base_model"), task=given.get("task"), **lists)
