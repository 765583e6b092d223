"""Verdicts on numbers with a checksum or a plan: payment cards, bank accounts, phones.

Cards: Luhn (ISO/IEC 7812-1 annex B) and the issuer ranges and lengths in use. Accounts: ISO 13616 check
digits and the length of the country. Phones: the plans of phonenumbers (Google's libphonenumber).
Known error: one random number of 16 digits in ten passes Luhn, so a bare one counts only beside a telling word
or in groups of four.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from stack_platform.scrub.context import before
from stack_platform.scrub.spans import Span

_CARD = re.compile(
    r"(?<![\w.])(?:\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5}|\d{12,19})(?![\w]|[.-]\d)"
)
_CARD_WORDS = re.compile(
    r"card|visa|master|maestro|amex|american express|discover|diners|jcb|unionpay"
    r"|\bcc\b|cc_|_cc|ccn|credit|debit|\bpan\b"
    r"|payment|cvv|cvc",
    re.IGNORECASE,
)
_NOT_CARD = re.compile(
    r"\bid\b|_id\b|time|stamp|seed|hash|size|offset|crc|serial|isbn|ean|gtin|build|version|[eE][+-]?$|[\d.][,;] ?$|#$"
    r"|\b0[xX]$|duration|bytes|count|phone|imei|rng|random|[*+/]\s?$",
    re.IGNORECASE,
)
_GROUP_BEFORE = re.compile(r"(?<![\w.])[0-9A-Fa-f]{4}[ -]\Z")
_GROUP_AFTER = re.compile(r"\s[0-9A-Fa-f]{4}\b")
_FROM_12, _FROM_14, _FROM_16 = (frozenset(range(low, 20)) for low in (12, 14, 16))
_ISSUERS = (  # network: leading digits from, to, lengths
    ("Visa", 4, 4, frozenset((13, 16, 19))),
    ("Mastercard", 51, 55, frozenset((16,))),
    ("Mastercard", 2221, 2720, frozenset((16,))),
    ("American Express", 34, 34, frozenset((15,))),
    ("American Express", 37, 37, frozenset((15,))),
    ("Discover", 6011, 6011, _FROM_16),
    ("Discover", 644, 659, _FROM_16),
    ("Diners Club", 300, 305, _FROM_14),
    ("Diners Club", 36, 36, _FROM_14),
    ("Diners Club", 38, 39, _FROM_14),
    ("JCB", 35, 35, _FROM_16),
    ("JCB", 1800, 1800, frozenset((15,))),
    ("JCB", 2131, 2131, frozenset((15,))),
    ("UnionPay", 62, 62, _FROM_16),
    ("Maestro", 50, 50, _FROM_12),
    ("Maestro", 56, 58, _FROM_12),
    ("Maestro", 6304, 6304, _FROM_12),
    ("Maestro", 639, 639, _FROM_12),
    ("Maestro", 67, 67, _FROM_12),
)

_IBAN = re.compile(
    r"(?<![A-Za-z0-9_])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9_])"
)
_IBAN_COUNTRIES = {  # length of the account number: countries
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_LENGTHS = {country: length for length, row in _IBAN_COUNTRIES.items() for country in row.split()}

_PHONE = re.compile(
    r"(?<![\w./])\(?\+?\(?\d[\d ().\-/]{4,22}\d(?:[ ,;]{0,2}(?:x|ext\.?:?) ?\d{1,6})?(?![\w]|\.\d|[/-]\d)",
    re.IGNORECASE,
)
_PHONE_WORDS = re.compile(
    r"phone|mobile|\btel\b|tel:|telefon|\bfax|\bcall\b|whatsapp|contact|\bcell\b|\bsms\b|\bdesk\b|\boffice\b"
    r"|number (?:is|to)|answering at|messages? to|registered",
    re.IGNORECASE,
)
# Directly before or after the number, with nothing but signs and blanks between.
_PHONE_SAID = re.compile(
    r"(?:phone|mobile|\btel|telefon|\bfax|whatsapp|\bcell|\bdesk|\boffice|number is|answering at|messages? to"
    r"|registered|(?:phone|mobile|cell|fax) ?(?:number|no\.?|nr\.?))[\s:=.#\"'(>]{1,6}\Z",
    re.IGNORECASE,
)
_PHONE_NAMED = re.compile(r"[ -]{1,2}(?:office|fax|mobile|cell|home|desk)\b", re.IGNORECASE)
_NOT_PHONE = re.compile(
    r"\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4}\b|\d{1,4}\.\d+\Z|\d{1,3}(?:\.\d{1,3}){3}\Z"
)
_LAYOUT = re.compile(r"\(\d{3}\) ?\d{3}[-. ]?\d{4}\Z|\d{3}[-.]\d{3}[-.]\d{4}\Z|\d{3} \d{3} \d{4}\Z")
_EXTENSION = re.compile(r"[ ,;]{0,2}(?:x|ext\.?:?) ?\d{1,6}\Z", re.IGNORECASE)
_REGIONS = (
    "US",
    "GB",
    "DE",
    "FR",
    "IN",
    "BR",
    "JP",
    "CN",
    "AU",
    "IL",
    "RU",
    "ES",
    "IT",
    "NL",
    "PL",
    "ZA",
    "KR",
    "MX",
)


def luhn_valid(digits: str) -> bool:
    """Tell whether a string of digits carries a correct Luhn check digit."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) << (place & 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def card(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the card number that begins in a hit."""
    found = _CARD.search(text, start, min(len(text), end + 12))
    if found is None or found.start() > start + 1:
        return
    digits = "".join(filter(str.isdigit, found.group()))
    if len(set(digits)) < 2 or not luhn_valid(digits) or not _issued(digits):
        return
    lead = before(text, found.start())
    if _GROUP_BEFORE.search(lead) or _GROUP_AFTER.match(text, found.end()):
        return  # a table of groups
    if len(digits) < 13 and not _CARD_WORDS.search(lead):
        return
    if _CARD_WORDS.search(lead):
        score = 0.95
    elif _NOT_CARD.search(lead):
        score = 0.3
    else:
        score = 0.85 if found.group(1) or found.group(2) else 0.55
    yield Span(found.start(), found.end(), "CREDIT_CARD", "sp.card", score)


def _issued(digits: str) -> bool:
    return any(
        low <= int(digits[: len(str(low))]) <= high and len(digits) in sizes
        for _, low, high, sizes in _ISSUERS
    )


def iban(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the bank account number that begins in a hit."""
    found = _IBAN.search(text, start, min(len(text), end + 30))
    if found is None or found.start() > start + 1:
        return
    # Words in capitals may follow the number, so the country says how much of the match is its own.
    length = _IBAN_LENGTHS.get(found.group()[:2], 0)
    last = found.start()
    for char in found.group():
        if length == 0:
            break
        last += 1
        length -= char != " "
    code = text[found.start() : last].replace(" ", "")
    if length == 0 and len(code) > 4 and not text[last : last + 1].isalnum() and iban_valid(code):
        yield Span(found.start(), last, "IBAN", "sp.iban", 0.95)


def iban_valid(code: str) -> bool:
    """Tell whether the check digits of an account number without spaces are right."""
    if not 2 <= int(code[2:4]) <= 98:
        return False
    return int("".join(str(int(char, 36)) for char in code[4:] + code[:4])) % 97 == 1


def phone(text: str, start: int, end: int) -> Iterator[Span]:
    """Judge the first phone number that begins in a hit."""
    found = _PHONE.search(text, start, min(len(text), end + 24))
    if found is None or found.start() >= end:
        return
    value = found.group().rstrip("( -./")
    last = found.start() + len(value)
    number = _EXTENSION.sub("", value)
    digits = "".join(filter(str.isdigit, number))
    if not 7 <= len(digits) <= 15 or _NOT_PHONE.match(number) or len(set(digits)) < 3:
        return
    said = _PHONE_SAID.search(text[max(0, found.start() - 32) : found.start()]) or _PHONE_NAMED.match(
        text, last
    )
    score = _phone_score(number, before(text, found.start(), 32), said=said is not None)
    if score:
        yield Span(found.start(), last, "PHONE", "sp.phone", score)


def _phone_score(value: str, lead: str, *, said: bool) -> float:
    announced = said or _PHONE_WORDS.search(lead) is not None
    groups = len(re.findall(r"\d+", value))
    if "+" in value:
        numbers = () if "/" in value else _parsed(value, "ZZ")
        return 0.0 if not numbers else 0.92 if numbers[1] else 0.6 if announced or groups > 2 else 0.45
    if _LAYOUT.match(value):
        valid = any(_parsed(value, region)[1:] == (True,) for region in ("US", "GB"))
        loose = value[3] in ". " and "(" not in value
        score = (0.85 if announced else 0.4 if loose else 0.6) if valid else 0.35 if announced else 0.0
    elif announced:
        score = 0.65 if any(_parsed(value, region)[1:] == (True,) for region in _REGIONS) else 0.35
    else:
        plausible = value.startswith("(") and any(
            _parsed(value, region)[1:] == (True,) for region in _REGIONS
        )
        score = 0.4 if plausible else 0.0
    return max(score, 0.55) if said and groups > 1 else score


def _parsed(value: str, region: str) -> tuple[bool, ...]:
    """Return (), (possible,) or (possible, valid) of a number dialed in a region."""
    library = _phonenumbers()
    try:
        number = library.parse(value, region)
    except library.NumberParseException:
        return ()
    if not library.is_possible_number(number):
        return ()
    return (True, library.is_valid_number(number))


@cache
def _phonenumbers() -> Any:
    import phonenumbers

    return phonenumbers
