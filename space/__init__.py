"""The Space: pick models of the Hub, merge or evolve them, chat with the result, publish it. One page, one process."""
