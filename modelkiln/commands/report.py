"""`invoke report`, and how a target's records become a page."""

from pathlib import Path

from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import prepare
from modelkiln.building.report import make_report
from modelkiln.errors import UsageError
from modelkiln.report.page import render_report
from modelkiln.util import console
from modelkiln.util.atomic import write_file


def write_target_report(kiln: Kiln, text: str, out: str = "", *, as_json: bool = False) -> None:
    """Write the page of a built target.

    Raises:
        UsageError: it has not been built.
    """
    target = prepare(kiln, text, runs=False).target
    path = Path(out) if out else Path(f"{target.name.replace('/', '-')}.html")
    page = render_report(make_report(kiln, target))
    if not path.parent.is_dir():
        raise UsageError(
            f"--out {out} cannot be written.",
            f"There is no folder {path.parent}.",
            "Make the folder, or name another one.",
        )
    write_file(path, page.encode())
    if as_json:
        console.say_json({"report": str(path)})
    else:
        console.say(f"report  {path}")
