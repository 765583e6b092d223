"""Downloads from a server that fails on purpose."""

import asyncio
import bz2
import gzip
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.archive.downloads import (
    Damaged,
    DownloadConfig,
    Wanted,
    download,
    is_content,
    unpack,
    verified,
)
from stack_platform.archive.hashing import hash_bytes
from stack_platform.archive.ledger import Ledger
from stack_platform.archive.remote import open_store
from stack_platform.errors import ConfigError, SourceError

FAST = DownloadConfig(first_pause_s=0.001, longest_pause_s=0.01)
CHILD = """
import json, resource, sys
from pathlib import Path
from stack_platform.archive.downloads import DownloadConfig, Wanted, download, is_content
from stack_platform.archive.ledger import Ledger
from stack_platform.archive.remote import open_store
from stack_platform.errors import SourceError
listed, folder, url, most = sys.argv[1:]
if most:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), int(most)))
wanted = [Wanted(*row) for row in json.loads(Path(listed).read_text())]
try:
    with Ledger(Path(folder), is_content) as ledger:
        print(download(open_store(url, retries=0), wanted, ledger, DownloadConfig(in_flight=32)))
except SourceError as error:
    sys.exit(str(error))
"""


class Objects:
    """Contents in a folder that a server serves."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "content"
        self.folder.mkdir(parents=True)
        self.wanted: list[Wanted] = []

    def add(self, data: bytes) -> Wanted:
        hashes = hash_bytes(data)
        (self.folder / hashes.sha1).write_bytes(gzip.compress(data, 1, mtime=0))
        self.wanted.append(Wanted(hashes.sha1, hashes.sha1_git, hashes.length))
        return self.wanted[-1]

    def add_many(self, number: int, longest: int = 600) -> None:
        source = random.Random(7)
        for index in range(number):
            self.add(b"%d %s" % (index, source.randbytes(source.randrange(longest))))

    def size(self, wanted: Wanted) -> int:
        return (self.folder / wanted.sha1).stat().st_size

    def stored(self) -> int:
        return sum(map(self.size, self.wanted))


@pytest.fixture
def objects(tmp_path):
    return Objects(tmp_path / "root")


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger", is_content) as ledger:
        yield ledger


def store_of(server):
    return open_store(f"{server.url}/content", retries=0)


def complete(ledger, objects):
    return all(
        len(verified(ledger.get(one.sha1_git), one.sha1_git, one.length)) == one.length
        for one in objects.wanted
    )


def test_every_object_arrives_under_faults_and_a_rerun_asks_for_nothing(objects, ledger, serve):
    objects.add_many(300)
    objects.add(random.Random(1).randbytes(3 << 20))
    server = serve(objects.root, unavailable=0.2, truncated=0.1)
    result = download(store_of(server), objects.wanted, ledger, FAST)
    assert (result.asked, result.arrived, result.permanent, result.transient) == (301, 301, 0, 0)
    assert result.bytes == objects.stored()
    assert complete(ledger, objects)
    server.counts.clear()
    assert download(store_of(server), objects.wanted, ledger, FAST).asked == 0
    assert not server.counts.requests


def test_the_s3_client_and_a_folder_give_the_same(objects, tmp_path, serve):
    objects.add_many(30)
    server = serve(tmp_path)
    for number, store in enumerate(
        (open_store("s3://root/content", server.url, retries=0), open_store(str(objects.folder)))
    ):
        with Ledger(tmp_path / f"ledger{number}", is_content) as ledger:
            assert download(store, objects.wanted, ledger, FAST).arrived == 30
            assert complete(ledger, objects)


def test_permanent_failures_are_remembered_and_transient_ones_asked_again(objects, ledger, serve):
    kept, gone, denied, broken = (objects.add(name) for name in (b"kept", b"gone", b"denied", b"broken"))
    (objects.folder / gone.sha1).unlink()
    paths = [f"content/{one.sha1}" for one in (denied, broken)]
    server = serve(objects.root, forbidden=frozenset(paths[:1]), broken=frozenset(paths[1:]))
    config = DownloadConfig(attempts=3, first_pause_s=0)
    result = download(store_of(server), objects.wanted, ledger, config)
    assert (result.arrived, result.permanent, result.transient) == (1, 2, 1)
    assert ledger.failure(kept.sha1_git) is None
    assert ledger.failure(gone.sha1_git) == ("missing: the store has no such object", True)
    assert ledger.failure(denied.sha1_git) == ("access denied", True)
    assert ledger.failure(broken.sha1_git).reason.startswith("after 3 requests: ")
    assert server.counts.requests[f"content/{broken.sha1}"] == 3
    server.faults.broken = frozenset()
    server.counts.clear()
    assert download(store_of(server), objects.wanted, ledger, config).arrived == 1
    assert dict(server.counts.requests) == {f"content/{broken.sha1}": 1}
    assert ledger.failure(broken.sha1_git) is None


def test_wrong_bytes_are_asked_for_again_before_they_count_as_wrong(objects, ledger, serve):
    objects.add(b"kept")
    wrong = objects.add(b"wrong")
    (objects.folder / wrong.sha1).write_bytes(gzip.compress(b"other"))
    server = serve(objects.root)
    download(store_of(server), objects.wanted, ledger, FAST)
    assert server.counts.requests[f"content/{wrong.sha1}"] == FAST.wrong_attempts
    assert ledger.failure(wrong.sha1_git).permanent
    assert ledger.failure(wrong.sha1_git).reason.startswith("wrong hash: the bytes hash to ")


def test_a_length_that_is_not_the_exports_is_an_error(objects, ledger, serve):
    one = objects.add(b"12345")
    server = serve(objects.root)
    download(store_of(server), [one._replace(length=9)], ledger, FAST)
    assert ledger.failure(one.sha1_git) == ("wrong length: 5 bytes, the export says 9", True)


def test_a_long_object_goes_on_where_it_was_cut(objects, ledger, serve):
    data = random.Random(1).randbytes(4 << 20)
    one = objects.add(data)
    server = serve(objects.root, truncated=0.7, seed=3)
    assert download(store_of(server), [one], ledger, FAST).arrived == 1
    assert unpack(ledger.get(one.sha1_git), len(data)) == data
    assert server.counts.ranges
    assert sum(server.counts.bytes_sent.values()) == objects.size(one)


def test_a_long_object_that_changed_meanwhile_is_fetched_anew(objects, ledger, serve):
    one = objects.add(random.Random(1).randbytes(3 << 20))
    path = objects.folder / one.sha1
    right = path.read_bytes()
    server = serve(objects.root)
    part = ledger.begin_part(one.sha1, '"of an older object"', len(right))
    ledger.append_part(part, b"\0" * 1000)
    assert download(store_of(server), [one], ledger, FAST).arrived == 1
    assert ledger.get(one.sha1_git) == right


def test_a_server_that_gives_nothing_ends_the_run_and_nothing_is_remembered(objects, ledger, serve):
    objects.add_many(200)
    server = serve(objects.root, forbidden=frozenset(f"content/{one.sha1}" for one in objects.wanted))
    with pytest.raises(
        SourceError, match=r"could not be had .* access denied; check where contents are read from"
    ):
        download(store_of(server), objects.wanted, ledger, FAST)
    assert sum(server.counts.requests.values()) < 150
    assert all(ledger.wants(one.sha1_git) for one in objects.wanted)


def test_nobody_listening_is_a_transient_failure(objects, ledger):
    one = objects.add(b"one")
    store = open_store("http://127.0.0.1:9/content", retries=0)
    result = download(store, [one], ledger, DownloadConfig(attempts=2, first_pause_s=0))
    assert result.transient == 1
    assert ledger.wants(one.sha1_git)


def test_a_caller_inside_of_an_event_loop_can_download(objects, ledger, serve):
    objects.add_many(5)
    server = serve(objects.root)

    async def inside():
        return download(store_of(server), objects.wanted, ledger, FAST).arrived

    assert asyncio.run(inside()) == 5


def run_child(objects, tmp_path, server, most="", **options):
    listed = tmp_path / "wanted.json"
    listed.write_text(json.dumps(objects.wanted))
    arguments = [str(listed), str(tmp_path / "ledger"), f"{server.url}/content", most]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], cwd=Path(__file__).parents[2], **options
    )


def killed_in_the_middle(objects, tmp_path, server):
    """Start a download in a process of its own, and kill it when half of the bytes are sent."""
    child = run_child(objects, tmp_path, server)
    until = time.monotonic() + 60
    while sum(server.counts.bytes_sent.values()) < objects.stored() / 2 and time.monotonic() < until:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


def test_a_killed_process_fetches_at_most_one_percent_twice(objects, tmp_path, serve):
    objects.add_many(6000, 200)
    server = serve(objects.root)
    killed_in_the_middle(objects, tmp_path, server)
    before = sum(server.counts.bytes_sent.values())
    assert before < 0.9 * objects.stored()
    with Ledger(tmp_path / "ledger", is_content) as ledger:
        assert download(store_of(server), objects.wanted, ledger, FAST).asked > 500
        assert complete(ledger, objects)
    assert sum(server.counts.bytes_sent.values()) <= 1.01 * objects.stored()


def test_a_killed_process_goes_on_within_a_long_object(objects, tmp_path, serve):
    # so long that what is under way in the sockets of a busy machine, half a megabyte, is far below one percent
    one = objects.add(random.Random(1).randbytes(128 << 20))
    server = serve(objects.root, pause_s=0.001)
    killed_in_the_middle(objects, tmp_path, server)
    server.faults.pause_s = 0
    with Ledger(tmp_path / "ledger", is_content) as ledger:
        assert download(store_of(server), objects.wanted, ledger, FAST).arrived == 1
        assert complete(ledger, objects)
    assert [path for path, _ in server.counts.ranges] == [f"content/{one.sha1}"]
    assert sum(server.counts.bytes_sent.values()) <= 1.01 * objects.stored()


def test_a_full_disk_is_told_and_what_is_complete_is_kept(objects, tmp_path, serve):
    objects.add_many(400, 2000)
    server = serve(objects.root)
    child = run_child(objects, tmp_path, server, "200000", stderr=subprocess.PIPE, text=True)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "free some space or name another scratch folder" in told
    server.counts.clear()
    with Ledger(tmp_path / "ledger", is_content) as ledger:
        arrived = download(store_of(server), objects.wanted, ledger, FAST).arrived
        assert 0 < arrived < 400
        assert complete(ledger, objects)
    assert sum(server.counts.requests.values()) == arrived


def test_an_incomplete_record_is_cut_off_and_complete_ones_are_found_again(objects, tmp_path, serve):
    objects.add_many(20)
    server = serve(objects.root)
    folder = tmp_path / "ledger"
    with Ledger(folder, is_content) as ledger:
        download(store_of(server), objects.wanted, ledger, FAST)
    for path in folder.glob("ledger.sqlite*"):
        path.unlink()
    segment = folder / "segment-000000"
    size = segment.stat().st_size
    with segment.open("ab") as stream:
        stream.write(segment.read_bytes()[:60])
    with Ledger(folder, is_content) as ledger:
        assert segment.stat().st_size == size
        assert complete(ledger, objects)
        assert not any(ledger.wants(one.sha1_git) for one in objects.wanted)


def test_a_segment_that_is_gone_is_fetched_again(objects, tmp_path, serve):
    objects.add_many(3)
    server = serve(objects.root)
    with Ledger(tmp_path / "ledger", is_content) as ledger:
        download(store_of(server), objects.wanted, ledger, FAST)
        (tmp_path / "ledger/segment-000000").unlink()
        assert [ledger.get(one.sha1_git) for one in objects.wanted] == [None] * 3
    with Ledger(tmp_path / "ledger", is_content) as ledger:
        assert download(store_of(server), objects.wanted, ledger, FAST).arrived == 3
        assert complete(ledger, objects)


def test_two_processes_do_not_share_a_ledger(tmp_path, ledger):
    with pytest.raises(SourceError, match="in use by another process"):
        Ledger(tmp_path / "ledger", is_content)


def test_segments_that_the_archive_has_are_removed(objects, tmp_path, ledger, serve):
    objects.add_many(10)
    server = serve(objects.root)
    download(store_of(server), objects.wanted, ledger, FAST)
    assert ledger.forget(lambda ids: ids[:1]) == 0
    assert ledger.forget(lambda ids: []) > objects.stored()
    assert list((tmp_path / "ledger").glob("segment-000000")) == []
    assert download(store_of(server), objects.wanted, ledger, FAST).arrived == 10
    assert complete(ledger, objects)


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
def test_gzip_of_several_members_unpacks_to_their_sum(parts):
    packed = b"".join(map(gzip.compress, parts))
    whole = b"".join(parts)
    assert unpack(packed, len(whole)) == whole
    identifier = hash_bytes(whole).sha1_git
    assert verified(packed, identifier, len(whole)) == verified(whole, identifier, len(whole)) == whole
    with pytest.raises(Damaged, match=r"ends too early|corrupt"):
        unpack(packed[:-1], len(whole))
    if whole:
        with pytest.raises(Damaged, match="longer than"):
            unpack(packed, len(whole) - 1)


@given(st.binary(max_size=300))
def test_any_bytes_unpack_or_are_damaged(data):
    try:
        assert len(unpack(data, 1000)) <= 1000
    except Damaged as damaged:
        assert damaged.reason  # noqa: PT017  both outcomes are right


def test_a_content_that_is_itself_gzip_is_what_its_id_says():
    inner = gzip.compress(b"text", mtime=0)
    identifier = hash_bytes(inner).sha1_git
    assert verified(gzip.compress(inner), identifier, len(inner)) == inner
    assert verified(inner, identifier, len(inner)) == inner


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bz2.compress(b"x"), "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"plain text", "begins with 706c6169, not"),
        (b"", "it is empty"),
    ],
)
def test_other_compressions_are_named(data, message):
    with pytest.raises(Damaged, match=message):
        unpack(data, 100)


@pytest.mark.parametrize(
    "options", [{"in_flight": 0}, {"attempts": 0}, {"first_pause_s": 2, "longest_pause_s": 1}]
)
def test_a_number_that_makes_no_sense_is_refused(options):
    with pytest.raises(ConfigError, match="write"):
        DownloadConfig(**options)
