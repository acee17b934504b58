"""A search's document: what its fields are read as, and the error that a wrong one raises."""

from ...documents import DocumentKind
from ...errors import SearchError

SEARCH = DocumentKind("search", SearchError)
