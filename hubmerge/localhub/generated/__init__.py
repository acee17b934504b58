"""Models of any size that take no disk: their weights are made up as they are read.

model.py     a model's files: headers that are real, and where each tensor's numbers come from
patterns.py  the numbers: one period at random, repeated without end
llama.py     shapes of Llama models
"""
