"""The Hub and nothing else: open and pin models, read headers, push, cards, licences, search.

`open_source` reads, `Upload` and `push_folder` write, `Card` and `render` tell the story, `search_models` finds.

    agent.py         who asks the Hub: hubmerge and its version, in every request
    answers.py       what the Hub answers about a repository, each field of the right type
    archive.py       the directory of a zip archive, read from its end by range
    arriving.py      files that come onto this machine, and how far that is
    auto_class.py    which class of transformers opens a model, told by its config.json
    cache.py         what this machine knows of a repository when the Hub cannot be asked
    card.py          the model card, its YAML too: what was merged from what, how, how good it is, its licence
    checkpoint.py    what makes a list of files a checkpoint that can be merged
    component.py     the parts of a model that stand for themselves
    config.py        what a model's config.json says of its language model, wherever its family keeps it
    content.py       whether a file on this machine is the one that the Hub lists, byte for byte
    conversion.py    the safetensors copy that the Hub's own bot offers, as a pull request
    errors.py        what the Hub and the network answer, turned into one clear sentence
    fields.py        the fields of others' JSON that hubmerge computes with, and what each may hold
    first_names.py   what first authors call the modules of a UNet or of FLUX, by diffusers' names
    frontmatter.py   what the card in a folder states: the YAML at the head of README.md, as plain values
    gguf/            models in one GGUF file: names, configuration and tensors told from its header
    headers.py       the header of a safetensors file: which tensors lie where, known without reading a weight
    holdings.py      what a repository already holds before something is pushed to it
    licences.py      which licence a merge may carry, from the licences of the models that went in
    listing.py       what a repository or a folder holds: its files, and the text of the small ones
    lora.py          a LoRA of the Hub: which tensors of its model it changes, and by what
    lora_drawing.py  the same of pipelines that draw, by the names of diffusers and of kohya's trainer
    markdown.py      small pieces of Markdown that hold whatever text they are given
    notices.py       licence texts and notices of models, which go on with what is made of them
    parallel.py      several small requests at a time, their answers in order
    patience.py      network reads that end: a least speed, a largest answer, a longest time
    pickled.py       weights that torch.save wrote: which tensor lies where, nothing of them run
    pins.py          folders pinned as repositories are: by what is in them
    pipeline.py      pipelines of diffusers: checkpoints in folders, and model_index.json
    push.py          files onto the Hub: a model's shards go up one by one as they are written
    quantised/       weights that are stored in few bits: what they are unpacked from
    ranges.py        byte ranges of one file of the Hub, in any order, by any number of threads, again after errors
    search.py        finding models on the Hub by a few letters of their name
    scores.py        scores of models on a card: in its metadata, and as a table
    session.py       requests to the Hub that end: time limits, and repeats where repeating is safe
    source.py        a model to merge from, opened: `open_source`
    spdx.py          licences as SPDX writes them, in the Hub's words
    store.py         where a model's files are - a repository at one commit, or a folder
    summary.py       the first sentences of a card: what a model was made of, and how
    unfound.py       a repository that is not there: what its name may have been meant for, or where the demo's are
    unpickler.py     a pickle read as data: its instructions are followed as far as weights need them
    unplaced.py      the small files of a model without the places that programs wrote into them on some machine
    usage.py         the code of a card that loads the model and asks it
    user.py          whose a token is
"""

from .answers import FileInfo
from .card import Card, render
from .errors import explain, hub_errors
from .headers import TensorHeader
from .licences import LicenceResult, combine
from .push import PushResult, Upload, push_folder
from .scores import CardRow
from .search import ModelSummary, search_models
from .session import find_token
from .source import Source, open_source

__all__ = [
    "Card",
    "CardRow",
    "FileInfo",
    "LicenceResult",
    "ModelSummary",
    "PushResult",
    "Source",
    "TensorHeader",
    "Upload",
    "combine",
    "explain",
    "find_token",
    "hub_errors",
    "open_source",
    "push_folder",
    "render",
    "search_models",
]
