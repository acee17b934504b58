"""What lies in a run's folder.

folder.py      the names of its files
evaluation.py  one evaluated candidate
journal.py     every evaluation, on disk before the next begins
seal.py        how much of the journal need not be parsed to be opened
results.py     the end of a run: winner and table
learnt.py      what an earlier run taught, for a search that begins with it
remarks.py     what has to be said of a winner
resume.py      which search a folder can go on with
saved.py       whose the folder is, and its search.yaml
mirror.py      a copy of the folder on the Hub, and back
"""
