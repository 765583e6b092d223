"""Talk with a running ``git cat-file`` without waiting forever, and the variables that git runs with.

What a foreign repository could make git do is turned off: replacement objects, grafts, and fetching of missing
objects (a partial clone's remote may name any program; no protocol is allowed for local reading), the user's and
the system's configuration, prompts and locks.
"""

import contextlib
import os
import select
import subprocess
import tempfile
import threading
from collections.abc import Sequence

from stack_platform.archive.hashing import Hashes, hash_file
from stack_platform.errors import SourceError

_CHUNK_BYTES = 1 << 18
_PIPE_BYTES = 1 << 20  # where the system lets one choose, so that git reads ahead while Python parses


def git_environment(**more: str) -> dict[str, str]:
    """Give the variables that git runs with: those of this process less its own, no prompts, no side effects."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_GRAFT_FILE": os.devnull,
        **more,
    }


def local_environment() -> dict[str, str]:
    """Give the variables for commands that have no business outside of the repository."""
    return git_environment(
        GIT_ALLOW_PROTOCOL="", GIT_NO_LAZY_FETCH="1", GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL=os.devnull
    )


class Answers:
    """A running ``git cat-file`` and what it has answered; it never waits longer than `timeout_s` for more."""

    def __init__(self, command: list[str], environment: dict[str, str], timeout_s: float) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            pipesize=_PIPE_BYTES,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN | select.POLLHUP)
        self._timeout_s = timeout_s
        self._buffer, self._at = bytearray(), 0

    def ask(self, ids: Sequence[str], last: bool) -> None:
        """Send ids; where they are the `last` ones, in the background."""
        data = "".join(f"{identifier}\n" for identifier in ids).encode()
        if last:
            threading.Thread(target=self._send, args=(data, True), daemon=True).start()
        else:
            self._send(data, False)

    def _send(self, data: bytes, last: bool) -> None:
        try:
            self._stdin.write(data)
            self._stdin.flush()
            if last:
                self._stdin.close()
        except (OSError, ValueError):
            pass  # git ended; whoever reads its answers will notice

    def _more(self) -> None:
        if self._at > _CHUNK_BYTES:
            del self._buffer[: self._at]
            self._at = 0
        if not self._poll.poll(self._timeout_s * 1000):
            raise SourceError(f"git was silent for {self._timeout_s:g} seconds")
        data = os.read(self._stdout.fileno(), _CHUNK_BYTES)
        if not data:
            raise EOFError
        self._buffer += data

    def line(self) -> bytes:
        """Give the next line."""
        while (end := self._buffer.find(b"\n", self._at)) < 0:
            self._more()
        found = bytes(memoryview(self._buffer)[self._at : end])
        self._at = end + 1
        return found

    def take(self, length: int) -> bytes:
        """Give the next bytes."""
        while len(self._buffer) - self._at < length:
            self._more()
        found = bytes(memoryview(self._buffer)[self._at : self._at + length])
        self._at += length
        return found

    def hash(self, length: int) -> Hashes:
        """Hash the next bytes through a temporary file, in constant memory."""
        with tempfile.NamedTemporaryFile(prefix="stack-platform-") as file:
            while length:
                piece = self.take(min(length, _CHUNK_BYTES))
                file.write(piece)
                length -= len(piece)
            file.flush()
            return hash_file(file.name)

    def close(self) -> None:
        """End git, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self._stdout.close()
        with contextlib.suppress(OSError):  # what was left to send
            self._stdin.close()
