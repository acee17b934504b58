"""Searching for a better model: a spec, a genome, a searcher, a pool of workers, a journal.

search.py and spec.py are what people write. genome.py turns vectors into recipes, data_flow.py into paths (path.py),
which path_model.py runs and families.py makes ordinary checkpoints. searchers/ propose over problem.py; recorder.py
keeps the books (journal.py) and asks pool.py or, on Ray, actors.py; there judge.py measures with resident.py.
explore.py runs the stages, choose.py picks the winner, results.py makes the table, run.py does all of it in a folder
(folder.py), report/ tells it. plan.py says before what a search will do.
"""
