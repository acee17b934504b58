"""From a recipe to a checkpoint: planned from headers alone, then streamed one tensor at a time.

plan.py plans, executor.py merges, verify.py checks what was merged. Nothing is imported here: torch takes seconds, and
not all of it is needed for everything.
"""
