"""What pictures are drawn on: matplotlib figures, as PNG files and as SVG that takes the colours of its page."""

import io
import math
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ...markup import clean
from .palette import COLOURS, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = 9.2, 4.3
"""Widths of a picture on a desktop and on a phone, in inches."""

Draw = Callable[[float], "Figure"]
"""Draws a picture of a width in inches."""

_DPI = 150
# Settings of matplotlib are one global table: two pictures at once would put each other's settings back.
_LOCK = threading.RLock()
_VARIABLES = {light: f"var(--{name},{light})" for name, (light, _) in COLOURS.items()}
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, its size in inches, that keeps its labels apart by itself."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    return figure


def png(draw: Draw, title: str = "", width: float = WIDE) -> bytes:
    """The picture on white paper, under its title."""
    with _style("png"):
        figure = _laid_out(draw(width))
        if title:
            # The title comes above the figure and its legend, both kept where they are; the tight box takes it in.
            for made in figure.legends:
                made.set_bbox_to_anchor((0, 0, 1, 1), transform=figure.transFigure)
            figure.text(0.01, 1.02, literal(title), va="bottom", fontsize=11, color=colour("ink"))
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=_DPI, facecolor=colour("paper"), bbox_inches="tight", pad_inches=0.12)
    return picture.getvalue()


def svg(draw: Draw, name: str, label: str, width: float = WIDE) -> str:
    """The picture as an SVG element for an HTML page: colours are variables, and no id meets another picture's.

    `name` is unique in the page; `label` says in words what is to be seen.
    """
    with _style(name):
        picture = io.BytesIO()
        _laid_out(draw(width)).savefig(picture, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(picture.getvalue())
    for metadata in root.findall("{*}metadata"):
        root.remove(metadata)
    referenced = set(_REFERENCE.findall(picture.getvalue().decode()))
    referenced |= {_href(node)[1:] for node in root.iter() if _href(node).startswith("#")}
    for node in root.iter():
        _adopt(node, name, referenced)
    root.attrib.pop("width"), root.attrib.pop("height")
    root.attrib |= {"role": "img", "aria-label": clean(label), "class": "picture"}
    return ElementTree.tostring(root, encoding="unicode")


def _laid_out(figure: "Figure") -> "Figure":
    """The figure with its labels apart for good: left to `savefig`, that costs a drawing more."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
    return figure


def _href(node: ElementTree.Element) -> str:
    return next((value for key, value in node.attrib.items() if key.endswith("href")), "")


def _adopt(node: ElementTree.Element, name: str, referenced: set[str]) -> None:
    """Makes an SVG node one of an HTML page: no namespaces, its own ids, the page's colours."""
    node.tag = node.tag.rpartition("}")[2]
    href = _href(node)
    attributes = {key: value for key, value in node.attrib.items() if not key.startswith("{")}
    if href:
        attributes["href"] = f"#{name}-{href[1:]}" if href.startswith("#") else href
    if (identity := attributes.pop("id", None)) in referenced:
        attributes["id"] = f"{name}-{identity}"
    for key, value in attributes.items():
        attributes[key] = _REFERENCE.sub(rf"url(#{name}-\1)", value)
    if "style" in attributes:
        attributes["style"] = re.sub(r"#[0-9a-f]{6}", lambda m: _VARIABLES.get(m[0], m[0]), attributes["style"])
    node.attrib.clear()
    node.attrib.update(attributes)


@contextmanager
def _style(salt: str) -> Iterator[None]:
    import matplotlib

    settings: dict[Any, Any] = {
        "font.size": 9,
        "font.family": ["DejaVu Sans"],
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "text.color": colour("ink"),
        "axes.labelcolor": colour("soft"),
        "axes.edgecolor": colour("line"),
        "axes.facecolor": "none",
        "xtick.color": colour("line"),
        "ytick.color": colour("line"),
        "xtick.labelcolor": colour("soft"),
        "ytick.labelcolor": colour("soft"),
        "grid.color": colour("line"),
        "legend.frameon": False,
        "legend.labelcolor": colour("ink"),
    }
    with _LOCK, matplotlib.rc_context(settings), warnings.catch_warnings():
        # A name in a script that the PNG's font lacks is drawn as boxes there; the page shows it in the reader's font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def count_along(axes: "Axes") -> None:
    """The x axis counts things: whole numbers alone, also where there is one thing."""
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)


def bare(axes: "Axes", *, grid: str = "") -> None:
    """Takes the frame away but for the bottom; `grid` "x", "y" or "both" draws faint lines."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if grid:
        axes.grid(axis=grid, linewidth=0.7)  # type: ignore[arg-type]
        axes.set_axisbelow(True)


def legend(figure: "Figure", axes: "Axes", columns: int) -> None:
    """The legend of one panel above the whole figure; none where nothing has a label."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=8, handlelength=1.6)


def literal(text: object) -> str:
    """`text` for a figure, where a dollar sign would begin a formula."""
    return " ".join(clean(text).split()).replace("$", r"\$")


def short(text: object, length: int) -> str:
    """At most `length` characters of a name, its middle left out; of an ID that is too long, the name alone.

    >>> short("org/a-rather-long-name", 12)
    'a-rath…-name'
    """
    whole = " ".join(clean(text).split())
    if len(whole) > length:
        whole = whole.rsplit("/", 1)[-1] or whole
    if len(whole) <= length:
        return whole
    tail = (length - 1) // 2
    return f"{whole[: length - 1 - tail]}…{whole[len(whole) - tail :]}"


def is_number(value: object) -> bool:
    """Whether a value of a JSON file is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
