import codecs

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stack_platform.errors import ConfigError
from stack_platform.languages.encoding import decode, is_binary, src_encoding

LEGACY = [
    ("cp1252", "/* Écrit à Genève : les données sont triées, les clés vérifiées */"),
    ("cp1250", "// Příliš žluťoučký kůň úpěl ďábelské ódy"),
    ("iso8859_2", "// Zażółć gęślą jaźń, źdźbło i pięść w łódce"),
    ("cp1251", "// Эта функция складывает два числа и печатает результат"),
    ("koi8_r", "// Эта функция складывает два числа и печатает результат"),
    ("cp866", "// Эта функция складывает два числа и печатает результат"),
    ("shift_jis", "// この関数は二つの数を足して結果を画面に表示します"),
    ("euc_jp", "// この関数は二つの数を足して結果を画面に表示します"),
    ("gbk", "// 这个函数计算两个数的总和并在屏幕上显示结果"),
    ("big5", "// 這個函數計算兩個數的總和並在螢幕上顯示結果"),
    ("euc_kr", "// 이 함수는 두 수의 합을 계산하여 화면에 결과를 표시합니다"),
]


@pytest.mark.parametrize(("encoding", "text"), LEGACY)
def test_text_in_old_encodings_is_read_as_it_was_written(encoding, text):
    data = (text + "\nint main(void) { return 0; }\n").encode(encoding)
    found = src_encoding(data)
    assert found is not None
    assert decode(data, found) == data.decode(encoding)


def test_long_files_are_sampled_and_then_decoded_whole():
    data = ("// données vérifiées à Genève\n" * 4000).encode("cp1252")
    assert src_encoding(data) == "cp1252"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"", "utf-8"),
        (b"plain", "utf-8"),
        ("é".encode(), "utf-8"),
        (codecs.BOM_UTF8 + b"a", "utf-8-sig"),
        ("a\n".encode("utf-16"), "utf-16"),
        (codecs.BOM_UTF16_BE + "a\n".encode("utf-16-be"), "utf-16"),
        ("a\n".encode("utf-32"), "utf-32"),
        (b"a\0b", None),
        (codecs.BOM_UTF8 + b"a\0b", None),
        (codecs.BOM_UTF16_LE + b"\x00\xd8\x00", None),
    ],
)
def test_marks_and_nul_bytes_decide_before_any_guess(data, encoding):
    assert src_encoding(data) == encoding


def test_binary_is_a_nul_without_a_mark_that_explains_it():
    assert is_binary(b"\x7fELF\0")
    assert not is_binary("a".encode("utf-16"))
    assert is_binary("a".encode("utf-16-le"))  # too short to tell


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_text(codec):
    data = "int größe = 1; // 長さ\nint main(void) { return 0; }\n".encode(codec)
    assert src_encoding(data) == codec
    assert decode(data, codec).encode(codec) == data


@pytest.mark.parametrize("data", [b"\x01\0" * 40, b"a\0" * 20 + b"b", b"ab\0\0" * 20, b"\x7fELF\2\1\1\0" * 9])
def test_numbers_in_two_bytes_are_binary(data):
    assert is_binary(data)
    assert src_encoding(data) is None


@given(st.binary(max_size=400))
@example(b"\x8e\xfd")  # Turkish letters beside a byte that Turkish code pages lack
def test_a_named_encoding_always_decodes(data):
    encoding = src_encoding(data)
    if encoding is not None:
        assert codecs.lookup(encoding).name == encoding
        decode(data, encoding)


@given(st.text(), st.booleans())
def test_utf_8_comes_back_byte_for_byte(text, mark):
    data = (codecs.BOM_UTF8 if mark else b"") + text.encode()
    encoding = src_encoding(data)
    if b"\0" in data:
        assert encoding in {None, "utf-16-le", "utf-16-be"}
    else:
        assert encoding in {"utf-8", "utf-8-sig"}
        assert decode(data, encoding).encode(encoding) == data
        assert not decode(data, encoding).startswith("\ufeff") or text.startswith("\ufeff")


@pytest.mark.parametrize(
    ("encoding", "message"), [("klingon", "unknown to Python"), ("utf-8", "byte 1 of 2")]
)
def test_a_wrong_encoding_is_refused(encoding, message):
    with pytest.raises(ConfigError, match=message):
        decode(b"a\xff", encoding)


def test_a_declared_encoding_settles_what_bytes_alone_cannot() -> None:
    """Few Latin-1 bytes look like Cyrillic ones to a detector; PEP 263's comment says what they are."""
    text = "# -*- coding: latin-1 -*-\n# caf\u00e9, d\u00e9j\u00e0 vu\n"
    assert src_encoding(text.encode("latin-1")) == "iso8859-1"
    xml = '<?xml version="1.0" encoding="windows-1251"?>\n<a>\u0434\u0430</a>\n'
    assert src_encoding(xml.encode("cp1251")) == "cp1251"


@pytest.mark.parametrize("name", ["no-such-codec", "rot13", "hex", "utf-8", "ascii", "undefined", "zlib"])
def test_a_wrong_declaration_is_not_believed(name: str) -> None:
    data = f"# coding: {name}\n".encode() + "Gr\u00fc\u00dfe aus M\u00fcnchen\n".encode("latin-1")
    assert src_encoding(data) not in {name, None}
