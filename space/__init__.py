"""The Space: pick models of the Hub, merge or evolve them, chat with the result, publish it. One page, one process.

    app.py       the page put together, and served
    api.py       what the buttons do, as named endpoints, and as tools for MCP clients
    state.py     what the handlers of one page share, and what belongs to one visitor
    settings.py  where the page keeps its work and how much it takes on
    downloads.py files of finished jobs, by an address that only their owner is told
    limits.py    what one job may take on a shared machine
    upkeep.py    what a running page lets go of
    theme.py     colours, fonts, where the style sheet is
    client.py    what runs in the visitor's browser
    standing.py  the recipe that stands, where several handlers write it
    wording.py   numbers and names for people, and how text of others enters HTML
    visitors/    whose token it is, what a stranger may say, how an error reaches a person
    work/        jobs that outlive the page that started them, their line, their limits of time
    forms/       what a form says, as a recipe or a search, and back
    views/       a plan, a search, a recipe drawn: what a visitor looks at
    tabs/        Pick, Merge, Evolve, Chat, Publish, Tools, and the panel of a job

A room imports only from those above it, `app.py` and `api.py` from all.
"""

import os

# Read when torch is imported: threads that wait give their core away, which a chat or another job may need.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
