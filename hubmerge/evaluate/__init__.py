"""How good a model is: tasks, greedy answers, metrics and the statistics that compare two models.

task.py reads a task and its splits (examples.py the files); models.py loads a model; generation.py makes it answer;
metrics.py and language.py judge an answer; score.py counts and compares.
"""
