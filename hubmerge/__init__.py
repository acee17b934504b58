"""hubmerge: merge and evolve models of the Hugging Face Hub."""

__version__ = "0.1.0"
