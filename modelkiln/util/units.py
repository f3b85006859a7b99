"""Quantities as people write them."""


def human_bytes(count: int) -> str:
    """Return a size in powers of 1000: `812 bytes`, `156.0 MB`."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.95:
            return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
