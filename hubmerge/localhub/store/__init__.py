"""What a Hub keeps in its folder, and what follows from it.

folder.py      the Hub's folder: known by its mark, without links
disk.py        files that are written whole or not at all
objects.py     every content once, under its SHA-256
gitids.py      the identifiers that git would give
commits.py     snapshots of a repository's files
repository.py  one repository: settings, commits, references
store.py       all repositories
cards.py       the YAML on top of a README, read and checked
facts.py       what a commit's files say: tags, library, task, parameters
jobs.py        what clients want run, and what came of it
jsonvalue.py   values as JSON can hold them
"""
