"""What stages import of others, for the process that all of them are forked from.

Upstream's own packages are left out: `export` wants to be the first that loads them.
"""

import gc

import huggingface_hub.utils  # noqa: F401
import hydra.compose
import hydra.utils  # noqa: F401
import iopath.common.file_io  # noqa: F401
import onnxruntime  # noqa: F401
import onnxsim  # noqa: F401
import onnxslim  # noqa: F401
import safetensors.torch  # noqa: F401
import torch.distributed
import torch.onnx  # noqa: F401
import torchvision.models
import torchvision.transforms  # noqa: F401
from hydra.core.plugins import Plugins

# Hydra looks for its plugins once in a process.
Plugins.instance()
# What is there already is not looked at again, so that forked processes go on sharing it.
gc.freeze()
