"""`invoke quantize`: an ONNX file of the user's own in 8 bits, by the stages that build targets.

The file must take one picture. Nothing of it is kept but the result, which is compared with the
original on pictures that did not calibrate before it is put where it is wanted.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelkiln.building.kiln import Kiln
from modelkiln.building.once import run_once
from modelkiln.catalog.formats import Format
from modelkiln.catalog.parameters import Value, entries
from modelkiln.catalog.pictures import (
    Pictures,
    choose_anew,
    choose_from,
    choose_own,
    name_inputs,
    picture_count,
    require_no_count,
)
from modelkiln.errors import UsageError
from modelkiln.planning.stages.calibrate import INPUTS, TENSORS
from modelkiln.runners.job import Outcome
from modelkiln.util import console
from modelkiln.util.machine import require_gpu
from modelkiln.util.places import deliver_files, require_place
from modelkiln.util.units import human_bytes

FORMATS: Final = {"int8": "onnx-int8", "fp8": "onnx-fp8"}
ENVIRONMENT: Final = "quantize"
# Scales of weights by channel came with the one, float16 scales with the other.
LEAST_OPSET: Final = {"fp32": 13, "fp16": 19}
# SAM 2's own, and what its exported encoders expect.
PREPROCESSING: Final[Mapping[str, Any]] = {
    "resize": "bilinear with antialiasing, squashed to height x width",
    "scale": "1/255",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "layout": "NCHW",
    "colour": "RGB",
}
# Where the stages find the original; nothing that they write has this folder's name.
ORIGINAL: Final = "original"


def quantize_file(
    kiln: Kiln,
    onnx_path: str,
    output_path: str,
    *,
    calib_method: str = "max",
    quant_mode: str = "int8",
    calib_size: str = "",
    use_random_calib: str = "false",
    qdq_for_weights: str = "false",
    calibration_eps: str = "cpu",
    dtype: str = "fp32",
    image_dir: str = "",
    image_file_extension: str = "jpg",
    image_input_dimension: str = "",
    op_types_to_quantize: str = "MatMul",
    layout: str = "",
    as_json: bool = False,
) -> None:
    """Quantize an ONNX file that takes one picture; say what that cost and saved.

    Options mean what the parameters of the formats onnx-int8 and onnx-fp8 mean. An empty
    one is the default; `image_input_dimension` is needed only where the graph leaves its picture's
    size open.

    Raises:
        UsageError: An option, a path, a picture or the graph is wrong.
        EnvironmentFailure: CUDA is not there.
        VerificationFailure: The result cannot be loaded, or gives no numbers.
    """
    form = _choose_format(kiln, quant_mode)
    given = {
        "calib_method": calib_method,
        "calib_size": calib_size,
        "use_random_calib": use_random_calib,
        "qdq_for_weights": qdq_for_weights,
        "calibration_eps": calibration_eps,
        "dtype": dtype,
        "image_dir": image_dir,
        "image_file_extension": image_file_extension,
        "image_input_dimension": image_input_dimension,
        "op_types_to_quantize": op_types_to_quantize,
        "layout": layout,
    }
    values = {
        name: form.parameters[name].parse(text) if text else form.parameters[name].default
        for name, text in given.items()
    }
    require_no_count(values, {name for name, text in given.items() if text})
    source, place = _find_places(onnx_path, output_path)
    pictures = _choose_pictures(kiln, values)
    work = _Work(kiln=kiln, form=form, values=values, source=source, name=place.name)
    if work.on_gpu:
        require_gpu(bool(kiln.gpu), f"calibrate {source.name}")
    report = _quantize(work, place, pictures)
    _warn(report)
    if as_json:
        console.say_json(report)
        return
    for line in _describe(report):
        console.say(line)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One call.

    Attributes:
        form: The format whose parameters and options count.
        values: The parameters' values.
        source: The user's file.
        name: What the result is called.
    """

    kiln: Kiln
    form: Format
    values: Mapping[str, Value]
    source: Path
    name: str

    @property
    def original(self) -> str:
        """The user's file, as stages know it."""
        return f"{ORIGINAL}/{self.source.name}"

    @property
    def on_gpu(self) -> bool:
        """Whether calibration runs on a GPU."""
        return entries(self.values["calibration_eps"])[0] == "cuda"

    def run(
        self, stage: str, params: Mapping[str, Any], inputs: Mapping[str, Path]
    ) -> AbstractContextManager[Outcome]:
        """Run a stage with what the catalog sets aside for it, or for `quantize`."""
        stages = self.kiln.catalog.stages
        limits = stages.get(stage, stages["quantize"])
        return run_once(
            self.kiln,
            f"{stage} {self.source.name}",
            environment=ENVIRONMENT,
            modules=(f"exporters.stages.{stage}",),
            params=params,
            inputs=inputs,
            timeout_s=limits.timeout_s,
            cpus=limits.cpus,
            memory=limits.memory(sum(path.stat().st_size for path in inputs.values())),
            gpu=stage == "calibrate" and self.on_gpu,
        )


def _choose_format(kiln: Kiln, quant_mode: str) -> Format:
    try:
        return kiln.catalog.formats[FORMATS[quant_mode]]
    except KeyError:
        raise UsageError(
            f"quant_mode cannot be {quant_mode!r}.",
            f"It is one of {', '.join(FORMATS)}.",
            "Leave --quant-mode out for the default, int8.",
        ) from None


def _find_places(onnx_path: str, output_path: str) -> tuple[Path, Path]:
    """Return the file to read, and the one to write without links and dots."""
    source, place = _read_path(onnx_path, "--onnx-path"), _read_path(output_path, "--output-path")
    if not source.is_file():
        raise UsageError(
            f"There is no file {onnx_path}.",
            "It is a folder." if source.is_dir() else "The path is wrong.",
            "Name an ONNX file with --onnx-path.",
        )
    if place.suffix != ".onnx":
        folder = place.is_dir()
        better = place / source.with_suffix(".onnx").name if folder else place.with_suffix(".onnx")
        raise UsageError(
            f"--output-path {output_path} is not an ONNX file.",
            "It is a folder." if folder else "Its name ends in .onnx.",
            f"--output-path {better}",
        )
    if not place.parent.is_dir():
        raise UsageError(
            f"--output-path {output_path} cannot be written.",
            f"There is no folder {place.parent}.",
            f"mkdir -p {place.parent}",
        )
    real = require_place(place, "--output-path", folder=False)
    _keep(source, real)
    return source, real


def _read_path(text: str, flag: str) -> Path:
    if not text:
        raise UsageError(f"{flag} is empty.", "It names an ONNX file.", f"{flag} FILE.onnx")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{flag} {text} cannot be read.", f"{error}", "Name its path.") from error


def _keep(source: Path, place: Path) -> None:
    if place.exists() and place.samefile(source):
        raise UsageError(
            f"{place} would replace {source}, which was given.",
            "It would be lost.",
            "Name another --output-path.",
        )


def _find_data(work: _Work, place: Path, names: Sequence[str]) -> dict[str, Path]:
    """Return the files that hold the weights of the user's file, as stages know them."""
    data_place = require_place(
        place.with_name(f"{place.name}.data"), "--output-path's data", folder=False
    )
    found = {}
    for name in names:
        path = work.source.parent / name
        if not path.is_file():
            raise UsageError(
                f"{work.source} has weights in {path}, which is not there.",
                "The two were parted.",
                f"Put {path.name} beside it again.",
            )
        for taken in (place, data_place):
            _keep(path, taken)
        found[f"{ORIGINAL}/{name}"] = path
    return found


def _choose_pictures(kiln: Kiln, values: Mapping[str, Value]) -> Pictures | None:
    """Return the pictures that calibrate; None for noise."""
    own = choose_own(values, choose_anew)
    if own is not None or values["use_random_calib"]:
        return own
    return choose_from(kiln.catalog.calibration, values, choose_anew)


def _quantize(work: _Work, place: Path, pictures: Pictures | None) -> dict[str, Any]:
    """Run the stages, and put the result in its place; return the report."""
    originals = {work.original: work.source}
    given = str(work.values["image_input_dimension"])
    inspection = {
        "source": work.original,
        "file": work.name,
        "shown": str(work.source),
        "sides": [int(side) for side in given.split(",")] if given else [],
    }
    with ExitStack() as stack:
        seen = stack.enter_context(work.run("inspect_graph", inspection, originals))
        if not seen.outputs:
            originals |= _find_data(work, place, seen.metrics["data"])
            seen = stack.enter_context(work.run("inspect_graph", inspection, originals))
        found, graph = seen.metrics, seen.outputs
        files = name_inputs(pictures) if pictures else {}
        calibration = _calibration(work.values, found, list(files))
        ranges = stack.enter_context(work.run("calibrate", calibration, {**graph, **files}))
        quantization = _quantization(work, found, pictures)
        inputs = {**graph, **ranges.outputs}
        done = stack.enter_context(work.run("quantize", quantization, inputs))
        made = {name: done.outputs[name] for name in graph}
        judged = _compare(work, found, originals, made)
        sizes = {"before": _bytes(originals), "after": _bytes(made)}
        deliver_files({place.with_name(name): path for name, path in made.items()})
    return {
        **judged,
        "files": [str(place.with_name(name)) for name in made],
        "mode": quantization["mode"],
        "opset": quantization["opset"],
        "picture": {"height": found["height"], "width": found["width"]},
        "options": dict(work.values),
        "calibration": {
            "digest": pictures.digest if pictures else "",
            "pictures": ranges.metrics["pictures"],
            "skipped": ranges.metrics["skipped"],
        },
        "layers": done.metrics["quantization"][found["graph"]["name"]],
        "bytes": sizes,
        "session": dict(work.form.session),
    }


def _calibration(
    values: Mapping[str, Value], found: Mapping[str, Any], pictures: Sequence[str]
) -> dict[str, Any]:
    return {
        "graphs": [found["graph"]],
        "quantized": [found["graph"]["name"]],
        "preprocessing": PREPROCESSING,
        "options": {},
        "op_types": entries(values["op_types_to_quantize"]),
        "observe": TENSORS if values["dtype"] == "fp16" else INPUTS,
        "calib_method": values["calib_method"],
        "calib_size": picture_count(values),
        "use_random_calib": values["use_random_calib"],
        "calibration_eps": entries(values["calibration_eps"]),
        "pictures": pictures,
    }


def _quantization(
    work: _Work, found: Mapping[str, Any], pictures: Pictures | None
) -> dict[str, Any]:
    least = max(work.form.opset, LEAST_OPSET[str(work.values["dtype"])])
    mode = str(work.form.options["mode"])
    about = {
        "precision": mode,
        "calibration": f"pictures {pictures.digest}" if pictures else "noise",
    }
    return {
        "mode": mode,
        "layout": work.values["layout"],
        "graphs": [found["graph"]],
        "quantized": [found["graph"]["name"]],
        "op_types": entries(work.values["op_types_to_quantize"]),
        "qdq_for_weights": work.values["qdq_for_weights"],
        "dtype": work.values["dtype"],
        "opset": max(found["opset"], least),
        "metadata": {**found["metadata"], **about},
    }


def _compare(
    work: _Work,
    found: Mapping[str, Any],
    originals: Mapping[str, Path],
    made: Mapping[str, Path],
) -> dict[str, Any]:
    """Return what the result makes of the pictures with which targets are judged too."""
    room = work.kiln.catalog.folders[0] / "pictures"
    pictures = {f"pictures/{path.name}": path for path in sorted(room.glob("*.jpg"))}
    params = {
        "before": work.original,
        "after": work.name,
        "picture": found["graph"]["inputs"][0]["name"],
        "height": found["height"],
        "width": found["width"],
        "preprocessing": PREPROCESSING,
        "session": dict(work.form.session),
        "kernels": bool(work.form.options["integer_kernels"]),
    }
    with work.run("compare_files", params, {**originals, **made, **pictures}) as outcome:
        return dict(outcome.metrics)


def _bytes(files: Mapping[str, Path]) -> int:
    return sum(path.stat().st_size for path in files.values())


def _describe(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the report in lines."""
    layers, calibration, sizes = report["layers"], report["calibration"], report["bytes"]
    noise = report["options"]["use_random_calib"]
    shown = "noise" if noise else f"{calibration['pictures']} pictures"
    yield (
        f"{layers['quantized']} layers in {report['mode']}: "
        f"{report['options']['calib_method']} over {shown}"
    )
    for reason, count in Counter(one["reason"] for one in layers["left_out"]).items():
        yield f"{count} left as they were: {reason}"
    for reason in calibration["skipped"].values():
        yield f"not used: {reason}"
    yield f"{', '.join(report['pictures'])} in {report['runtime']}, against the graph as it was:"
    for row in report["outputs"]:
        ratio = "equal" if row["snr_db"] is None else f"SNR {row['snr_db']:.1f} dB"
        yield f"  {row['tensor']}: {ratio}, cosine {row['cosine']:.6f}"
    before, after = sizes["before"], sizes["after"]
    yield f"size: {human_bytes(after)} of {human_bytes(before)}, {after / before:.0%}"
    if "integer_kernels" in report:
        yield f"integer kernels on the CPU: {report['integer_kernels']}"
    for name, value in report["session"].items():
        yield f'every session of onnxruntime needs the configuration entry {name} = "{value}"'
    for path in report["files"]:
        yield f"written: {path}"


def _warn(report: Mapping[str, Any]) -> None:
    """Say where onnxruntime computes in float32 what was quantized."""
    planned, found = report["layers"]["integer_kernels"], report.get("integer_kernels")
    if found is not None and found < planned:
        console.warn(
            f"onnxruntime's CPU provider computes {planned - found} of {planned} quantized layers "
            "in float32: the file is smaller, and no faster there."
        )
