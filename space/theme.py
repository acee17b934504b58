"""How the page looks: one accent, system fonts, light and dark. Nothing is loaded from elsewhere."""

from pathlib import Path
from typing import Any

import gradio as gr

from hubmerge.evolve.report.palette import COLOURS

from . import client

STYLE = Path(__file__).with_name("style.css")
_NARROW = Path(__file__).with_name("narrow.css").read_text(encoding="utf-8")
_DARK = "".join(f"--{name}:{dark};" for name, (_, dark) in COLOURS.items())
HEAD = f"<style>{_NARROW}.dark .hm-picture{{{_DARK}}}</style>{client.HEAD}"
"""What gradio leaves out of a stylesheet, the colours of pictures on a dark page, and what runs on it."""

ACCENT = gr.themes.Color(
    name="lagoon",
    c50="#effaf8",
    c100="#d3f2ec",
    c200="#a8e4da",
    c300="#72cfc2",
    c400="#41b3a6",
    c500="#23978b",
    c600="#177a72",
    c700="#16625d",
    c800="#164e4b",
    c900="#15413f",
    c950="#062625",
)

MODEL_COLOURS = ("#e4694c", "#4f6bed", "#d99a1c", "#a44fc4", "#2f9e5f", "#d0477f", "#3b93c9", "#7c7f2a")
"""One colour a model, in the order picked: cards, sliders and drawings show it. The base is grey."""
BASE_COLOUR = "#8a8f98"
RESULT_COLOUR = ACCENT.c500

_SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Hiragino Sans", "Noto Sans CJK JP", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def colour(index: int) -> str:
    """The colour of the model at `index` of those picked."""
    return MODEL_COLOURS[index % len(MODEL_COLOURS)]


def into_view(elem_id: str) -> str:
    """JavaScript that shows what has appeared below or above the visitor's screen, and else moves nothing."""
    return f"() => document.getElementById('{elem_id}')?.scrollIntoView({{block: 'nearest', behavior: 'smooth'}})"


def html(value: str = "", **settings: Any) -> gr.HTML:
    """A block of our own HTML, without gradio's prose style and padding."""
    return gr.HTML(value, apply_default_css=False, padding=False, elem_classes="hm-html", **settings)


def optional_number(label: str, **settings: Any) -> gr.Textbox:
    """A box for a number that may be left out: gradio's own for numbers shows 0 where there is none."""
    return gr.Textbox("", label=label, placeholder="the pipeline's own", max_lines=1, min_width=120, **settings)


def theme() -> gr.themes.Base:
    """The gradio theme."""
    return gr.themes.Base(
        primary_hue=ACCENT,
        secondary_hue=ACCENT,
        neutral_hue="zinc",
        radius_size="lg",
        font=[gr.themes.Font(name) for name in _SANS],
        font_mono=[gr.themes.Font(name) for name in _MONO],
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        body_background_fill="#fafaf8",
        body_background_fill_dark="#111315",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#17191c",
        background_fill_secondary="#f6f6f3",
        background_fill_secondary_dark="#1d2024",
        block_background_fill="#ffffff",
        block_background_fill_dark="#17191c",
        block_border_color="#e7e6e1",
        block_border_color_dark="#2a2e33",
        border_color_primary="#e7e6e1",
        border_color_primary_dark="#2a2e33",
        block_shadow="none",
        block_title_text_weight="600",
        block_label_text_weight="600",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        input_background_fill="#fbfbf9",
        input_background_fill_dark="#1d2024",
        input_border_width="1px",
        input_border_color="#e1e0da",
        input_border_color_dark="#33383e",
        input_border_color_focus="*primary_400",
        input_border_color_focus_dark="*primary_500",
        input_shadow_focus="0 0 0 3px #23978b22",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="#f1f0ec",
        button_secondary_background_fill_hover="#e7e6e0",
        button_secondary_background_fill_dark="#24282d",
        button_secondary_background_fill_hover_dark="#2e3339",
        slider_color="*primary_500",
        slider_color_dark="*primary_400",
        link_text_color="*primary_700",
        link_text_color_hover="*primary_600",
        link_text_color_visited="*primary_700",
        link_text_color_dark="*primary_300",
        link_text_color_hover_dark="*primary_200",
        link_text_color_visited_dark="*primary_300",
    )
