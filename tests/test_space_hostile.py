"""What people should not send to a public page, sent: one sentence comes back, nothing leaks, and the page goes on."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from huggingface_hub import HfApi
from space_server import ended

from hubmerge.errors import TaskError
from space.forms.search import MOST_BYTES, MOST_ROWS, task_of_file

PUBLIC = "alice/hostile-public"
TOKEN = "hf_" + "Secret" * 6
RECIPE = "merge_method: linear\nmodels:\n- {{model: {0!r}}}\n- {{model: alice/hostile-public}}\n"
SEARCH = "models: [{0!r}]\nmerge_method: linear\ngenome: {{genes: {{weight: [0, 2]}}}}\ntask: {1}\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MODELS = {
    "script": "<script>alert(1)</script>/<img src=x onerror=alert(1)>",
    "up": "../../etc/passwd",
    "file": "/etc/passwd",
    "null": "alice/a\\0b",
    "long": "alice/" + "a" * 100_000,
    "url": "http://169.254.169.254/latest/meta-data",
    "token": TOKEN,
    "controls": "alice/\\x1b[2J",
}


@pytest.fixture(scope="module")
def page(public_page, siblings):
    """(address, folder of the page's log and jobs) of a page as a Space serves it."""
    api = HfApi()
    api.create_repo(PUBLIC, exist_ok=True)
    api.upload_folder(folder_path=siblings["math"], repo_id=PUBLIC)
    with public_page.quietly() as url:
        yield url, public_page.work


@pytest.fixture(scope="module")
def client(page):
    client = Client(page[0], verbose=False)
    yield client
    client.close()


def refusal(client: Client, *arguments: object, api_name: str) -> str:
    """What the page says to a call that it must refuse: one short sentence, of ours."""
    with pytest.raises(AppError) as refused:
        client.predict(*arguments, api_name=api_name)
    said = str(refused.value)
    assert len(said) < 2_000 and "\n" not in said.strip(), said[:3_000]
    assert "went wrong inside" not in said and "Traceback" not in said
    return said


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("task", [*MODELS.values(), "{python: 'os.py:system'}"], ids=[*MODELS, "python"])
def test_names_that_are_no_tasks_are_refused(client, task):
    refusal(client, SEARCH.format(PUBLIC, task if task.startswith("{") else json.dumps(task)), api_name="/evolve")
    examples = json.dumps({"name": "task", "examples": {"repo_id": task, "test": task}})
    try:
        job = client.predict(SEARCH.format(PUBLIC, examples), api_name="/evolve")
    except AppError:
        return  # what cannot be a name at all is refused before it is a job
    told = ended(lambda: client.predict(job, api_name="/job"))
    assert told["status"] == "failed" and len(told["error"]) < 2_000, told
    assert "inside hubmerge" not in told["error"], told["error"]


@pytest.mark.parametrize(
    "text",
    [BOMB, "[" * 50_000, "a: " + "x" * 10_000_000, "!!python/object/apply:os.system [id]", "\u0000", ": :\n- -", ""],
    ids=["aliases", "depth", "size", "object", "null", "grammar", "nothing"],
)
def test_yaml_that_is_a_weapon_or_nonsense_is_refused(client, text):
    for api_name in ("/plan", "/merge", "/evolve"):
        refusal(client, text, api_name=api_name)


def test_ten_megabytes_of_prompt_are_refused_before_they_are_tokenised(client):
    long = "w1 " * 3_500_000
    assert "at most 20,000" in refusal(client, PUBLIC, long, api_name="/chat")
    assert "at most 20,000" in refusal(client, PUBLIC, "w1", long, api_name="/chat")
    assert "1 to 4,096 tokens" in refusal(client, PUBLIC, "w1", "", 0.0, 10**9, api_name="/chat")
    assert isinstance(client.predict(PUBLIC, "w1 2 w3", "", 0.0, 4, api_name="/chat"), str)


def test_no_token_that_was_typed_anywhere_is_kept_or_told(client, page):
    recipe = RECIPE.format(PUBLIC) + f"# {TOKEN}\n"
    job = client.predict(recipe, api_name="/merge")
    for arguments, api_name in (
        ((job, TOKEN), "/publish"),
        ((job, f"alice/{TOKEN}"), "/publish"),
        ((RECIPE.format(f"alice/{TOKEN}"),), "/merge"),
        ((RECIPE.format(f"alice/x@{TOKEN}"),), "/merge"),
        ((SEARCH.format(PUBLIC, f"alice/{TOKEN}"),), "/evolve"),
    ):
        refusal(client, *arguments, api_name=api_name)
    client.predict(PUBLIC, TOKEN, TOKEN, 0.0, 4, api_name="/chat")
    address, work = page
    stranger = Client(address, verbose=False)
    assert TOKEN not in str(stranger.predict(TOKEN[:8], api_name="/search"))
    stranger.close()
    holding = [path for path in work.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert not holding


FILES = {
    "picture.csv": (b"\x89PNG\r\n\x1a\n\xff\xfe", "not UTF-8"),
    "null.csv": (b"question,answer\n\x00,1\n", "example|CSV"),
    "cell.csv": (b"question,answer\n" + b"x" * 200_000 + b",1\n", "not CSV that can be read"),
    "columns.csv": (b"a,b\n1,2\n", "`question` and `answer`"),
    "empty.csv": (b"", "at least 12 different examples"),
    "rows.csv": (b"question,answer\n" + b"".join(b"%d,1\n" % n for n in range(MOST_ROWS + 1)), "at most 20,000"),
    "large.jsonl": (b" " * (MOST_BYTES + 1), "larger than 5 MB"),
    "deep.jsonl": (b"[" * 100_000, "line 1: expected"),
    "list.jsonl": (b"[1, 2]\n", "line 1: expected"),
    "words.jsonl": (b"question: what\n", "line 1: expected"),
    "nan.jsonl": (b'{"question": NaN, "answer": 1e999}\n' * 20, "line 1: expected"),
}


@pytest.mark.parametrize(("name", "content", "said"), [(n, *f) for n, f in FILES.items()], ids=FILES)
def test_files_that_hold_no_examples_are_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TaskError, match=said) as refused:
        task_of_file(tmp_path / name, None, 32)
    assert len(str(refused.value)) < 300


def test_an_archive_that_calls_itself_text_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"0" * 1_000_000)
    (tmp_path / "examples.csv").write_bytes(packed.getvalue())
    with pytest.raises(TaskError):
        task_of_file(tmp_path / "examples.csv", None, 32)


def test_markup_in_cards_recipes_and_file_names_is_shown_and_not_run(page, siblings, tmp_path: Path) -> None:
    """In a browser: whatever ran would set window.ran."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from browsertools import CHROMIUM, Visitor, chromium
    from playwright.sync_api import expect

    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    evil = "<img src=x onerror=window.ran=1>"
    api, name = HfApi(), "alice/hostile-card"
    api.create_repo(name, exist_ok=True)
    api.upload_folder(folder_path=siblings["japanese"], repo_id=name)
    card = f"---\nlicense: other\nlicense_name: {json.dumps(evil)}\ntags: [{json.dumps(evil)}]\n---\n# {evil}\n"
    api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=name)
    with chromium() as browser:
        visitor = Visitor(browser, page[0])
        for model in (PUBLIC, name):
            visitor.choose("#hm-models", "hostile", model)
        visitor.page.locator("#hm-models input").press("Escape")
        visitor.see("#hm-cards", "hostile-card")
        visitor.open("Merge")
        # The form says what is wrong with the first three; a method that it does not know, it draws.
        for recipe in (RECIPE.format(evil), evil, f"{evil}: 1", RECIPE.format(PUBLIC).replace("linear", evil)):
            visitor.page.locator("#hm-recipe .cm-content").click()
            visitor.page.keyboard.press("Control+a")
            visitor.page.keyboard.insert_text(recipe)
            visitor.page.locator(".hm-header h1").click()
            if f"merge_method: {evil}" in recipe:
                visitor.see("#hm-picture", evil)
            else:
                expect(visitor.page.locator(".hm-problem[role=status]").first).to_be_visible(timeout=30_000)
        visitor.page.locator("#hm-recipe .cm-content").click()
        visitor.page.keyboard.press("Control+a")
        visitor.page.keyboard.insert_text(f"merge_method: linear\nmodels: [{{model: {name}}}, {{model: {PUBLIC}}}]\n")
        visitor.page.locator(".hm-header h1").click()
        visitor.page.locator("#hm-merge-button").click()
        visitor.see("#hm-merge-job .hm-pill", "done")
        visitor.open("Publish")
        visitor.see("#hm-preview", "linear")
        visitor.open("Evolve")
        (tmp_path / f"{evil.replace('/', '')}.csv").write_text(f"question,answer\n{evil},1\n", encoding="utf-8")
        visitor.page.locator("#hm-own-examples button").first.click()
        visitor.page.locator("#hm-own-examples input[type=file]").set_input_files(next(tmp_path.iterdir()))
        visitor.see("#hm-own-examples", ".csv")
        visitor.page.locator("#hm-evolve-button").click()
        visitor.see(".toast-body, .toast-wrap", "at least 12 different examples")
        assert visitor.page.evaluate("window.ran") is None
        visitor.leave(of_space=True)
