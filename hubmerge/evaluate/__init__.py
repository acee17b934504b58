"""How good a model is: tasks, replies, metrics and the statistics that compare two models.

apart.py             chat templates and the like of strangers, rendered in a process that can be ended
apart_server.py      the process that `apart.py` starts
benchmark.py         benchmarks of the Hub, to which models report their scores
bred.py              the questions that a model was bred on, which no test asks
builtin.py           tasks known by name
choices.py           multiple choice, in the shapes that datasets have it
demand.py            what answering takes beside the model
drawing.py           pictures that a pipeline makes of prompts
examples.py          examples and where they come from
fingerprint.py       what makes two examples the same whatever their spelling
fitting.py           whether what reads pictures for a model fits its tower
generation.py        text from a model: batched greedy answers for scoring, and a streamed chat
greedy.py            greedy decoding of many prompts
harness.py           tasks of EleutherAI's lm-evaluation-harness (the extra `lm-eval`)
language.py          which language a text is written in, by fastText
lengths.py           how long a task's examples are for a model
likelihood.py        how likely a model finds given answers: batched log-likelihoods of text after a prompt
llm_judge.py         grades by a language model behind an OpenAI-compatible endpoint
located.py           where a task's own files lie on this machine
looking.py           metrics of such pictures, by a model that looks at them
measurement.py       what is known of a model after it was asked examples
metrics.py           the metrics a task can name: what each asks a model for, and what a reply is worth
models.py            a model and its tokenizer by Hub ID or folder, ready to answer
numerals.py          numbers in text of any script
pictures.py          pictures of examples: where they lie, and how one is opened
pipelines.py         a pipeline as diffusers has it, made in memory
placement.py         where the weights of a model lie while it is asked
processing.py        what a processor makes of pictures: within bounds, one after another
python_function.py   a metric of the user's own
rouge.py             ROUGE-L: how much of a reference an answer says in the same order
score.py             scores of one model on a set of examples
seeing.py            questions about pictures: template, processor, and what a tower has made of these before
splits.py            rows made into examples, and examples into splits: cut to size, no question twice
spool.py             folders for weights that do not fit into memory, gone when nobody uses them
statistics.py        how sure a score is (intervals), and whether two models differ (paired tests)
strict.py            the right words and nothing foreign: the metric `strict_words`
studio.py            pictures of strangers' models, drawn in a process of its own
studio_process.py    the process that `studio.py` starts
table.py             the score table: a line for each model, with intervals and odds
task.py              a task: examples in three splits that share nothing, how a model is asked
texts.py             prompts as a model reads them: through its chat template, and as tokens
"""
