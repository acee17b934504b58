"""Models in one GGUF file, as llama.cpp reads them: names, configuration and tensors told from its header.

header.py   the header: what the file says of itself, and which tensor lies where
naming.py   what transformers calls llama.cpp's tensors, and how their rows lie
model.py    a model of such a file
"""
