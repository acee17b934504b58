"""Who is at the page, and what they may.

access.py    whose token reads and writes the Hub; whose folders may be named
stranger.py  what a stranger's search, task, mixture and calibration may say
schema.py    shapes of values, of which `stranger.py` is made
guard.py     how a handler's error reaches the person: one sentence, never a traceback
tables.py    what gradio knows of each visitor's page, safe from threads that change it meanwhile
"""
