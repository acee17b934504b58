"""The embedded Hub's pages for people: what they show, and that a card cannot do anything but be read."""

import json
import re
import time
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from localhubtools import USERS, call

from hubmerge.errors import HubError
from hubmerge.localhub import LocalHub
from hubmerge.localhub.people.markdown import render_markdown

CARD = """---
license: mit
tags: [merge]
---
# Merged <b>model</b>

<script>alert(1)</script> and <img src=x onerror=alert(2)>

| task | score |
|------|-------|
| math | 0.52  |

```python
print("<hello>")
```

1. one
2. two

![curve](images/curve%20a.png) ![away](https://elsewhere.example/pixel.png)
[config](config.json) [out](https://elsewhere.example/page) [bad](javascript:alert(3)) [up](../../../secret)
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with LocalHub(tmp_path_factory.mktemp("hub"), {"alice": "hf_alice", "bob": "hf_bob"}) as server:
        api = HfApi(endpoint=server.endpoint, token="hf_alice")
        for name, private in (("alice/card", False), ("alice/hidden", True)):
            api.create_repo(name, private=private)
            files = {
                "README.md": CARD.encode(),
                "config.json": b"{}",
                "images/curve a.png": b"png",
                "x.html": b"<b>x</b>",
            }
            operations = [CommitOperationAdd(path, content) for path, content in files.items()]
            api.create_commit(name, operations, commit_message="<i>first</i>")
        yield server


class Browser:
    """A browser without scripts: keeps cookies, follows redirects."""

    def __init__(self, hub: LocalHub) -> None:
        self.hub = hub
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def open(self, path: str, form: dict[str, str] | None = None, headers: dict[str, str] | None = None):
        """(status, body, headers); a form says where it comes from, as a browser does."""
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        if headers is None:
            headers = {} if form is None else {"Origin": self.hub.endpoint, "Sec-Fetch-Site": "same-origin"}
        request = urllib.request.Request(self.hub.endpoint + path, data, {"Accept": "text/html", **headers})
        try:
            with self.opener.open(request, timeout=120) as answer:
                return answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(), error.headers


def test_the_card_is_shown_and_cannot_act(hub):
    status, page, headers = Browser(hub).open("/alice/card")
    assert status == 200
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;img src=x onerror=alert(2)&gt;" in page
    assert "<h1>Merged &lt;b&gt;model&lt;/b&gt;</h1>" in page
    assert "<td>0.52</td>" in page
    assert "print(&quot;&lt;hello&gt;&quot;)" in page
    assert "<li>two</li>" in page
    assert "license: mit" not in page
    assert "script" not in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_the_card_loads_nothing_from_elsewhere(hub):
    _, page, _ = Browser(hub).open("/alice/card")
    sha = HfApi(endpoint=hub.endpoint, token="hf_alice").model_info("alice/card").sha
    assert re.findall(r'<img[^>]* src="([^"]*)"', page) == [f"/alice/card/resolve/{sha}/images/curve%20a.png"]
    assert "image not loaded" in page
    targets = re.findall(r'<a href="([^"]*)"', page)
    assert f"/alice/card/resolve/{sha}/config.json" in targets
    assert not [target for target in targets if target.startswith("javascript")]
    assert Browser(hub).open(f"/alice/card/resolve/{sha}/images/curve%20a.png")[1] == "png"


def test_an_uploaded_page_is_not_run_as_ours(hub):
    _, body, headers = Browser(hub).open("/alice/card/resolve/main/x.html")
    assert body == "<b>x</b>"
    assert "sandbox" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_front_page_lists_what_one_may_see(hub):
    anonymous, alice, bob = Browser(hub), Browser(hub), Browser(hub)
    for browser, user in ((alice, "alice"), (bob, "bob")):
        status, page, _ = browser.open("/login", {"token": f"hf_{user}", "next": "/"})
        assert (status, "Sign out" in page) == (200, True)
    assert "alice/hidden" in alice.open("/")[1]
    for other in (anonymous, bob):
        _, page, _ = other.open("/")
        assert "alice/card" in page
        assert "alice/hidden" not in page
        assert other.open("/alice/hidden")[0] in (401, 404)
        assert other.open("/alice/hidden/resolve/main/config.json")[0] in (401, 404)
    assert alice.open("/alice/hidden/resolve/main/config.json")[1] == "{}"
    assert "alice/card" not in anonymous.open("/?search=nothing")[1]
    assert "alice/card" in anonymous.open("/alice")[1]
    assert anonymous.open("/nobody")[0] == 404
    assert alice.open("/logout")[0] == 404  # an image in a card could ask for it
    assert "Sign in" in alice.open("/logout", {})[1]


def test_a_forged_cookie_and_a_foreign_next_are_refused(hub):
    for end in ("0" * 64, "9" * 11 + "." + "0" * 64, "9" * 5000 + "." + "0" * 64, "", "."):
        request = urllib.request.Request(hub.endpoint + "/", headers={"Cookie": f"localhub_user=alice.{end}"})
        with urllib.request.urlopen(request) as answer:
            assert "alice/hidden" not in answer.read().decode()
    for elsewhere in ("//elsewhere.example/", "/\\elsewhere.example", "/\t/elsewhere.example", "https://x.example"):
        status, page, _ = Browser(hub).open("/login", {"token": "hf_alice", "next": elsewhere})
        assert (status, "<h1>Models</h1>" in page) == (200, True)
    for wrong in ({"user": "alice"}, {"token": "zoe"}, {"token": ""}):
        assert Browser(hub).open("/login", wrong)[0] == 401


def test_a_cookie_ends_with_its_token_and_its_time(tmp_path, monkeypatch):
    with LocalHub(tmp_path, {"al.ice": "hf_first"}) as server:
        browser = Browser(server)
        assert "Sign out" in browser.open("/login", {"token": "hf_first"})[1]
        assert "Sign out" in browser.open("/")[1]
        now = time.time()
        with monkeypatch.context() as patch:
            patch.setattr("hubmerge.localhub.people.signin.time.time", lambda: now + 8 * 24 * 3600)
            assert "Sign out" not in browser.open("/")[1]
        port = server.port
    with LocalHub(tmp_path, {"al.ice": "hf_second"}, port=port) as server:
        assert "Sign out" not in browser.open("/")[1]


def test_a_page_of_another_site_cannot_use_the_cookie(hub):
    HfApi(endpoint=hub.endpoint, token="hf_alice").create_repo("alice/guarded")
    HfApi(endpoint=hub.endpoint, token="hf_alice").update_repo_settings("alice/guarded", gated="auto")
    browser = Browser(hub)
    browser.open("/login", {"token": "hf_bob"})
    for headers in ({"Origin": "http://127.0.0.1:1"}, {"Sec-Fetch-Site": "cross-site"}, {}):
        assert browser.open("/alice/guarded/ask-access", {}, headers)[0] == 401
    assert browser.open("/alice/guarded/ask-access", {}, {"Origin": hub.endpoint})[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1:0", "127.0.0.1@evil.example", ""]
)
def test_a_host_that_is_not_ours_is_refused(hub, host):
    for path in ("/", "/api/models", "/api/whoami-v2", "/.well-known/openid-configuration"):
        status, headers, body = call(hub, "GET", path, headers={"Host": host})
        assert (status, headers["X-Error-Code"]) == (421, "MisdirectedRequest")
        assert b"Host header" in body


def test_the_names_it_was_started_with(tmp_path):
    with LocalHub(tmp_path, USERS, addresses=["https://hub.lab", "http://hub.lab:8765"]) as server:
        for host, base in (
            ("hub.lab", "https://hub.lab"),
            ("HUB.lab:8765", "http://hub.lab:8765"),
            (f"localhost:{server.port}", f"http://localhost:{server.port}"),
        ):
            _, _, body = call(server, "GET", "/api/whoami-v2", headers={"Host": host})
            assert json.loads(body)["avatarUrl"] == f"{base}/avatars/alice.svg"
        assert call(server, "GET", "/api/whoami-v2", headers={"Host": "hub.lab:1"})[0] == 421


@pytest.mark.parametrize(
    "address", ["hub.lab", "ftp://hub.lab", "http://hub.lab/x", "http://a b/", "http://u:p@hub.lab"]
)
def test_an_address_that_cannot_be_is_refused(tmp_path, address):
    with pytest.raises(HubError, match="address of a local Hub"):
        LocalHub(tmp_path, USERS, addresses=[address])


def test_listening_to_the_network_must_be_meant(tmp_path):
    for host in ("0.0.0.0", "::", "192.0.2.1", "hub.lab"):
        with pytest.raises(HubError, match="open to the network"):
            LocalHub(tmp_path, USERS, host=host)
    LocalHub(tmp_path, USERS, host="0.0.0.0", open_to_network=True)
    for host in ("127.0.0.1", "127.3.2.1", "::1", "localhost"):
        LocalHub(tmp_path, USERS, host=host)


def test_the_cookie_is_no_token(hub):
    browser = Browser(hub)
    browser.open("/login", {"token": "hf_alice"})
    assert browser.open("/api/models/alice/hidden")[0] == 401


def test_files_and_discussions(hub):
    browser = Browser(hub)
    _, page, _ = browser.open("/alice/card/tree/main")
    assert "config.json" in page
    assert 'href="/alice/card/tree/main/images"' in page
    assert "&lt;i&gt;first&lt;/i&gt;" in page
    assert "curve a.png" in browser.open("/alice/card/tree/main/images")[1]
    assert browser.open("/alice/card/tree/nope")[0] == 404
    assert browser.open("/alice/card/blob/main/config.json")[1] == "{}"
    assert browser.open("/alice/card/raw/main/config.json")[1] == "{}"
    api = HfApi(endpoint=hub.endpoint, token="hf_alice")
    made = api.upload_file(
        repo_id="alice/card", path_or_fileobj=b"1", path_in_repo="a.txt", create_pr=True, commit_message="<u>idea</u>"
    )
    status, page, _ = browser.open(made.pr_url.removeprefix(hub.endpoint))
    assert (status, "&lt;u&gt;idea&lt;/u&gt;" in page) == (200, True)
    assert browser.open(made.commit_url.removeprefix(hub.endpoint))[0] == 200


def test_asking_for_access_opens_an_automatic_gate(hub):
    api = HfApi(endpoint=hub.endpoint, token="hf_alice")
    api.create_repo("alice/gated")
    api.upload_file(repo_id="alice/gated", path_or_fileobj=b"{}", path_in_repo="config.json")
    browser = Browser(hub)
    browser.open("/login", {"token": "hf_bob"})
    bob = HfApi(endpoint=hub.endpoint, token="hf_bob")
    for gate, opens in (("manual", False), ("auto", True)):
        api.update_repo_settings("alice/gated", gated=gate)
        assert "Ask for access" in browser.open("/alice/gated")[1]
        browser.open("/alice/gated/ask-access", {})
        assert (browser.open("/alice/gated/resolve/main/config.json")[0] == 200) == opens
    assert bob.file_exists("alice/gated", "config.json")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](b.md)", '<p><a href="/f/b.md" rel="noopener noreferrer nofollow">a</a></p>\n'),
        ("[a](./x/../b%20c.md)", '<p><a href="/f/b%20c.md" rel="noopener noreferrer nofollow">a</a></p>\n'),
        ("[a](#top)", '<p><a href="#top" rel="noopener noreferrer nofollow">a</a></p>\n'),
        ("![a](../b.png)", "<p>[image not loaded: a]</p>\n"),
        ("![<b>](//host/b.png)", "<p>[image not loaded: &lt;b&gt;]</p>\n"),
        ("![a](data:image/png;base64,AA)", "<p>[image not loaded: a]</p>\n"),
        ("a & b < c", "<p>a &amp; b &lt; c</p>\n"),
        ("~~no~~ **yes**", "<p><s>no</s> <strong>yes</strong></p>\n"),
    ],
)
def test_markdown(text, expected):
    assert render_markdown(text, "/f") == expected
