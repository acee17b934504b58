"""ja-vlm-bench: questions in Japanese and English about pictures that are drawn here.

baselines.py   what answers that do not look at the picture are worth: two rows that belong to every table
bench.py       makes the benchmark as a dataset repository, and puts it on a Hub
canvas.py      a canvas of 224 x 224 pixels: shapes and texts in whole numbers
card.py        the card of the dataset, with the figures of what was made
japan.py       the weather map
parquet.py     pictures and texts as a Parquet file
painter.py     paints scenes: a function for each kind
questions.py   what is asked of a scene, and what is answered
rows.py        the rows of each split
scenes.py      what a picture shows, as values, and which split may show it
sheet.py       a contact sheet: pictures with their questions
things.py      what things are called, counted and drawn like
words.py       what pictures and questions say beside things

`culture.txt` and `daily.txt` are the drawings of things, `phrasings.txt` is how questions are worded. `glyphs.otf` is a
subset of Noto Sans CJK JP Bold, under the licence in `OFL.txt`.
"""
