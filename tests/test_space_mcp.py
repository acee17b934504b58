"""The Space as a program meets it over MCP: the tools, what they answer, and whose a job is."""

import asyncio
import importlib.util
import json
import signal
from dataclasses import replace

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from huggingface_hub import HfApi
from space_server import ended, in_this_process
from starlette.applications import Starlette
from starlette.testclient import TestClient

from space import app
from space.settings import Settings

pytest.importorskip("mcp", reason="the mcp extra is not installed")
from mcp import ClientSession
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

pytestmark = pytest.mark.slow

PUBLIC, PRIVATE = "alice/mcp-public", "alice/mcp-private"
RECIPE = "merge_method: linear\nmodels:\n- {model: MODEL}\n- {model: alice/mcp-public}\n"
TOOLS = {
    "plan_merge": {"recipe": "string"},
    "merge": {"recipe": "string"},
    "evolve": {"search": "string"},
    "extract_lora": {"model": "string", "base": "string", "rank": "integer", "energy": "number"},
    "moe": {"mixture": "string"},
    "transplant": {"model": "string", "tokenizer": "string"},
    "gguf": {"model": "string", "type": "string"},
    "job": {"job_id": "string"},
    "cancel": {"job_id": "string"},
    "chat": {
        "model": "string",
        "message": "string",
        "system": "string",
        "temperature": "number",
        "max_new_tokens": "integer",
        "picture": "string",
    },
    "draw": {
        "model": "string",
        "prompt": "string",
        "negative": "string",
        "seeds": "string",
        "steps": "integer",
        "side": "integer",
    },
    "publish": {"job_id": "string", "repo_id": "string", "private": "boolean"}
    | {"overwrite": "boolean", "name_private": "boolean"},
    "search": {"query": "string"},
    "health": {},
}


PREFIX = "public_page_"
"""What gradio puts before each tool's name on a Space: the Space's."""


class Program:
    """An MCP client that connects anew for each call, as one that keeps nothing but what it was told."""

    def __init__(self, page: str, token: str | None = None) -> None:
        self.url = f"{page}gradio_api/mcp/"
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(self, method: str, *arguments):
        async def asked():
            async with (
                create_mcp_http_client(headers=self.headers) as http,
                streamable_http_client(self.url, http_client=http) as (read, write, _),
                ClientSession(read, write) as session,
            ):
                await session.initialize()
                return await getattr(session, method)(*arguments)

        return asyncio.run(asked())

    def text(self, tool: str, **arguments) -> str:
        """What a tool answers."""
        result = self.ask("call_tool", PREFIX + tool, arguments)
        (content,) = result.content
        assert not result.isError, content.text
        return content.text

    def error(self, tool: str, **arguments) -> str:
        """What a tool says where it does not work."""
        result = self.ask("call_tool", PREFIX + tool, arguments)
        (content,) = result.content
        assert result.isError, content.text
        assert "Traceback" not in content.text
        assert "\n" not in content.text
        return content.text

    def done(self, job: str) -> dict:
        """What `job` tells once the job has ended."""
        return ended(lambda: json.loads(self.text("job", job_id=job)))


@pytest.fixture(scope="module")
def page(public_page, siblings):
    api = HfApi()
    for repo_id, name, private in ((PUBLIC, "math", False), (PRIVATE, "japanese", True)):
        api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(folder_path=siblings[name], repo_id=repo_id)
    with public_page.quietly() as url:
        yield url


@pytest.fixture(scope="module")
def recipe():
    return RECIPE.replace("MODEL", PUBLIC + "@main")


@pytest.fixture(scope="module")
def merged(page, recipe):
    """The id of a finished merge of a client that sends no token."""
    program = Program(page)
    job = program.text("merge", recipe=recipe)
    told = program.done(job)
    assert told["status"] == "done", told
    assert "folder" not in told["result"]
    return job


def test_the_tools_are_the_endpoints_and_no_button(page) -> None:
    tools = {tool.name.removeprefix(PREFIX): tool for tool in Program(page).ask("list_tools").tools}
    tools.pop("_check_login_status", None)  # gradio's own, where there is a login
    assert {
        name: {argument: schema["type"] for argument, schema in tool.inputSchema["properties"].items()}
        for name, tool in tools.items()
    } == TOOLS
    for tool in tools.values():
        assert tool.description
        assert all(schema["description"] for schema in tool.inputSchema["properties"].values())
    assert tools["chat"].inputSchema["required"] == ["model", "message"]


def test_plan_and_search(page, recipe) -> None:
    program = Program(page)
    plan = json.loads(program.text("plan_merge", recipe=recipe))
    assert plan["tensors"] == 29
    assert plan["output_bytes"] > 0
    assert json.loads(program.text("search", query="mcp-p")) == [PUBLIC]


def test_a_job_is_reached_by_its_id_and_chats(page, merged) -> None:
    program = Program(page)
    assert program.done(merged)["id"] == merged
    spoken = program.text("chat", model=merged, message="1", max_new_tokens=4)
    with_hub_id = program.text("chat", model=PUBLIC, message="1", max_new_tokens=4)
    assert spoken == with_hub_id != ""
    assert json.loads(program.text("cancel", job_id=merged))["status"] == "done"


def test_nobody_else_reaches_a_job(page, recipe, merged) -> None:
    alice, bob = Program(page, "hf_alice"), Program(page, "hf_bob")
    hers = alice.text("merge", recipe=recipe)
    assert alice.done(hers)["status"] == "done"
    for stranger, job in ((bob, hers), (Program(page), hers), (bob, merged), (Program(page), "0" * 16)):
        assert "There is no job" in stranger.error("job", job_id=job)
        assert "There is no job" in stranger.error("cancel", job_id=job)
        assert "no such repository" in stranger.error("chat", model=job, message="hello")
    client = Client(page, verbose=False)
    for job in (hers, merged):
        with pytest.raises(AppError, match="no job"):
            client.predict(job, api_name="/job")
    client.close()


def test_a_sent_token_reads_and_publishes_as_its_user(page, merged) -> None:
    alice, stranger = Program(page, "hf_alice"), Program(page)
    private = RECIPE.replace("MODEL", PRIVATE)
    assert "or it is private" in stranger.error("plan_merge", recipe=private)
    assert "or it is private" in Program(page, "hf_bob").error("plan_merge", recipe=private)
    job = alice.text("merge", recipe=private)
    assert alice.done(job)["status"] == "done"
    assert "sign in" in stranger.error("publish", job_id=merged, repo_id="alice/mcp-stolen")
    pushed = alice.text("publish", job_id=job, repo_id="alice/mcp-pushed")
    assert alice.done(pushed)["result"]["repo_id"] == "alice/mcp-pushed"
    assert HfApi().model_info("alice/mcp-pushed").private


def test_bad_input_is_one_sentence(page, siblings) -> None:
    program = Program(page)
    assert "did you mean" in program.error("merge", recipe="merge_methd: linear")
    assert "recipe" in program.error("merge")
    assert "folder of this server" in program.error("chat", model=str(siblings["math"]), message="hello")
    assert "no such repository" in program.error("plan_merge", recipe=RECIPE.replace("MODEL", "alice/none"))


def test_the_page_starts_without_mcp_and_stops(tmp_path, monkeypatch, capsys) -> None:
    in_this_process(monkeypatch, tmp_path)
    find, started, before = importlib.util.find_spec, [], signal.getsignal(signal.SIGTERM)

    def launch(blocks, **settings) -> tuple[Starlette, str, str]:
        started.append((blocks, settings))
        blocks.is_running, blocks.local_url = True, "http://127.0.0.1:7/"
        return Starlette(), "", ""

    def interrupted(seconds: float) -> None:
        signal.raise_signal(signal.SIGTERM)  # as whoever ends a service does

    monkeypatch.setattr(gr.Blocks, "launch", launch)
    monkeypatch.setattr(app, "sleep", interrupted)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, package=None: None if name == "mcp" else find(name, package)
    )
    app.launch()
    [(blocks, settings)] = started
    assert settings["mcp_server"] is False
    assert settings["quiet"] and settings["prevent_thread_lock"]  # gradio's own words are of what cannot be done here
    said = capsys.readouterr().out
    assert said.startswith("hubmerge at http://127.0.0.1:7/; Ctrl-C stops it.\nHub: http")
    assert f"Jobs and models made here: {tmp_path}.\n" in said and said.endswith("\nStopped.\n")
    assert signal.getsignal(signal.SIGTERM) == before
    blocks.max_file_size = settings["max_file_size"]
    assert app.largest_upload(replace(Settings(tmp_path), on_space=True)) < blocks.max_file_size
    client = TestClient(gr.routes.App.create_app(blocks, mcp_server=False))
    for size, status in ((1000, 200), (settings["max_file_size"] + 1, 413)):
        assert client.post("/gradio_api/upload", files={"files": ("x", b"0" * size)}).status_code == status
    assert client.get("/gradio_api/info").status_code == 200
    assert client.post("/gradio_api/mcp/", json={}).status_code in (404, 405)
