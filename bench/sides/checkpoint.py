"""Writes weights as a checkpoint of the form that Meta publishes, for the exporters to start from.

Runs inside the export environment:

    python bench/sides/checkpoint.py WEIGHTS.safetensors OUT.pt

OUT.pt is what torch.save makes of {"model": tensors}.
"""

import sys

import torch
from safetensors.torch import load_file


def main(weights: str, out: str) -> None:
    """Read WEIGHTS and write OUT."""
    torch.save({"model": load_file(weights)}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
