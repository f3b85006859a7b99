"""A small environment's files, and what lies where environments do."""

from pathlib import Path

from modelkiln.environments.environment import Environment, environment

HASH = f"--hash=sha256:{'a' * 64}"


LOCK = f"# made\nsmall==1.0 \\\n    {HASH}\nwheel==2.0 {HASH}\n"


SETTINGS = 'summary = "small"\nbytes = 1000\nseed = ["wheel"]\n[variables]\nSMALL_BUILD = "0"\n'


def rooms(cache: Path) -> list[str]:
    """What lies where environments do, installations in the making included, logs not."""
    folder = cache / "environments"
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def again(wanted: Environment) -> Environment:
    """The same description, read anew."""
    return environment(wanted.name, wanted.lock.parent.parent)
