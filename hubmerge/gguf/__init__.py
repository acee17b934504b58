"""A model as one GGUF file, which llama.cpp, ollama and LM Studio read.

All of it is planned from headers and small files; weights are then read, put in llama.cpp's order, packed and written a
few rows at a time, and what was written is read back and compared. What llama.cpp would compute otherwise is refused.

    formats.py        the formats that can be written, and how far from a number each may store it
    settings.py       config.json as keys of a header
    tokens.py         the tokenizer as keys of a header, compared with what llama.cpp makes of them
    sentencepiece.py  a tokenizer of which there is SentencePiece's own file alone
    texts.py          what the two tokenizers are compared on
    tensors.py        llama.cpp's tensors, and which of transformers' each is made of
    conversion.py     all of it: planned, written, read back
    beside.py         whether files that lie beside weights are that model
    card.py           the card of a repository of such files
    pushed.py         one of them pushed there
"""
