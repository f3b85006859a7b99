"""What an engine's first bytes say."""

import struct
from pathlib import Path

import pytest

from exporters.tensorrt.header import HeaderError, find_faults, read_header


def write_engine(
    path: Path, *, size: int = 200, said: int | None = None, mask: int = 8, magic: bytes = b"vtrt"
) -> Path:
    head = bytearray(64)
    head[:4] = magic
    struct.pack_into("<Q", head, 16, size if said is None else said)
    head[24:28] = bytes([1, 7, 1, 116])
    struct.pack_into("<I", head, 32, mask)
    path.write_bytes(bytes(head) + bytes(size - 64))
    return path


def test_a_header_is_read(tmp_path: Path) -> None:
    header = read_header(write_engine(tmp_path / "one.engine", mask=1 | 16))
    assert header.version == "1.7.1.116"
    assert header.gpus == ("sm75", "sm120")
    assert not header.portable
    assert header.bytes == 200
    assert read_header(write_engine(tmp_path / "two.engine", mask=0x7E)).portable


def test_a_truncated_file_is_refused_with_both_lengths(tmp_path: Path) -> None:
    path = write_engine(tmp_path / "one.engine", size=199, said=200)
    with pytest.raises(HeaderError, match=r"one\.engine has 199 bytes, and its header says 200"):
        read_header(path)


@pytest.mark.parametrize("content", [b"", b"vtrt", b"GGUF" + bytes(100), bytes(64)])
def test_what_is_no_engine_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "one.engine"
    path.write_bytes(content)
    with pytest.raises(HeaderError, match="is no engine of TensorRT for RTX"):
        read_header(path)


def test_another_version_or_gpu_is_told_with_both_sides(tmp_path: Path) -> None:
    header = read_header(write_engine(tmp_path / "one.engine", mask=8))
    assert find_faults(header, "1.7.1.116", ["sm89"]) == []
    (fault,) = find_faults(header, "1.6.1.120", ["sm89"])
    assert "1.7.1.116" in fault
    assert "1.6.1.120" in fault
    (fault,) = find_faults(header, "1.7.1.116", ["sm86", "sm89"])
    assert "is for sm89, and sm86, sm89" in fault
    (fault,) = find_faults(header, "1.7.1.116", ["portable"])
    assert "for sm89, and portable" in fault
    portable = read_header(write_engine(tmp_path / "two.engine", mask=0x7E))
    assert find_faults(portable, "1.7.1.116", ["portable"]) == []
    (fault,) = find_faults(portable, "1.7.1.116", ["sm89"])
    assert "portable, and sm89" in fault
