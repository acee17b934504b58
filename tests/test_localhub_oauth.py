"""Signing in through the embedded Hub: gradio's own login, and each rule of the code flow."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from hubmerge.localhub import LocalHub

pytest.importorskip("joserfc", reason="the extra 'oauth' is not installed")
from joserfc import jwk, jwt

BACK = "http://127.0.0.1:7860/login/callback?_target_url=%2F"
SCOPE = "openid profile contribute-repos"


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments):
        return None


def fetch(url: str, form: dict | None = None, headers: dict | None = None):
    """(status, headers, body) without following redirects."""
    data = urllib.parse.urlencode(form).encode() if form is not None else None
    try:
        answer = urllib.request.build_opener(_Stay).open(urllib.request.Request(url, data, headers or {}), timeout=120)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers, answer.read().decode()


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with LocalHub(tmp_path_factory.mktemp("hub"), {"alice": "hf_alice", "bob": "hf_bob"}) as server:
        yield server


ASKED = {
    "client_id": "app",
    "redirect_uri": BACK,
    "response_type": "code",
    "scope": SCOPE,
    "state": "st",
    "nonce": "no",
}


def ask(hub, **changes: str):
    return fetch(f"{hub.endpoint}/oauth/authorize?{urllib.parse.urlencode({**ASKED, **changes})}")


def let_in(hub, token: str = "hf_alice", headers: dict | None = None, **changes: str):
    return fetch(f"{hub.endpoint}/oauth/authorize", {**ASKED, **changes, "token": token}, headers)


def code_from(hub, **changes: str) -> str:
    status, headers, _ = let_in(hub, **changes)
    assert status == 303
    target = urllib.parse.urlsplit(headers["Location"])
    assert headers["Location"].startswith(BACK + "&")
    returned = dict(urllib.parse.parse_qsl(target.query))
    assert (returned["state"], returned["_target_url"]) == ("st", "/")
    return returned["code"]


def exchange(hub, code: str, **changes: str):
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "client_id": "app", **changes}
    status, _, body = fetch(f"{hub.endpoint}/oauth/token", form)
    return status, json.loads(body)


def test_a_code_becomes_a_token_and_a_signed_identity(hub):
    status, answer = exchange(hub, code_from(hub))
    assert status == 200
    assert (answer["token_type"], answer["scope"]) == ("bearer", SCOPE)
    configuration = json.loads(fetch(f"{hub.endpoint}/.well-known/openid-configuration")[2])
    keys = jwk.KeySet.import_key_set(json.loads(fetch(configuration["jwks_uri"])[2]))
    claims = jwt.decode(answer["id_token"], keys, algorithms=["RS256"]).claims
    assert (claims["iss"], claims["aud"], claims["nonce"]) == (hub.endpoint, "app", "no")
    assert claims["preferred_username"] == "alice"
    assert not any(name in configuration for name in ("d", "p", "q"))
    api = HfApi(endpoint=hub.endpoint, token=answer["access_token"])
    assert api.whoami()["name"] == "alice"
    headers = {"Authorization": f"Bearer {answer['access_token']}"}
    assert json.loads(fetch(configuration["userinfo_endpoint"], headers=headers)[2])["name"] == "alice"
    assert answer["access_token"] not in (hub.root / "requests.jsonl").read_text()


def test_the_token_does_what_its_scopes_say(hub):
    HfApi(endpoint=hub.endpoint, token="hf_alice").create_repo("alice/older")
    api = HfApi(endpoint=hub.endpoint, token=exchange(hub, code_from(hub))[1]["access_token"])
    api.create_repo("alice/by-the-app", private=True)
    api.upload_file(repo_id="alice/by-the-app", path_or_fileobj=b"1", path_in_repo="a.bin")
    for action in (
        lambda: api.upload_file(repo_id="alice/older", path_or_fileobj=b"1", path_in_repo="a.txt"),
        lambda: api.delete_repo("alice/older"),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            action()
        assert refused.value.response.status_code == 403


def test_a_code_works_once_for_its_own_client_and_address(hub):
    code = code_from(hub)
    for changes in ({"redirect_uri": BACK + "x"}, {"client_id": "other"}, {"grant_type": "password"}):
        status, answer = exchange(hub, code_from(hub), **changes)
        assert (status, answer["error"] in ("invalid_grant", "unsupported_grant_type")) == (400, True)
    assert exchange(hub, code)[0] == 200
    assert exchange(hub, code)[0] == 400


def test_pkce(hub):
    verifier = "v" * 50
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    pkce = {"code_challenge": challenge, "code_challenge_method": "S256"}
    assert exchange(hub, code_from(hub, **pkce), code_verifier=verifier)[0] == 200
    assert exchange(hub, code_from(hub, **pkce), code_verifier="w" * 50)[0] == 400
    assert exchange(hub, code_from(hub, **pkce))[0] == 400
    assert let_in(hub, code_challenge=challenge, code_challenge_method="plain")[0] == 400


@pytest.mark.parametrize(
    "address",
    [
        "https://elsewhere.example/x",
        "javascript:alert(1)",
        "",
        "http://127.0.0.1.evil.example/",
        "http://127.0.0.1@evil.example/",
        "http://evil.example\\@127.0.0.1/",
        "http://alice:hf_alice@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1/#x",
        "http://127.0.0.1/\r\nSet-Cookie: a=b",
        "http://[::1/",
        "//127.0.0.1/",
        "http://127.0.0.1/" + "x" * 2000,
    ],
)
def test_codes_do_not_leave_this_machine(hub, address):
    for status, headers, _ in (ask(hub, redirect_uri=address), let_in(hub, redirect_uri=address)):
        assert status == 400
        assert "Location" not in headers


def test_a_registered_application_is_sent_where_it_registered_and_nowhere_else(tmp_path):
    mine = "https://merge.example/login/callback"
    with LocalHub(tmp_path, {"alice": "hf_alice"}, applications={"mine": [mine]}) as server:
        status, headers, _ = let_in(server, client_id="mine", redirect_uri=f"{mine}?_target_url=%2F")
        assert (status, headers["Location"].startswith(f"{mine}?_target_url=%2F&code=")) == (303, True)
        for address in (BACK, "https://merge.example/other", "http://merge.example/login/callback", f"{mine}/x"):
            assert let_in(server, client_id="mine", redirect_uri=address)[0] == 400
        assert let_in(server, client_id="other", redirect_uri=mine)[0] == 400


def test_nobody_is_let_in_without_a_token_of_their_own(hub):
    status, headers, page = ask(hub)
    assert status == 200
    assert 'name="token"' in page
    assert "create repositories, and change those it created" in page
    assert "form-action 'self' http://127.0.0.1:7860;" in headers["Content-Security-Policy"]
    assert "<script>" not in ask(hub, client_id="<script>")[2]
    # Neither a name in the query, nor the cookie of a page that is signed in, nor another's token.
    cookie = fetch(f"{hub.endpoint}/login", {"token": "hf_alice"})[1]["Set-Cookie"].partition(";")[0]
    from_page = {"Cookie": cookie, "Origin": hub.endpoint}
    granted = exchange(hub, code_from(hub))[1]["access_token"]
    assert ask(hub, user="alice")[0] == 200
    for token in ("", "alice", "hf_wrong", granted):
        for sent in ({}, from_page):
            status, headers, _ = let_in(hub, token, sent, user="alice", scope="manage-repos")
            assert (status, headers["Location"]) == (401, None)


def test_another_site_cannot_send_the_form(hub):
    for sent in ({"Origin": "http://127.0.0.1:7860"}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"}):
        for status, headers, _ in (
            let_in(hub, headers=sent),
            fetch(f"{hub.endpoint}/login", {"token": "hf_alice"}, sent),
            fetch(f"{hub.endpoint}/logout", {}, sent),
        ):
            assert (status, headers["Location"], headers["Set-Cookie"]) == (403, None, None)
    assert let_in(hub, headers={"Origin": hub.endpoint, "Sec-Fetch-Site": "same-origin"})[0] == 303


def test_without_the_extra_the_answer_says_what_to_install(tmp_path):
    script = (
        "import sys, urllib.request, urllib.error\nsys.modules['joserfc'] = sys.modules['joserfc.jwk'] = None\n"
        "from hubmerge.localhub import LocalHub\n"
        "with LocalHub(sys.argv[1], {'alice': 'hf_alice'}) as hub:\n"
        "    try:\n"
        "        urllib.request.urlopen(hub.endpoint + '/.well-known/openid-configuration')\n"
        "    except urllib.error.HTTPError as error:\n"
        "        print(error.code, error.read().decode())\n"
        "    print(urllib.request.urlopen(hub.endpoint + '/api/models').status)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0].startswith("501")
    assert "hubmerge[oauth]" in lines[0]
    assert lines[1] == "200"


GRADIO = """
from urllib.parse import parse_qsl
import httpx
import gradio as gr
from huggingface_hub import HfApi
from starlette.testclient import TestClient

def who(text, profile: gr.OAuthProfile | None, token: gr.OAuthToken | None):
    return f"{profile.username} {HfApi().whoami(token.token)['name']}" if profile else "nobody"

with gr.Blocks() as demo:
    gr.LoginButton()
    box = gr.Textbox()
    gr.Button().click(who, [box], [box], api_name="who", queue=False)
client = TestClient(demo.queue().app, base_url="https://127.0.0.1")
call = lambda: client.post("/gradio_api/run/who", json={"data": ["x"]}).json()["data"][0]
print(call())
page, _, asked = client.get("/login/huggingface", follow_redirects=False).headers["location"].partition("?")
back = httpx.post(page, data={**dict(parse_qsl(asked)), "token": "hf_bob"}).headers["location"]
client.get(back, follow_redirects=False)
print(call())
"""


@pytest.mark.thorough  # tests/test_space_login.py does it in a browser
def test_gradio_signs_in(hub, tmp_path):
    """gradio's own OAuth code, as in a Space, against this Hub."""
    pytest.importorskip("authlib", reason="the extra 'oauth' is not installed")
    pytest.importorskip("gradio")
    environment = {
        **os.environ,
        **hub.environment(None),
        "HF_HOME": str(tmp_path),
        "SYSTEM": "spaces",
        "SPACE_ID": "alice/demo",
        "OAUTH_CLIENT_ID": "demo",
        "OAUTH_CLIENT_SECRET": "a-secret-that-is-long-enough-to-sign-with",
        "OAUTH_SCOPES": SCOPE,
        "OPENID_PROVIDER_URL": hub.endpoint,
        "GRADIO_ANALYTICS_ENABLED": "0",
    }
    command = [sys.executable, "-W", "ignore", "-c", GRADIO]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split("\n")[:2] == ["nobody", "bob bob"], done.stdout + done.stderr
