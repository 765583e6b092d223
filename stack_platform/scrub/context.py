"""What surrounds a candidate: the kind of its file, placeholders, entropy, code that looks like data.

Everything here is cheap and linear in its argument, because it runs once per native hit.
"""

import math
import re
from collections import Counter

# Files made of hashes: nothing in them but exact formats (e-mail, key block, URL password) is worth a look.
_HASH_FILES = re.compile(
    r"(?:^|/)(?:[^/]*[.-]lock(?:\.(?:json|ya?ml|hcl))?|lockfile|npm-shrinkwrap\.json|go\.(?:sum|work\.sum)"
    r"|[^/]*\.(?:sum|sha\d+|sha\d+sums?|md5|md5sums?|sig|lockb|resolved)"
    r"|(?:sha\d+|md5|b2|ck)sums?[^/]*|checksums?[^/]*|cargo\.lock|flake\.lock)$",
    re.IGNORECASE,
)
# Dense files: digits and letters without spaces, where an entropy or a digit count says nothing.
_DENSE_FILES = re.compile(
    r"(?:[.-]min\.(?:js|css|mjs)|\.bundle\.js|\.map|\.svg|\.ps|\.eps|\.ai|\.obj|\.stl|\.ipynb|\.pbxproj"
    r"|\.css|\.ttx|\.bdf|\.hex|\.ihex|\.geojson|\.po)$",
    re.IGNORECASE,
)
EXACT = frozenset({"EMAIL", "PRIVATE_KEY", "url"})
_ALL = EXACT | {"IP_ADDRESS", "CREDIT_CARD", "IBAN", "PHONE", "KEY", "assignment", "token"}

_WORDS = re.compile(
    r"(?:none|null|nil|true|false|undefined|string|str|bytes|text|value|values|default|"
    r"empty|test|tests|testing|password|passwd|passphrase|passcode|pass|pwd|secret|"
    r"secrets|token|tokens|key|keys|api_key|apikey|user|username|admin|foo|bar|baz|"
    r"foobar|todo|fixme|tbd|unknown|disabled|enabled|optional|required|hidden|private|"
    r"public|bearer|basic|digest|oauth|oauth2|jwt|sha256|sha512|sha1|md5|hmac|email|"
    r"login|prompt|input|output)\Z"
)
_PLACEHOLDER = re.compile(
    r"^[$%@&]?[{(<\[]|[<>]$|^[$%@]\w+[%@]?$|^%[\w.]*$|^\.|^#\{|\$[{(]|\{\{|\}\}|#\{|%\(|%[sd]\b|<[^>]{1,60}>|[xX]{4,}|\*{3,}|\.{3}|_{4,}|-{5,}|0{8,}|•{3,}"
    r"|(?:^|[^a-z])(?:your|my|some|the|an?)[-_ .]?(?:own[-_ ]?)?"
    r"(?:api|secret|token|key|pass|password|access|auth|client|app)"
    r"|your[-_ ]|example|sample|change[-_ ]?(?:me|it|this)"
    r"|place[-_ ]?holder|insert[-_ ]|replace|redact|dummy|fake|not[-_ ]"
    r"|process\.env|os\.environ|getenv|secrets?\.[a-z]|env\.[a-z]|vault:|^enc\[|^op://|^arn:|^ref\+|^!\w|^@@?[a-z_]+@",
    re.IGNORECASE,
)
_REPEATED = re.compile(r"(.{1,4}?)\1{3,}\Z", re.DOTALL)
_HASH_WORDS = re.compile(
    r"sha-?\d|md5|hash|checksum|digest|integrity|commit|revision|fingerprint|thumbprint|etag|crc|blake|public.?key"
    r"|pubkey|ssh-(?:rsa|ed25519)|resolved|\bh1:|signature|nonce|base64,|\brev\b|\boid\b|merkle|\bcid\b",
    re.IGNORECASE,
)
UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\Z", re.IGNORECASE)
HEX = re.compile(r"[0-9a-fA-F]+\Z")


def wanted_families(path: str) -> frozenset[str]:
    """Return the families of rules that make sense in a file of this path."""
    if _HASH_FILES.search(path) or _DENSE_FILES.search(path):
        return EXACT
    return _ALL


def is_placeholder(value: str) -> bool:
    """Tell whether a value stands for a secret instead of being one (`<token>`, `${KEY}`, `changeme`)."""
    if _WORDS.match(value.lower().strip("_-.")) or _PLACEHOLDER.search(value[:200]):
        return True
    return len(set(value)) <= 2 or _REPEATED.match(value[:64]) is not None


def entropy(value: str) -> float:
    """Return the Shannon entropy of the characters of a value, in bits per character."""
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in Counter(value).values())


def before(text: str, start: int, width: int = 48) -> str:
    """Return what precedes a place on its line, at most `width` code points."""
    low = max(0, start - width)
    return text[max(low, text.rfind("\n", low, start) + 1) : start]


def in_hash_context(text: str, start: int) -> bool:
    """Tell whether the words before a place announce a hash, an identifier or public data."""
    return _HASH_WORDS.search(before(text, start)) is not None
