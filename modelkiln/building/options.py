"""What the flags say that every command takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelkiln.runners import AUTO


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the flags that every command takes say.

    Attributes:
        weights: `official`, `random[:SEED]`, or a path.
        trust: Whether a pickle of the user's own may be opened, which runs its code.
        runner: `auto`, or a runner's name.
        jobs: Steps at once; 0 for as many as the machine takes.
        mirrors: URL prefixes or folders that hold checkpoints.
        parameters: Parameters of contracts and formats given as flags.
    """

    weights: str = "official"
    trust: bool = False
    runner: str = AUTO
    jobs: int = 0
    keep_going: bool = False
    offline: bool = False
    mirrors: tuple[str, ...] = ()
    keep_scratch: bool = False
    parameters: Mapping[str, str | int] = field(default_factory=dict)
