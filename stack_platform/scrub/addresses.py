"""Verdicts on e-mail addresses and IP addresses.

Addresses that identify nobody are never reported: reserved documentation names and ranges (RFC 2606,
RFC 5737, RFC 3849), `git@`, `noreply`, loopback. Known error: a dotted version number of four parts above 31
without any telling word is taken for an address.
"""

import ipaddress
import re
from collections.abc import Iterator

from stack_platform.scrub.context import before
from stack_platform.scrub.spans import Span

_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-'")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,6}([A-Za-z]{2,24})(?![A-Za-z0-9_@-])"
)
_RESERVED = re.compile(
    r"(?:^|\.)(?:example\.(?:com|org|net|edu|co)|example|test|invalid|localhost|localdomain|local|internal"
    r"|noreply\.github\.com)$",
    re.IGNORECASE,
)
_ROBOTS = re.compile(r"^(?:git|hg|svn|cvs|no[-_.]?reply.*|do[-_.]?not[-_.]?reply.*)$", re.IGNORECASE)
_STAND_IN = re.compile(
    r"^(?:user(?:name)?|name|you|your\w*|me|my|email|e-?mail|foo|bar|x+|someone|somebody|test|first\.last|src|dst|from|to|sender|recipient|j(?:ohn|ane)\.?doe|[\w.-]*(?:fake|dummy)[\w.-]*)@"
    r"|@(?:your|my|some)?-?(?:domain|company|host|server|site|mail|foo|bar|email|address)\.",
    re.IGNORECASE,
)
# The generic top-level domains in common use; two letters are countries.
_GENERIC_TLDS = re.compile(
    r"(?:com|org|net|edu|gov|mil|int|info|biz|name|pro|aero|coop|museum|mobi|jobs|"
    r"travel|tel|asia|cat|post|xxx|arpa|dev|app|page|blog|cloud|online|site|store|"
    r"tech|xyz|club|live|life|world|email|top|shop|space|website|agency|work|works|"
    r"studio|design|digital|media|news|network|systems|solutions|services|software|company|"
    r"group|team|zone|today|guru|ninja|rocks|social|science|academy|engineering|global|"
    r"international|institute|foundation|berlin|london|paris|tokyo|nyc|wien|hamburg|bayern|"
    r"koeln|swiss|amsterdam|moscow|africa|ventures|capital|finance|legal|health|care|law|"
    r"energy|link|click|one|plus|run|sh|art|codes|computer|consulting|education|"
    r"university|school|training|games|game|chat|community|center|city|land|house|split|"
    r"frozenset|js|ts|h|c|cc|hh|py|rb|so)\Z"
)
_FILE_SUFFIXES = frozenset(
    ("js", "ts", "h", "c", "cc", "hh", "py", "rb", "so")
)  # of these only py, so, cc are countries

_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d|-[a-z0-9])")
_VERSION = re.compile(
    r"version|\bver\b|\bv\.? ?$|assembly|release|revision|\boid\b|chrome|firefox|safari|mozilla|opera|edge/|webkit"
    r"|package|build\b|section|\brfc|chapter|[=~<>!]=\s?$|[A-Za-z][/-]$|\bupgrade|nuget|gem\b|dotnet|sdk\b",
    re.IGNORECASE,
)
_NETWORK = re.compile(
    r"\bip\b|ip_|_ip|ipv?4|ipaddr|host|addr|server|\bdns|ping|ssh|https?:|://|listen|bind|peer|remote|network|gateway"
    r"|subnet|inet|client|proxy|@$|\bfrom\b|\bnode|whois|curl|telnet|ftp|netmask|route|firewall|iptables|allow|deny",
    re.IGNORECASE,
)
_RESOLVERS = frozenset(
    ("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "208.67.222.222", "208.67.220.220")
)
_ANNOUNCED = re.compile(
    r"(?:\bips?|ipv[46]|server|host|connect(?:ing|ed)?|address|addr|src|dst|source|destination|from|tunnel|primary|secondary"
    r"|visit|ssh|ping|peer|remote|mapped)\b"
    r"[^\n\w]{0,4}(?:to|is|at|ip|https?)?[^\n\w]{0,4}(?:[0-9a-fA-F.:]{3,39},[ ]){0,3}\Z",
    re.IGNORECASE,
)
_ADDRESSED = re.compile(
    r"(?:\bip(?:v4)?|addr(?:ess)?|\bhost(?:name)?|server|\bdns|\bping|\bssh|://|@|connect\w*|listen\w*|bind)[^\n]{0,12}\Z",
    re.IGNORECASE,
)
_WITH_PORT = re.compile(r":\d{2,5}\b|/\d\d?\b")
_LISTED = re.compile(r"\d\.\d{1,6}[ ,-]{1,2}\Z")
_DOCUMENTATION = tuple(
    ipaddress.ip_network(net)
    for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")
)
_IPV6_CHARS = frozenset("0123456789abcdefABCDEF:.")


def email(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the e-mail address around the `@` of a hit."""
    at = text.find("@", start, end)
    domain = _DOMAIN.match(text, at + 1, at + 200)
    if at < 0 or domain is None:
        return
    first = _local_start(text, at)
    local = text[first:at]
    score = _email_score(
        local, domain.group(), domain.group(1).lower(), text[domain.end() : domain.end() + 1]
    )
    # The user part of a URL is judged by the rule for URL passwords.
    if local and score and not re.search(r"://[^\s/?#]*$", before(text, first, 120)):
        yield Span(first, domain.end(), "EMAIL", "sp.email", score)


def _local_start(text: str, at: int) -> int:
    first = at
    while first > max(0, at - 64) and text[first - 1] in _LOCAL:
        first -= 1
    if text[first - 1 : first] == "\\" and text[first] in "nrt":
        first += 1  # the tail of an escape sequence, not of a name
    while first < at and text[first] in "'.-%":
        first += 1
    return first


def _email_score(local: str, domain: str, top: str, after: str) -> float:
    if _RESERVED.search(domain) or _ROBOTS.match(local) or local.endswith("."):
        return 0.0
    if len(top) > 2 and not _GENERIC_TLDS.match(top):
        return 0.0 if after in ("(", "[", "=") else 0.4
    if top in _FILE_SUFFIXES and domain.count(".") == 1:
        return 0.4
    if after == "(" or _STAND_IN.search(f"{local}@{domain}"):
        return 0.45
    return 0.97


def ipv4(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the dotted quad that begins in a hit."""
    found = _IPV4.search(text, start, min(len(text), end + 6))
    if found is None or found.start() > start + 1:
        return
    try:
        address = ipaddress.IPv4Address(found.group())
    except ValueError:
        return
    lead = before(text, found.start())
    if _in_documentation(address) or _VERSION.search(lead):
        return
    after = text[found.end() : found.end() + 12].partition("\n")[0]
    score = _ip_score(address, lead, after)
    telling = _NETWORK.search(lead + after) is not None or after[:1] in ("/", ":")
    if score > 0.5:
        if max(address.packed) <= 31 and not (_ADDRESSED.search(lead) or _WITH_PORT.match(after)):
            score = 0.35  # a version or a section as often as an address
        elif _LISTED.search(lead):
            score = 0.3  # one of many numbers
        score += 0.05 if telling else 0.0
    if score:
        yield Span(found.start(), found.end(), "IP_ADDRESS", "sp.ip.v4", score)


def _ip_score(address: ipaddress.IPv4Address | ipaddress.IPv6Address, lead: str, after: str) -> float:
    """Return 0.85 for an address of somebody, less for those of a network of one's own and for constants."""
    if address.is_loopback or address.is_unspecified:
        return 0.0
    if str(address) in _RESOLVERS:
        return 0.42
    if address.is_global and not address.is_multicast and not address.is_reserved:
        return 0.85
    constant = after[:1] == "/" or address.is_multicast or address.packed[-1] in (0, 255)
    if constant or not (address.is_private or address.is_link_local):
        return 0.42 if address.packed[0] != 255 else 0.3
    # The network of somebody: an address in use, or only written down.
    in_use = (
        _ANNOUNCED.search(lead) is not None or after[:1] == "@" or (lead.endswith("[") and after[:1] == "]")
    )
    return 0.5 if in_use else 0.42


def _in_documentation(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(address in network for network in _DOCUMENTATION if network.version == address.version)


def ipv6(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the IPv6 address that begins in a hit."""
    first = start if text[start] in _IPV6_CHARS else start + 1
    last = first
    while last < min(len(text), end + 46) and text[last] in _IPV6_CHARS:
        last += 1
    value = text[first:last].rstrip(".")
    if value.endswith(":") and not value.endswith("::"):
        value = value[:-1]
    last = first + len(value)
    if text[last : last + 1].isalnum() or text[last : last + 1] == "_":
        return
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return
    lead, after = before(text, first), text[last : last + 12].partition("\n")[0]
    full = value.count(":") == 7 and "::" not in value
    score = 0.8 if full and address.is_reserved else _ip_score(address, lead, after)
    if score == 0.42 and after[:1] != "/" and ("." in value or len(re.findall(r"[0-9a-fA-F]+", value)) > 4):
        score = 0.5  # written out as that of one machine
    if score > 0.5 and "::" in value and value.count(":") < 3 and not _NETWORK.search(lead):
        score = 0.45  # 2abc::face is also a name in C++
    if score:
        yield Span(first, last, "IP_ADDRESS", "sp.ip.v6", score)
