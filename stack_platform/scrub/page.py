"""A page a person can look at: texts before and after, changes marked, and what each level finds, as a plot.

One file of HTML without scripts and without anything from elsewhere. Values are masked on the left side, everything
else is escaped, so the page may be shown to whoever may see the code.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from stack_platform.scrub.redact import Scrubbed, ScrubConfig, scrub_text

_CONTEXT = 3  # lines shown before and after a change
_MAX_LINE = 240
_MARK = re.compile(r"<(del|ins) .*?</\1>")
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:84rem;padding:0 1rem;color:#1b1b1f;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem;overflow-wrap:anywhere}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem}
pre{background:#f6f6f8;padding:.7rem;overflow:auto;border-radius:6px;font:12.5px/1.5 ui-monospace,monospace;margin:0}
del{background:#ffdfdc;color:#8c1d18;text-decoration:none;border-radius:3px;padding:0 2px}
ins{background:#d7f5dd;color:#0b5d1e;text-decoration:none;border-radius:3px;padding:0 2px}
table{border-collapse:collapse}td,th{padding:.25rem .8rem;text-align:right;border-bottom:1px solid #e3e3e8}
td:first-child,th:first-child{text-align:left}.line{color:#77777f;user-select:none}
svg text{font:11px system-ui,sans-serif}
@media(prefers-color-scheme:dark){body{background:#17171a;color:#e6e6ea}pre{background:#212126}
del{background:#5b1a17;color:#ffd9d5}ins{background:#0f4420;color:#c9f5d4}svg text{fill:#e6e6ea}
td,th{border-color:#3a3a40}}
"""


def comparison_page(
    files: Iterable[tuple[str, str]],
    config: ScrubConfig = ScrubConfig(),
    figures: Mapping[str, Any] | None = None,
) -> str:
    """Render path and text of files before and after scrubbing, and the figures of every level.

    figures: as in levels.json; None for the ones measured when this version was made.
    """
    figures = (
        figures
        if figures is not None
        else json.loads(Path(__file__).with_name("levels.json").read_text("utf-8"))
    )
    scrubbed = [(path, text, scrub_text(text, path, config)) for path, text in files]
    changed = [row for row in scrubbed if row[2].spans]
    counts: dict[str, int] = {}
    for _, _, result in changed:
        for span in result.spans:
            counts[span.type] = counts.get(span.type, 0) + 1
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "nothing"
    level = config.rules().sensitivity
    body = [
        "<h1>Scrubbing, before and after</h1>",
        f"<p>{len(changed)} of {len(scrubbed)} files change at the level <b>{escape(level)}</b>: {escape(found)}.</p>",
        _levels(figures),
        *(_comparison(path, text, result) for path, text, result in changed),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Scrubbing, before and after</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _comparison(path: str, text: str, result: Scrubbed) -> str:
    before = "".join(_marked(text, result, "del"))
    after = "".join(_marked(text, result, "ins"))
    note = "<p>Letters are masked: any other replacement broke the syntax.</p>" if result.masked else ""
    sides = f"<pre>{_excerpt(before)}</pre><pre>{_excerpt(after)}</pre>"
    return f'<h2>{escape(path) or "text"}</h2>{note}<div class="pair">{sides}</div>'


def _marked(text: str, result: Scrubbed, tag: str) -> Iterable[str]:
    """Give a text in pieces, escaped, its spans masked (del) or replaced (ins); a mark never crosses a line."""
    last = 0
    for span, replacement in zip(result.spans, result.replacements, strict=True):
        yield escape(text[last : span.start])
        value = text[span.start : span.end]
        shown = (
            "".join("•" if not char.isspace() else char for char in value) if tag == "del" else replacement
        )
        title = escape(f"{span.type} by {span.rule}, score {span.score:.2f}", quote=True)
        for place, line in enumerate(shown.split("\n")):
            yield ("\n" if place else "") + (f'<{tag} title="{title}">{escape(line)}</{tag}>' if line else "")
        last = span.end
    yield escape(text[last:])


def _excerpt(marked: str) -> str:
    """Keep the lines around changes, numbered."""
    lines = marked.split("\n")
    wanted: set[int] = set()
    for place, line in enumerate(lines):
        if "<del " in line or "<ins " in line:
            wanted.update(range(max(0, place - _CONTEXT), min(len(lines), place + _CONTEXT + 1)))
    shown: list[str] = []
    last = -1
    for place in sorted(wanted):
        if place != last + 1:
            shown.append('<span class="line">    ⋯</span>')
        shown.append(f'<span class="line">{place + 1:5d} </span>{_shortened(lines[place])}')
        last = place
    return "\n".join(shown)


def _shortened(line: str) -> str:
    """Cut a long line, between characters and never inside of a mark."""
    if len(line) <= _MAX_LINE:
        return line
    marks = [found.group() for found in _MARK.finditer(line)]
    if marks:
        return "…".join(["", *marks, ""])
    return re.sub(r"&[^;]{0,8}\Z", "", line[:_MAX_LINE]) + "…"


def _levels(figures: Mapping[str, Any]) -> str:
    levels: Mapping[str, Mapping[str, Any]] = figures.get("levels", {})
    if not levels:
        return ""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{row['secret recall']:.3f}</td><td>{row['secret precision']:.3f}</td>"
        f"<td>{100 * row['harmless texts touched']:.1f} %</td><td>{row['characters changed in a million']:,}</td></tr>"
        for name, row in levels.items()
    )
    head = "<tr><th>level</th><th>secrets found</th><th>precision</th><th>harmless texts touched</th>"
    return (
        f"<h2>What each level finds</h2><table>{head}<th>characters changed in a million</th></tr>{rows}</table>"
        f"{''.join(_plot(name, row) for name, row in levels.items())}"
    )


def _plot(level: str, row: Mapping[str, Any]) -> str:
    """Draw recall and precision by type as bars."""
    kinds: Sequence[str] = list(row["recall"])
    height, width = 18 * len(kinds) + 34, 450
    bars = []
    for place, kind in enumerate(kinds):
        top = 26 + 18 * place
        for offset, color, share in (
            (0, "#3b6fd4", row["recall"][kind]),
            (7, "#e08a2c", row["precision by type"][kind]),
        ):
            bars.append(
                f'<rect x="110" y="{top + offset}" width="{250 * share:.1f}" height="6" fill="{color}">'
                f"<title>{escape(kind)} {share:.3f}</title></rect>"
            )
        bars.append(f'<text x="104" y="{top + 10}" text-anchor="end">{escape(kind)}</text>')
        bars.append(
            f'<text x="366" y="{top + 10}">{row["recall"][kind]:.2f} / {row["precision by type"][kind]:.2f}</text>'
        )
    title = f'<text x="110" y="14">{escape(level)}: recall (blue) / precision (orange)</text>'
    return (
        f'<svg role="img" aria-label="recall and precision at {escape(level, quote=True)}" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}">{title}{"".join(bars)}</svg>'
    )
