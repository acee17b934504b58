"""Who asks the Hub: each request names hubmerge and its version, by which the Hub counts what a model is used with."""

from typing import TYPE_CHECKING

from huggingface_hub.utils import build_hf_headers

from .. import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NAME, VERSION = "hubmerge", __version__


def hub_api(token: str | bool | None = None, endpoint: str | None = None) -> "HfApi":
    """A client of the Hub; `token` is one, False for none, or None for that of this machine."""
    from huggingface_hub import HfApi  # a merge of folders does without, and it takes a tenth of a second

    return HfApi(endpoint=endpoint, token=token, library_name=NAME, library_version=VERSION)


def hub_headers(token: str | bool | None) -> dict[str, str]:
    """The headers of a request; `token` as in `hub_api`."""
    return build_hf_headers(token=token, library_name=NAME, library_version=VERSION)
