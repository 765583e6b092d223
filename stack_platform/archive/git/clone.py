"""Repositories behind a URL: what they list, and a mirror of their objects in a folder of ours.

The mirror is a bare repository that git makes without templates, hooks or configuration of others; each fetched
object that a reference named is kept under ``refs/seen/<id>``, so that no foreign name becomes a file here, no
name of today stands in the way of one of tomorrow, and the next fetch asks for the difference only. A first mirror
grows under another name and is renamed when it is whole; what a killed fetch leaves in an old one is swept away,
and one that cannot be used is made anew beside it.

Nothing asks for passwords; credentials come from git's and ssh's own stores or from the URL, and no URL's user or
password gets into an origin or a message. Protocols: https, http, ssh, git and file; ``ext::`` and other remote
helpers, which run programs, are refused by git itself.
"""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from stack_platform.archive.git.cli import GitRepository
from stack_platform.archive.git.pipe import git_environment
from stack_platform.archive.git.store import HEAD, Refs
from stack_platform.errors import SourceError

PROTOCOLS = ("https", "http", "ssh", "git", "file")
CREDENTIALS = "it asks for credentials, or refuses those it got; store them with git or ssh"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_SSH = re.compile(r"(?:[\w.-]+@)?[\w][\w.-]+:(?!//|:|\\).+", re.DOTALL)
_LISTED = re.compile(rb"([0-9a-f]{40})\t(.+)")
_REASONS = (
    ("failed", r"cannot run ssh"),
    ("not_found", r"not found|does not exist|not appear to be a git repo|no such file|error: 404|error: 410"),
    ("failed", r"read username|authentication|permission denied|error: 40[13]|publickey|access denied"),
    ("failed", r"resolve host|name or service not known|connection|connect|unreachable|timed out|too slow"),
    ("failed", r"certificate|ssl|tls"),
    ("failed", r"transport '.*' not allowed|unable to find remote helper|protocol"),
)
_WORDS = (
    "ssh is not installed",
    "there is no repository",
    CREDENTIALS,
    "it cannot be reached",
    "its certificate is not trusted",
    f"git cannot use this protocol; use one of {', '.join(PROTOCOLS)}",
)


class RemoteError(SourceError):
    """A remote repository cannot be read; `status` is the visit's."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def is_url(text: str) -> bool:
    """Tell a URL, also ssh's short form ``host:path``, from a path on this machine."""
    return bool(_URL.match(text)) or (bool(_SSH.fullmatch(text)) and not Path(text).exists())


def public_url(url: str) -> str:
    """Give a URL without user and password, query and fragment; of ssh's user names only the password goes."""
    match = _URL.match(url)
    if match is None:
        return url
    scheme, rest = match[1].lower(), match[2]
    host, slash, path = rest.partition("/")
    user, at, host = host.rpartition("@")
    user = user.partition(":")[0] if scheme == "ssh" else ""
    if scheme in ("http", "https"):
        host, path = (re.split(r"[?#]", part)[0] for part in (host, path))
    return f"{scheme}://{user + at if user else ''}{host}{slash}{path}"


def check_url(url: str) -> None:
    """Refuse what git would not understand as meant.

    Raises:
        RemoteError: the protocol is none of `PROTOCOLS`, there is no host, or there are control characters.

    """
    match = _URL.match(url)
    scheme = match[1].lower() if match else "ssh"
    if scheme not in PROTOCOLS:
        raise RemoteError("failed", f"the protocol {scheme!r} is not one of {', '.join(PROTOCOLS)}")
    rest = match[2] if match else url
    host = rest.partition("/")[0].rpartition("@")[2]
    if (not host and scheme != "file") or host.startswith("-") or re.search(r"[\x00-\x20\x7f]", url):
        raise RemoteError("failed", "it is not a URL: a host is missing, or there are spaces")


def mirror_of(url: str, folder: Path) -> Path:
    """Give the folder of a URL's mirror."""
    return folder / hashlib.sha256(url.encode()).hexdigest()[:24]


def sweep(mirror: Path) -> None:
    """Remove what a killed fetch left behind: locks and unfinished packs."""
    for pattern in ("**/*.lock", "objects/pack/tmp_*", "objects/pack/.tmp-*"):
        for leftover in mirror.glob(pattern):
            leftover.unlink(missing_ok=True)


class GitRemote:
    """A repository behind a URL, through git's binary."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Take a URL that `check_url` accepts."""
        self.url, self._timeout_s = url, timeout_s

    def _git(self, *arguments: str, sent: bytes = b"") -> bytes:
        settings = ["protocol.version=2", "core.hooksPath=/dev/null", "gc.auto=0", "maintenance.auto=false"]
        settings += ["fetch.unpackLimit=1", "http.lowSpeedLimit=100", "http.lowSpeedTime=60", "core.askPass="]
        options = [part for setting in settings for part in ("-c", setting)]
        environment = git_environment(
            GIT_ALLOW_PROTOCOL=":".join(PROTOCOLS),
            GIT_ASKPASS="",
            SSH_ASKPASS="",
            GIT_SSH_COMMAND="ssh -oBatchMode=yes -oConnectTimeout=30",
            GIT_CEILING_DIRECTORIES=Path.cwd().anchor,
        )
        with subprocess.Popen(
            ["git", "--no-pager", *options, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=Path.cwd().anchor,
            start_new_session=True,  # so that git's helpers can be ended with it
        ) as process:
            try:
                out, said = process.communicate(sent, timeout=self._timeout_s)
            except subprocess.TimeoutExpired as error:
                raise RemoteError("failed", f"git took more than {self._timeout_s:g} seconds") from error
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, 9)
        if process.returncode:
            raise _explain(said.decode(errors="replace"))
        return out

    def list_refs(self) -> Refs:
        """Ask for the references.

        Raises:
            RemoteError: the repository cannot be read.

        """
        targets: dict[bytes, str] = {}
        symbolic: dict[bytes, bytes] = {}
        for line in self._git("ls-remote", "--symref", "--", self.url).splitlines():
            if line.startswith(b"ref: ") and line.endswith(b"\tHEAD"):
                symbolic[HEAD] = line[5:].partition(b"\t")[0]
            elif (match := _LISTED.fullmatch(line)) and not match[2].endswith(b"^{}"):
                targets[match[2]] = match[1].decode()
        if HEAD in symbolic:
            targets.pop(HEAD, None)
        return Refs(targets, symbolic)

    def fetch(self, refs: Refs, folder: Path) -> GitRepository:
        """Bring the objects of references into the mirror of this URL below `folder`, and open it.

        Raises:
            RemoteError: the repository cannot be read.

        """
        mirror = mirror_of(self.url, folder)
        if mirror.exists():
            try:
                return self._update(refs, mirror)
            except RemoteError as error:
                if error.status == "not_found" or "credentials" in str(error) or "reached" in str(error):
                    raise
            except SourceError:
                pass  # damaged: it is made anew
        fresh = folder / f"{mirror.name}.partial"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.parent.mkdir(parents=True, exist_ok=True)
        self._git("init", "--quiet", "--bare", "--template=", "--", str(fresh.resolve()))
        self._update(refs, fresh).close()
        shutil.rmtree(mirror, ignore_errors=True)
        fresh.rename(mirror)
        return GitRepository(mirror, self._timeout_s)

    def _update(self, refs: Refs, mirror: Path) -> GitRepository:
        sweep(mirror)
        repository = GitRepository(mirror, self._timeout_s)
        present = {name.rpartition(b"/")[2].decode() for name in repository.read_refs().targets}
        wanted = {target: name for name, target in refs.targets.items() if target not in present}
        if wanted:
            lines = [b"+%s:refs/seen/%s\n" % (name, target.encode()) for target, name in wanted.items()]
            where = f"--git-dir={mirror.resolve()}"
            options = ["--quiet", "--no-tags", "--force", "--no-write-fetch-head", "--no-recurse-submodules"]
            self._git(where, "fetch", *options, "--stdin", "--", self.url, sent=b"".join(sorted(lines)))
        return repository


def _explain(said: str) -> RemoteError:
    """Turn what git said into a reason of ours, which holds neither URLs nor paths."""
    for (status, pattern), words in zip(_REASONS, _WORDS, strict=True):
        if re.search(pattern, said.lower()):
            return RemoteError(status, words)
    return RemoteError("failed", "git could not read it")
