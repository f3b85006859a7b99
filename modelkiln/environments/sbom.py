"""The bill of materials of an image, in CycloneDX 1.6: from its lock and its base, without Docker.

The bytes depend on what goes into the image alone: there is no clock in them, and the serial number
is made from the image's digest.
"""

import json
import re
import uuid
from collections.abc import Iterable

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from modelkiln.environments.base_images import BasePin
from modelkiln.environments.environment import Environment
from modelkiln.environments.lockfile import Locked, read_lock
from modelkiln.fetch.registry import find_repository

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def bill_of_materials(environment: Environment, base: BasePin) -> str:
    """Return the JSON document of an environment's image.

    Raises:
        EnvironmentFailure: A file of the environment is missing.
        PinError: Its lock does not pin a package.
    """
    identity = environment.image_identity(base)
    digest = environment.image_digest(base)
    image = Component(
        type=ComponentType.CONTAINER,
        name=f"modelkiln/{environment.name}",
        version=digest[:16],
        bom_ref=f"image:{environment.name}",
        properties=[
            Property(name=f"modelkiln:{name}", value=value) for name, value in identity.items()
        ],
    )
    parts = [_base(base), *map(_package, read_lock(environment.lock))]
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, f"sha256:{digest}"),
        components=parts,
        metadata=BomMetaData(component=image),
    )
    bom.register_dependency(image, parts)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    document["metadata"].pop("timestamp", None)
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _base(base: BasePin) -> Component:
    repository = find_repository(base.image)
    return Component(
        type=ComponentType.CONTAINER,
        name=base.image,
        version=base.tag,
        bom_ref=f"base:{base.name}",
        purl=PackageURL(
            type="oci",
            name=repository.path.rpartition("/")[2],
            version=base.digest,
            qualifiers={"repository_url": repository.name, "tag": base.tag},
        ),
        hashes=_hashes([base.digest.removeprefix("sha256:")]),
        properties=[Property(name="modelkiln:interpreter", value=base.interpreter)],
    )


def _package(one: Locked) -> Component:
    """Return a package of the lock; its hashes are those of the files that the lock accepts
    for it.
    """
    return Component(
        type=ComponentType.LIBRARY,
        name=one.name,
        version=one.version,
        bom_ref=f"package:{one.name}@{one.version}",
        purl=PackageURL(type="pypi", name=one.name, version=one.version),
        hashes=_hashes(_HASH.findall(one.text)),
    )


def _hashes(values: Iterable[str]) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=value) for value in values]
