"""Searching for a better recipe: a spec, a genome, a searcher, one resident model, a journal.

search.py is the spec; genome.py turns vectors into recipes; resident.py becomes each candidate; explore.py runs
searchers.py over problem.py and writes journal.py; judge.py scores; run.py chooses, reports (results.py, curve.py)
and writes the winner.
"""
