"""What the buttons do, as named endpoints for gradio_client. A job belongs to the session of the client."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from hubmerge.recipe import Recipe

from .access import read_search, require_hub_ids, require_token, visitor_token
from .chat import reply
from .evolve import submit_search
from .guard import shows_errors
from .jobs import Job
from .merge import submit_merge
from .pick import search as search_hub
from .plan_view import plan_of
from .publish import submit_publish
from .state import PRODUCT, Page, owner_of


def add_endpoints(page: Page) -> None:
    """Registers the endpoints /search, /plan, /merge, /evolve, /job, /cancel, /chat and /publish."""

    def search(query: str, oauth: gr.OAuthToken | None) -> list[str]:
        """Hub IDs of models whose name fits the query."""
        return search_hub(query, visitor_token(page.settings, oauth))

    def plan(recipe: str, oauth: gr.OAuthToken | None) -> dict[str, Any]:
        """What merging a recipe (YAML) takes, from headers alone: sizes in bytes, sources with commits, problems."""
        made = plan_of(require_hub_ids(page.settings, Recipe.from_yaml(recipe)), visitor_token(page.settings, oauth))
        return {
            "recipe": made.recipe.to_yaml(),
            "sources": {source.name: source.commit for source in made.sources},
            "tensors": len(made.tensors),
            "parameters": made.parameters,
            "fetch_bytes": made.fetch_bytes,
            "output_bytes": made.output_bytes,
            "peak_memory": made.peak_memory,
            "disk_bytes": made.disk_bytes,
            "problems": [{"level": problem.level, "message": problem.message} for problem in made.problems],
        }

    def merge(recipe: str, request: gr.Request, oauth: gr.OAuthToken | None) -> str:
        """Starts merging a recipe (YAML); returns the job's id for /job, /cancel, /chat and /publish."""
        return submit_merge(page, owner_of(None, request), recipe, visitor_token(page.settings, oauth)).id

    def evolve(search: str, request: gr.Request, oauth: gr.OAuthToken | None) -> str:
        """Starts a search (YAML); returns the job's id."""
        spec = read_search(page.settings, search)
        return submit_search(page, owner_of(None, request), spec, visitor_token(page.settings, oauth)).id

    def job(job_id: str, request: gr.Request) -> dict[str, Any]:
        """How far a job is, and its result or error."""
        return _told(page.jobs.get(owner_of(None, request), job_id))

    def cancel(job_id: str, request: gr.Request) -> dict[str, Any]:
        """Stops a job."""
        return _told(page.jobs.cancel(owner_of(None, request), job_id))

    def chat(
        model: str,
        message: str,
        request: gr.Request,
        oauth: gr.OAuthToken | None,
        system: str = "",
        temperature: float = 0.0,
        max_new_tokens: int = 256,
    ) -> Iterator[str]:
        """The answer of a Hub ID or a finished job's id to one message, growing piece by piece."""
        owner = owner_of(None, request)
        mine = any(known.id == model for known in page.jobs.of(owner))
        turns = [{"role": "system", "content": system}] if system else []
        said = ""
        for piece in reply(
            page,
            owner,
            PRODUCT + model if mine else model,
            [*turns, {"role": "user", "content": message}],
            visitor_token(page.settings, oauth),
            temperature=temperature,
            max_new_tokens=max_new_tokens,
        ):
            said += piece
            yield said
        yield said  # also where the model ended at once

    def publish(
        job_id: str, repo_id: str, request: gr.Request, oauth: gr.OAuthToken | None, private: bool = True
    ) -> str:
        """Starts pushing a finished job's model to a repository; returns the id of the new job."""
        token = require_token(page.settings, oauth)
        return submit_publish(page, owner_of(None, request), PRODUCT + job_id, repo_id, private, token).id

    for endpoint in (search, plan, merge, evolve, job, cancel, publish):
        gr.api(shows_errors(endpoint, html=False), api_name=endpoint.__name__)
    gr.api(shows_errors(chat, html=False), api_name="chat", concurrency_limit=2, concurrency_id="chat")


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
