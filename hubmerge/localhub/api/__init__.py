"""What the Hugging Face clients call, a file for each part of it.

listing.py       models, datasets and Spaces, and the facts about one
contents.py      trees, paths, files, headers of safetensors
cdn.py           large files from another origin, by signed URLs
lfs.py           uploads of large files
committing.py    preupload, commit, the check of a card
ignore.py        what a .gitignore leaves out of an upload
repositories.py  create, delete, configure; branches, tags, history; who is asking
discussions.py   pull requests: opened, read, merged, closed
spaces.py        a Space's hardware and variables
jobs.py          jobs, which are taken down and never run
"""
