"""The kind of a file, told by its path: which families of rules make sense in it.

Lock files and checksum lists are made of hashes; minified code, drawings and data are dense digits and letters where
an entropy or a count of digits says nothing. In both only exact formats are looked for.
"""

import re
from functools import lru_cache

_HASH_FILES = re.compile(
    r"(?:^|/)(?:[^/]*[.-]lock(?:\.(?:json|ya?ml|hcl))?|lockfile|npm-shrinkwrap\.json|go\.(?:sum|work\.sum)"
    r"|[^/]*\.(?:sum|sha\d+|sha\d+sums?|md5|md5sums?|sig|asc|lockb|resolved)"
    r"|(?:sha\d+|md5|b2|ck)sums?[^/]*|checksums?[^/]*|cargo\.lock|flake\.lock|manifest\.json\.sha)$",
    re.IGNORECASE,
)
_DENSE_FILES = re.compile(
    r"(?:[.-]min\.(?:js|css|mjs)|[.-]bundle\.js|\.map|\.svg|\.ps|\.eps|\.ai|\.obj|\.stl|\.pbxproj|\.css|\.ttx|\.bdf"
    r"|\.hex|\.ihex|\.geojson|\.topojson|\.po|\.pot|\.sdf|\.mol2?|\.pdb|\.fasta|\.vcf|\.wkt|\.dat)$",
    re.IGNORECASE,
)
_CONFIGURATION = re.compile(
    r"(?:^|/)(?:[^/]*\.(?:ya?ml|toml|ini|cfg|conf|cnf|config|properties|props|env|tfvars|netrc|npmrc|pypirc|pgpass"
    r"|htpasswd|reg|ovpn|service)|\.?env(?:[._-][^/]*)?|credentials|dockerfile[^/]*|\.?netrc|\.?pgpass)$",
    re.IGNORECASE,
)
FAMILIES = frozenset(
    [
        "EMAIL",
        "PRIVATE_KEY",
        "url",
        "format",
        "IP_ADDRESS",
        "CREDIT_CARD",
        "IBAN",
        "PHONE",
        "KEY",
        "assignment",
        "token",
        "NAME",
    ]
)
EXACT = frozenset({"EMAIL", "PRIVATE_KEY", "url", "format"})


@lru_cache(maxsize=4096)
def wanted_families(path: str) -> frozenset[str]:
    """Return the families of rules that make sense in a file of this path."""
    if _HASH_FILES.search(path):
        return EXACT - {"format"}
    if _DENSE_FILES.search(path):
        return EXACT
    return FAMILIES | {"setting"} if is_configuration(path) else FAMILIES


def is_configuration(path: str) -> bool:
    """Tell whether a file of this path holds settings, where a word without quotes is a value and not a name."""
    return _CONFIGURATION.search(path) is not None
