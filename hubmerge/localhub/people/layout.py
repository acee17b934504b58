"""The frame of the pages for people: one HTML document that loads nothing from anywhere else."""

from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

TOKEN_FIELD = (
    "<label>Your token <input type='password' name='token' required autofocus autocomplete='current-password'></label>"
)
"""Where a form asks who somebody is: this Hub has no passwords but the tokens it was started with."""

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "form-action 'self'{}; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #8881; --accent: light-dark(#1a56c4, #8ab4ff); }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; margin: 0; }
header { border-bottom: 1px solid var(--line); padding: .7rem 1rem; display: flex; gap: 1.2rem; flex-wrap: wrap; }
header span { margin-left: auto; } header form { display: inline; }
main { max-width: 58rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
h1 { font-size: 1.5rem; line-height: 1.25; }
table { border-collapse: collapse; display: block; overflow-x: auto; max-width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .8rem .35rem 0; text-align: left; vertical-align: top; }
pre, code { font-family: ui-monospace, monospace; font-size: .9em; background: var(--faint); border-radius: 4px; }
code { padding: .1em .3em; } pre { padding: .8rem; overflow-x: auto; } pre code { background: none; padding: 0; }
img { max-width: 100%; }
blockquote { margin: 1rem 0; padding-left: 1rem; border-left: 3px solid var(--line); }
.tag { display: inline-block; border: 1px solid var(--line); border-radius: 1rem; padding: 0 .6rem; font-size: .82rem;
  margin: .1rem .2rem .1rem 0; }
.faint { opacity: .75; font-size: .9rem; }
.button { display: inline-block; border: 1px solid var(--accent); border-radius: 6px; padding: .4rem .9rem;
  margin: .2rem 0; }
input, button { font: inherit; padding: .35rem .7rem; border: 1px solid var(--line); border-radius: 6px; }
"""


def page(request: Request, title: str, body: str, status: int = 200, sent_on_to: str = "") -> Response:
    """A document with this title (text) and body (HTML, already escaped).

    Args:
        sent_on_to: the origin to which the answer to its form sends the browser, where that is another one.
    """
    identity = request.scope.get("identity")
    out = "<form method='post' action='/logout'><button>Sign out</button></form>"
    who = f"{escape(identity.user)} {out}" if identity else "<a href='/login'>Sign in</a>"
    places = {"Models": "/models", "Datasets": "/datasets", "Spaces": "/spaces"}
    links = "<a href='/'><b>Local Hub</b></a>" + "".join(f"<a href='{url}'>{name}</a>" for name, url in places.items())
    return HTMLResponse(
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'><title>{escape(title)}</title>"
        f"<link rel='icon' href='data:,'><style>{_STYLE}</style></head>"
        f"<body><header>{links}<span>{who}</span></header><main>{body}</main></body></html>",
        status,
        {**_HEADERS, "Content-Security-Policy": _POLICY.format(sent_on_to and f" {sent_on_to}")},
    )
