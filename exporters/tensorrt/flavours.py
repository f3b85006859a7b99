"""The flavours of TensorRT: what the bindings of each are called, and what it has of its own.

Everything else here takes the bindings as an argument `trt`: names that all flavours share are used
without asking, those of one flavour alone where its row says so.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from exporters.protocol import ENVIRONMENT_MISSING, StageError


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """A flavour of TensorRT.

    Attributes:
        title: What it is called.
        module: Its Python bindings.
        names_gpus: Whether an engine is built for GPUs that are named, by compute capability, and
            needs none of them to be there.
        header: Whether its engines begin with what `exporters.tensorrt.header` reads.
    """

    title: str
    module: str
    names_gpus: bool
    header: bool


FLAVOURS: Final[Mapping[str, Flavour]] = {
    "rtx": Flavour(
        title="TensorRT for RTX",
        module="tensorrt_rtx_bindings",
        names_gpus=True,
        header=True,
    ),
}


def load_bindings(name: str) -> Any:
    """Import the bindings of a flavour.

    Raises:
        StageError: They are missing, or their library cannot be loaded (exit code 4).
    """
    flavour = FLAVOURS[name]
    try:
        return importlib.import_module(flavour.module)
    except (ImportError, OSError) as error:
        raise StageError(
            f"{flavour.title} cannot be loaded.",
            f"Python says: {error}.",
            "invoke doctor says whether the environment is complete; invoke env.prune removes it, "
            "so that the next build installs it anew.",
            exit_code=ENVIRONMENT_MISSING,
        ) from error
