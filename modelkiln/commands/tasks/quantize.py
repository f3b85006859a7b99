"""The task that quantizes a file of the user's own."""

from typing import TYPE_CHECKING

from modelkiln.commands.task import choose_folder, command

if TYPE_CHECKING:
    from modelkiln.building.kiln import Kiln


@command(
    help={
        "onnx_path": "the file: its one input is a picture",
        "output_path": "where the result goes",
        "calib_size": "how many pictures calibrate (default: as many as the catalog has)",
        "quant_mode": "int8 (default) or fp8",
    },
)
def quantize(
    kiln: "Kiln",
    onnx_path: str,
    output_path: str,
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
    calibration: str = "",
    json: bool = False,
) -> None:
    """Quantize an ONNX file of your own, as the formats onnx-int8 and onnx-fp8 are made."""
    from modelkiln.commands.quantize import quantize_file

    quantize_file(
        kiln,
        onnx_path,
        output_path,
        calib_method=calib_method,
        quant_mode=quant_mode,
        calib_size=calib_size,
        use_random_calib=use_random_calib,
        qdq_for_weights=qdq_for_weights,
        calibration_eps=calibration_eps,
        dtype=dtype,
        image_dir=choose_folder(image_dir, calibration),
        image_file_extension=image_file_extension,
        image_input_dimension=image_input_dimension,
        op_types_to_quantize=op_types_to_quantize,
        layout=layout,
        as_json=json,
    )
