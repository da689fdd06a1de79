"""Diagrams of the pages: what is left in Markdown, and what the site gets for it. Drawing needs the site's packages."""

from __future__ import annotations

import re

import pytest

from tests.docs.diagrams import THEMES, with_figures, with_places
from tests.docs.site import DOCS

PAGE = """# Title

```mermaid
flowchart LR
    a --> b
```

```python
text = "```mermaid"
```

```mermaid
flowchart LR
    c --> d
```
"""


def drawn(source: str, theme: str) -> str:
    return (
        '<svg id="my-svg" viewBox="0 0 400.5 100"><style>#my-svg .x{fill:red}#arrow path{fill:blue}</style>'
        f'<marker id="arrow"/><path marker-end="url(#arrow)"/><text>{theme} {source.split()[2]}</text></svg>'
    )


def test_each_diagram_leaves_a_place_and_other_code_stays() -> None:
    markdown, sources = with_places(PAGE)
    assert [source.split()[-1] for source in sources] == ["b", "d"]
    assert "-->" not in markdown
    assert 'text = "```mermaid"' in markdown
    assert re.findall(r'data-number="(\d)"', markdown) == ["0", "1"]


def test_each_place_gets_a_drawing_for_each_ground_with_names_of_its_own() -> None:
    markdown, sources = with_places(PAGE)
    html = with_figures(markdown, sources, drawn)
    assert html.count("<figure") == 2
    for theme in THEMES.values():
        assert f"{theme} a" in html
        assert f"{theme} c" in html
    names = re.findall(r'\bid="([^"]+)"', html)
    assert len(names) == len(set(names)) == 8
    assert set(re.findall(r"url\(#([^)]+)\)", html)) == {name for name in names if name.endswith("arrow")}
    assert set(re.findall(r"#([\w-]+)[ ](?:\.x|path)", html)) == set(names)
    assert html.count("min-width: 248px") == 4


def test_what_is_no_drawing_ends_the_build() -> None:
    markdown, sources = with_places(PAGE)
    with pytest.raises(ValueError, match="no SVG with a viewBox"):
        with_figures(markdown, sources, lambda source, theme: "Syntax error")


def test_every_diagram_of_the_pages_is_found() -> None:
    for page in DOCS.rglob("*.md"):
        text = page.read_text()
        assert len(with_places(text)[1]) == text.count("```mermaid"), page
