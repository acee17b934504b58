"""`python -m hubmerge.cli`."""

from . import main

main()
