import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_platform.languages import catalog
from stack_platform.languages.detect import detect_language
from stack_platform.languages.popularity import most_popular

# One small file of each kind, written for these tests: (name, content, language).
FILES = [
    ("main.py", b"print(1)\n", "Python"),
    ("src/deep/Makefile", b"all:\n", "Makefile"),
    ("C:\\work\\Dockerfile", b"FROM scratch\n", "Dockerfile"),
    ("notes.MD", b"# Notes\n", "Markdown"),
    ("insn.md", b'(define_insn "add")\n', "GCC Machine Description"),
    ("run", b"#!/usr/bin/env python3.12\nprint(1)\n", "Python"),
    ("run", b"#! /usr/bin/env -S LANG=C node --harmony\n", "JavaScript"),
    ("run", b'#!/bin/sh\n# start\nexec perl -x "$0" "$@"\n', "Perl"),
    ("run", b"#!/bin/bash\necho hi\n", "Shell"),
    ("run", b"#!/usr/bin/osascript -l JavaScript\n", None),
    ("run", b"#!\n", None),
    ("tool.js", b"#!/usr/bin/env python\n", "Python"),
    ("any.txt", b"/* -*- mode: Ruby; tab-width: 2 -*- */\n", "Ruby"),
    ("any.txt", b"# -*- C++ -*-\n", "C++"),
    ("any.txt", b"hello\n" * 20 + b"# vim: set ts=4 ft=perl :\n", "Perl"),
    ("any.txt", b"# vim: ft=perl\n" + b"hello\n" * 20, "Perl"),
    ("any.txt", b"hello\n" * 20 + b"# vim: ft=perl\n" + b"hello\n" * 20, "Text"),
    ("coding.py", b"# -*- coding: utf-8 -*-\n", "Python"),
    ("unknown-name", b'<?xml version="1.0"?>\n<a/>\n', "XML"),
    ("tool.1", b".TH TOOL 1\n.SH NAME\n", "Roff Manpage"),
    ("build.log.1", b"nothing but words\n", None),
    ("coin.sol", b"pragma solidity ^0.8.0;\n", "Solidity"),
    ("coin.sol", b"just data\n", None),
    ("a.h", b"#ifndef A_H\n#define A_H\nint f(void);\n#endif\n", "C"),
    ("a.h", b"namespace a {\nclass B;\n}\n", "C++"),
    ("a.h", b"#import <Foundation/Foundation.h>\n@interface A : NSObject\n@end\n", "Objective-C"),
    ("a.m", b"function y = f(x)\n  y = x .* 2;\nend\n", "MATLAB"),
    ("a.m", b'#import "A.h"\n@implementation A\n@end\n', "Objective-C"),
    ("a.m", b"(* sum *)\nf[x_] := x^2\n", "Wolfram Language"),
    ("a.m", b":- module a.\n:- interface.\n", "Mercury"),
    ("a.pl", b"use strict;\nmy $x = 1;\n", "Perl"),
    ("a.pl", b"likes(ann, bob).\nfriend(X, Y) :- likes(X, Y).\n", "Prolog"),
    ("a.pl", b"use v6;\nsay 'hi';\n", "Raku"),
    ("a.t", b"use Test::More tests => 1;\nok(1);\n", "Perl"),
    ("a.r", b"x <- c(1, 2)\n", "R"),
    ("a.r", b'REBOL [Title: "x"]\n', "Rebol"),
    ("a.sql", b"SELECT a FROM b;\n", "SQL"),
    ("a.sql", b"CREATE FUNCTION f() RETURNS trigger AS $$ BEGIN END; $$ LANGUAGE plpgsql;\n", "PLpgSQL"),
    ("a.sql", b"SET NOCOUNT ON\nGO\n", "TSQL"),
    ("a.sql", b"v_name VARCHAR2(10);\n/\n", "PLSQL"),
    ("a.ts", b"export const a: number = 1;\n", "TypeScript"),
    ("a.ts", b'<?xml version="1.0"?>\n<!DOCTYPE TS>\n', "XML"),
    ("a.tsx", b"export const A = () => <b/>;\n", "TSX"),
    ("a.rs", b"fn main() {}\n", "Rust"),
    ("a.fs", b"module A\nlet x = 1\n", "F#"),
    ("a.fs", b": square dup * ;\n", "Forth"),
    ("a.v", b"module m(input a);\nendmodule\n", "Verilog"),
    ("a.v", b"Theorem t : True.\nProof. exact I. Qed.\n", "Rocq Prover"),
    ("a.v", b"import os\n\nfn main() {\n}\n", "V"),
    ("a.cls", b"public with sharing class A {}\n", "Apex"),
    ("a.cls", b"\\NeedsTeXFormat{LaTeX2e}\n", "TeX"),
    ("a.d", b"module a;\nimport std.stdio;\n", "D"),
    ("a.d", b"a.o: a.c \\\n a.h\n", "Makefile"),
    ("a.ex", b"defmodule A do\nend\n", "Elixir"),
    ("a.gd", b"extends Node\nfunc _ready():\n\tpass\n", "GDScript"),
    ("a.inc", b"<?php echo 1;\n", "PHP"),
    ("a.json", b'{"openapi": "3.0.0"}\n', "OASv3-json"),
    ("a.json", b'{"a": 1}\n', "JSON"),
    ("a.yml", b"a: 1\n", "YAML"),
    ("a.ml", b"let rec f x = f x\n", "OCaml"),
    ("a.ml", b"fun f x = f x\n", "Standard ML"),
    ("a.pro", b"QT += core\nTARGET = a\n", "QMake"),
    ("a.pp", b"class a { package { 'b': ensure => present } }\n", "Puppet"),
    ("a.php", b"<?hh // strict\n", "Hack"),
]


@pytest.mark.parametrize(("name", "content", "language"), FILES)
def test_small_files_get_their_language(name, content, language):
    assert detect_language(name, content) == language


@pytest.mark.parametrize("name", ["a.py", "Makefile", "", "a.h"])
def test_empty_and_binary_files_have_no_language(name):
    assert detect_language(name, b"") is None
    assert detect_language(name, b"import os\0") is None
    assert detect_language(name, b"\xef\xbb\xbf") is None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_does_not_hide_the_first_line(encoding):
    assert detect_language("run", "#!/bin/sh\necho\n".encode(encoding)) == "Shell"
    assert detect_language("a.h", "class A {\n};\n".encode(encoding)) == "C++"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("", b"int main(void) { return 0; }\n"),
        ("server.log", b"import os\nimport sys\n" * 20),
        ("", b"words \x01\x02\x03 and more words and more words\n"),
        ("", b" \n" * 100),
    ],
)
def test_what_tells_nothing_has_no_language(name, content):
    assert detect_language(name, content) is None


JAVA = b"""package a.b;

import java.util.List;

public final class Shop {
    private final List<String> names;

    public Shop(List<String> names) {
        this.names = names;
    }

    @Override
    public String toString() {
        return String.join(", ", names);
    }
}
"""
GO = b"""package main

import (
\t"fmt"
\t"os"
)

func main() {
\tfor i, name := range os.Args {
\t\tfmt.Println(i, name)
\t}
}
"""


@pytest.mark.parametrize("name", ["", "unknown", "a.unknownextension", "folder.java/unknown"])
@pytest.mark.parametrize(
    ("content", "language"), [(JAVA, "Java"), (GO, "Go"), (b"<?php\n" + b"echo 1;\n" * 9, "PHP")]
)
def test_without_a_telling_name_the_content_is_judged(name, content, language):
    assert detect_language(name, content) == language


def test_last_choice_is_the_most_popular_and_does_not_depend_on_order():
    assert most_popular(("Limbo", "C", "Python")) == most_popular(("Python", "C", "Limbo")) == "Python"
    assert most_popular(("Nowhere B", "Nowhere A")) == "Nowhere A"


EXTENSIONS = st.sampled_from(sorted(catalog.catalog().by_extension))
NAMES = st.one_of(st.text(max_size=30), st.builds("{}{}".format, st.text(max_size=5), EXTENSIONS))
LINES = st.sampled_from([content for _, content, _ in FILES])
CONTENTS = st.one_of(
    st.binary(max_size=300), st.lists(LINES | st.binary(max_size=40), max_size=5).map(b"".join)
)


@given(NAMES, CONTENTS)
def test_any_name_and_bytes_give_a_catalog_name_or_none_and_twice_the_same(name, content):
    language = detect_language(name, content)
    assert language is None or language in catalog.catalog().languages
    assert detect_language(name, content) == language


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_nul_byte_without_a_byte_order_mark_means_no_language(before, after):
    assert detect_language("a.py", b"x" + before + b"\0" + after) is None
