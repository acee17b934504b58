"""Finding models on the Hub by a few letters of their name."""

from dataclasses import dataclass

from huggingface_hub import HfApi
from huggingface_hub.hf_api import ModelInfo

from .errors import hub_errors
from .session import bounded_session, find_token


@dataclass(frozen=True)
class ModelSummary:
    """What the Hub says about a model in a list; None where it does not say."""

    repo_id: str
    downloads: int
    likes: int
    parameters: int | None
    architecture: str | None
    license: str | None
    private: bool
    gated: bool


def search_models(
    query: str, *, limit: int = 20, token: str | None = None, author: str | None = None
) -> list[ModelSummary]:
    """Up to `limit` models whose name contains `query`, the most downloaded first; the token's private ones too.

    Raises `HubError` where the Hub cannot be asked.
    """
    found_token = find_token(token)
    with hub_errors(f"searching the Hub for {query!r}"):
        bounded_session()
        infos = HfApi(token=found_token or False, library_name="hubmerge").list_models(
            search=query.strip() or None,
            author=author,
            sort="downloads",
            limit=limit,
            expand=["downloads", "likes", "safetensors", "config", "cardData", "private", "gated"],
        )
        return [_summary(info) for info in infos]


def _summary(info: ModelInfo) -> ModelSummary:
    architectures = (info.config or {}).get("architectures") or [None]
    return ModelSummary(
        repo_id=info.id,
        downloads=info.downloads or 0,
        likes=info.likes or 0,
        parameters=info.safetensors.total if info.safetensors else None,
        architecture=architectures[0],
        license=info.card_data.license if info.card_data else None,
        private=bool(info.private),
        gated=bool(info.gated),
    )
