"""The site has all pages, its links lead where those on GitHub lead, and the Chinese tutorial keeps up."""

from __future__ import annotations

import pytest
import yaml  # type: ignore[import-untyped]

from tests.docs.markdown import PAGES, ROOT
from tests.docs.site import DOCS, as_on_site, content, languages, listed, on_site, pages_outside

PAGES_OF_DOCS = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def all_pages(entries: object) -> list[str]:
    if isinstance(entries, str):
        return [entries]
    inner = entries.values() if isinstance(entries, dict) else entries
    assert not isinstance(inner, (int, type(None)))
    return [page for entry in inner for page in all_pages(entry)]  # type: ignore[attr-defined]


def navigation() -> list[object]:
    text = (ROOT / "mkdocs.yml").read_text()
    return list(listed(yaml.safe_load(text)["nav"], PAGES_OF_DOCS))


def test_every_page_is_listed_once() -> None:
    assert sorted(all_pages(navigation())) == PAGES_OF_DOCS


def test_a_pattern_stands_for_what_is_not_named_elsewhere_the_start_first() -> None:
    entries = [{"A": ["a/*"]}, {"B": ["b/two.md", {"More": ["b/*"]}]}]
    pages = ["a/one.md", "a/README.md", "a/deep/one.md", "b/one.md", "b/two.md"]
    assert listed(entries, pages) == [{"A": ["a/README.md", "a/one.md"]}, {"B": ["b/two.md", {"More": ["b/one.md"]}]}]


@pytest.mark.parametrize(
    ("page", "link", "on_the_site"),
    [
        ("docs/how-to/deploy.md", "../reference/api.md#pool", "../reference/api.md#pool"),
        ("docs/how-to/deploy.md", "#stopping", "#stopping"),
        ("docs/how-to/deploy.md", "../../SECURITY.md", "../repository/SECURITY.md"),
        ("docs/architecture.md", "../src/lifepool/pool.py", "repository/src/lifepool/pool.py.md"),
        ("docs/architecture.md", "../experiments/", "repository/experiments/README.md"),
        ("README.md", "docs/how-to/deploy.md#stopping", "../how-to/deploy.md#stopping"),
        ("README.md", "docs/images/dashboard-phone.png", "../images/dashboard-phone.png"),
        ("README.md", "https://example.com/a.md", "https://example.com/a.md"),
    ],
)
def test_a_link_leads_to_the_same_on_the_site(page: str, link: str, on_the_site: str) -> None:
    assert as_on_site(f"see [this\none]({link}) first", ROOT / page) == f"see [this\none]({on_the_site}) first"


def test_code_stays_as_it_is() -> None:
    text = "[a](../../LICENSE)\n\n```text\n[a](../../LICENSE)\n```\n\n- b\n\n  ```text\n  [a](b.md)\n  ```\n"
    shown = as_on_site(text, DOCS / "how-to" / "deploy.md")
    assert shown == text.replace("../../LICENSE", "../repository/LICENSE.md", 1)


def test_the_name_of_a_file_and_output_are_titles_and_contexts_are_hidden() -> None:
    text = (
        "<!-- file: main.py -->\n```python\na\n```\n\n<!-- output like -->\n```text\nb\n```\n\n"
        "<!-- context\n\nc\n-->\n```python\nd\n```\n"
    )
    assert as_on_site(text, DOCS / "README.md") == (
        '```python title="main.py"\na\n```\n\n```text title="Output"\nb\n```\n\n```python\nd\n```\n'
    )
    assert 'title="输出"' in as_on_site(text, DOCS / "zh" / "README.md")


@pytest.mark.parametrize(
    ("page", "language", "other"),
    [
        ("tutorial/8-deploy-it.md", "en", "zh/tutorial/8-deploy-it.md"),
        ("zh/tutorial/8-deploy-it.md", "zh", "tutorial/8-deploy-it.md"),
        ("how-to/deploy.md", "en", "zh/README.md"),
        ("zh/terms.md", "zh", "README.md"),
    ],
)
def test_a_page_leads_to_the_one_in_the_other_language(page: str, language: str, other: str) -> None:
    assert languages(page) == (language, other)


def test_chinese_lines_are_joined_without_a_space() -> None:
    text = "一行。\n二行\n\n- 三行\n  四行 code\n五行\n- 六行\n"
    assert as_on_site(text, DOCS / "zh" / "README.md") == "一行。二行\n\n- 三行四行 code\n五行\n- 六行\n"
    assert as_on_site("一\n二", DOCS / "README.md") == "一\n二"


def test_what_pages_link_to_outside_of_docs_is_shown() -> None:
    outside = pages_outside(DOCS.rglob("*.md"))
    assert outside["repository/README.md"] == ROOT / "README.md"
    assert {page for page in PAGES if not page.is_relative_to(DOCS)} <= set(outside.values())
    for where, path in outside.items():
        assert on_site(path) == where
        assert where.endswith((".svg", ".png")) or content(path).startswith("# ")
