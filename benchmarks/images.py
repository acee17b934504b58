"""Compares a merge of checkpoints in one file with sd-mecha's, on the same files: its tensors, seconds and memory.

    python benchmarks/images.py --other VENV/bin/python            # a Python that has sd-mecha
    python benchmarks/images.py --other VENV/bin/python --width 320 --runs 3

The files are two UNets of Stable Diffusion 1.5's layout by their first authors' names, with random weights; `--width`
is that of the first blocks (the model's own: 320). Merged are a weighted sum and an "add difference".
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from accelerate import init_empty_weights
from measured import measured, median
from safetensors.torch import load_file, save_file

from hubmerge.hub.first_names import first_names

OTHER = """
import sys, sd_mecha, torch
method, out, *files = sys.argv[1:]
models = [sd_mecha.model(file) for file in files]
a, b = models[:2]
added = method == "add_difference"
merged = sd_mecha.add_difference(*models, alpha=0.3) if added else sd_mecha.weighted_sum(a, b, alpha=0.3)
sd_mecha.merge(merged, output=out, merge_device="cpu", merge_dtype=torch.float32, output_dtype=torch.float32)
"""


def make(folder: Path, width: int) -> list[Path]:
    """Three such files in float32."""
    from diffusers import UNet2DConditionModel

    with init_empty_weights():
        unet = UNet2DConditionModel(
            block_out_channels=(width, 2 * width, 4 * width, 4 * width), cross_attention_dim=768, norm_num_groups=32
        )
    shapes = {name: tensor.shape for name, tensor in unet.state_dict().items()}
    first = first_names({name.rpartition(".")[0] for name in shapes})
    files = []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        state = {
            f"model.diffusion_model.{first[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": torch.randn(
                shape, generator=generator
            )
            for name, shape in shapes.items()
        }
        files.append(folder / f"{'abc'[seed]}.safetensors")
        save_file({**state, "cond_stage_model.logit_scale": torch.ones(1)}, files[-1])
    return files


def recipe(method: str, files: list[Path]) -> dict:
    a, b, c = map(str, files)
    weights = {"linear": {a: 0.7, b: 0.3}, "add_difference": {a: 1.0, b: 0.3, c: -0.3}}[method]
    models = [{"model": model, "parameters": {"weight": weight}} for model, weight in weights.items()]
    return {"merge_method": "linear", "models": models, "parameters": {"normalize": False}, "dtype": "float32"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", required=True, help="a Python that has sd-mecha")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    print("| method | program | wall s | CPU s | RSS MB | anonymous MB | largest difference |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make(folder, asked.width)
        print(f"{files[0].stat().st_size / 1e6:.0f} MB a file", file=sys.stderr)
        (folder / "other.py").write_text(OTHER)
        for method in ("linear", "add_difference"):
            used = files if method == "add_difference" else files[:2]
            (folder / "recipe.yaml").write_text(json.dumps(recipe(method, files)))
            ours, theirs = folder / f"{method}-ours", folder / f"{method}.safetensors"
            runs = {"hubmerge": [], "sd-mecha": []}
            for number in range(asked.runs):
                merge = [sys.executable, "-m", "hubmerge", "merge", folder / "recipe.yaml", "--out", f"{ours}-{number}"]
                runs["hubmerge"].append(measured(merge))
                runs["sd-mecha"].append(measured([asked.other, folder / "other.py", method, theirs, *used]))
            [file] = Path(f"{ours}-0").glob("*.safetensors")
            found, expected = load_file(file), load_file(theirs)
            network = [name for name in found if name.startswith("model.diffusion_model.")]
            apart = max(float((found[name] - expected[name]).abs().max()) for name in network)
            for program, told in runs.items():
                one = median(told)
                anonymous = "" if one.anonymous is None else f"{one.anonymous / 1e6:.0f}"
                print(
                    f"| {method} | {program} | {one.wall:.2f} | {one.cpu:.2f} | {one.peak / 1e6:.0f} | {anonymous} | "
                    f"{apart:.1e} |"
                )


if __name__ == "__main__":
    main()
