"""How good a model is: tasks, replies, metrics and the statistics that compare two models.

task.py reads a task (builtin.py those known by name): examples.py and harness.py bring rows, splits.py makes them into
splits that share nothing (choices.py, fingerprint.py). models.py loads a model; generation.py makes it answer (greedy.py
fast), likelihood.py asks how likely it finds an answer. metrics.py lists what a reply can be worth (numerals.py, rouge.py,
llm_judge.py, python_function.py, language.py); score.py asks and values; statistics.py compares.
"""
