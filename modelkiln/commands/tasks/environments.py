"""The tasks `env.*`, `image.*` and `pins.*`."""

from typing import TYPE_CHECKING

from modelkiln.commands.task import command

if TYPE_CHECKING:
    from modelkiln.building.kiln import Kiln


@command("list")
def env_list(kiln: "Kiln", json: bool = False) -> None:
    """List the installed environments."""
    from modelkiln.commands.env import list_installed

    list_installed(kiln, as_json=json)


@command(
    "prune",
    help={
        "all": "remove those of this checkout as well",
        "licensed": "remove also those whose licence forbids to hand them on, before a cache is",
    },
)
def env_prune(
    kiln: "Kiln",
    all: bool = False,  # noqa: A002
    licensed: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Remove the environments that no lock of this checkout asks for."""
    from modelkiln.commands.env import prune_installed

    prune_installed(kiln, everything=all, licensed=licensed, dry_run=dry_run, as_json=json)


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
