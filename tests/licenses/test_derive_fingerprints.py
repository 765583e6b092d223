import json

from stack_platform.licenses.derive_fingerprints import (
    Template,
    build,
    drop_weaker,
    read_licensedcode,
    read_spdx,
    read_template,
    split_pattern,
)
from stack_platform.licenses.fingerprints import FingerprintIndex

GRANT = "anybody may use copy and distribute this fine software for every purpose under the moon"


def test_patterns_become_literals_gaps_and_optional_parts():
    pieces = split_pattern(r"(|mit license)[ ]*(?P<copyright>.{0,5000})may use,[ ]*(?P<x>one|two) copy\.")
    assert [piece for piece in pieces if piece[1].strip()] == [
        ("optional", "mit license"),
        ("gap", "40"),
        ("literal", "may use, "),
        ("gap", "4"),
        ("literal", " copy."),
    ]


def test_optional_words_are_not_required():
    template = read_template([("optional", "a title"), ("gap", "12"), ("literal", GRANT)], "MIT", "text")
    assert template.optional == ((0, 2),)
    assert template.gaps == ((2, 12),)
    assert read_template([("optional", GRANT)], "MIT", "text") is None


def test_title_is_optional_and_copyright_line_is_dropped(tmp_path):
    (tmp_path / "licenses").mkdir()
    text = f"The Moon License\n\nCopyright (c) 2031 Ada\n\n{GRANT}\n"
    (tmp_path / "licenses" / "MIT.json").write_text(json.dumps({"licenseText": text}))
    (template,) = read_spdx(tmp_path)
    assert " ".join(template.words) == f"the moon license {GRANT}"
    assert template.optional == ((0, 3),)


def test_rules_whose_license_spdx_cannot_name_are_left_out(tmp_path):
    (tmp_path / "licenses").mkdir()
    (tmp_path / "rules").mkdir()
    (tmp_path / "licenses" / "mit.LICENSE").write_text(
        f"---\nkey: mit\nspdx_license_key: MIT\n---\n\n{GRANT}"
    )
    for i, key in enumerate(("mit", "moon", "mit")):
        flag = "is_license_tag: yes" if i == 2 else "is_license_notice: yes"
        (tmp_path / "rules" / f"{i}.RULE").write_text(
            f"---\nlicense_expression: {key}\n{flag}\n---\nlicensed under the {{{{MIT license}}}} of {GRANT} {i}"
        )
    found = read_licensedcode(tmp_path)
    assert [(t.expression, t.kind) for t in found] == [("MIT", "text"), ("MIT", "notice")]


def test_variants_that_grant_less_or_restrict_more_are_dropped():
    def make(text, kind="text", name="MIT"):
        return Template(name, kind, tuple(text.split()))

    listed = [make("you may use copy and sell it")]
    good, less, more = make("use copy sell"), make("use copy"), make("use copy sell for research")
    other = make("for research", name="GPL-2.0-only")
    assert drop_weaker(listed, [good, less, more, other]) == [good, other]


def test_the_same_words_are_one_rule_and_the_restrictive_name_stays():
    words = tuple(GRANT.split())
    arrays = build([Template("MIT", "text", words), Template("GPL-2.0-only", "text", words)], {"here": "0"})
    index = FingerprintIndex(arrays)
    assert len(index.lengths) == 1
    assert index.rule(0).expression == "GPL-2.0-only"
    assert [index.number_of(word) for word in words] == index.rule(0).forward.words.tolist()
