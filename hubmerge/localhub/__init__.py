"""An embedded Hub: a server over a folder that the unmodified Hugging Face clients can use.

    hub.py       LocalHub: start it, stop it, what a client's environment must say
    app.py       the ASGI application: which handler answers, who is asking, refusals, faults, the log
    accounts.py  users, organisations, tokens: who may do what
    names.py     names that a client may choose, checked before they touch the disk
    errors.py    the one error that it raises
    generated/   models of any size whose weights are made up as they are read
    store/       what is on the disk: files, commits, repositories, and what follows from them
    serving/     connections, requests, bytes of files, signed URLs, faults on demand, the log
    api/         what the Hugging Face clients call
    people/      pages in a browser, signing in, OAuth

A room imports only from those above it, `hub.py` and `app.py` from all; of hubmerge, only `errors.py` takes something.
"""

from .generated.llama import LLAMAS, LlamaShape, llama
from .generated.model import GeneratedModel
from .generated.paper import paper_models
from .generated.sdxl import GeneratedPipeline, image_models
from .generated.siblings import SIZES, siblings
from .hub import LocalHub
from .serving.faults import Fault, Faults
from .serving.requestlog import Request

__all__ = [
    "LLAMAS",
    "SIZES",
    "Fault",
    "Faults",
    "GeneratedModel",
    "GeneratedPipeline",
    "LlamaShape",
    "LocalHub",
    "Request",
    "image_models",
    "llama",
    "paper_models",
    "siblings",
]
