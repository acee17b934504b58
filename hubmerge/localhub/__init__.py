"""An embedded Hub: a server over a folder that the unmodified Hugging Face clients can use."""

from hubmerge.localhub.faults import Fault, Faults
from hubmerge.localhub.hub import LocalHub
from hubmerge.localhub.requestlog import Request

__all__ = ["Fault", "Faults", "LocalHub", "Request"]
