"""What a variable, a key or a flag is called when its value is a secret, and when it is not."""

import re

PASSWORD_NAME = re.compile(
    r"pass|p[as]s{0,2}w|pw|\bpin\b|identified|contrase|senha|mot.?de.?passe|kennwort|парол|密码|비밀번호|암호|パスワード",
    re.IGNORECASE,
)
STRONG_NAME = re.compile(
    r"secret|token|api[_ -]?key|access(?!ib|or)|private|auth|cred|bearer|(?:[a-z]|_|\b)(?:KEY|Key|key)\b|\bpat\b",
    re.IGNORECASE,
)
PUBLIC_NAME = re.compile(
    r"(?:public|primary|foreign|sort|cache|partition|index|row|column|dict|map|group|object|s3|bucket|translation|i18n"
    r"|idempotency|routing|hot|short|license|verify|signing_?cert)[_-]?(?:key|token)|keyboard|keyword|keycode|key_?code|key_?name"
    r"|key_?id|key_?vault|sha-?\d|md5|checksum|digest|author|tokeni[sz]|bypass|pass(?:es|ed|ing)\b|pass_?(?:dict|manager|list|through|over|by|config|fn|func|count)\b|passenger|compass|passive|passage|jsonwebtoken|accessor|accessib"
    r"|spdx|licen[sc]e(?![_ -]?(?:key|secret|token))"
    r"|[._-][Uu]r[il]\W{0,4}\Z"
    r"|(?:[_-]|(?<=[a-z]))(?:[Tt]ype|[Uu]r[il]|[Pp]ath|[Ff]ile(?:name)?|[Ff]ield|[Ll]abel|[Ll]en(?:gth)?|[Ss]ize|[Cc]ount"
    r"|[Ee]xpir\w*|ttl|[Ff]ormat|[Hh]int|[Pp]rompt|[Pp]olicy|[Hh]eader|[Pp]aram(?:eter)?|[Cc]lass|[Rr]egex|[Pp]attern"
    r"|[Vv]ersion|[Aa]lg(?:orithm)?|[Mm]ethod|[Ss]cheme|[Ee]ndpoint|[Hh]ash(?:ed)?|[Pp]laceholder|[Tt]itle|[Tt]ext|[Mm]essage"
    r"|[Ee]rror|[Pp]refix|[Ss]uffix|[Nn]ame|[Ii]nput|[Mm]ode|[Rr]ef|[Uu]sage|[Cc]hars|[Ss]tr)s?\W{0,4}\Z",
    re.IGNORECASE,
)


def name_before(text: str, start: int, end: int) -> str:
    """Return the name that a hit begins inside of: from its first letter to `end`, without brackets and quotes."""
    low = start
    while low > max(0, start - 40) and (text[low - 1].isalnum() or text[low - 1] in "_-."):
        low -= 1
    return text[low:end].strip("\"'`[]() \t\\")
