"""What the buttons do, as named endpoints for gradio_client, and as tools for MCP clients where `mcp` is installed.

A job belongs to the session of a gradio_client, or to the Hub token that the caller sends as `Authorization: Bearer`.
gradio runs the calls of all MCP clients in one session. Without a token they share its limit of jobs under way, and a
job is reached by its id alone: 64 random bits that only the call that started it returns, and no endpoint lists.
"""

import json
import threading
from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import gradio as gr

from hubmerge.documents import load_mappings
from hubmerge.errors import HubmergeError, RecipeError, TaskError
from hubmerge.evaluate.pictures import MOST_BYTES
from hubmerge.evolve.search import Search
from hubmerge.recipe import Recipe
from hubmerge.stream.findings import Finding

from .forms import tools as asked
from .settings import Settings
from .state import PRODUCT, Owner, Page, made_here, owner_of
from .tabs.answer import STRANGERS_PIXELS, WAITING, reply
from .tabs.drawing import Wish, drawings
from .tabs.drawing import asked as asked_for
from .tabs.evolve import plan_search, submit_search
from .tabs.merge import submit_merge
from .tabs.pick import search as search_hub
from .tabs.publish import known_user, submit_publish
from .tabs.tools import submit_tool
from .visitors.access import Token, read_search, require_hub_ids, require_token, visitor_token
from .visitors.guard import shows_errors
from .work.health import health as look
from .work.job import Job
from .work.turns import Together

if TYPE_CHECKING:
    from hubmerge.evolve.plan import SearchPlan


class Endpoints:
    """The endpoints of a page, a method each; a tool is named as its method, and told of in its docstring."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def _token(self, request: gr.Request, oauth: gr.OAuthToken | None) -> Token:
        return _sent_token(request) or visitor_token(self._page.settings, oauth)

    def _owner(self, request: gr.Request) -> Owner:
        token = _sent_token(request)
        if token is None:
            return owner_of(None, request)
        return owner_of(f"token {token}", request, known_user(self._page, token))

    def search(self, query: str, request: gr.Request, oauth: gr.OAuthToken | None) -> list[str]:
        """Hub IDs of models whose name fits the query.

        Args:
            query: Words of a model's name.
        """
        return _readable(search_hub(query, self._token(request, oauth)), request)

    def plan_merge(self, recipe: str, request: gr.Request, oauth: gr.OAuthToken | None) -> dict[str, Any]:
        """What a merge or a search takes, from headers: bytes, memory, sources with commits, problems, and of a
        merge what is measured, of a search its phases.

        Args:
            recipe: A recipe in mergekit's YAML format, or a search in hubmerge's, which has a task; models are Hub IDs
                as org/name or org/name@revision.
        """
        token = self._token(request, oauth)
        if any("task" in one for one in load_mappings(recipe, "recipe", RecipeError)):
            search = read_search(self._page.settings, recipe)
            return _readable(_told_search(search, plan_search(self._page, search, token)), request)
        checked = require_hub_ids(self._page.settings, Recipe.from_text(recipe))
        made = self._page.settings.limits.plan(checked, token)
        told = {
            "recipe": made.recipe.to_yaml(),
            "sources": {source.name: source.commit for source in made.sources},
            "tensors": len(made.tensors),
            "parameters": made.parameters,
            "fetch_bytes": made.fetch_bytes,
            "output_bytes": made.output_bytes,
            "peak_memory": made.peak_memory,
            "disk_bytes": made.disk_bytes,
            "measured": [one.told for one in made.statistics],
            "problems": _problems(made.findings),
        }
        return _readable(told, request)

    def merge(self, recipe: str, request: gr.Request, oauth: gr.OAuthToken | None) -> str:
        """Starts a merge and returns the job's id for job, cancel, chat and publish. Keep it: no tool lists jobs.

        Args:
            recipe: A recipe in mergekit's YAML format; models are Hub IDs as org/name or org/name@revision.
        """
        return submit_merge(self._page, self._owner(request), recipe, self._token(request, oauth)).id

    def evolve(self, search: str, request: gr.Request, oauth: gr.OAuthToken | None) -> str:
        """Starts a search for a better recipe and returns the job's id for job, cancel, chat and publish. Keep it.

        Args:
            search: A search in hubmerge's YAML format: base_model, models, merge_method, genome, task, searcher.
        """
        spec = read_search(self._page.settings, search)
        return submit_search(self._page, self._owner(request), spec, self._token(request, oauth)).id

    def extract_lora(
        self,
        model: str,
        base: str,
        request: gr.Request,
        oauth: gr.OAuthToken | None,
        rank: int = 16,
        energy: float = 0.0,
    ) -> str:
        """Starts making a LoRA of what a model learnt on top of its base; returns the job's id. Keep it.

        Args:
            model: The Hub ID of the tuned model, as org/name; or the id of a finished job that made one.
            base: The Hub ID of the model that it was tuned from.
            rank: Rank of each module, or the highest with energy; 0 for as high as that takes.
            energy: The share of each change's square to hold, such as 0.9; 0 to go by the rank alone.
        """
        named = self._made(model, request)
        return self._make(asked.extract(self._page.settings, named, base, rank, energy), request, oauth)

    def moe(self, mixture: str, request: gr.Request, oauth: gr.OAuthToken | None) -> str:
        """Starts making a mixture of experts of dense models; returns the job's id. Keep it.

        Args:
            mixture: A mixture in mergekit-moe's YAML format; models are Hub IDs as org/name or org/name@revision.
        """
        return self._make(asked.mixture(self._page.settings, mixture), request, oauth)

    def transplant(self, model: str, tokenizer: str, request: gr.Request, oauth: gr.OAuthToken | None) -> str:
        """Starts giving a model the tokenizer of another; returns the job's id. Keep it.

        Args:
            model: The Hub ID of the model, as org/name; or the id of a finished job that made one.
            tokenizer: The Hub ID of the model whose tokens it is to have.
        """
        named = self._made(model, request)
        return self._make(asked.transplant(self._page.settings, named, tokenizer), request, oauth)

    def gguf(self, model: str, request: gr.Request, oauth: gr.OAuthToken | None, type: str = "Q8_0") -> str:
        """Starts writing a model as one GGUF file for llama.cpp; returns the job's id, for publish. Keep it.

        Args:
            model: The Hub ID of the model, as org/name; or the id of a finished job that made one.
            type: F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1 or Q4_0.
        """
        return self._make(asked.gguf(self._page.settings, self._made(model, request), type), request, oauth)

    def _made(self, model: str, request: gr.Request) -> asked.Named:
        """The model, where it is the id of one of the caller's jobs; else as it is."""
        owner = self._owner(request)
        return made_here(self._page.jobs, owner, self._named(model, owner))

    def _named(self, model: str, owner: Owner) -> str:
        """A model as the page names it, which is given by its name or as the id of one of the owner's jobs."""
        mine = any(known.id == model for known in self._page.jobs.of(owner))
        return PRODUCT + model if mine else model

    def _make(self, wanted: asked.Asked, request: gr.Request, oauth: gr.OAuthToken | None) -> str:
        return submit_tool(self._page, self._owner(request), wanted, self._token(request, oauth)).id

    def job(self, job_id: str, request: gr.Request) -> dict[str, Any]:
        """How far a job is, and its result or error. Its status is queued, running, done, failed, cancelled or lost.

        Args:
            job_id: The id that any of those that start a job returned.
        """
        return _readable(_told(self._page.jobs.get(self._owner(request), job_id)), request)

    def cancel(self, job_id: str, request: gr.Request) -> dict[str, Any]:
        """Stops a job.

        Args:
            job_id: The id that any of those that start a job returned.
        """
        return _readable(_told(self._page.jobs.cancel(self._owner(request), job_id)), request)

    def chat(
        self,
        model: str,
        message: str,
        request: gr.Request,
        oauth: gr.OAuthToken | None,
        system: str = "",
        temperature: float = 0.0,
        max_new_tokens: int = 256,
        picture: str = "",
    ) -> Iterator[str]:
        """The answer of a model to one message.

        Args:
            model: A Hub ID as org/name, or the id of a finished merge or search.
            message: What to say to it.
            system: A system prompt.
            temperature: 0 takes the likeliest token each time.
            max_new_tokens: Tokens of the longest answer.
            picture: What the message is about, for models that see, as a data address: data:image/png;base64,...
        """
        owner = self._owner(request)
        turns = [{"role": "system", "content": system}] if system else []
        said = ""
        person = owner.person or owner
        with self._page.turns.asking(person), _sent_picture(picture, self._page.settings) as file:
            for piece in reply(
                self._page,
                owner,
                self._named(model, owner),
                [*turns, {"role": "user", "content": message}],
                self._token(request, oauth),
                temperature=temperature,
                max_new_tokens=max_new_tokens,
                picture=file,
                turn=Together(lambda: self._page.turns.of(person)),
            ):
                said += piece
                yield said
        yield said  # also where the model ended at once

    def draw(
        self,
        model: str,
        prompt: str,
        request: gr.Request,
        oauth: gr.OAuthToken | None,
        negative: str = "",
        seeds: str = "1",
        steps: int = 20,
        side: int = 0,
    ) -> list[str]:
        """Pictures of one prompt by a model that draws, one a seed, as data addresses of PNG files.

        Args:
            model: A Hub ID as org/name of a pipeline of diffusers, or the id of a finished merge or search.
            prompt: What to draw.
            negative: What the pictures are not to show.
            seeds: Whole numbers, separated by commas.
            steps: Of the pipeline's scheduler.
            side: Pixels of a picture's side; 0 for the pipeline's own.
        """
        owner = self._owner(request)
        named = self._named(model, owner)
        wish = Wish(named, None, " ".join(prompt.split()), negative, seeds, steps, side or None, None, False)
        wanted, token = asked_for(wish, self._page.settings.on_space), self._token(request, oauth)
        *_, (made, told) = drawings(self._page, owner, [named], wanted, token, threading.Event())
        if not made:
            raise HubmergeError(told)
        return _readable([one.address for one in made], request)

    def publish(
        self,
        job_id: str,
        repo_id: str,
        request: gr.Request,
        oauth: gr.OAuthToken | None,
        private: bool = True,
        overwrite: bool = False,
        name_private: bool = False,
    ) -> str:
        """Starts pushing what a finished job made to the Hub; returns the id of the new job.

        Args:
            job_id: The id that merge, evolve, extract_lora, moe, transplant or gguf returned.
            repo_id: The repository as org/name; it is created if it is not there.
            private: Whether a repository created by this is private; a public one is refused unless this is false.
                A public one tells everybody which models it was made of.
            overwrite: Whether to push over what others put into the repository.
            name_private: Whether a public one may tell of models that only you can see; it is refused otherwise.
        """
        token = _sent_token(request) or require_token(self._page.settings, oauth)
        owner = self._owner(request)
        return submit_publish(self._page, owner, PRODUCT + job_id, repo_id, private, token, overwrite, name_private).id

    def health(self, request: gr.Request) -> dict[str, int]:
        """Jobs running and waiting on this server, bytes of memory in use and in all, bytes of disk free."""
        return _readable(asdict(look(self._page.jobs, self._page.settings.folder)), request)


def add_endpoints(page: Page) -> None:
    """Registers the endpoints of the page."""
    made = Endpoints(page)
    gr.api(shows_errors(made.plan_merge, html=False), api_name="plan")
    makes = made.merge, made.evolve, made.extract_lora, made.moe, made.transplant, made.gguf
    for endpoint in (made.search, *makes, made.job, made.cancel, made.publish, made.health):
        gr.api(shows_errors(endpoint, html=False), api_name=endpoint.__name__)
    for asks in (made.chat, made.draw):
        gr.api(shows_errors(asks, html=False), api_name=asks.__name__, concurrency_limit=WAITING, concurrency_id="chat")


def _sent_token(request: gr.Request) -> Token:
    """The Hub token that a program sends with its call."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


@contextmanager
def _sent_picture(address: str, settings: Settings) -> Iterator[Path | None]:
    """The file that a data address holds, while it is needed. Raises `TaskError` for what is no picture's address."""
    if not address:
        yield None
        return
    kind, _, content = address.partition(";base64,")
    most = STRANGERS_PIXELS if settings.on_space else MOST_BYTES
    if (size := len(content) // 4 * 3) > most:
        raise TaskError(f"The picture has {size:,} bytes; at most {most:,} are taken.")
    try:
        held = b64decode(content, validate=True) if kind.startswith("data:image/") else b""
    except ValueError:
        held = b""
    if not held:
        raise TaskError(f"A picture is sent as its data address, data:image/png;base64,..., not {address[:40]!r}.")
    with TemporaryDirectory(prefix="hubmerge-") as folder:
        file = Path(folder) / "sent"
        file.write_bytes(held)
        yield file


def _readable(value: Any, request: gr.Request) -> Any:
    """`value`, as JSON text for an MCP client: gradio would hand that Python's own notation."""
    return json.dumps(value, ensure_ascii=False) if request.headers.get("x-gradio-user") == "mcp" else value


def _told_search(search: Search, made: "SearchPlan") -> dict[str, Any]:
    """A search's plan, under the names of a merge's where it has the same."""
    return {
        "search": search.to_yaml(),
        "sources": {source.name: source.commit for source in made.models},
        "phases": [asdict(phase) for phase in made.phases],
        "fetch_bytes": made.fetch,
        "output_bytes": made.output,
        "peak_memory": made.held.memory,
        "problems": _problems(made.findings),
    }


def _problems(found: Iterable[Finding]) -> list[dict[str, str]]:
    return [{"level": finding.level, "message": finding.message} for finding in found]


def _told(job: Job) -> dict[str, Any]:
    """A job for its owner; folders of this machine stay out."""
    return {
        "id": job.id,
        "kind": job.kind,
        "title": job.title,
        "status": job.status,
        "seconds": round(job.seconds, 1),
        "progress": dict(job.event),
        "error": job.error,
        "result": {name: value for name, value in job.result.items() if name != "folder"},
    }
