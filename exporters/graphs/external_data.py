"""Weights in a file beside their graph, laid out by one rule.

Protobuf ends at 2 GB; a contract gives a graph that needs more a `data` file. Every initializer of
64 KiB or more then lies there, by name, each at a multiple of 64 KiB (where Windows can map it as
well), with zeros in the gaps and nothing behind the last. A graph without one holds all it needs.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from exporters.graphs.structure import all_graphs, is_external, read_graph, size_of, write_graph
from exporters.protocol import StageError

ALIGNMENT: Final = 65536
SMALLEST: Final = 65536

_CHUNK: Final = 1 << 24

Entries = dict[str, str]


def files_of(golden: Mapping[str, Any]) -> list[str]:
    """Return the files of a contract's graph: the graph itself, and its data file if it has one."""
    data = golden.get("data")
    return [golden["file"], data] if data else [golden["file"]]


def total_bytes(files: Iterable[Path]) -> int:
    """Return how many bytes some files have together."""
    return sum(file.stat().st_size for file in files)


def lay_out(model: ModelProto, location: str) -> dict[str, Entries]:
    """Return where the larger initializers of a model lie: ONNX's entries by the tensors' names, in
    order.

    Args:
        model: The graph; where its tensors lie now does not matter.
        location: The data file's name.
    """
    places: dict[str, Entries] = {}
    end = 0
    for tensor in sorted(model.graph.initializer, key=lambda tensor: tensor.name):
        length = size_of(tensor)
        if length >= SMALLEST:
            offset = -(-end // ALIGNMENT) * ALIGNMENT
            places[tensor.name] = {
                "location": location,
                "offset": str(offset),
                "length": str(length),
            }
            end = offset + length
    return places


def write_files(model: ModelProto, golden: Mapping[str, Any], out: Path, source: Path) -> None:
    """Write a graph as its contract wants it: one file, or two.

    The weights go from file to file in pieces and are never in memory together.

    Args:
        model: The graph; its tensors are changed to lie where they are written.
        golden: The contract's graph.
        out: The folder to write to.
        source: The folder that holds the files in which the model's tensors lie now.

    Raises:
        StageError: One of those files ends too early.
    """
    data = golden.get("data")
    places = lay_out(model, PurePosixPath(data).name) if data else {}
    for tensor in _tensors(model):
        if is_external(tensor) and tensor.name not in places:
            _take_in(tensor, source)
    if data:
        by_name = {tensor.name: tensor for tensor in model.graph.initializer}
        with (out / data).open("wb") as file:
            for name, entries in places.items():
                file.seek(int(entries["offset"]))
                for piece in _pieces(by_name[name], source):
                    file.write(piece)
                _point_to(by_name[name], entries)
    write_graph(model, out / golden["file"])


def collect(traced: Path, golden: Mapping[str, Any], out: Path) -> None:
    """Bring a traced graph into its contract's files.

    A graph over 2 GB is traced into a file for each tensor, beside the graph.

    Args:
        traced: The graph, in a folder that is its own; both are gone afterwards.
        golden: The contract's graph.
        out: The folder to write to.

    Raises:
        StageError: It takes more than one file, and the contract has no data file for it.
    """
    if golden.get("data"):
        write_files(read_graph(traced), golden, out, traced.parent)
    elif any(file != traced for file in traced.parent.iterdir()):
        raise StageError(
            f"The graph {golden['name']} is larger than the 2 GB at which an ONNX file ends.",
            f"Its contract has no data file beside {golden['file']} for the weights.",
            "Give the graph `data` in the contract's file in catalog/contracts.",
        )
    else:
        traced.replace(out / golden["file"])
    shutil.rmtree(traced.parent)


def read_values(tensor: TensorProto, source: Path) -> NDArray[Any]:
    """Return the values of a tensor that may lie in a file of the folder `source`."""
    whole = TensorProto()
    whole.CopyFrom(tensor)
    if is_external(whole):
        _take_in(whole, source)
    return onnx.numpy_helper.to_array(whole)


def take_in_all(model: ModelProto, source: Path) -> None:
    """Read into a model what lies in files of the folder `source`."""
    for tensor in _tensors(model):
        if is_external(tensor):
            _take_in(tensor, source)


def data_beside(path: Path) -> list[Path]:
    """Return the data files of a graph, which lie beside it."""
    model = read_graph(path)
    places = {_entries(one)["location"] for one in _tensors(model) if is_external(one)}
    return [path.parent / place for place in sorted(places)]


def bring_beside(files: Iterable[Path], folder: Path) -> None:
    """Put data files into a folder under their own names, as files and not as links.

    Newer releases of onnxruntime refuse a data file whose real path lies outside of the folder of
    its graph, as that of a link into a store does.

    Args:
        files: The files, or links to them.
        folder: Where they are wanted, on the same disk if they are not to be copied.
    """
    for file in files:
        try:
            os.link(file.resolve(), folder / file.name)
        except OSError:
            shutil.copyfile(file, folder / file.name)


def find_data_faults(model: ModelProto, golden: Mapping[str, Any], data: Path | None) -> list[str]:
    """Return what is wrong with where a graph's weights lie, in words; empty when nothing is.

    Args:
        model: The graph, read without its data file.
        golden: The contract's graph.
        data: The data file, or None where the contract has none.
    """
    location = PurePosixPath(golden.get("data") or "").name
    wanted = lay_out(model, location) if data else {}
    found = {tensor.name: _entries(tensor) for tensor in _tensors(model) if is_external(tensor)}
    wrong = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
    if wrong:
        first = wrong[0]
        return [
            f"{len(wrong)} weights do not lie where they should, first {first}: "
            f"{_describe(found.get(first))}, not {_describe(wanted.get(first))}"
        ]
    return _find_file_faults(wanted, data) if data else []


def _find_file_faults(places: Mapping[str, Entries], data: Path) -> list[str]:
    """Look at a data file's length and gaps; the weights themselves are for the parity check."""
    extents = [(int(one["offset"]), int(one["length"])) for one in places.values()]
    end = sum(extents[-1]) if extents else 0
    size = data.stat().st_size
    if size != end:
        return [f"its data file has {size} bytes, not {end}"]
    last = 0
    with data.open("rb") as file:
        for offset, length in extents:
            file.seek(last)
            if any(file.read(offset - last)):
                return [f"its data file has something between the weights, before byte {offset}"]
            last = offset + length
    return []


def _describe(entries: Entries | None) -> str:
    if entries is None:
        return "inside the graph"
    return f"{entries.get('location')} at {entries.get('offset')} + {entries.get('length')}"


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor of a model: initializers and attributes, inner graphs' included."""
    for graph in all_graphs(model.graph):
        yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t


def _entries(tensor: TensorProto) -> Entries:
    return {entry.key: entry.value for entry in tensor.external_data}


def _point_to(tensor: TensorProto, entries: Entries) -> None:
    name, kind, dims = tensor.name, tensor.data_type, list(tensor.dims)
    tensor.Clear()
    tensor.name, tensor.data_type = name, kind
    tensor.dims.extend(dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _take_in(tensor: TensorProto, source: Path) -> None:
    tensor.raw_data = b"".join(_pieces(tensor, source))
    tensor.ClearField("data_location")
    tensor.ClearField("external_data")


def _pieces(tensor: TensorProto, source: Path) -> Iterator[bytes]:
    """Yield the bytes of a tensor, little-endian, wherever they lie."""
    if not is_external(tensor):
        yield tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
        return
    entries = _entries(tensor)
    with (source / entries["location"]).open("rb") as file:
        file.seek(int(entries.get("offset", 0)))
        yield from _read(file, size_of(tensor), tensor.name)


def _read(file: BinaryIO, size: int, name: str) -> Iterator[bytes]:
    while size:
        piece = file.read(min(size, _CHUNK))
        if not piece:
            raise StageError(
                f"The file of the weight {name} ends {size} bytes too early.",
                "The exporter did not finish it, or it was changed since.",
                "Build it again.",
            )
        size -= len(piece)
        yield piece
