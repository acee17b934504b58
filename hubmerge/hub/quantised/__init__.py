"""Weights that are stored in few bits: what they are unpacked from, told from headers. No number is computed here.

Each file knows the layouts of some programs. stream/unpacking/ computes the numbers.

packed.py         a weight in several stored tensors, and all of a model
scaled.py         FP8 and INT8: each number with a factor of its tensor, row, group or block
grouped.py        GPTQ and AWQ: a few bits in 32, a factor and a zero for each group
rows.py           compressed-tensors: a few bits in rows of 32
fp4.py            MXFP4 and NVFP4: 4 bits choose one of 16 numbers, a factor for each 16 or 32
bitsandbytes.py   4 bits by a table of 16 values, 8 bits with a factor a row
ggml.py           GGUF: blocks of 32 or 256 numbers with factors of their own
kinds.py          which of them a model is stored in
"""
