"""Who measures candidates.

pool.py        what a pool of workers does; the one of this process
ray_pool.py    the pool of actors on Ray
workers.py     how many, and where
building.py    a transformers model from tensors in memory
resident.py    one model that becomes any recipe's merge
path_model.py  one model that becomes any path through layers
footprint.py   what they take, and how much of that stays in memory
offloaded.py   one of them that does not fit into memory
gallery.py     pictures of the best candidate, where candidates draw
judge.py       the worker that holds them and asks the examples
"""
