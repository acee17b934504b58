"""The command that talks: chat."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Memory, Model, Token, app, show_warning


@app.command()
def chat(
    model: Model,
    prompt: Annotated[str | None, typer.Option(help="Answer this one message and stop.")] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="A picture, for models that see: each message is about it alone.", show_default=False),
    ] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of the longest answer.")] = 512,
    memory: Memory = None,
    token: Token = None,
) -> None:
    """Talk to a model: from the Hub, a folder, or just merged."""
    from ..extras import require
    from ..hub.source import open_source
    from ..reference import ModelRef
    from ..terminal import marked, progress_bars
    from ..terminal import out as console

    source = open_source(ModelRef.parse(model), token=token)  # before torch is imported, which takes seconds

    from ..evaluate import placement
    from ..evaluate.examples import Example
    from ..evaluate.generation import stream_chat
    from ..evaluate.models import load_model, load_processor
    from ..evaluate.pictures import Picture
    from ..evaluate.seeing import require_seeing, sees, stream_answer
    from ..stream.carried import Carried

    if picture is not None:
        require("PIL")
    seen = None if picture is None else Picture.in_file(picture)
    processor = None if seen is None else load_processor(Carried(source))
    with progress_bars() as progress:
        network, tokenizer = load_model(source, token=token, memory=memory, progress=progress)
    show_warning(placement.told(network))
    if seen is not None:
        require_seeing(network, processor, "There is a picture")
    elif sees(network):
        show_warning(f"{model} sees: --picture FILE shows it a picture.")
    messages = [{"role": "system", "content": system}] if system else []

    how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "memory": memory}

    def pieces(text: str) -> Iterator[str]:
        if seen is not None:
            question = Example(text, "", where=seen.where.file.name, image=seen)
            return stream_answer(network, processor, question, system=system, **how)
        messages.append({"role": "user", "content": text})
        return stream_chat(network, tokenizer, messages, **how)

    def answer(text: str) -> None:
        said = []
        for piece in pieces(text):
            said.append(piece)
            console.print(piece, end="")
        console.print()
        messages.append({"role": "assistant", "content": "".join(said)})

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
