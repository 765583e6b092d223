"""Small site-packages folders and git repositories, written the way an installer and git write them."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stack_platform.archive.git.source import GitConfig
from stack_platform.archive.sources import Known, Reading
from stack_platform.schemas import ARCHIVE

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


def _beside(name: str) -> Any:
    """Load a module of this folder, which is no package."""
    full = f"tests_archive_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
    return sys.modules[full]


@pytest.fixture
def export():
    """Give an empty small archive of which an export can be written."""
    return _beside("export_maker").ExportMaker()


@pytest.fixture
def serve():
    """Give the function that serves a folder as an object store with faults, until the test ends."""
    server = _beside("object_server")
    with ExitStack() as stack:
        yield lambda root, **faults: stack.enter_context(server.ObjectServer(root, server.Faults(**faults)))


class GitFolder:
    """A git repository under construction, with fixed people and dates that advance by a minute."""

    def __init__(self, path: Path, *options: str) -> None:
        self.path = path
        self.minutes = 0
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main", "--template=", *options)

    def copy(self, path: Path) -> "GitFolder":
        """Give a copy of the repository in another folder."""
        twin = GitFolder.__new__(GitFolder)
        twin.path, twin.minutes = path, self.minutes
        shutil.copytree(self.path, path, symlinks=True)
        return twin

    def git(self, *arguments: str, sent: bytes = b"", check: bool = True) -> str:
        """Run git in the folder and give what it wrote."""
        self.minutes += 1
        date = f"{1_600_000_000 + 60 * self.minutes} +0200"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        people = {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "Ann Other"), ("EMAIL", "ann@example.org"), ("DATE", date))
        }
        alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            input=sent,
            capture_output=True,
            check=check,
            env=kept | people | alone,
        )
        return done.stdout.decode(errors="surrogateescape").strip()

    def commit(self, files: dict[str, bytes | None], message: str = "change") -> str:
        """Write files (None deletes one), commit all, and give the commit's id."""
        for name, data in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if data is None:
                target.unlink()
            else:
                target.write_bytes(data)
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def write(self, kind: str, data: bytes) -> str:
        """Store an object as it is, whether git likes it or not."""
        return self.git("hash-object", "-t", kind, "-w", "--stdin", "--literally", sent=data)


@pytest.fixture(scope="session")
def git_folder_at() -> Callable[..., GitFolder]:
    """Give the function that starts a git repository in any folder."""
    return GitFolder


@pytest.fixture
def git_folder(tmp_path: Path) -> Callable[..., GitFolder]:
    """Give the function that starts a git repository in a folder of the test's."""
    return lambda name="repo", *options: GitFolder(tmp_path / name, *options)


def _read_git(config: GitConfig, known: Known | None = None, **reading: Any) -> dict[str, pa.Table]:
    """Read a git source into one table per table of the archive, empty ones too."""
    batches: dict[str, list[pa.RecordBatch]] = {}
    for table, batch in config.open().read(known or Known(), Reading(**reading)):
        batches.setdefault(table, []).append(batch)
    return {name: pa.Table.from_batches(batches.get(name, []), schema) for name, schema in ARCHIVE.items()}


@pytest.fixture(scope="session")
def read_git() -> Callable[..., dict[str, pa.Table]]:
    """Give the function that reads a git source into tables."""
    return _read_git


@pytest.fixture(scope="session")
def known_of() -> Callable[..., Known]:
    """Give the function that makes what is known of tables that were read one after the other."""
    return lambda *readings: Known(
        lambda table, columns: pa.concat_tables([tables[table] for tables in readings]).select(list(columns))
    )
