"""One invented secret of every kind, put together at run time so that no scanner trips over this repository."""

import base64
import hashlib
from typing import NamedTuple

import pytest


class Sample(NamedTuple):
    kind: str  # expected type of the span
    lead: str
    value: str
    tail: str = "\n"

    @property
    def text(self) -> str:
        return self.lead + self.value + self.tail


def material(size: int, seed: str = "material") -> str:
    return base64.b64encode(hashlib.shake_256(seed.encode()).digest(size)).decode()


def key_block(label: str, size: int = 600, newline: str = "\n") -> str:
    body = material(size, label)
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    dashes = "-" * 5
    return newline.join([f"{dashes}BEGIN {label}{dashes}", *lines, f"{dashes}END {label}{dashes}"])


def putty_key() -> str:
    lines = ["PuTTY-User-Key-" + "File-2: ssh-rsa", "Encryption: none", "Comment: mine", "Public-Lines: 2"]
    lines += [material(48, "a"), material(48, "b"), "Private-Lines: 2", material(48, "c"), material(48, "d")]
    return "\n".join([*lines, "Private-" + "MAC: " + hashlib.sha1(b"mac").hexdigest()])


def token(size: int, seed: str = "token") -> str:
    return "".join(char for char in material(4 * size, seed) if char.isalnum())[: size - 2] + "7k"


JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"4711","admin":true}', b"signature" * 4)
)
SAMPLES = {
    "email": Sample("EMAIL", "# Author: ", "ada.lovelace" + "@" + "analytical-engine.org"),
    "email in a copyright line": Sample(
        "EMAIL", "// Copyright 2020 Ada <", "ada" + "@" + "engine.co.uk", ">\n"
    ),
    "ipv4": Sample("IP_ADDRESS", "server = '", "81.2.69." + "142", "'\n"),
    "ipv6": Sample("IP_ADDRESS", "listen [", "2a02:2e0:3fe:1001:" + "7777:772e:2:85", "]:80\n"),
    "ipv6 compressed": Sample("IP_ADDRESS", "host = ", "2a02:26f0:" + "5700::b81c:4d10"),
    "international phone": Sample("PHONE", "# call ", "+49 30 " + "901820"),
    "national phone": Sample("PHONE", "phone: ", "(212) 736" + "-5000"),
    "grouped card": Sample("CREDIT_CARD", "# ", "4111 1111 " + "1111 1111"),
    "announced card": Sample("CREDIT_CARD", 'card = "', "37828224" + "6310005", '"\n'),
    "iban": Sample("IBAN", "pay to ", "DE89 3704 0044 " + "0532 0130 00"),
    "rsa key": Sample("PRIVATE_KEY", "", key_block("RSA PRIVATE" + " KEY")),
    "openssh key": Sample("PRIVATE_KEY", "", key_block("OPENSSH PRIVATE" + " KEY", 300)),
    "key in a json string": Sample(
        "PRIVATE_KEY", '{"k": "', key_block("PRIVATE" + " KEY", 400, "\\n"), '\\n"}\n'
    ),
    "putty key": Sample("PRIVATE_KEY", "", putty_key()),
    "age key": Sample("PRIVATE_KEY", "", "AGE-SECRET-" + "KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" * 2),
    "url password": Sample("PASSWORD", 'db = "postgres://app:', "s3cr" + "3t-Pa55", '@db.internal/main"\n'),
    "quoted password": Sample("PASSWORD", 'password = "', "Tr0ub4" + "dor&3", '"\n'),
    "bare password": Sample("PASSWORD", "DB_PASSWORD=", "Tr0ub4" + "dor3"),
    "flag password": Sample("PASSWORD", "tool --password ", "Tr0ub4" + "dor3", " run\n"),
    "typed token": Sample("KEY", 'api_token: str = "', token(40), '"\n'),
    "hex key": Sample("KEY", "API_KEY=", hashlib.md5(b"key").hexdigest()),
    "jwt": Sample("KEY", 'auth = "', JWT, '"\n'),
    "vendor token": Sample("KEY", "use ", "gh" + "p_" + token(36, "vendor")),
}


@pytest.fixture(params=SAMPLES.values(), ids=SAMPLES.keys())
def sample(request: pytest.FixtureRequest) -> Sample:
    return request.param


@pytest.fixture(scope="session")
def samples() -> dict[str, Sample]:
    return SAMPLES
