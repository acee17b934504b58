"""The papers of the methods, to be cited: by the address that the table of methods names."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

EVOLUTION = "https://arxiv.org/abs/2403.13187"
"""Of what this program is made after."""
PURSUIT = "https://arxiv.org/abs/2506.06607"
"""Of rows of new tokens, made of those of shared ones."""


class Paper(NamedTuple):
    """Who wrote what, and when; `authors` as BibTeX has them."""

    authors: str
    year: int
    title: str


PAPERS: Mapping[str, Paper] = {
    EVOLUTION: Paper(
        "Akiba, Takuya and Shing, Makoto and Tang, Yujin and Sun, Qi and Ha, David",
        2024,
        "Evolutionary Optimization of Model Merging Recipes",
    ),
    PURSUIT: Paper(
        "Goddard, Charles and Fernandes Neto, Fernando",
        2025,
        "Training-Free Tokenizer Transplantation via Orthogonal Matching Pursuit",
    ),
    "https://arxiv.org/abs/2203.05482": Paper(
        "Wortsman, Mitchell and others",
        2022,
        "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing inference "
        "time",
    ),
    "https://dl.acm.org/doi/10.1145/325334.325242": Paper(
        "Shoemake, Ken", 1985, "Animating rotation with quaternion curves"
    ),
    "https://arxiv.org/abs/2508.16204": Paper(
        "Abrantes, Jo{\\~a}o and Lange, Robert Tjarko and Tang, Yujin",
        2025,
        "Competition and Attraction Improve Model Fusion",
    ),
    "https://goddard.blog/posts/multislerp-wow-what-a-cool-idea": Paper("Goddard, Charles", 2024, "Multi-SLERP"),
    "https://doi.org/10.1002/cpa.3160300502": Paper(
        "Karcher, Hermann", 1977, "Riemannian center of mass and mollifier smoothing"
    ),
    "https://arxiv.org/abs/2403.19522": Paper(
        "Jang, Dong-Hwan and Yun, Sangdoo and Han, Dongyoon",
        2024,
        "Model Stock: All we need is just a few fine-tuned models",
    ),
    "https://arxiv.org/abs/2212.04089": Paper(
        "Ilharco, Gabriel and others", 2022, "Editing Models with Task Arithmetic"
    ),
    "https://arxiv.org/abs/2306.01708": Paper(
        "Yadav, Prateek and others", 2023, "TIES-Merging: Resolving Interference When Merging Models"
    ),
    "https://arxiv.org/abs/2312.06795": Paper(
        "Davari, MohammadReza and Belilovsky, Eugene",
        2023,
        "Model Breadcrumbs: Scaling Multi-Task Model Merging with Sparse Masks",
    ),
    "https://arxiv.org/abs/2311.03099": Paper(
        "Yu, Le and others",
        2023,
        "Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch",
    ),
    "https://arxiv.org/abs/2406.11617": Paper(
        "Deep, Pala Tej and Bhardwaj, Rishabh and Poria, Soujanya",
        2024,
        "DELLA-Merging: Reducing Interference in Model Merging through Magnitude-Based Sampling",
    ),
    "https://arxiv.org/abs/2408.07990": Paper(
        "Wan, Fanqi and others", 2024, "FuseChat: Knowledge Fusion of Chat Models"
    ),
    "https://arxiv.org/abs/2601.13572": Paper(
        "Yuan and others", 2026, "Behavior Knowledge Merge in Reinforced Agentic Models"
    ),
    "https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001": Paper(
        "{alchemonaut}", 2024, "QuartetAnemoi-70B and NearSwap"
    ),
    "https://www.arcee.ai/blog/meet-mergekit-v0-1-arcee-fusion-expanded-model-support-multi-gpu-acceleration": Paper(
        "{Arcee AI}", 2025, "Meet MergeKit v0.1: Arcee Fusion, Expanded Model Support, Multi-GPU Acceleration"
    ),
    "https://arxiv.org/abs/2405.07813": Paper(
        "Wang, Ke and others", 2024, "Localizing Task Information for Improved Model Merging and Compression"
    ),
    "https://arxiv.org/abs/2412.00081": Paper(
        "Gargiulo, Antonio Andrea and others",
        2024,
        "Task Singular Vectors: Reducing Task Interference in Model Merging",
    ),
    "https://arxiv.org/abs/2502.04959": Paper(
        "Marczak, Daniel and others",
        2025,
        "No Task Left Behind: Isotropic Model Merging with Common and Task-Specific Subspaces",
    ),
    "https://arxiv.org/abs/2410.19735": Paper(
        "Stoica, George and others", 2024, "Model Merging with SVD to Tie the Knots"
    ),
    "https://arxiv.org/abs/2503.08099": Paper(
        "Cheng, Runxi and others",
        2025,
        "Whoever Started the Interference Should End It: Guiding Data-Free Model Merging via Task Vectors",
    ),
    "https://arxiv.org/abs/2212.09849": Paper(
        "Jin, Xisen and others", 2022, "Dataless Knowledge Fusion by Merging Weights of Language Models"
    ),
    "https://arxiv.org/abs/2111.09832": Paper(
        "Matena, Michael and Raffel, Colin", 2021, "Merging Models with Fisher-Weighted Averaging"
    ),
    "https://arxiv.org/abs/2312.15166": Paper(
        "Kim, Dahyun and others",
        2023,
        "SOLAR 10.7B: Scaling Large Language Models with Simple yet Effective Depth Up-Scaling",
    ),
}


def bibtex(urls: Iterable[str]) -> str:
    """BibTeX's entries of papers, once each, those of `PAPERS` alone.

    >>> print(bibtex(["https://doi.org/10.1002/cpa.3160300502"]))
    @misc{karcher1977riemannian,
      title = {Riemannian center of mass and mollifier smoothing},
      author = {Karcher, Hermann},
      year = {1977},
      url = {https://doi.org/10.1002/cpa.3160300502}
    }
    """
    return "\n\n".join(_entry(url, PAPERS[url]) for url in dict.fromkeys(urls) if url in PAPERS)


def key_of(paper: Paper) -> str:
    """What an entry is called: the first author's family name, the year, and the title's first word."""
    family = "".join(filter(str.isalnum, paper.authors.partition(",")[0].partition(" and ")[0]))
    return f"{family}{paper.year}{''.join(filter(str.isalnum, paper.title.split()[0]))}".lower()


def _entry(url: str, paper: Paper) -> str:
    fields = {"title": paper.title, "author": paper.authors, "year": str(paper.year), "url": url}
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@misc{{{key_of(paper)},\n{lines}\n}}"
