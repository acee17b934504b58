"""How good a model is: tasks, replies, metrics and the statistics that compare two models.

task.py reads a task (builtin.py those known by name); examples.py and harness.py bring its rows, and splits.py
makes them into splits that share nothing (with choices.py and fingerprint.py). models.py loads a model; placement.py
says where its weights lie where they do not fit (spool.py: in a folder of their own);
texts.py writes prompts as it reads them, and apart.py runs what a repository brought to do that;
generation.py makes it answer (greedy.py does it fast, demand.py says what that takes), likelihood.py asks how likely it
finds an answer. metrics.py lists what a reply can be worth (with numerals.py, rouge.py, language.py, llm_judge.py and
python_function.py); score.py asks and values, measurement.py is what is kept of it,
statistics.py compares, table.py has a line for each model.
"""
