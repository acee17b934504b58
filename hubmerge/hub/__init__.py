"""The Hub and nothing else: open and pin models, read headers, push, cards, licences, search."""
