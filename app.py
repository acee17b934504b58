"""The Space's entry point: `python app.py` serves the page."""

from space.app import build, launch

__all__ = ["build", "launch"]

if __name__ == "__main__":
    launch()
