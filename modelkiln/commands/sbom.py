"""`invoke image.sbom`."""

from pathlib import Path

from modelkiln.building.kiln import Kiln
from modelkiln.environments.environment import require_dockerfile
from modelkiln.environments.sbom import bill_of_materials
from modelkiln.util import console
from modelkiln.util.atomic import write_file


def write_sbom(kiln: Kiln, name: str, out: str = "") -> None:
    """Print the bill of materials of an environment's image, or write it to a file.

    Raises:
        UsageError: There is no such environment.
        EnvironmentFailure: It has no Dockerfile, so it has no image.
    """
    environment = kiln.provisioner.environment(name)
    require_dockerfile(environment)
    document = bill_of_materials(environment, kiln.provisioner.base(environment))
    if not out:
        console.say(document.rstrip())
        return
    path = Path(out).expanduser().absolute()
    write_file(path, document.encode())
    console.note(f"wrote {path}")
