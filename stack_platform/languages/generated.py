r"""Tell code that was brought along or written by a program from code that people wrote here.

`is_vendor` reads only the path: folders that package managers and people fill with other projects' code, well-known
browser libraries, and scripts that build tools drop into a repository. `is_generated` reads the path (lock files,
compiler outputs, project files of editors) and then the bytes: minified scripts and styles by their mean line length
(over 110 bytes, linguist's threshold), source maps, and what generators write into the first lines.

The rules are the project's own; the marks are hints for policies, nothing is removed here. A Jupyter notebook is never
generated: its cells are people's code in a generated envelope.

Known error: an announcement further down than 40 lines, or in another language than English, is not seen.
"""

import re

_VENDOR = re.compile(
    r"""
    (?:^|/)(?:
        node_modules | bower_components | jspm_packages | web_modules | \.yarn | \.pnpm | \.bundle
      | _?vendor(?:s|ed)? | _vendored_packages | site-packages | Godeps | _workspace | Carthage | Pods
      | (?:3rd|third)[-_]?part(?:y|ies) | extern(?:al|als)? | contrib/(?:lib|vendor)s?
      | dist | gradle/wrapper | \.mvn/wrapper | \.cargo/registry | packages/[^/]+\.\d+\.\d+\.\d+
      | testdata | (?:tests?|specs?)/fixtures | \.ipynb_checkpoints | \.sublime-\w+
      | ckeditor | tiny_?mce | codemirror | ace-builds | mathjax | fckeditor | font-?awesome | highlight(?:\.js|js)
      | cordova | phonegap | extjs | dojo | yui | MochiKit | jquery-ui | bootstrap-\d[\d.]*
    )/
  | ^deps/ | (?:^|/)\.github/ | \.d\.[cm]?ts$ | (?:^|/)\.(?:git(?:ignore|attributes|modules)|indent\.pro)$
  | (?:^|/)(?:
        (?:jquery|bootstrap|angular|react|react-dom|vue|d3|underscore|lodash|backbone|ember|prototype|effects|dragdrop
          |controls|modernizr|html5shiv|html5-\d|respond|raphael|moment|knockout|handlebars|mustache|require|normalize
          |animate|font-awesome|swfobject|mootools|zepto|three|leaflet|select2|chosen|less|highlight|prettify
          |socket\.io|highcharts|polyfill|babel|bluebird|axios|popper|fastclick|hammer|ext-all)
        (?:[-._](?:\d[a-z\d]*|core|ui|all|full|bundle|pack|slim|custom|compat|theme|grid|reboot|extend|plugins?
          |min|debug|latest|prod|development|production))*
        \.(?:js|mjs|css|map)
      | jquery\.[\w.-]+\.js | [\w.-]+[.-]min\.(?:js|mjs|css) | [\w.-]+[.-](?:bundle|packed|prod)\.js
      | \.pnp\.c?js | yarn-\d[\w.]*\.c?js
      | gradlew(?:\.bat)? | mvnw(?:\.cmd)? | configure | config\.(?:guess|sub) | aclocal\.m4 | libtool\.m4
      | lt(?:options|sugar|version|~obsolete)\.m4 | ltmain\.sh | install-sh | depcomp | missing | compile
      | mkinstalldirs
      | py-compile | test-driver | ylwrap | autogen\.sh | Makefile\.in | versioneer\.py | ez_setup\.py | get-pip\.py
      | distribute_setup\.py | catch\.hpp | gtest(?:-all)?\.(?:h|cc) | stb_\w+\.h | sqlite3\.[ch] | doctest\.h
    )$
    """,
    re.VERBOSE | re.IGNORECASE,
)

_GENERATED_NAME = re.compile(
    r"""
    (?:^|/)__generated__/
  | (?:^|/)(?:
        package-lock\.json | npm-shrinkwrap\.json | yarn\.lock | pnpm-lock\.yaml | bun\.lockb? | deno\.lock
      | cargo\.lock | poetry\.lock | pdm\.lock | uv\.lock | pixi\.lock | pipfile\.lock | conda-lock\.yml
      | composer\.lock | gemfile\.lock | podfile\.lock | cartfile\.resolved | package\.resolved | pubspec\.lock
      | mix\.lock | flake\.lock | go\.sum | gopkg\.lock | glide\.lock | packages\.lock\.json | paket\.lock
      | module\.bazel\.lock | gradle\.lockfile | stack\.yaml\.lock | cabal\.project\.freeze | rebar\.lock
      | shard\.lock | \.terraform\.lock\.hcl | project\.pbxproj
      | cargo\.toml\.orig
    )$
  | [.-]min\.(?:js|mjs|cjs|css)$
  | \.(?:pb\.(?:go|gw\.go|h|cc|c|swift|dart|validate\.go) | pb-c\.[hc] | grpc\.pb\.(?:h|cc) | twirp\.go | pbobjc\.[hm])$
  | _pb2(?:_grpc)?\.pyi?$ | _grpc_pb\.js$ | _pb\.(?:js|d\.ts|rb)$ | \.zep\.(?:c|h|php)$ | _generated\.(?:go|rs|h)$
  | \.dsp$ | \.designer\.(?:cs|vb)$ | \.(?:g|g\.i|feature|generated)\.cs$ | \.(?:g|freezed|gr|config|mocks)\.dart$
  | \.(?:nib|xib|storyboard|xcworkspacedata|xcuserstate)$
    """,
    re.VERBOSE | re.IGNORECASE,
)

_SCRIPT_OR_STYLE = (".js", ".mjs", ".cjs", ".css")
_MAX_MEAN_LINE_BYTES = 110
"""Bytes per line above which a script or style is minified (linguist)."""

_SOURCE_MAP = re.compile(rb'"version"[ \t]*:[ \t]*\d|"mappings"[ \t]*:|\A/\*\* Begin line maps')
_SOURCE_MAP_REFERENCE = re.compile(rb"^[ \t]*/[/*][#@][ \t]*sourceMappingURL=", re.MULTILINE)

_HEAD_LINES = 40
_HEAD_BYTES = 8192
_TAIL_BYTES = 2048

_PROSE = rb"^\W{0,20}[\w ,.:;/()'<-]{0,80}?"
"""What may stand before an announcement on its line: a comment sign and a few words, but no code."""

_ANNOUNCED = re.compile(
    _PROSE
    + rb"""(?:
        \b(?:(?:auto|machine)[ -]?|automatically[ ])(?:re)?generated\b
        (?=[ ]*(?:[^\w\s]|$|(?:by|from|using|with|via|on|at|in|during|and|file|code|source|do)\b))
      | \bgenerated[ ]automatically\b
      | \b(?:this|these|following)[ ](?:[\w.+-]+[ ]){0,3}
          (?:files?|code|sources?|class(?:es)?|modules?|headers?|documents?|pages?|scripts?|parsers?|lexers?|tables?
            |data|output|documentation|manual|makefile|project|package|library|interface)[ ]
          (?:(?:is|was|are|were|has[ ]been)[ ])?generated\b
      | \bgenerated[ ](?:file|code|source)\b[^\n]{0,80}\bdo[ ]not\b
      | \bgenerated\b[^\n]{0,160}\bdo[ ]not[ ](?:edit|modify|change|touch|hand)
      | \bdo[ ]not[ ](?:edit|modify|change)\b[^\n]{0,160}\bgenerated\b
      | \bgenerated[ ](?:by|from)[ ](?:the[ ]protocol|protoc\b|cython|coffeescript|swig|peg\.?js|haxe|jison|bison|flex
          |re2c|ragel|antlr|javacc|jflex|thrift|grpc|django|roxygen2|javadoc|doxygen|sphinx|help2man|autoconf|automake
          |ac_init|gtk-doc|xsd|hbm2java|mockgen|stringer|bindgen|cbindgen|gir|openapi|swagger|typescript|dart|pigeon)
      | @(?:javax\.annotation\.(?:processing\.)?)?generated\b
      | \bmade[ ]by[ ]gnu[ ]bison\b
      | \bscanner[ ]generated[ ]by[ ]flex\b
      | <auto-?generated\b
    )
    | ^\W{0,20}(?:the[ ])?(?:file|code|class|source|module|document|header|output)[ ](?:is|was|has[ ]been)[ ]generated\b
    | ^\W{0,20}(?:\w+[ ]){0,2}code[ ]generated[ ](?:by|from|with|using)\b
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)

_ANNOUNCING_WORDS = (b"generated", b"made by gnu bison")
"""One of these is in every announcement: a test far cheaper than the patterns."""


def is_vendor(path: str) -> bool:
    """Tell whether a path from the root of its repository is other people's code brought along.

    >>> is_vendor("web/node_modules/left-pad/index.js"), is_vendor("src/vendoring.py")
    (True, False)
    """
    return _VENDOR.search(path) is not None


def is_generated(path: str, content: bytes) -> bool:
    """Tell whether a program wrote the file, from its path and its bytes.

    >>> is_generated("api_pb2.py", b""), is_generated("main.go", b"// Code generated by x. DO NOT EDIT.")
    (True, True)
    """
    lower = path.lower()
    if lower.endswith(".ipynb"):
        return False
    if _GENERATED_NAME.search(path):
        return True
    if lower.endswith(".map") and _SOURCE_MAP.search(content[:_HEAD_BYTES]):
        return True
    if lower.endswith(_SCRIPT_OR_STYLE) and (_is_minified(content) or _names_source_map(content)):
        return True
    head = b"\n".join(content[:_HEAD_BYTES].split(b"\n", _HEAD_LINES)[:_HEAD_LINES])
    if b"\0" in head or not any(word in head.lower() for word in _ANNOUNCING_WORDS):
        return False
    return _ANNOUNCED.search(head) is not None


def _is_minified(content: bytes) -> bool:
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    return len(content) > _MAX_MEAN_LINE_BYTES * lines


def _names_source_map(content: bytes) -> bool:
    return _SOURCE_MAP_REFERENCE.search(content[-_TAIL_BYTES:]) is not None
