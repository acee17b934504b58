"""The Space: pick models of the Hub, merge or evolve them, chat with the result, publish it. One page, one process."""

import os

# Read when torch is imported: threads that wait give their core away, which a chat or another job may need.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
