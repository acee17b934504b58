"""What a tensor is called in the result, and in the file that it lies in."""


def name_in(file: str, name: str) -> str:
    """What a tensor of the result is called in one of its files: those of a folder do not say the folder.

    >>> name_in("unet/model.safetensors", "unet/conv_in.weight"), name_in("model.safetensors", "lm_head.weight")
    ('conv_in.weight', 'lm_head.weight')
    """
    folder = file.rpartition("/")[0]
    return name.removeprefix(f"{folder}/") if folder else name


def name_of(file: str, name: str) -> str:
    """What the result calls a tensor that one of its files calls `name`; undoes `name_in`."""
    folder = file.rpartition("/")[0]
    return f"{folder}/{name}" if folder else name
