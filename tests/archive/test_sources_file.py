import re
from pathlib import Path

import pytest

from stack_platform.archive.distributions import DistributionsConfig
from stack_platform.archive.folders import FoldersConfig
from stack_platform.archive.packages import ArchivesConfig
from stack_platform.archive.sources_file import EXAMPLE, read_sources, write_example
from stack_platform.errors import ConfigError


@pytest.fixture
def file(tmp_path):
    return tmp_path / "sources.yaml"


def read(file, text):
    file.write_text(text, encoding="utf-8")
    return read_sources(file)


def entry(text):
    return "sources:\n- name: one\n" + "".join(f"  {line}\n" for line in text.splitlines())


def test_entries_come_in_order_with_the_settings_of_their_kinds(file):
    sources = read(
        file,
        """
        sources:
        - {name: installed, kind: distributions, include: [numpy], hold_binary: true}
        - {name: mine.2-x, kind: folders, paths: [/a], schedule: "0 3 * * *"}
        - {name: packed, kind: archives, paths: [/b], url: null, max_ratio: 3}
        """,
    )
    assert [(source.name, source.kind, source.schedule) for source in sources] == [
        ("installed", "distributions", None),
        ("mine.2-x", "folders", "0 3 * * *"),
        ("packed", "archives", None),
    ]
    assert [source.config for source in sources] == [
        DistributionsConfig(include=("numpy",), hold_binary=True),
        FoldersConfig(("/a",)),
        ArchivesConfig(("/b",), max_ratio=3),
    ]
    assert all(hasattr(source.config.open(), "read") for source in sources)


def test_paths_are_relative_to_the_file_and_urls_are_left_alone(file, tmp_path):
    (source,) = read(
        file, entry('kind: folders\npaths: [code, ../other, /abs]\nurls: ["dir:a", "dir:b", "dir:c"]')
    )
    assert source.config.paths == (f"{tmp_path}/code", f"{tmp_path}/../other", "/abs")
    assert source.config.urls == ("dir:a", "dir:b", "dir:c")
    text = 'kind: git\nrepositories: [code, "https://example.org/x.git", "git@example.org:x"]\norigins: {code: "https://o"}'
    (source,) = read(file, entry(text))
    assert source.config.repositories == (
        f"{tmp_path}/code",
        "https://example.org/x.git",
        "git@example.org:x",
    )
    assert source.config.origins == {f"{tmp_path}/code": "https://o"}


def test_every_kind_is_read(file, tmp_path):
    (tmp_path / "export").mkdir()
    (source,) = read(file, entry("kind: export\nlocation: export\ncontents: s3://softwareheritage/content"))
    assert source.config.location == f"{tmp_path}/export"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "kind: folder\npaths: [a]",
            "source 'one': kind is 'folder'; did you mean 'folders'? It takes distributions, ",
        ),
        ("kind: 3", "source 'one': kind is 3; it takes distributions, folders, archives, git, export"),
        ("paths: [a]", "source 'one': kind is None"),
        (
            "kind: folders\npath: [a]",
            "source 'one': there is no setting 'path'; did you mean 'paths'? It takes schedule",
        ),
        (
            "kind: folders",
            "source 'one': the setting 'paths' is missing; write a list of texts, as [one, two]",
        ),
        ("kind: folders\npaths: a", "source 'one': paths is 'a'; write a list of texts"),
        ("kind: folders\npaths: [1]", "source 'one': paths is [1]; write a list of texts"),
        ("kind: folders\npaths: [~/a]", "source 'one': paths is '~/a'; write the path in full"),
        ("kind: folders\npaths: [a]\nhold_binary: 1", "hold_binary is 1; write true or false"),
        (
            "kind: folders\npaths: [a]\nmax_content_bytes: true",
            "max_content_bytes is True; write a whole number",
        ),
        (
            "kind: folders\npaths: [a]\nmax_content_bytes: '5'",
            "max_content_bytes is '5'; write a whole number",
        ),
        (
            "kind: folders\npaths: [a]\nmax_content_bytes: 0",
            "source 'one': max_content_bytes is 0; write a size",
        ),
        ("kind: archives\npaths: [a]\nurl: [b]", "url is ['b']; write a text or null"),
        (
            "kind: git\nrepositories: [a]\norigins: [b]",
            "origins is ['b']; write texts by name, as {one: two}",
        ),
        ("kind: git\nrepositories: [a]\ntimeout_s: soon", "timeout_s is 'soon'; write a number"),
        ("kind: folders\npaths: [a]\npaths: [b]", "line 5: this is not YAML: the key 'paths' comes twice"),
        ("kind: distributions\nschedule: daily", "schedule is 'daily'; write five fields of cron in quotes"),
        ("kind: distributions\nschedule: 5", "schedule is 5; write five fields"),
        (
            "kind: distributions\nschedule: 61 * * * *",
            "has '61' as the minute; write *, a number from 0 to 59",
        ),
        ("kind: distributions\nschedule: '* * * foo *'", "has 'foo' as the month"),
        ("kind: distributions\nschedule: '*/0 * * * *'", "has '*/0' as the minute"),
        ("kind: distributions\nschedule: '* * 0 * *'", "has '0' as the day of the month"),
    ],
)
def test_wrong_entry_is_refused_with_file_source_key_and_what_is_allowed(file, text, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        read(file, entry(text))
    assert str(error.value).startswith(str(file))


@pytest.mark.parametrize(
    "schedule", ["0 3 * * *", "*/15 0-6,20 1 jan-mar mon", "0 0 * * 7", "5/10 * * * SUN", "0 0 * * fri-mon"]
)
def test_schedule_of_five_cron_fields_is_taken(file, schedule):
    assert read(file, entry(f"kind: distributions\nschedule: '{schedule}'"))[0].schedule == schedule


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "-x", "ä", "a b", "x" * 101, "1"])
def test_name_that_cannot_name_a_folder_is_refused(file, name):
    with pytest.raises(ConfigError, match="entry 1: name is "):
        read(file, f"sources:\n- name: {name}\n  kind: distributions")


@pytest.mark.parametrize("other", ["one", "One"])
def test_name_that_comes_twice_is_refused(file, other):
    text = f"sources:\n- {{name: one, kind: distributions}}\n- {{name: {other}, kind: distributions}}"
    with pytest.raises(ConfigError, match=f"source '{other}': the name is that of source 'one'"):
        read(file, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it holds NoneType"),
        ("- a", "it holds list"),
        ("source: []", r"it holds \['source'\]"),
        ("sources: []", "must be a list with an entry or more"),
        ("sources: {}", "must be a list with an entry or more"),
        ("sources: [a]", "entry 1 is 'a'"),
        ("sources: [", "line 1: this is not YAML"),
        ("sources: [" * 2000, "this is not YAML"),
        ("a: !!python/object:os.system {}", "this is not YAML"),
        ("sources: \0", "this is not YAML"),
        ("{[]: 1}", "this is not YAML|it holds"),
    ],
)
def test_file_of_another_shape_is_refused(file, text, message):
    with pytest.raises(ConfigError, match=message):
        read(file, text)


def test_file_that_cannot_be_read_is_refused(file):
    with pytest.raises(ConfigError, match=r"sources.yaml cannot be read: No such file"):
        read_sources(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        read_sources(file)


def test_example_is_read_as_it_is_and_with_every_entry(file, tmp_path):
    write_example(file)
    assert [source.name for source in read_sources(file)] == ["installed"]
    with pytest.raises(ConfigError, match="exists already"):
        write_example(file)
    text = EXAMPLE.read_text(encoding="utf-8")
    entries = re.sub(r"^  # (- |  )", r"  \1", text, flags=re.MULTILINE)
    kinds = [source.kind for source in read(file, entries)]
    assert kinds == ["distributions", "folders", "archives", "git", "export"]


def test_example_names_every_kind_once():
    assert Path(EXAMPLE).read_text(encoding="utf-8").count("kind: ") == 5
