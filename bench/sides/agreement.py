"""Says how far tensors in files are from the first of them.

Runs inside the export environment, and prints one line of JSON:

    python -m bench.sides.agreement FIRST.npy OTHER.npy [OTHER.npy ...]

    {"differences": [D, ...], "deviation": S}

D is the largest difference of OTHER from FIRST, relative to FIRST's largest value; S is FIRST's
standard deviation.
"""

import json
import sys

import numpy as np


def main(first: str, *others: str) -> None:
    """Read the files and print."""
    wanted = np.load(first)
    scale = np.abs(wanted).max()
    found = [np.load(path) for path in others]
    if any(one.shape != wanted.shape for one in found):
        raise ValueError("the tensors are of different shapes")
    # A NaN stays one: it is no small difference.
    apart = [float(np.abs(one - wanted).max() / scale) for one in found]
    print(json.dumps({"differences": apart, "deviation": float(wanted.std())}))


if __name__ == "__main__":
    main(*sys.argv[1:])
