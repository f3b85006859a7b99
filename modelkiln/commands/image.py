"""`invoke image.build`, `image.list` and `image.prune`."""

import time
from collections.abc import Iterator

from modelkiln.building.kiln import Kiln
from modelkiln.environments.environment import Environment, require_dockerfile
from modelkiln.util import console
from modelkiln.util.console import show_progress
from modelkiln.util.units import human_bytes


def build_image(
    kiln: Kiln, name: str = "", *, rebuild: bool = False, as_json: bool = False
) -> None:
    """Build the image of an environment, or of all, where it is not there.

    Raises:
        UsageError: There is no such environment.
        EnvironmentFailure, PinError, OutOfSpace, NotReproducible: It is unavailable.
    """
    wanted = [kiln.provisioner.environment(name)] if name else list(_environments(kiln))
    for one in wanted:
        require_dockerfile(one)
    bases = [kiln.provisioner.base(one) for one in wanted]
    from modelkiln.containers.images import ensure_image
    from modelkiln.containers.owner import open_engine

    engine = open_engine()
    built = []
    for one, base in zip(wanted, bases, strict=True):
        with show_progress(f"image {one.name}") as on_progress:
            image = ensure_image(
                engine,
                one,
                base,
                cache=kiln.cache,
                offline=kiln.options.offline,
                rebuild=rebuild,
                on_progress=on_progress,
            )
        built.append(image)
        if not as_json:
            console.say(f"{image.name}  {human_bytes(image.bytes)}  {image.id}")
    if as_json:
        console.say_json(
            [
                {
                    "name": one.name,
                    "id": one.id,
                    "layers": list(one.layers),
                    "bytes": one.bytes,
                }
                for one in built
            ]
        )


def list_images(kiln: Kiln, *, as_json: bool = False) -> None:
    """Print the images that modelkiln made, newest first, and whether this checkout needs them."""
    from modelkiln.containers import pruning
    from modelkiln.containers.owner import open_engine

    engine = open_engine()
    found = pruning.list_images(engine)
    needed = _needed(kiln, engine.kind)
    if as_json:
        console.say_json(
            [
                {
                    "name": one.name,
                    "kind": str(one.kind),
                    "id": one.id,
                    "digest": one.digest,
                    "bytes": one.bytes,
                    "needed": one.name in needed,
                }
                for one in found
            ]
        )
        return
    if not found:
        console.say(f"modelkiln made no image on {engine}")
        return
    console.say_table(
        ("name", "kind", "size", "made", "needed"),
        [
            (
                one.name or one.id.removeprefix("sha256:")[:12],
                one.kind,
                human_bytes(one.bytes),
                f"{max(0.0, time.time() - one.created) / 86400:.0f} days ago",
                "yes" if one.name in needed else "no",
            )
            for one in found
        ],
    )


def prune_images(
    kiln: Kiln, *, everything: bool = False, dry_run: bool = False, as_json: bool = False
) -> None:
    """Remove the images that no environment of this checkout needs, or all that modelkiln made."""
    from modelkiln.containers import pruning
    from modelkiln.containers.owner import open_engine

    engine = open_engine()
    gone = pruning.prune_images(
        engine,
        _needed(kiln, engine.kind),
        cache=kiln.cache,
        everything=everything,
        dry_run=dry_run,
    )
    if as_json:
        console.say_json([{"name": one.name, "id": one.id, "bytes": one.bytes} for one in gone])
        return
    would = "would remove" if dry_run else "removed"
    for one in gone:
        console.say(f"{would} {one.name or f'what a build left: {one.id}'}")
    if not gone:
        console.say("nothing to remove")


def _needed(kiln: Kiln, kind: str) -> set[str]:
    """Return the names of this checkout's images, and of what they stand on."""
    from modelkiln.containers.bases import base_name, name_on
    from modelkiln.containers.images import image_name

    names = set()
    for one in _environments(kiln):
        base = kiln.provisioner.base(one)
        names |= {name_on(kind, image_name(one, base)), name_on(kind, base_name(base))}
    return names


def _environments(kiln: Kiln) -> Iterator[Environment]:
    """Yield the environments that have a Dockerfile."""
    return (one for one in kiln.provisioner.environments() if one.dockerfile.is_file())
