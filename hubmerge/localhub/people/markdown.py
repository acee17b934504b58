"""Cards as HTML: CommonMark with tables, everything else escaped, nothing loaded from other hosts."""

import posixpath
from urllib.parse import quote, unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token


def render_markdown(text: str, files: str) -> str:
    """Render a card's Markdown.

    HTML inside it is shown as text. Images and links that are relative are files of the same repository; images of
    other hosts become plain text, so that looking at a card tells nobody that somebody looked.

    Args:
        files: the URL path below which the repository's files are served, without a slash at the end.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    tokens = parser.parse(text)
    for block in tokens:
        for token in block.children or []:
            _localise(token, files)
    rendered: str = parser.renderer.render(tokens, parser.options, {})
    return rendered


def _localise(token: Token, files: str) -> None:
    if token.type == "image":
        source = _inside(str(token.attrs.get("src", "")), files)
        if source is None:
            token.content = f"[image not loaded: {token.content or token.attrs.get('src')}]"
            token.type, token.tag, token.children = "text", "", None
        else:
            token.attrs["src"] = source
    elif token.type == "link_open":
        target = str(token.attrs.get("href", ""))
        token.attrs["href"] = _inside(target, files) or target
        token.attrs["rel"] = "noopener noreferrer nofollow"


def _inside(url: str, files: str) -> str | None:
    """The address of a file of the same repository; None for any other URL."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc or not parts.path or parts.path.startswith("/"):
        return None
    path = posixpath.normpath(unquote(parts.path))
    return None if path.startswith("..") else f"{files}/{quote(path)}"
