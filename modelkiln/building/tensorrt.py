"""What a target's ONNX graphs need in TensorRT: shapes, as onnxruntime's providers and trtexec take
them.

The syntax is theirs: `name:1x2x256` for an input, commas between inputs. Both want every input with
a dynamic axis, and no other.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelkiln.catalog.profiles import WHICH, Shapes, is_dynamic, spell_shapes
from modelkiln.catalog.target import Target

# Types are those of the graph: TensorRT 10 has to be told, 11 knows no other way. Float32 products
# in float32, as they were verified, are asked of 10 alone: whether the trtexec of 11 has the option
# is not confirmed.
_FLAGS: Final[Mapping[str, Sequence[str]]] = {"10": ("--stronglyTyped", "--noTF32"), "11": ()}


def describe_tensorrt(target: Target) -> dict[str, Any] | None:
    """Return, by graph, what TensorRT needs for a target's files.

    Each graph has `trtexec`, a line for each major version, and if it has dynamic axes `shapes` (by
    input: min, opt and max) with the options of onnxruntime's providers, `trt` for
    TensorrtExecutionProvider and `nv` for NvTensorRTRTXExecutionProvider.

    Returns:
        None where TensorRT's parser refuses the format, or the contract has no profile.
    """
    if not target.fits_tensorrt:
        return None
    if not target.contract.profile and any(
        is_dynamic(value) for graph in target.graphs for value in graph["inputs"]
    ):
        return None
    return {
        graph["name"]: _describe_graph(graph, target.profiles[graph["name"]])
        for graph in target.graphs
    }


def _describe_graph(graph: Mapping[str, Any], shapes: Shapes) -> dict[str, Any]:
    dynamic = spell_shapes(graph, shapes)
    texts = {which: write_shapes(dynamic, which) for which in WHICH} if dynamic else {}
    described: dict[str, Any] = {
        "trtexec": {
            version: " ".join(
                [
                    "trtexec",
                    f"--onnx={graph['file']}",
                    f"--saveEngine={graph['name']}.engine",
                    *flags,
                    *(f"--{which}Shapes={text}" for which, text in texts.items()),
                ]
            )
            for version, flags in _FLAGS.items()
        }
    }
    if dynamic:
        described["shapes"] = dynamic
        for name in ("trt", "nv"):
            described[name] = {
                f"{name}_profile_{which}_shapes": text for which, text in texts.items()
            }
    return described


def write_shapes(shapes: Mapping[str, Mapping[str, list[int]]], which: str) -> str:
    """Return the smallest, best or largest shapes of inputs as one text."""
    return ",".join(f"{name}:{'x'.join(map(str, sizes[which]))}" for name, sizes in shapes.items())
