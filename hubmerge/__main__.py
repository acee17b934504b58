"""`python -m hubmerge`."""

from .cli import main

main()
