"""Models in one GGUF file, as llama.cpp reads them: names, configuration and tensors told from its header.

header.py      the header: what the file says of itself, and which tensor lies where
naming.py      llama.cpp's architectures: what it calls tensors and settings, and how rows lie
positions.py   how positions are scaled
splits.py      how text is cut before pieces are joined to tokens
vocabulary.py  the tokenizer in the header, as tokenizer.json and its kin
model.py       a model of such a file
"""
