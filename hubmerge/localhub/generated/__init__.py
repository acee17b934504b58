"""Models of any size that take no disk: their weights are made up as they are read.

model.py      a model's files: headers that are real, and where each tensor's numbers come from
torchfile.py  the layout of files that torch.save writes
patterns.py   the numbers: one period at random, repeated without end
llama.py      shapes of Llama models
wide.py       shapes of mixtures of experts with very many tensors
siblings.py   three models of one size
paper.py      the paper's models, as they are published
sdxl.py       its image models: pipelines of SDXL's shapes
"""
