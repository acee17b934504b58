"""The one thing that a local Hub has of hubmerge: its error. Elsewhere a class of one's own stands here."""

from hubmerge.errors import HubError as HubError
