"""`invoke weights-check`: every gate on real weights, in one report to attach to an issue."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from modelkiln.building.available import note_left_out, split_available
from modelkiln.building.build import build
from modelkiln.building.kiln import Kiln
from modelkiln.building.report import make_failed_report, make_report
from modelkiln.catalog.weights import RandomWeights
from modelkiln.errors import Interrupted, KilnError, UsageError
from modelkiln.report.page import Report, render_reports
from modelkiln.util import console
from modelkiln.util.atomic import write_file


def check_weights(kiln: Kiln, models: str, out: str, *, as_json: bool = False) -> None:
    """Build all targets of models one after the other, and write a page that tells of each.

    A target that fails is reported, and the rest is still checked.

    Raises:
        UsageError: the weights asked for are random.
        KilnError: the first failure, after the page has been written.
    """
    found, left_out = split_available(kiln.targets([f"{one}/*/*" for one in models.split(",")]))
    note_left_out(left_out)
    # An engine is compared with nothing; the gates of the graphs that it is built from are.
    targets = [one for one in found if not one.format.files]
    if len(targets) < len(found):
        console.note(f"skipped {len(found) - len(targets)} targets of engines: nothing runs them")
    if any(isinstance(one.weights, RandomWeights) for one in targets):
        raise UsageError(
            "weights-check is for real weights.",
            "Gates on random weights are what every build runs.",
            "Leave --weights out, or name a file: --weights PATH",
        )
    reports: list[Report] = []
    errors: list[KilnError] = []
    kiln = Kiln(replace(kiln.options, keep_going=True), artifacts=kiln.artifacts)
    for target in targets:
        console.note(f"checking {target.name}")
        try:
            # What does not pay here is reported as well.
            built = build(kiln, [replace(target, by_name=True)])
            if built.failed:
                raise built.failed[0].error
            reports.append(make_report(kiln, target, seconds=built.seconds))
        except Interrupted:
            raise
        except KilnError as error:
            errors.append(error)
            console.note(f"FAILED {target.name}: {error.what}")
            failure: Any = {"what": error.what, "why": error.why, "next": error.next}
            reports.append(make_failed_report(target, failure))
    kiln.save_caches()
    passed = len(reports) - len(errors)
    note = f"{passed} of {len(reports)} targets pass every gate."
    page = render_reports("modelkiln: weights check", note, reports)
    write_file(Path(out), page.encode())
    if as_json:
        console.say_json([{k: v for k, v in one.items() if k != "pictures"} for one in reports])
    else:
        console.say(note)
        console.say(f"report  {out}")
    if errors:
        raise errors[0]
