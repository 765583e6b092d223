"""Small site-packages folders, written the way an installer writes them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

Install = Callable[..., Path]


def _install(
    folder: Path,
    name: str,
    version: str,
    files: dict[str, bytes],
    *,
    recorded: list[str] | None = None,
    metadata: bytes | None = None,
    record: bool = True,
) -> Path:
    """Write files and a metadata folder; `recorded` paths are listed in RECORD beside them, unwritten."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_bytes(
        metadata or f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    )
    (info / "INSTALLER").write_bytes(b"pip\n")
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    names = [
        *files,
        f"{info.name}/METADATA",
        f"{info.name}/INSTALLER",
        f"{info.name}/RECORD",
        *(recorded or ()),
    ]
    if record:
        lines = b"".join(b'"%s",,\n' % os.fsencode(path).replace(b'"', b'""') for path in names)
        (info / "RECORD").write_bytes(lines)
    return info


@pytest.fixture(scope="session")
def install() -> Install:
    """Give the function that installs one fake distribution into a folder."""
    return _install
