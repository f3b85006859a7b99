"""`invoke image.sbom`: printed, or written to a file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.commands.sbom import write_sbom
from modelkiln.environments.sbom import bill_of_materials
from modelkiln.errors import EnvironmentFailure, UsageError

MakeKiln = Callable[..., Kiln]


@pytest.fixture(autouse=True)
def pinned_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base of docker/pins.toml, whatever this machine builds on."""
    monkeypatch.delenv("MODELKILN_PINS", raising=False)


def test_it_is_printed_or_written(
    make_kiln: MakeKiln, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kiln = make_kiln()
    write_sbom(kiln, "small", str(tmp_path / "small.cdx.json"))
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"wrote {tmp_path / 'small.cdx.json'}\n")
    write_sbom(kiln, "small")
    text = capsys.readouterr().out
    small = kiln.provisioner.environment("small")
    assert text == (tmp_path / "small.cdx.json").read_text()
    assert text == bill_of_materials(small, kiln.provisioner.base(small))
    assert json.loads(text)["bomFormat"] == "CycloneDX"


def test_what_has_no_image_has_none(make_kiln: MakeKiln, toy_copy: Path) -> None:
    (toy_copy / "docker" / "bare" / "Dockerfile").unlink()
    with pytest.raises(EnvironmentFailure, match="bare is not available as an image"):
        write_sbom(make_kiln(), "bare")
    with pytest.raises(UsageError, match="no environment 'none'"):
        write_sbom(make_kiln(), "none")
