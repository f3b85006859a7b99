"""The front door: `invoke --list` shows it. Each task calls one function of modelkiln."""

# The bodies import what they call, so that a task starts as fast as its own work allows.

from typing import TYPE_CHECKING

from invoke.collection import Collection

from bench.tasks import benches
from modelkiln.commands.task import choose_folder, command

if TYPE_CHECKING:
    from modelkiln.building.kiln import Kiln


@command(
    remembered=True,
    help={
        "until": "stop after this stage (ingest, export, convert, calibrate, quantize); nothing is"
        " published then"
    },
)
def build(
    kiln: "Kiln", targets: str, until: str = "", dry_run: bool = False, json: bool = False
) -> None:
    """Build and verify targets; what passes lands in artifacts/out/TARGET."""
    from modelkiln.commands.build import build_targets

    build_targets(kiln, targets, until=until, dry_run=dry_run, as_json=json)


@command(remembered=True)
def build_all(kiln: "Kiln", dry_run: bool = False, json: bool = False) -> None:
    """Build everything that this machine can; the rest is listed with the reason."""
    from modelkiln.commands.build import build_all as build_everything

    build_everything(kiln, dry_run=dry_run, as_json=json)


@command()
def targets(kiln: "Kiln", json: bool = False) -> None:
    """List every target, with default parameters."""
    from modelkiln.commands.plan import list_targets

    list_targets(kiln, as_json=json)


@command(
    help={
        "explain": "name what changed in the key of each step that would run",
        "format": "text (default), json, or github: the matrix of a GitHub Actions workflow",
    }
)
def plan(
    kiln: "Kiln",
    targets: str,
    explain: bool = False,
    format: str = "text",  # noqa: A002
    json: bool = False,
) -> None:
    """Show the steps that targets need, and which of them would run."""
    from modelkiln.commands.plan import show_plan_as

    show_plan_as(kiln, targets, "json" if json else format, why=explain)


@command()
def verify(kiln: "Kiln", targets: str, json: bool = False) -> None:
    """Check built targets anew: their files' bytes, then every gate."""
    from modelkiln.commands.verify import verify_targets

    verify_targets(kiln, targets, as_json=json)


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


@command(
    parameters=False,
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


@command()
def inspect(kiln: "Kiln", target: str, json: bool = False) -> None:
    """Show a built target: contract, operators, sizes, checks, provenance."""
    from modelkiln.commands.inspect import inspect_target

    inspect_target(kiln, target, as_json=json)


@command(help={"out": "where the HTML page goes (default: TARGET's folder name .html)"})
def report(kiln: "Kiln", target: str, out: str = "", json: bool = False) -> None:
    """Write the HTML report of a built target."""
    from modelkiln.commands.report import write_target_report

    write_target_report(kiln, target, out, as_json=json)


@command()
def reproduce(kiln: "Kiln", target: str, json: bool = False) -> None:
    """Build a target twice under different conditions and compare every byte."""
    from modelkiln.commands.reproduce import reproduce_target

    reproduce_target(kiln, target, as_json=json)


@command(anywhere=True)
def doctor(kiln: "Kiln", json: bool = False) -> None:
    """Say what this machine can and cannot build, and how to mend it."""
    from modelkiln.commands.doctor import examine

    examine(kiln, as_json=json)


@command(
    help={
        "models": "globs of models, separated by commas (default: all)",
        "out": "where the report goes (default: weights-check.html)",
    }
)
def weights_check(
    kiln: "Kiln", models: str = "*", out: str = "weights-check.html", json: bool = False
) -> None:
    """Build models from real weights, run every gate, and write one report."""
    from modelkiln.commands.weights_check import check_weights

    check_weights(kiln, models, out, as_json=json)


@command(help={"out": "folder for the pictures and the report"})
def quickstart(kiln: "Kiln", out: str = "", json: bool = False) -> None:
    """Build SAM 2.1 tiny, segment a photograph, and show the result."""
    from modelkiln.commands.quickstart import run_quickstart

    run_quickstart(kiln, out, as_json=json)


@command(
    "test",
    help={
        "only": "lint, host, exporters, quantize, containers, full-size, thorough; several with"
        " commas"
    },
)
def run_tests(kiln: "Kiln", only: str = "", json: bool = False) -> None:
    """Run the linters and all tests, the full-size tiny model included."""
    from modelkiln.commands.test import run_tests as run_parts

    run_parts(kiln, only, as_json=json)


@command()
def lint(kiln: "Kiln", json: bool = False) -> None:
    """Run ruff and mypy."""
    from modelkiln.commands.test import run_tests as run_parts

    run_parts(kiln, "lint", as_json=json)


@command("verify", help={"repair": "set damaged files aside, so that the next build makes them"})
def store_verify(kiln: "Kiln", repair: bool = False, json: bool = False) -> None:
    """Read every file of the store and compare it with its digest."""
    from modelkiln.commands.store import verify_store

    verify_store(kiln, repair=repair, as_json=json)


@command("gc", help={"days": "keep what was built in the last so many days as well"})
def store_gc(kiln: "Kiln", days: int = 0, dry_run: bool = False, json: bool = False) -> None:
    """Remove what no published target needs."""
    from modelkiln.commands.store import collect_garbage

    collect_garbage(kiln, days=days, dry_run=dry_run, as_json=json)


@command("list")
def env_list(kiln: "Kiln", json: bool = False) -> None:
    """List the installed environments."""
    from modelkiln.commands.env import list_installed

    list_installed(kiln, as_json=json)


@command("prune", help={"all": "remove those of this checkout as well"})
def env_prune(
    kiln: "Kiln",
    all: bool = False,  # noqa: A002
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Remove the environments that no lock of this checkout asks for."""
    from modelkiln.commands.env import prune_installed

    prune_installed(kiln, everything=all, dry_run=dry_run, as_json=json)


@command("build", help={"name": "the environment", "rebuild": "build it anew, without any cache"})
def image_build(kiln: "Kiln", name: str, rebuild: bool = False, json: bool = False) -> None:
    """Build the image of an environment from its lock, and test it."""
    from modelkiln.commands.image import build_image

    build_image(kiln, name, rebuild=rebuild, as_json=json)


@command("list")
def image_list(kiln: "Kiln", json: bool = False) -> None:
    """List the images that modelkiln has built."""
    from modelkiln.commands.image import list_images

    list_images(kiln, as_json=json)


@command("prune", help={"all": "remove those of this checkout as well"})
def image_prune(
    kiln: "Kiln",
    all: bool = False,  # noqa: A002
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Remove the images that no lock of this checkout asks for, and what failed builds left."""
    from modelkiln.commands.image import prune_images

    prune_images(kiln, everything=all, dry_run=dry_run, as_json=json)


@command("sbom", help={"name": "the environment", "out": "file (default: standard output)"})
def image_sbom(kiln: "Kiln", name: str, out: str = "") -> None:
    """Write the bill of materials of an environment's image, as CycloneDX JSON."""
    from modelkiln.commands.sbom import write_sbom

    write_sbom(kiln, name, out)


@command("check")
def pins_check(kiln: "Kiln", json: bool = False) -> None:
    """Check that everything is pinned and every lock is up to date."""
    from modelkiln.commands.pins import check_pins

    check_pins(kiln, as_json=json)


@command(
    "lock",
    help={
        "name": "the lock: host, dev, or an environment; invoke pins.check names them",
        "cpu": "with PyTorch's CPU packages, into a file of its own",
        "upgrade": "take the newest versions that the requirements allow",
    },
)
def pins_lock(
    kiln: "Kiln", name: str, cpu: bool = False, upgrade: bool = False, json: bool = False
) -> None:
    """Make a lock anew from its requirements.in."""
    from modelkiln.commands.pins import lock_requirements

    lock_requirements(kiln, name, cpu=cpu, upgrade=upgrade, as_json=json)


ns = Collection(
    quickstart,
    targets,
    plan,
    build,
    build_all,
    verify,
    predict,
    track,
    quantize,
    inspect,
    report,
    reproduce,
    weights_check,
    doctor,
    run_tests,
    lint,
)
ns.add_collection(Collection("store", store_verify, store_gc))
ns.add_collection(Collection("env", env_list, env_prune))
ns.add_collection(Collection("image", image_build, image_list, image_prune, image_sbom))
ns.add_collection(Collection("pins", pins_check, pins_lock))
ns.add_collection(benches)
