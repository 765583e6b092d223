import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stack_platform.archive.git.clone import GitRemote, RemoteError, check_url, is_url, public_url
from stack_platform.archive.git.source import GitConfig

Read = Callable[..., dict[str, pa.Table]]
BACKENDS = pytest.mark.parametrize("backend", ["git", "dulwich"])


@pytest.fixture
def repo(git_folder: Callable[..., Any]) -> Any:
    """Two commits, an annotated tag and an automatic merge of a forge."""
    repo = git_folder()
    repo.commit({"a.py": b"a = 1\n"})
    repo.commit({"a.py": b"a = 2\n", "b.py": b"b = 1\n"})
    repo.git("tag", "--annotate", "--message", "one", "v1")
    repo.git("update-ref", "refs/pull/1/head", "HEAD~1")
    repo.git("update-ref", "refs/pull/1/merge", "HEAD~1")
    return repo


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """Serve with a handler, and give the URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(handler: Any) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def answering(status: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("WWW-Authenticate", 'Basic realm="code"')
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    return Handler


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def visit_of(tables: dict[str, pa.Table]) -> tuple[str, str, list[str]]:
    [row] = tables["origin_visit_status"].to_pylist()
    return row["origin"], row["status"], tables["skipped_content"]["reason"].to_pylist()


@BACKENDS
def test_a_clone_has_the_rows_of_the_repository(
    repo: Any, read_git: Read, tmp_path: Path, backend: str
) -> None:
    url = f"file://{repo.path}"
    local = read_git(GitConfig((str(repo.path),), origins={str(repo.path): url}))
    cloned = read_git(GitConfig((url,), backend=backend), scratch=tmp_path / "scratch")
    for name, table in local.items():
        assert sorted(map(str, cloned[name].to_pylist())) == sorted(map(str, table.to_pylist())), name


@BACKENDS
def test_an_unchanged_remote_is_not_fetched(
    repo: Any, read_git: Read, known_of: Callable, tmp_path: Path, backend: str
) -> None:
    config = GitConfig((f"file://{repo.path}",), backend=backend)
    before = config.open().fingerprint()
    first = read_git(config, scratch=tmp_path / "a")
    again = read_git(config, known_of(first), scratch=tmp_path / "b")
    assert not any(table.num_rows for table in again.values())
    assert not (tmp_path / "b").exists()
    assert config.open().fingerprint() == before


@BACKENDS
@pytest.mark.parametrize("kept", [True, False])
def test_a_changed_remote_costs_its_new_objects(
    repo: Any, read_git: Read, known_of: Callable, tmp_path: Path, backend: str, kept: bool
) -> None:
    config = GitConfig((f"file://{repo.path}",), backend=backend)
    first = read_git(config, scratch=tmp_path / "scratch" if kept else None)
    repo.git("branch", "gone/deep", "HEAD")
    second = read_git(config, known_of(first), scratch=tmp_path / "scratch" if kept else None)
    assert second["revision"].num_rows == 0
    assert second["snapshot_branch"].num_rows == 5
    repo.git("branch", "-D", "gone/deep")
    head = repo.commit({"c.py": b"c = 1\n"})
    repo.git("branch", "gone", "HEAD")  # a file where a folder was
    third = read_git(config, known_of(first, second), scratch=tmp_path / "scratch" if kept else None)
    assert third["revision"]["id"].to_pylist() == [head]
    assert third["content"].num_rows == 1
    assert visit_of(third)[1:] == ("full", [])


@BACKENDS
def test_a_detached_or_empty_remote_is_read(git_folder: Callable, read_git: Read, backend: str) -> None:
    empty = git_folder("empty")
    tables = read_git(GitConfig((f"file://{empty.path}",), backend=backend))
    assert tables["snapshot"]["id"].to_pylist() == ["1a8893e6a86f444e8be8e7bda6cb34fb1735a00e"]
    head = empty.commit({"a": b"a"})
    empty.git("checkout", "--quiet", "--detach")
    detached = empty.commit({"a": b"b"})
    tables = read_git(GitConfig((f"file://{empty.path}",), backend=backend))
    branches = {r["name"]: r["target"] for r in tables["snapshot_branch"].to_pylist()}
    assert branches == {b"HEAD": detached, b"refs/heads/main": head}
    assert tables["revision"].num_rows == 2


def test_what_a_killed_fetch_leaves_does_no_harm(
    repo: Any, read_git: Read, known_of: Callable, tmp_path: Path
) -> None:
    config, scratch = GitConfig((f"file://{repo.path}",), backend="git"), tmp_path / "scratch"
    first = read_git(config, scratch=scratch)
    [mirror] = (scratch / "git").iterdir()
    (scratch / "git" / f"{mirror.name}.partial").mkdir()
    (mirror / "packed-refs.lock").touch()
    (mirror / "objects/pack/tmp_pack_x").touch()
    repo.commit({"c.py": b"c = 1\n"})
    second = read_git(config, known_of(first), scratch=scratch)
    assert visit_of(second)[1] == "full"
    (mirror / "HEAD").write_bytes(b"damaged")
    repo.commit({"c.py": b"c = 2\n"})
    third = read_git(config, known_of(first, second), scratch=scratch)
    assert (visit_of(third)[1], third["revision"].num_rows) == ("full", 1)


def test_a_clone_that_is_killed_is_made_again(repo: Any, read_git: Read, tmp_path: Path) -> None:
    script = (
        "import sys, os, signal, stack_platform.archive.git.clone as c\n"
        "from stack_platform.archive.git.source import GitConfig\n"
        "from stack_platform.archive.sources import Known, Reading\n"
        "c.GitRemote._update = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "list(GitConfig((sys.argv[1],)).open().read(Known(), Reading(scratch=__import__('pathlib').Path(sys.argv[2]))))"
    )
    url, scratch = f"file://{repo.path}", tmp_path / "scratch"
    done = subprocess.run([sys.executable, "-c", script, url, str(scratch)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.suffix for path in (scratch / "git").iterdir()] == [".partial"]
    assert visit_of(read_git(GitConfig((url,)), scratch=scratch))[1] == "full"
    assert [path.suffix for path in (scratch / "git").iterdir()] == [""]


def test_a_repository_is_cloned_over_http(repo: Any, read_git: Read, serve: Callable, tmp_path: Path) -> None:
    repo.git("clone", "--quiet", "--bare", str(repo.path), str(tmp_path / "bare.git"))
    subprocess.run(["git", "-C", str(tmp_path / "bare.git"), "update-server-info"], check=True)
    base = serve(functools.partial(Quiet, directory=str(tmp_path)))
    url = f"{base.replace('//', '//ann:secret@')}/bare.git"
    tables = read_git(GitConfig((url,), backend="git"))
    assert visit_of(tables) == (f"{base}/bare.git", "full", [])
    assert tables["revision"].num_rows == 2


@BACKENDS
@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_remote_that_refuses_is_a_visit_with_a_reason(
    read_git: Read, known_of: Callable, serve: Callable, backend: str, status: int
) -> None:
    base = serve(answering(status))
    config = GitConfig((f"{base.replace('//', '//ann:secret@')}/code.git",), backend=backend, timeout_s=20)
    tables = read_git(config)
    origin, found, [reason] = visit_of(tables)
    assert origin == f"{base}/code.git"
    assert found == ("not_found" if status == 404 else "failed")
    assert "secret" not in reason
    assert not any(table.num_rows for table in read_git(config, known_of(tables)).values())


@BACKENDS
@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("file:///nowhere/at/all", "not_found"),
        ("http://127.0.0.1:1/a", "failed"),
        ("foo://example.org/a", "failed"),
        ("https://", "failed"),
        ("https://exa mple.org/a", "failed"),
        ("ssh://-oProxyCommand=true/a", "failed"),
    ],
)
def test_urls_that_lead_nowhere_are_visits_with_a_reason(
    read_git: Read, backend: str, url: str, status: str
) -> None:
    found = visit_of(read_git(GitConfig((url,), backend=backend, timeout_s=20)))
    assert found[1] == status
    assert len(found[2]) == 1


def test_a_remote_that_never_answers_is_given_up(read_git: Read, serve: Callable) -> None:
    class Silent(Quiet):
        def do_GET(self) -> None:
            time.sleep(5)

    started = time.monotonic()
    found = visit_of(read_git(GitConfig((f"{serve(Silent)}/a.git",), backend="git", timeout_s=0.5)))
    assert found[1:] == ("failed", ["git took more than 0.5 seconds"])
    assert time.monotonic() - started < 4


def test_hooks_of_the_users_configuration_do_not_run(
    repo: Any, read_git: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks, marker = tmp_path / "hooks", tmp_path / "ran"
    hooks.mkdir()
    for name in ("reference-transaction", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {marker}\n")
        (hooks / name).chmod(0o755)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.gitconfig").write_text(
        f"[core]\n\thooksPath = {hooks}\n\tfsmonitor = touch {marker}\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    repo.git("config", "core.fsmonitor", f"touch {marker}")
    repo.git("config", "core.hooksPath", str(hooks))
    config = GitConfig((f"file://{repo.path}", str(repo.path)))
    assert set(read_git(config, scratch=tmp_path / "s")["origin_visit_status"]["status"].to_pylist()) == {
        "full"
    }
    assert not marker.exists()
    assert os.environ["GIT_DIR"].endswith("elsewhere")


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://ann:pw@example.org/a?token=1#x", "https://example.org/a"),
        ("https://token@example.org", "https://example.org"),
        ("HTTPS://a@b@example.org/p@q", "https://example.org/p@q"),
        ("ssh://git:pw@example.org:22/a", "ssh://git@example.org:22/a"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git"),
        ("file:///a/b", "file:///a/b"),
    ],
)
def test_public_urls_hold_no_credentials(url: str, public: str) -> None:
    assert is_url(url)
    assert public_url(url) == public


@pytest.mark.parametrize("text", ["folder", "./a/b", "/a/b", "ext::sh -c x", "C:\\a"])
def test_paths_are_no_urls(text: str) -> None:
    assert not is_url(text)


def test_remote_helpers_are_refused_by_git_too(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="cannot use this protocol"):
        GitRemote(f"ext::touch {tmp_path}/ran", 10).list_refs()
    assert not (tmp_path / "ran").exists()
    with pytest.raises(RemoteError, match="'ext' is not one of"):
        check_url("ext://a")
