"""What the terminal draws, as a picture that stands for itself, whatever it is of."""

import xml.etree.ElementTree as ElementTree
from functools import partial
from pathlib import Path

from hubtools import checkpoint, publish

from hubmerge.drawn import drawn
from hubmerge.lineage.tree import Node, Parent, Tree
from hubmerge.terminal import show_tree

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "a/{x}</text><script>&\x1b[31m\u202e"


def words(svg: str) -> tuple[str, str, str]:
    """The title, the description, and all that is drawn, of SVG that a parser takes."""
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img" and root.get("aria-labelledby") == "t d"
    assert not [one for one in root.iter() if one.tag in (f"{SVG}script", f"{SVG}image", f"{SVG}a")]
    assert "url(http" not in svg and "@font-face" not in svg and "href" not in svg
    title, told = (root.find(f"{SVG}{name}") for name in ("title", "desc"))
    assert title is not None and told is not None
    text = " ".join("".join(one.itertext()) for one in root.iter(f"{SVG}text")).replace("\u00a0", " ")
    return title.text or "", told.text or "", text


def test_names_of_strangers_are_text() -> None:
    parent = Parent("org/base", "finetune", "card", 0.98)
    tree = Tree((EVIL,), {EVIL: Node(EVIL, (parent,)), "org/base": Node("org/base")})
    svg = drawn(partial(show_tree, tree), f"What {EVIL} comes from".replace("\x1b", ""))
    title, told, text = words(svg)
    assert "{x}</text><script>" in title
    for said in (told, text):
        assert "a/{x}</text><script>&" in said and "org/base" in said and "0.980 alike" in said
        assert "\\x1b[31m" in said and "\u202e" not in said
    assert drawn(partial(show_tree, tree), "x") == drawn(partial(show_tree, tree), "x")


def test_a_tree_into_a_file(call, hub, tmp_path: Path) -> None:
    publish("alice/drawn-base", checkpoint())
    publish("alice/drawn-tuned", checkpoint(seed=1, front_matter="base_model: alice/drawn-base"))
    file = tmp_path / "pictures" / "tree.svg"
    done = call("tree", "alice/drawn-tuned", "--cards-only", "--svg", file)
    assert done.returncode == 0 and "alice/drawn-base" in done.stdout
    title, told, _ = words(file.read_text(encoding="utf-8"))
    assert call("tree", "alice/drawn-tuned", "--cards-only", "--svg", file).returncode == 0, "its own is replaced"
    (tmp_path / "folder.svg").mkdir()
    (tmp_path / "notes.svg").write_text("mine")
    for other in (tmp_path / "notes.svg", tmp_path / "folder.svg"):
        refused = call("tree", "alice/drawn-tuned", "--cards-only", "--svg", other)
        assert refused.returncode == 2 and "is there already" in refused.stderr
    assert (tmp_path / "notes.svg").read_text() == "mine"
    for other in ("t.png", "t", ".", "svg/"):
        refused = call("tree", "alice/drawn-tuned", "--svg", tmp_path / other)
        assert refused.returncode == 2 and "would hold SVG, which its name does not say" in refused.stderr
    assert not (tmp_path / "t.png").exists()
    assert title == "What alice/drawn-tuned comes from"
    assert [line.strip() for line in told.splitlines()] == [line.strip() for line in done.stdout.rstrip().splitlines()]
