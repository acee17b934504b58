"""The report's colours, each for a light and for a dark page.

Pictures are drawn with the light ones; in the HTML every one of them is a CSS variable, so one picture serves both.
"""

from collections.abc import Sequence

COLOURS = {
    "paper": ("#ffffff", "#14181d"),
    "ink": ("#1f2933", "#e6eaef"),
    "soft": ("#616e7c", "#9aa7b5"),
    "line": ("#dfe4ea", "#2c353f"),
    "panel": ("#f6f8fa", "#1b2128"),
    "accent": ("#d9480f", "#ff8f57"),
    "dots": ("#e8a77c", "#9a6544"),
    "fail": ("#c92a2a", "#ff7b7b"),
    "plus": ("#2563eb", "#5b8ff5"),
    "minus": ("#d6336c", "#f0689a"),
    "model0": ("#3b6fd4", "#7ba4f7"),
    "model1": ("#0d9373", "#37c49c"),
    "model2": ("#9046c8", "#bf8df0"),
    "model3": ("#b87503", "#e6ab3d"),
    "model4": ("#cc2f64", "#f2719f"),
    "model5": ("#0b87a8", "#45c1e0"),
    "model6": ("#6b7a10", "#b3c444"),
    "model7": ("#8a5a44", "#cf9a80"),
}
_MODELS = [name for name in COLOURS if name.startswith("model")]


def colour(name: str) -> str:
    """The colour that a picture is drawn with."""
    return COLOURS[name][0]


def model_colour(index: int) -> str:
    """The colour of a model by its place in the search; the ninth looks like the first."""
    return colour(_MODELS[index % len(_MODELS)])


def css() -> str:
    """The variables of both themes. On paper a page is light whatever the reader's theme."""

    def variables(theme: int, names: Sequence[str] = tuple(COLOURS)) -> str:
        return "".join(f"--{name}:{COLOURS[name][theme]};" for name in names)

    return (
        f":root{{color-scheme:light dark;{variables(0)}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{variables(1)}}}}}\n"
    )
