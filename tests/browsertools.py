"""A headless Chromium, a person in it, and models to find; for tests of the page."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import HfApi
from playwright import sync_api

PATIENCE = 90
"""Seconds that a person looks for something: reached by what never comes, however busy the machine."""
TRIES = 6
"""How often a person looks for what may be drawn anew under the pointer."""
sync_api.expect.set_options(timeout=1000 * PATIENCE)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


OF_GRADIO = ("huggingface.co", "fonts.googleapis.com")
"""Hosts that gradio itself asks where it takes the process for a Space."""


@contextmanager
def chromium() -> Iterator[sync_api.Browser]:
    """A browser that asks nobody but the pages it is sent to."""
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=[*quiet, "--disable-component-update"]
        )
        yield browser
        browser.close()


def publish_models(api: HfApi, folders: Mapping[str, Path], *, private: bool = False) -> None:
    """Uploads model folders, each with a small card, to the repositories that they are given for."""
    for repo_id, folder in folders.items():
        api.create_repo(repo_id, exist_ok=True, private=private)
        card = f"---\nlicense: apache-2.0\nlibrary_name: transformers\n---\n# {repo_id}\n".encode()
        api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo_id)
        api.upload_folder(folder_path=folder, repo_id=repo_id)


class Visitor:
    """A person at the page: opens tabs, types, waits for what appears; keeps every address the page asked for."""

    def __init__(self, browser, address, *, width=1280, height=900, dark=False):
        scheme = "dark" if dark else "light"
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * PATIENCE)
        self.hosts, self.errors = set(), []
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector("#hm-cards .hm-empty, #hm-cards .hm-card")

    def open(self, tab):
        self.page.get_by_role("tab", name=tab).click()

    def choose(self, box, query, choice):
        field = self.page.locator(f"{box} input")
        field.click()
        field.press_sequentially(query, delay=40)
        # gradio draws new choices in the lines of old ones: the line that was found may be another choice's by now, and
        # hidden, or be drawn twice for a moment; so it is looked for again.
        option = self.page.locator(f'{box} [role=option][aria-label="{choice}"]:visible').first
        for _ in range(TRIES):
            try:
                return option.click(timeout=1000 * PATIENCE / TRIES)
            except sync_api.TimeoutError as exc:
                late = exc
        raise late

    def fill(self, control, value, seen):
        """Sets a number until the recipe has what is to be `seen`."""
        # gradio gives a control that it has just drawn its first value once more, over what is typed by then.
        for _ in range(TRIES):
            control.fill(value)
            control.press("Tab")
            try:
                return self.see("#hm-recipe .cm-content", seen, PATIENCE / TRIES)
            except AssertionError as exc:
                late = exc
        raise late

    def see(self, selector, text, seconds=PATIENCE):
        sync_api.expect(self.page.locator(selector).first).to_contain_text(text, timeout=seconds * 1000)

    def recipe(self):
        return self.page.locator("#hm-recipe .cm-content").inner_text()

    def see_recipe(self, text):
        self.see("#hm-recipe .cm-content", text)

    def photograph(self, name):
        if folder := os.environ.get("HUBMERGE_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.wait_for_timeout(500)
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    def leave(self, of_space=False):
        """Closes the page; `of_space`: it is one that gradio takes for a Space."""
        # Everything the page needs comes from its own server: no font, script or count of visits from elsewhere.
        assert self.hosts <= {"127.0.0.1", None, *(OF_GRADIO if of_space else ())}, self.hosts
        assert self.errors == []
        self.context.close()
