"""Which pictures calibrate: the first by name, of one extension, whatever else is in the folder."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.catalog.pictures import Pictures, choose_pictures, name_inputs, spare
from modelkiln.errors import UsageError
from modelkiln.paths import REPOSITORY
from modelkiln.util.hashing import sha256_file

SHIPPED = REPOSITORY / "catalog" / "calibration"


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(name)
    return folder


def choose(folder: Path, count: int, extension: str = "jpg") -> Pictures:
    return choose_pictures(folder, extension, count, sha256_file)


def names(pictures: Pictures) -> list[str]:
    return [path.name for path in pictures.files]


def numbered(count: int) -> list[str]:
    return [f"{number:03}.jpg" for number in range(count)]


def test_the_first_by_name_are_taken_whatever_order_they_were_made_in(tmp_path: Path) -> None:
    fill(tmp_path / "a", "é.jpg", "10.jpg", "b.jpg", "9.jpg", "B.JPG", "a.JpEg")
    chosen = choose(tmp_path / "a", 4)
    assert names(chosen) == ["10.jpg", "9.jpg", "B.JPG", "a.JpEg", "b.jpg"]
    assert chosen.folder == tmp_path / "a"
    assert all(path.parent == tmp_path / "a" for path in chosen.files)


def test_exactly_as_many_as_asked_and_the_spare_ones(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", *numbered(64))
    assert [spare(one) for one in (1, 9, 10, 19, 20, 32, 500)] == [1, 1, 1, 1, 2, 3, 50]
    assert names(choose(folder, 32)) == numbered(35)
    assert names(choose(folder, 1)) == numbered(2)
    assert names(choose(folder, 60)) == numbered(64)
    assert names(choose(folder, 64)) == numbered(64)


def test_paths_outlive_a_change_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = choose(fill(Path("a"), "1.jpg"), 1)
    monkeypatch.chdir("/")
    assert chosen.files == (tmp_path / "a" / "1.jpg",)
    assert chosen.folder == tmp_path / "a"


@pytest.mark.parametrize(
    ("extension", "taken"),
    [
        ("jpg", ["1.jpg", "2.jpeg", "3.JPG"]),
        ("jpeg", ["2.jpeg"]),
        ("png", ["4.png", "5.PNG"]),
        ("webp", ["6.webp"]),
    ],
)
def test_only_those_with_the_extension(tmp_path: Path, extension: str, taken: list[str]) -> None:
    folder = fill(
        tmp_path / "a", "1.jpg", "2.jpeg", "3.JPG", "4.png", "5.PNG", "6.webp", "jpg", "7.jpg.txt"
    )
    assert names(choose(folder, len(taken), extension)) == taken


def test_folders_hidden_files_and_broken_links_are_passed_over(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", "b.jpg", ".a.jpg", ".jpg")
    fill(folder / "a.jpg", "c.jpg")
    (folder / "aa.jpg").symlink_to("nowhere.jpg")
    (folder / "ab.jpg").symlink_to("a.jpg")
    (folder / "z.jpg").symlink_to("b.jpg")
    os.mkfifo(folder / "ac.jpg")
    assert names(choose(folder, 1)) == ["b.jpg", "z.jpg"]


def test_the_digest_is_that_of_contents_in_order(tmp_path: Path) -> None:
    first = choose(fill(tmp_path / "a", "1.jpg", "2.jpg", "3.jpg"), 2)
    other = fill(tmp_path / "b")
    for old, new in (("1.jpg", "one.jpg"), ("2.jpg", "two.jpg"), ("3.jpg", "z.jpg")):
        (other / new).write_text(old)
    assert choose(other, 2).digest == first.digest
    (other / "zz.jpg").write_text("not chosen")
    assert choose(other, 2).digest == first.digest
    (other / "one.jpg").rename(other / "u.jpg")
    assert names(choose(other, 2)) == ["two.jpg", "u.jpg", "z.jpg"]
    assert choose(other, 2).digest != first.digest
    (tmp_path / "a" / "3.jpg").write_text("the spare one is another")
    assert choose(tmp_path / "a", 2).digest != first.digest


def test_stages_know_pictures_by_number_and_a_plain_name(tmp_path: Path) -> None:
    long = f"{'x' * 200}.jpg"
    chosen = choose(fill(tmp_path / "a", "b,c: d.jpg", "+a_b-1.jpg", "ü.jpg", long), 3)
    assert name_inputs(chosen) == {
        "calibration/00000-+a_b-1.jpg": tmp_path / "a" / "+a_b-1.jpg",
        "calibration/00001-b_c__d.jpg": tmp_path / "a" / "b,c: d.jpg",
        f"calibration/00002-{'x' * 96}.jpg": tmp_path / "a" / long,
        "calibration/00003-_.jpg": tmp_path / "a" / "ü.jpg",
    }


def refuse(code: int) -> Callable[..., str]:
    def fail(*_: object) -> str:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("folder", "count", "extension", "said"),
    [
        ("nowhere", 1, "jpg", ["There is no folder nowhere", "--image-dir"]),
        ("here/1.jpg", 1, "jpg", ["here/1.jpg is not a folder", "--image-dir here"]),
        ("here/1.jpg/more", 1, "jpg", ["here/1.jpg/more is not a folder"]),
        ("empty", 1, "jpg", ["empty has no pictures", "no file with an extension"]),
        ("texts", 1, "jpg", ["texts has no pictures", "Its files end in .bmp, .txt"]),
        ("here", 1, "png", ["here has no png pictures", "end in .jpg", "extension jpg"]),
        ("drawn", 1, "jpg", ["drawn has no jpg", ".png and .webp", "extension png"]),
        ("longer", 1, "png", ["longer has no png", "end in .jpeg", "extension jpeg"]),
        ("here", 4, "jpg", ["here has 3 jpg pictures", "--calib-size asks for 4", "size 3."]),
    ],
)
def test_what_is_wrong_with_a_folder_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    count: int,
    extension: str,
    said: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Path("here"), "1.jpg", "2.jpg", "3.jpg", "notes.txt")
    fill(Path("empty"), ".hidden.jpg")
    fill(Path("texts"), "a.txt", "b.bmp", "README")
    fill(Path("drawn"), "a.webp", "b.png")
    fill(Path("longer"), "a.jpeg")
    with pytest.raises(UsageError) as caught:
        choose(Path(folder), count, extension)
    assert all(one in str(caught.value) for one in said), str(caught.value)
    assert caught.value.why
    assert caught.value.next


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", "1.jpg")
    with pytest.raises(UsageError, match=r"a/1\.jpg cannot be read") as caught:
        choose_pictures(folder, "jpg", 1, refuse(errno.EACCES))
    assert "Permission denied" in caught.value.why


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelkiln.catalog.pictures.os.scandir", refuse(errno.EACCES))
    with pytest.raises(UsageError, match="cannot be read") as caught:
        choose(tmp_path, 1)
    assert "Permission denied" in caught.value.why


def test_the_shipped_pictures_are_those_of_the_table_and_none_judges() -> None:
    chosen = choose(SHIPPED, 16)
    table = (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert [one for one in names(chosen) if f"| `{one}` |" in table] == names(chosen)
    photographs = [one.split("-")[1] for one in names(chosen)]
    assert len(set(photographs[:8])) == 8
    assert sum(path.stat().st_size for path in chosen.files) < 1_500_000
    judging = {path.stem for path in (SHIPPED.parent / "pictures").glob("*.jpg")}
    assert len(judging) == 3
    assert not judging.intersection(Path(one).stem for one in photographs)
    assert len({sha256_file(path) for path in chosen.files}) == 16
