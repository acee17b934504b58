"""Work on machines of the Hub (https://huggingface.co/docs/hub/jobs): a command becomes a script, and that a job.

asked.py    what `--on` names, and what a command needs that a job lacks
script.py   the script of a job: what it installs, and the command that it runs
running.py  a job sent, found again, followed and stopped
fetched.py  what a job leaves on the Hub, brought here
"""
