"""From a recipe to a checkpoint: planned from headers alone, then streamed one tensor at a time.

Nothing is imported here: torch takes seconds, and not all of it is needed for everything. docs/architecture.md
draws the way of a merge.

    added.py           what LoRAs add that a merge does not read
    again.py           a merge done again in memory, to be compared with what is stored
    agreement.py       whether the settings of all models mean the same
    alignment.py       the same tensors under names that begin otherwise: generations of transformers
    architecture.py    a stranger's config.json as transformers has it
    beside.py          whether the small files beside the weights of a merge are still those that it wrote
    budget.py          what a merge will cost: bytes to fetch, memory, disk - and whether this machine has them
    by_token.py        the merged models as the result's vocabulary has them
    carried.py         the small files that go with weights
    compatibility.py   whether the sources fit together, vocabularies too, as far as headers tell
    component.py       one checkpoint that a merge writes
    compute.py         the merge of one tensor: the only place where weights are computed
    configuration.py   config.json of the result: that of the base or the first model, with what the merge changes
    converted.py       a network in one file by its first authors' names, under those of diffusers
    copied.py          a part in a folder of its own that is taken from another model as it is
    dequantised.py     weights that are stored in few bits, unpacked as they are read
    device.py          where blocks are computed, and how much memory there is: accelerate's view of this machine
    dtypes.py          the dtypes of safetensors files: their sizes and their names in torch
    effect.py          settings of 0 by which a merge makes nothing of its models
    executor.py        the merge itself: read, compute, write - tensor by tensor, shard by shard, the index last
    experts.py         experts of a mixture, one tensor each or all in one
    findings.py        what is wrong with a merge, found before a byte of weights moves
    hashing.py         every tensor of a model hashed
    in_memory.py       models that are in memory already, merged there
    journal.py         what of a merge is already finished in its output folder: noted before a shard takes its place
    kindred.py         which token of one tokenizer is which of another
    laid.py            weights whose elements lie out of order in their file, as torch.save leaves them
    layout.py          which tensors the result has, and which stored tensors each comes from
    lora.py            weights with a LoRA on top, added as blocks are read
    manifest.py        what a finished merge says of itself, in hubmerge.json beside the weights
    mapped.py          stored tensors as they lie in their files, mapped into memory instead of read
    modules.py         a merge of parts of models, each by itself
    names.py           what a tensor is called in the result, and in the file that it lies in
    numbering.py       which number each token of a tokenizer has, read once a model: a search plans every candidate
    owned.py           what hubmerge may take away or write over: only what it wrote itself
    own_rows.py        rows that only one model has, in a model made of parts
    plan.py            the plan of a merge: every tensor, byte and finding of it
    prefetch.py        weights read from the Hub by range ahead of their use
    pursuit.py         a vector as the sum of a few given ones
    reader.py          the sources' tensors, read a part at a time
    roles.py        what part each model plays where a recipe leaves it open
    rows.py            weights whose vocabulary tensors are by the tokens of the result
    settings.py        the parameters of each tensor: the nearest that is given
    shards.py          how the output tensors are spread over files, and the header of such a file
    shortest.py        vocabularies of different lengths, merged by number
    speaking.py        how large the result is, and how it is spoken to, as its card tells it
    spill.py           what a stage made of one tensor, kept on disk where it is read twice
    stage.py           one merge of a plan, and its result as weights for the next one
    staging.py         how one merge of a recipe becomes a stage: its tensors, of what, in which dtype
    statistics.py      what was measured of a model on texts, kept on disk and read like weights
    tensors.py         one output tensor: what it is computed from, and how
    tokenizer.py       what the tokenizers, chat templates and endings of merged models say of each other
    tokens.py          what the small files beside a model say
    unpacking/         the numbers that weights in few bits stand for
    towers.py          whether what sees or hears has the shapes that its own configuration says
    transplanted.py    a model with the tokens of another
    trial.py           how long computing a merge takes on this machine
    united.py          one tokenizer out of several
    verify.py          whether a merged model still is what its merge wrote
    views.py           what the merge sees of a model: names of the output, tied heads made visible
    vocabulary.py      which tokens the result has: those of one model, or of all
    weights.py         what a merge reads: tensors by name, each made of stored ones as it is read
    writer.py          shards, written by several threads at once, and read back to see whether they are whole
    written.py         small files that a command writes into a folder of the user's, again and again
"""
