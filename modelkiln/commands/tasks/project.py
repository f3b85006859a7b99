"""Tasks of the whole project: the first try, the doctor, and the tests."""

from typing import TYPE_CHECKING

from modelkiln.commands.task import command

if TYPE_CHECKING:
    from modelkiln.building.kiln import Kiln


@command(help={"out": "folder for the pictures and the report"})
def quickstart(kiln: "Kiln", out: str = "", json: bool = False) -> None:
    """Build SAM 2.1 tiny, segment a photograph, and show the result."""
    from modelkiln.commands.quickstart import run_quickstart

    run_quickstart(kiln, out, as_json=json)


@command(anywhere=True)
def doctor(kiln: "Kiln", json: bool = False) -> None:
    """Say what this machine can and cannot build, and how to fix it."""
    from modelkiln.commands.doctor import examine

    examine(kiln, as_json=json)


@command(
    "test",
    help={
        "only": "lint, host, exporters, quantize, rtx, containers, full-size, thorough; several"
        " with commas"
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
