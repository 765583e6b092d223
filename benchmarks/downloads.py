"""Downloads verify more objects per second than boto3, and lose none where boto3 loses some.

Objects are gzip contents as the public archive of Software Heritage has them (random words, 0.1 to 40 KB). Both
clients fetch the same objects from the same server process without credentials, 32 at a time, unpack each and check
its sha1_git and length; ours also writes them to its ledger, durably. The server is moto's where it is installed
(`pip install 'moto[server]'`: the whole of S3 in Python, and slower than any client), and the fault-injecting one of
the tests. Figures: objects per second of wall time, CPU seconds of the client, and objects that arrived when 20 % of
the answers are 503 and 10 % of the bodies are cut. Both clients keep their own retries: boto3's `standard` mode with
10 attempts. The peer: `pip install boto3`.
"""

import argparse
import gzip
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from stack_platform.archive.downloads import DownloadConfig, Wanted, download, is_content
from stack_platform.archive.hashing import hash_bytes
from stack_platform.archive.ledger import Ledger
from stack_platform.archive.remote import open_store
from stack_platform.archive.swhid import object_id

SERVER = Path(__file__).parents[1] / "tests/archive/object_server.py"
IN_FLIGHT = 32


def write_objects(folder: Path, number: int) -> list[Wanted]:
    """Write gzip objects named by sha1."""
    folder.mkdir(parents=True)
    source = random.Random(0)
    words = ["".join(source.choices("abcdefghijklmnop", k=source.randrange(2, 12))) for _ in range(5000)]
    wanted = []
    for index in range(number):
        text = " ".join(source.choices(words, k=source.randrange(20, 6000)))
        data = f"{index} {text}\n".encode()
        hashes = hash_bytes(data)
        (folder / hashes.sha1).write_bytes(gzip.compress(data, 6))
        wanted.append(Wanted(hashes.sha1, hashes.sha1_git, hashes.length))
    return wanted


@contextmanager
def ours_served(root: Path, *faults: str) -> Iterator[str]:
    """Serve by the tests' server in a process of its own; give its address."""
    process = subprocess.Popen(
        [sys.executable, str(SERVER), str(root), *faults], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def moto_served(root: Path) -> Iterator[str]:
    """Serve by moto in a process of its own, after uploading the objects."""
    code = (
        "import time; from moto.server import ThreadedMotoServer as S; s = S('127.0.0.1', 0, verbose=False); "
        "s.start(); print(s.get_host_and_port()[1], flush=True); time.sleep(1e6)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        public = {"x-amz-acl": "public-read", "Content-Type": "application/octet-stream"}
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT", headers=public))
        for path in (root / "bucket/content").iterdir():
            target = f"{url}/bucket/content/{path.name}"
            urllib.request.urlopen(
                urllib.request.Request(target, path.read_bytes(), public, method="PUT"), timeout=10
            )
        yield url
    finally:
        process.terminate()
        process.wait()


def fetch_ours(url: str, wanted: list[Wanted]) -> int:
    """Fetch with the platform's downloads into a new ledger."""
    store = open_store("s3://bucket/content", url, retries=0)
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder), is_content) as ledger:
        return download(store, wanted, ledger, DownloadConfig(in_flight=IN_FLIGHT)).arrived


def fetch_boto3(url: str, wanted: list[Wanted]) -> int:
    """Fetch with boto3 in threads, unsigned, and verify."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        signature_version=UNSIGNED,
        max_pool_connections=IN_FLIGHT,
        s3={"addressing_style": "path"},
        retries={"mode": "standard", "max_attempts": 10},
    )
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=config)

    def fetch(one: Wanted) -> bool:
        try:
            body = client.get_object(Bucket="bucket", Key=f"content/{one.sha1}")["Body"].read()
            data = gzip.decompress(body)
        except Exception:  # noqa: BLE001  whatever it raises, the object did not arrive
            return False
        return len(data) == one.length and object_id(b"blob", data) == one.sha1_git

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        return sum(pool.map(fetch, wanted))


def measure(
    name: str, fetch: Callable[[str, list[Wanted]], int], url: str, wanted: list[Wanted]
) -> tuple[float, float]:
    """Run once and print; give objects per second and CPU seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    arrived = fetch(url, wanted)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(
        f"  {name:6} {arrived:5} of {len(wanted)} arrived, {len(wanted) / wall:6.0f} objects/s, {cpu:5.2f} CPU s"
    )
    return len(wanted) / wall, cpu


def compare(title: str, url: str, wanted: list[Wanted], peer: bool, rounds: int) -> None:
    """Run both in turns, and print the ratio of the best rounds."""
    print(title)
    best: dict[str, list[tuple[float, float]]] = {"ours": [], "boto3": []}
    for _ in range(rounds):
        best["ours"].append(measure("ours", fetch_ours, url, wanted))
        if peer:
            best["boto3"].append(measure("boto3", fetch_boto3, url, wanted))
    if peer:
        rate = max(best["ours"])[0] / max(best["boto3"])[0]
        cpu = min(cpu for _, cpu in best["boto3"]) / min(cpu for _, cpu in best["ours"])
        print(
            f"  ratio: {rate:.2f} times the objects per second, 1/{cpu:.2f} of the client's CPU (best of {rounds})"
        )


def installed(module: str, command: str) -> bool:
    """Tell whether a peer is there, and if not how to get it."""
    try:
        __import__(module)
    except ImportError:
        print(f"downloads: {module} is not installed; {command}")
        return False
    return True


def main() -> None:
    """Compare on each server, without and with faults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    peer = installed("boto3", "pip install boto3")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        wanted = write_objects(root / "bucket/content", given.objects)
        with ours_served(root) as url:
            compare("the tests' server, without faults", url, wanted, peer, given.rounds)
        if installed("moto", "pip install 'moto[server]'"):
            with moto_served(root) as url:
                compare("moto, without faults", url, wanted, peer, given.rounds)
        with ours_served(root, "--unavailable", "0.2", "--truncated", "0.1") as url:
            compare("the tests' server, 20 % 503 and 10 % of the bodies cut", url, wanted, peer, 1)


if __name__ == "__main__":
    main()
