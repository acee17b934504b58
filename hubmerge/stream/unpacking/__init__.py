"""The numbers that weights in few bits stand for: pure functions of what is stored, computed in float32.

scaled.py         FP8 and INT8: numbers times their factors
grouped.py        GPTQ and AWQ: a few bits in 32, a factor and a zero for each group
bitsandbytes.py   4 bits choose one of 16 values
kinds.py          which function unpacks which kind
"""
