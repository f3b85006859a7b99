"""Small ONNX graphs, written byte by byte: the host environment has no onnx."""

import struct
from collections.abc import Sequence
from pathlib import Path

FLOAT, INT64 = 1, 7


def varint(value: int) -> bytes:
    """A protobuf variable-length integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: int | str | bytes) -> bytes:
    """One protobuf field: an integer, or anything that has a length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def value_info(name: str, dims: Sequence[int | str], kind: int = FLOAT) -> bytes:
    """ValueInfoProto: an int is a fixed dim, a string a free one."""
    shape = b"".join(field(1, field(1 if isinstance(dim, int) else 2, dim)) for dim in dims)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def tensor(name: str, dims: Sequence[int], values: Sequence[float]) -> bytes:
    """TensorProto of float32, or of int64 where all values are int."""
    whole = all(isinstance(value, int) for value in values)
    raw = struct.pack(f"<{len(values)}{'q' if whole else 'f'}", *values)
    sizes = b"".join(field(1, dim) for dim in dims)
    return sizes + field(2, INT64 if whole else FLOAT) + field(8, name) + field(9, raw)


def node(kind: str, inputs: Sequence[str], output: str) -> bytes:
    """NodeProto without attributes."""
    return b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind)


def model(
    *,
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    constants: Sequence[bytes],
    declared: Sequence[bytes] = (),
) -> bytes:
    """ModelProto, opset 18."""
    parts = [(1, nodes), (5, constants), (11, inputs), (12, outputs), (13, declared)]
    graph = b"".join(field(number, one) for number, group in parts for one in group)
    return field(1, 8) + field(7, graph + field(2, "graph")) + field(8, field(2, 18))


def write_graphs(
    folder: Path,
    *,
    scale: float = 3.0,
    wrong_rank: bool = False,
    constant: bool = False,
    image: Sequence[int | str] = (1, 3, 4, 4),
) -> Path:
    """Writes an encoder and a decoder of a few bytes.

    encoder: image_embed = Conv(image) x scale, the weights being 0.5, -1, 2 for the three channels.
    decoder: masks = image_embed + mean of point_coords, over all points of a prompt set.

    Args:
        wrong_rank: Declares the convolution's result to be a scalar, as samexporter's graphs do.
        constant: Lets the encoder put out zeros whatever comes in.
        image: What the encoder declares of its input.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = [0.0, 0.0, 0.0] if constant else [0.5, -1.0, 2.0]
    encoder = model(
        nodes=[
            node("Conv", ["image", "kernel"], "features"),
            node("Mul", ["features", "scale"], "image_embed"),
        ],
        inputs=[value_info("image", image)],
        outputs=[value_info("image_embed", [1, 1, 4, 4])],
        constants=[tensor("kernel", [1, 3, 1, 1], weights), tensor("scale", [1], [scale])],
        declared=[value_info("features", [] if wrong_rank else [1, 1, 4, 4])],
    )
    decoder = model(
        nodes=[
            node("ReduceMean", ["point_coords", "all_but_first"], "mean"),
            node("Unsqueeze", ["mean", "second"], "mean_of_set"),
            node("Add", ["image_embed", "mean_of_set"], "masks"),
        ],
        inputs=[
            value_info("image_embed", [1, 1, 4, 4]),
            value_info("point_coords", ["num_labels", "num_points", 2]),
        ],
        outputs=[value_info("masks", ["num_labels", 1, 4, 4])],
        constants=[tensor("all_but_first", [2], [1, 2]), tensor("second", [1], [1])],
    )
    (folder / "encoder.onnx").write_bytes(encoder)
    (folder / "decoder.onnx").write_bytes(decoder)
    return folder
