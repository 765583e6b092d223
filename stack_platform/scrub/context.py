"""What surrounds a candidate: the words before it, and what stands for a secret instead of being one.

Everything here is cheap and linear in its argument, because it runs once per native hit.
"""

import re

PLACEHOLDER_WORDS = re.compile(
    r"(?:none|null|nil|true|false|undefined|string|str|bytes|text|value|values|default|"
    r"empty|test|tests|testing|password|passwd|passphrase|passcode|pass|pwd|secret|"
    r"secrets|token|tokens|key|keys|api_key|apikey|user|username|admin|foo|bar|baz|"
    r"foobar|todo|fixme|tbd|unknown|disabled|enabled|optional|required|hidden|private|"
    r"public|bearer|basic|digest|oauth|oauth2|jwt|sha256|sha512|sha1|md5|hmac|email|"
    r"login|prompt|input|output)\Z"
)
_PLACEHOLDER = re.compile(
    r"^[$%@&]?[{(<\[]|[<>]$|^[$%@]\w+[%@]?$|^\$\w+/|^%[\w.]*$|^\.|^#\{|\$[{(]|\{\{|\}\}|#\{|%\(\w+\)|%[sd]\b|<[^>]{1,60}>|&lt;|[xX]{4,}|\*{3,}|\.{3}|_{4,}|-{5,}|0{8,}|#{4,}|•{3,}"
    r"|(?:^|[^a-z])(?:your|my|some|the|an?)[-_ .]?(?:own[-_ ]?)?"
    r"(?:api|secret|token|key|pass|password|access|auth|client|app)[^\d]*\Z"
    r"|your[-_ ]|example|sample|change[-_ ]?(?:me|it|this)"
    r"|place[-_ ]?holder|insert[-_ ]|replace|redact|dummy|fake|not[-_ ]"
    r"|process\.env|os\.environ|getenv|(?:^|\W)secrets?\.[a-z]|env\.[a-z]|vault:|^enc\[|^op://|^arn:|^ref\+|^![A-Za-z]+\Z|^@@?[a-z_]+@",
    re.IGNORECASE,
)
_REPEATED = re.compile(r"(.{1,4}?)\1{3,}\Z", re.DOTALL)
_SAME = re.compile(r"([B-Za-z1-9])\1{7}")  # not A: base64 of zeros is part of real keys
_ALPHABET = re.compile(
    r"abcdefghijklmnop.*(?:ABCDEFGHIJKLMNOP|0123456789)|0123456789.*abcdefghijklmnop",
    re.IGNORECASE | re.DOTALL,
)
_HASH_WORDS = re.compile(
    r"sha-?\d|md5|hash|checksum|digest|integrity|commit|revision|fingerprint|thumbprint|etag|crc|blake|public.?key"
    r"|pubkey|ssh-(?:rsa|ed25519)|resolved|\bh1:|signature|nonce|base64,|\brev\b|srcrev|\boid\b|merkle|\bcid\b",
    re.IGNORECASE,
)


def is_placeholder(value: str) -> bool:
    """Tell whether a value stands for a secret instead of being one (`<token>`, `${KEY}`, `changeme`)."""
    if PLACEHOLDER_WORDS.match(value.lower().strip("_-.")) or _PLACEHOLDER.search(value[:200]):
        return True
    if len(set(value)) <= 2 or _SAME.search(value[:200]):
        return True
    return _REPEATED.match(value[:64]) is not None


def is_alphabet(value: str) -> bool:
    """Tell whether a value lists the alphabet and the digits, as tables of characters do."""
    return len(value) >= 36 and _ALPHABET.search(value[:200]) is not None


def before(text: str, start: int, width: int = 48) -> str:
    """Return what precedes a place on its line, at most `width` code points."""
    low = max(0, start - width)
    return text[max(low, text.rfind("\n", low, start) + 1) : start]


def in_hash_context(text: str, start: int) -> bool:
    """Tell whether the words before a place announce a hash, an identifier or public data."""
    return _HASH_WORDS.search(before(text, start)) is not None
