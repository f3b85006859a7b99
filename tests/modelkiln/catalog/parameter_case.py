"""Tables of parameters, of each kind one, and what is read from them."""

from pathlib import Path
from typing import Any

from modelkiln.catalog.parameter_tables import read_parameters

TABLES: dict[str, dict[str, Any]] = {
    "size": {
        "default": "518x518",
        "multiple": 14,
        "most_pixels": 1036 * 1036,
        "token": "px{}",
        "stages": ["export"],
        "help": "in pixels",
    },
    "opset": {"default": 18, "choices": [17, 18], "token": "opset{}", "stages": ["export"]},
    "crop": {"default": "28x42", "choices": ["28x42"], "token": "{}", "stages": []},
}
FILE = Path("features.toml")
PARAMETERS = read_parameters(TABLES, FILE)
SIZE, OPSET = PARAMETERS["size"], PARAMETERS["opset"]
MORE: dict[str, dict[str, Any]] = {
    "count": {"default": 16, "least": 1, "most": 4096, "token": "calib{}", "stages": []},
    "kinds": {
        "default": "MatMul",
        "list_of": ["MatMul", "Conv"],
        "token": "ops-{}",
        "stages": [],
        "refused": {"softmax": "It stays."},
    },
    "devices": {
        "default": "cpu",
        "list_of": ["cuda", "cpu"],
        "first_counts": True,
        "token": "{}",
        "stages": [],
    },
    "noise": {"default": False, "choices": [False, True], "token": "noise-{}", "stages": []},
    "sides": {"default": "", "kind": "sides", "token": "{}", "stages": []},
    "folder": {"default": "", "kind": "pictures", "token": "images-{}", "stages": []},
}
OTHERS = read_parameters(MORE, FILE, "format")
