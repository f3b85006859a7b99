"""The plan as a matrix of jobs for GitHub Actions."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import make_plan
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import FileWeights
from modelkiln.environments.environment import require_dockerfile
from modelkiln.errors import UsageError
from modelkiln.planning.graph import PROTOCOL, PinnedFile, Plan, SourceFile, Step, StepOutput
from modelkiln.util import console
from modelkiln.util.hashing import JSON, sha256_json

MAX_LEGS = 256
HOSTED = ("ubuntu-24.04",)
WITH_GPU = ("self-hosted", "linux", "x64", "gpu")
# What a job takes besides its steps: set-up, caches, uploads; and the longest that a job may take.
SET_UP_MINUTES = 30
MAX_MINUTES, MAX_SELF_HOSTED_MINUTES = 360, 7200


@dataclass(frozen=True, kw_only=True)
class Image:
    """The image of an environment.

    Attributes:
        name: Of the environment.
        image: The image's own name, with its tag.
        digest: SHA-256 of the image's identity.
    """

    name: str
    image: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Leg:
    """One job: the targets of one model on one kind of machine.

    Attributes:
        name: Unique, and fit to name an artifact.
        targets: As `invoke build` takes them.
        images: Those that are built once and handed on. One that may not be handed on, for the
            sake of a licence, is built by the job itself.
        key: SHA-256 of all that its steps depend on.
        timeout: Minutes.
    """

    name: str
    model: str
    targets: str
    environments: tuple[str, ...]
    images: tuple[Image, ...]
    gpu: bool
    runs_on: tuple[str, ...]
    key: str
    timeout: int


def show_matrix(kiln: Kiln, targets: Sequence[Target]) -> None:
    """Print `matrix=` and `images=` with JSON, a line each, for the file $GITHUB_OUTPUT.

    Raises:
        UsageError: There are more jobs than GitHub allows, or weights that lie on this machine.
        EnvironmentFailure: An environment has no Dockerfile.
    """
    legs = make_legs(kiln, targets)
    kiln.save_caches()
    images = {image.name: asdict(image) for leg in legs for image in leg.images}
    console.say(f"matrix={_spell({'include': [asdict(leg) for leg in legs]})}")
    console.say(f"images={_spell([images[name] for name in sorted(images)])}")


def make_legs(kiln: Kiln, targets: Sequence[Target]) -> list[Leg]:
    """Return the jobs for these targets; errors as `show_matrix`.

    The targets of a model share most of their steps, so they stay in one job, but for those that
    need a GPU.
    """
    plan = make_plan(kiln, targets)
    groups: dict[tuple[str, bool], tuple[list[Target], dict[str, Step]]] = {}
    for one in plan.targets:
        target = one.target
        if isinstance(target.weights, FileWeights):
            raise UsageError(
                f"{target.name} cannot be built by GitHub's machines.",
                f"Its weights lie on this one, in {target.weights.path}.",
                "Leave --weights out, or say random.",
            )
        if target.pictures is not None:
            raise UsageError(
                f"{target.name} cannot be built by GitHub's machines.",
                f"Its calibration pictures lie on this one, in {target.pictures.folder}.",
                "Leave --calibration out.",
            )
        steps = {name: plan.steps[name] for name in plan.needed_by(one)}
        gpu = any(step.gpu for step in steps.values())
        members, needed = groups.setdefault((target.model_name, gpu), ([], {}))
        members.append(target)
        needed.update(steps)
    if len(groups) > MAX_LEGS:
        raise UsageError(
            f"These targets make {len(groups)} jobs, and GitHub allows {MAX_LEGS} in a matrix.",
            "There is one for each model and kind of machine.",
            "Plan fewer models at once: 'sam2.1_*/*/*', then the others.",
        )
    return [
        _make_leg(kiln, plan, name, gpu, members, needed)
        for (name, gpu), (members, needed) in groups.items()
    ]


def _make_leg(
    kiln: Kiln,
    plan: Plan,
    model: str,
    gpu: bool,
    targets: Sequence[Target],
    steps: Mapping[str, Step],
) -> Leg:
    environments = tuple(sorted({step.environment for step in steps.values()}))
    images = tuple(_describe_image(kiln, name) for name in environments)
    most = MAX_SELF_HOSTED_MINUTES if gpu else MAX_MINUTES
    seconds = sum(step.timeout_s for step in steps.values())
    return Leg(
        name=re.sub(r"[^A-Za-z0-9._+-]", "_", model) + ("-gpu" if gpu else ""),
        model=model,
        targets=",".join(map(_spell_target, targets)),
        environments=environments,
        images=tuple(
            image for image in images if kiln.provisioner.environment(image.name).redistributable
        ),
        gpu=gpu,
        runs_on=WITH_GPU if gpu else HOSTED,
        key=_make_key(kiln, [step for name, step in plan.steps.items() if name in steps], images),
        timeout=min(most, SET_UP_MINUTES + -(-seconds // 60)),
    )


def _spell_target(target: Target) -> str:
    """Return a target as a leg names it: one that a glob matched stays a glob, of itself alone, so
    that it is held back where it does not pay.
    """
    if target.by_name or not target.format.replaces:
        return target.name
    name = target.format_name
    return f"{target.name.removesuffix(name)}[{name[0]}]{name[1:]}"


def _make_key(kiln: Kiln, steps: Sequence[Step], images: Sequence[Image]) -> str:
    """Make a key: equal ones have equal results, whatever the store already holds.

    A step's own key waits for the results of others; here they stand for themselves, as their
    steps are part of the document.
    """
    described: dict[str, JSON] = {}
    for step in steps:
        inputs: dict[str, JSON] = {}
        for name, one in step.inputs.items():
            match one:
                case StepOutput(step=before, name=output):
                    inputs[name] = [before, output]
                case SourceFile(path=path):
                    inputs[name] = kiln.sources.digest(path)
                case PinnedFile(sha256=sha256):
                    inputs[name] = sha256
        described[step.id] = {
            "stage": step.stage,
            "params": step.params,
            "inputs": inputs,
            "source": dict(kiln.sources.digests(step.modules)),
            "environment": step.environment,
        }
    return sha256_json(
        {
            "protocol": PROTOCOL,
            "threads": kiln.catalog.threads,
            "seed": kiln.catalog.seed,
            "images": {image.name: image.digest for image in images},
            "steps": described,
        }
    )


def _describe_image(kiln: Kiln, name: str) -> Image:
    environment = kiln.provisioner.environment(name)
    require_dockerfile(environment)
    digest = environment.image_digest(kiln.provisioner.base(environment))
    return Image(name=name, image=f"modelkiln/{name}:{digest[:16]}", digest=digest)


def _spell(document: JSON) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True)
