"""The command that talks: chat."""

from typing import Annotated, Any

import typer

from .options import Memory, Model, Token, app, show_warning


@app.command()
def chat(
    model: Model,
    prompt: Annotated[str | None, typer.Option(help="Answer this one message and stop.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 512,
    memory: Memory = None,
    token: Token = None,
) -> None:
    """Talk to a model: from the Hub, a folder, or just merged."""
    from ..hub.source import open_source
    from ..reference import ModelRef
    from ..terminal import marked, progress_bars
    from ..terminal import out as console

    source = open_source(ModelRef.parse(model), token=token)  # before torch is imported, which takes seconds

    from ..evaluate import placement
    from ..evaluate.generation import stream_chat
    from ..evaluate.models import load_model

    with progress_bars() as progress:
        network, tokenizer = load_model(source, token=token, memory=memory, progress=progress)
    show_warning(placement.told(network))
    messages = [{"role": "system", "content": system}] if system else []

    how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature}

    def answer(text: str) -> None:
        messages.append({"role": "user", "content": text})
        pieces = []
        for piece in stream_chat(network, tokenizer, messages, memory=memory, **how):
            pieces.append(piece)
            console.print(piece, end="")
        console.print()
        messages.append({"role": "assistant", "content": "".join(pieces)})

    if prompt is not None:
        answer(prompt)
        return
    console.print(f"{model} - an empty line or Ctrl-D ends the chat", style="dim")
    while True:
        try:
            text = console.input(marked("[cyan]> [/]")).strip()
        except EOFError:
            break
        if not text:
            break
        answer(text)
