"""Commands that make something else of models than a merge: extract-lora, moe, transplant, gguf."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import HubmergeError
from .making import Goal, merge_or_push, write_as_gguf, write_or_push
from .options import (
    SHARD_SIZE,
    Device,
    Memory,
    Model,
    NamePrivate,
    Public,
    Push,
    ReplaceModel,
    ShardSize,
    Stream,
    Threads,
    Token,
    app,
    into,
    opened,
    show_push,
)


@app.command()
def extract_lora(
    model: Model,
    base: Annotated[str, typer.Option(help="The model that it was tuned from.", show_default=False)],
    rank: Annotated[int | None, typer.Option(min=1, help="Rank of each module, or the highest with --energy.")] = None,
    energy: Annotated[
        float | None, typer.Option(help="In place of a rank: the share of each change's square to hold, such as .9.")
    ] = None,
    out: Annotated[Path | None, into("Folder for the LoRA.")] = None,
    push: Push = None,
    dtype: Annotated[str, typer.Option(help="Of its factors: float32, float16, bfloat16 or float64.")] = "float32",
    whole: Annotated[
        bool, typer.Option("--whole", help="Save norms that have changed whole, beside the LoRA.")
    ] = False,
    public: Public = False,
    name_private: NamePrivate = False,
    stream: Stream = False,
    threads: Threads = None,
    memory: Memory = None,
    device: Device = "cpu",
    overwrite: ReplaceModel = False,
    token: Token = None,
) -> None:
    """Make a LoRA of what a model learnt on top of its base, for peft and for recipes (org/base+org/lora).

    Interrupted, the same command goes on where it stopped.
    """
    from ..reference import ModelRef

    goal = Goal(out, push, public=public, name_private=name_private, overwrite=overwrite, token=token)
    tuned, origin = ModelRef.parse(model), ModelRef.parse(base)
    sources = opened([origin, tuned], token)

    from huggingface_hub import constants

    from ..extract.adapter import extract, recipe_of
    from ..extract.card import render
    from ..terminal import progress_bars, show_extraction

    recipe = recipe_of(tuned, origin, rank=rank, energy=energy, dtype=dtype, whole=whole)
    with progress_bars() as progress:
        extraction = extract(
            recipe,
            token=token,
            sources=sources,
            work=Path(constants.HF_HOME) / "hubmerge",
            out=out,
            pushing=push is not None,
            ranged=stream,
            threads=threads,
            memory=memory,
            device=device,
            progress=progress,
        )
    show_extraction(extraction)
    extraction.plan.require()
    write_or_push(
        extraction.plan,
        goal,
        card=render(extraction, push),
        made="Extracted",
        # What it saves whole, recipes do not read.
        then="Load it with peft: " if extraction.plan.config["modules_to_save"] else f"Name it in recipes: {base}+",
    )
    extraction.kept.clear()


@app.command()
def moe(
    mixture: Annotated[Path, typer.Argument(help="A mixture in mergekit-moe's YAML format.", show_default=False)],
    out: Annotated[Path | None, into("Folder for the mixture.")] = None,
    push: Push = None,
    public: Public = False,
    name_private: NamePrivate = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would do.")] = False,
    shard_size: ShardSize = SHARD_SIZE,
    stream: Stream = False,
    threads: Threads = None,
    memory: Memory = None,
    overwrite: ReplaceModel = False,
    token: Token = None,
) -> None:
    """Make a mixture of experts of dense models: one's attention, the MLPs of several, and gates between them.

    Interrupted, the same command goes on where it stopped.
    """
    from ..experts.document import Moe

    if not dry_run:
        goal = Goal(out, push, public=public, name_private=name_private, overwrite=overwrite, token=token)
    wanted = Moe.from_yaml(mixture)
    sources = opened(wanted.references, token)

    from ..experts.mixture import make_gates, plan_moe
    from ..terminal import progress_bars, show_plan

    with progress_bars() as progress:
        plan = plan_moe(
            wanted,
            token=token,
            sources=sources,
            shard_size=shard_size,
            out=out,
            pushing=push is not None,
            ranged=stream,
            threads=threads,
            memory=memory,
            progress=progress,
        )
        show_plan(plan)
        plan.require()
        if not dry_run:
            make_gates(plan)
    if not dry_run:
        write_or_push(plan, goal, keep=[mixture])


@app.command()
def transplant(
    model: Model,
    tokenizer: Annotated[str, typer.Option(help="The model whose tokens it is to have.", show_default=False)],
    out: Annotated[Path | None, into("Folder for the result.")] = None,
    push: Push = None,
    shared: Annotated[
        int,
        typer.Option(
            "-k", "--shared", min=1, max=1024, help="Rows of shared tokens that each new row is made of, at most."
        ),
    ] = 64,
    public: Public = False,
    name_private: NamePrivate = False,
    shard_size: ShardSize = SHARD_SIZE,
    stream: Stream = False,
    threads: Threads = None,
    memory: Memory = None,
    overwrite: ReplaceModel = False,
    token: Token = None,
) -> None:
    """Give a model the tokenizer of another: shared tokens keep their rows, new ones are made of those.

    Interrupted, the same command goes on where it stopped.
    """
    from ..recipe import ModelEntry, Recipe
    from ..recipe.output import Output
    from ..recipe.tokenizer import TokenizerBlock
    from ..reference import ModelRef

    donor = ModelRef.parse(tokenizer)
    merge_or_push(
        Recipe(
            "passthrough",
            (ModelEntry(ModelRef.parse(model)),),
            output=Output(tokenizer=TokenizerBlock(str(donor), transplant=shared)),
        ),
        Goal(out, push, public=public, name_private=name_private, overwrite=overwrite, token=token),
        shard_size=shard_size,
        ranged=stream,
        threads=threads,
        memory=memory,
    )


@app.command()
def gguf(
    model: Model,
    kind: Annotated[
        str,
        typer.Option("--type", help="From the finest to the smallest: F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0."),
    ] = "Q8_0",
    out: Annotated[
        Path | None, typer.Option(help="The file, or a folder for it; else NAME-TYPE.gguf here.", show_default=False)
    ] = None,
    push: Push = None,
    public: Public = False,
    name_private: NamePrivate = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file, if it is there, or what --push finds.")
    ] = False,
    token: Token = None,
) -> None:
    """Write a model as one GGUF file for llama.cpp, ollama and LM Studio, and read it back.

    What llama.cpp would compute otherwise than transformers is refused.
    """
    from ..gguf.conversion import file_name, plan_gguf
    from ..reference import ModelRef

    [source] = opened([ModelRef.parse(model)], token).values()
    conversion = plan_gguf(source, kind)
    file = out or Path()
    if file.suffix != ".gguf" or file.is_dir():
        if file.suffix[1:].isalpha() and not file.is_dir():
            raise HubmergeError(f"{file} is no GGUF file and no folder that is there; let its name end in .gguf.")
        file /= file_name(conversion)
    upload = None
    if push:  # whoever may not write there is told before the work
        from ..gguf.pushed import require_no_model
        from ..hub.holdings import Told
        from ..hub.push import Upload
        from ..publish import hub_ids

        # Weights beside which a file of its own is put are told of by `require_no_model`.
        told = Told(None, hub_ids([source.ref]), name_private, is_model=False)
        upload = Upload(push, token=token, private=not public, overwrite=overwrite, told=told)
        upload.start()
        require_no_model(upload)
    write_as_gguf(conversion, file, overwrite)
    if upload is not None:
        from ..gguf.pushed import push_gguf
        from ..terminal import progress_bars

        with progress_bars() as progress:
            pushed = push_gguf(conversion, file, upload, progress)
        show_push(pushed, "Run it: llama-cli -hf ")
