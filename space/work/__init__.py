"""Long work, done for many people on one machine.

job.py          a job as others see it, and what whoever does it is given
jobs.py         the threads that do them, the folder that remembers them, whose each is, and how many one may have
line.py         who is next
shifts.py       how long a job stays at work while others wait
runners.py      what each kind of job does
tools.py        what is made of models beside merges
zero_gpu.py     a GPU that is lent for the length of one call
turns.py        places that people take in turn, as in chat
timed_cache.py  values kept for a while
cache.py        downloaded models, and statistics of models, that nobody uses make room
health.py       jobs, memory and disk of the machine
"""
