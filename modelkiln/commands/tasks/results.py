"""Tasks that use and show what was built."""

from typing import TYPE_CHECKING

from modelkiln.commands.task import command

if TYPE_CHECKING:
    from modelkiln.building.kiln import Kiln


@command(
    iterable=["point", "box"],
    help={
        "image": "a picture: JPEG, PNG or WebP",
        "point": "a prompt, where the contract takes them: x,y[,label] in pixels; label 1 is inside"
        " (default), 0 outside; may be repeated",
        "box": "a prompt: x0,y0,x1,y1 in pixels; may be repeated",
        "mask": "a prompt: a mask to start from, a PNG of the picture's size",
        "out": "where the overlay goes (default: overlay.png); other pictures go beside it, such as"
        " overlay.mask.png",
    },
)
def predict(
    kiln: "Kiln",
    target: str,
    image: str,
    point: list[str] = [],  # noqa: B006 (Invoke replaces it)
    box: list[str] = [],  # noqa: B006
    mask: str = "",
    out: str = "overlay.png",
    json: bool = False,
) -> None:
    """Show what a built target makes of a picture, by its ONNX graphs alone."""
    from modelkiln.commands.predict import predict_picture

    predict_picture(kiln, target, image, points=point, boxes=box, mask=mask, out=out, as_json=json)


@command(
    iterable=["point", "box"],
    help={
        "video": "a video file, or a folder of pictures, taken in the natural order of their names",
        "box": "[OBJECT:]x0,y0,x1,y1[@FRAME] in pixels, FRAME from 0 (default); boxes without"
        " OBJECT are objects 1, 2, ... in turn; may be repeated",
        "point": "[OBJECT:]x,y[,label][@FRAME]; label 1 is inside (default), 0 outside; without"
        " OBJECT the points of a frame are one new object; on a later frame than an object's first"
        " they correct it; may be repeated",
        "out": "a file that ends in .mp4 (default: overlay.mp4), or a folder for PNG frames",
        "masks": "a folder for the masks too: PNG, a pixel is its object's number",
    },
)
def track(
    kiln: "Kiln",
    target: str,
    video: str,
    box: list[str] = [],  # noqa: B006 (Invoke replaces it)
    point: list[str] = [],  # noqa: B006
    out: str = "overlay.mp4",
    masks: str = "",
    json: bool = False,
) -> None:
    """Follow objects through a video with a built target, by its ONNX graphs alone."""
    from modelkiln.commands.track import track_video

    track_video(kiln, target, video, boxes=box, points=point, out=out, masks=masks, as_json=json)


@command()
def inspect(kiln: "Kiln", targets: str, json: bool = False) -> None:
    """Show a built target: contract, operators, sizes, checks, provenance; of several, engines."""
    from modelkiln.commands.inspect import inspect_targets

    inspect_targets(kiln, targets, as_json=json)


@command(help={"out": "where the HTML page goes (default: TARGET's folder name .html)"})
def report(kiln: "Kiln", target: str, out: str = "", json: bool = False) -> None:
    """Write the HTML report of a built target."""
    from modelkiln.commands.report import write_target_report

    write_target_report(kiln, target, out, as_json=json)


@command(
    parameters=True,
    help={
        "models": "globs of models, separated by commas (default: all)",
        "out": "where the report goes (default: weights-check.html)",
    },
)
def weights_check(
    kiln: "Kiln", models: str = "*", out: str = "weights-check.html", json: bool = False
) -> None:
    """Build models from real weights, run every gate, and write one report."""
    from modelkiln.commands.weights_check import check_weights

    check_weights(kiln, models, out, as_json=json)
