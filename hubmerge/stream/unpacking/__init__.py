"""The numbers that weights in few bits stand for: pure functions of what is stored, computed in float32.

scaled.py         FP8 and INT8: numbers times their factors
grouped.py        GPTQ and AWQ: a few bits in 32, a factor and a zero for each group
rows.py           compressed-tensors: a few bits in rows of 32
fp4.py            MXFP4 and NVFP4: 4 bits choose one of 16 numbers
bitsandbytes.py   4 bits choose one of 16 values
ggml.py           GGUF: blocks of 32 or 256 numbers with factors of their own
kinds.py          which function unpacks which kind
unfit.py          what the numbers of a weight cannot be
"""
