"""An embedded Hub: a server over a folder that the unmodified Hugging Face clients can use."""

from hubmerge.localhub.faults import Fault, Faults
from hubmerge.localhub.generated import GeneratedModel
from hubmerge.localhub.hub import LocalHub
from hubmerge.localhub.llama import LLAMAS, LlamaShape, llama, siblings
from hubmerge.localhub.requestlog import Request

__all__ = ["LLAMAS", "Fault", "Faults", "GeneratedModel", "LlamaShape", "LocalHub", "Request", "llama", "siblings"]
