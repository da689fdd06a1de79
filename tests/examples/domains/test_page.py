"""The page, used by a person: a real Chromium against the real service on the loopback."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    FilePayload,
    Page,
    Request,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests.examples.domains.serving import Service, running

CHROMIUM_ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BODY_LIMIT = 100_000
UPLOAD_LIMIT = 300_000
TEXT = "see www.example.com and bob@mail.example.co.uk, www.example.com again"
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 360, "height": 740}
HOSTILE = '<img src=x onerror="document.title=1">.example.com <script>document.title=2</script>'


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running(DOMAINS_MAX_BODY=str(BODY_LIMIT), DOMAINS_MAX_UPLOAD=str(UPLOAD_LIMIT)) as service:
        yield service


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def tab(browser: Browser, service: Service) -> Iterator[Page]:
    """Provide one tab for all tests: new ones would start browser processes that linger for seconds."""
    with browser.new_context(base_url=service.url) as context:
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=service.url)
        context.set_default_timeout(15_000)
        tab = context.new_page()
        tab.goto("/")
        yield tab


@pytest.fixture
def messages(tab: Page) -> Iterator[list[str]]:
    """Collect what the browser's console says during a test."""
    messages: list[str] = []

    def listen(message: ConsoleMessage | Error) -> None:
        messages.append(str(message))

    tab.on("console", listen)
    tab.on("pageerror", listen)
    yield messages
    tab.remove_listener("console", listen)
    tab.remove_listener("pageerror", listen)


@pytest.fixture
def page(tab: Page, service: Service, messages: list[str]) -> Iterator[Page]:
    """Open the page; afterwards check that it complained of nothing and called nobody else."""
    requests: list[str] = []

    def listen(request: Request) -> None:
        requests.append(request.url)

    tab.on("request", listen)
    tab.set_viewport_size(DESKTOP)
    tab.emulate_media(color_scheme="light")
    tab.goto("/")
    yield tab
    tab.unroute_all()
    tab.remove_listener("request", listen)
    assert [r for r in requests if not r.startswith((f"{service.url}/", "blob:"))] == []
    # The browser itself reports a refused request in its console; all else is a fault of the page.
    assert [m for m in messages if not m.startswith("Failed to load resource")] == []


def names(page: Page) -> list[str]:
    return page.locator("#rows td:first-child").all_text_contents()


def drop(page: Page, name: str, content: bytes) -> None:
    page.evaluate(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name));
            document.body.dispatchEvent(new DragEvent("drop", {
                dataTransfer: transfer, bubbles: true, cancelable: true,
            }));
        }""",
        [name, list(content)],
    )


def test_a_pasted_text_shows_names_counts_and_timing(page: Page) -> None:
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.get_by_role("button", name="Find domains").click()
    expect(page.get_by_role("status")).to_contain_text("3 names")
    expect(page.get_by_role("status")).to_contain_text("2 different")
    expect(page.get_by_role("status")).to_contain_text("ms on the server")
    assert names(page) == ["www.example.com", "mail.example.co.uk"]
    assert page.locator("#rows td:last-child").all_text_contents() == ["2", "1"]


def test_everything_can_be_reached_and_done_with_the_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    page.keyboard.insert_text(TEXT)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#rows tr")).to_have_count(2)
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.type"))
    assert reached == ["submit", "choose", "clear", "filter", "sort", "copy", "download"]


def test_a_dropped_file_is_searched(page: Page) -> None:
    drop(page, "log.txt", TEXT.encode())
    expect(page.get_by_role("status")).to_contain_text("3 names")
    assert names(page) == ["www.example.com", "mail.example.co.uk"]


def test_chosen_files_are_searched_together_and_unpacked(page: Page) -> None:
    files: list[FilePayload] = [
        {"name": "a.txt", "mimeType": "text/plain", "buffer": TEXT.encode()},
        {"name": "b.gz", "mimeType": "application/gzip", "buffer": gzip.compress(TEXT.encode())},
    ]
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files").click()
    chooser.value.set_files(files)
    expect(page.get_by_role("status")).to_contain_text("6 names")
    expect(page.get_by_label("Sort by").locator("option", has_text="Appearance")).to_be_disabled()


def test_a_text_too_large_for_one_request_is_uploaded_instead(page: Page) -> None:
    page.get_by_label("Text", exact=True).fill(f"{TEXT} {'x ' * BODY_LIMIT}")
    page.get_by_role("button", name="Find domains").click()
    expect(page.get_by_role("status")).to_contain_text("3 names")


def test_a_file_that_is_too_large_is_explained_in_words(page: Page) -> None:
    drop(page, "large.txt", b"x" * (UPLOAD_LIMIT + 1))
    expect(page.get_by_role("alert")).to_contain_text("larger than the 300,000 bytes")
    expect(page.get_by_role("alert")).to_contain_text("Split it")


def test_an_empty_text_is_explained_without_asking_the_server(page: Page) -> None:
    page.get_by_role("button", name="Find domains").click()
    expect(page.get_by_role("alert")).to_contain_text("There is no text yet")


def test_a_damaged_file_is_explained_in_words(page: Page) -> None:
    drop(page, "log.gz", gzip.compress(TEXT.encode())[:-4])
    expect(page.get_by_role("alert")).to_contain_text("damaged")


def test_names_and_messages_are_never_markup(page: Page) -> None:
    """Even an answer that no server of ours would give reaches the document as text."""
    page.route(
        "**/addContent*",
        lambda route: route.fulfill(json={"domains_found": [HOSTILE], "count": 1, "counts": {HOSTILE: 1}}),
    )
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.get_by_role("button", name="Find domains").click()
    expect(page.locator("#rows td:first-child")).to_have_text(HOSTILE)
    drop(page, "<img src=x onerror=document.title=3>.gz", b"no gzip")
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.title() == "Domains"
    assert page.locator("img, main script").count() == 0


def test_the_content_security_policy_holds_even_if_markup_got_in(page: Page, messages: list[str]) -> None:
    refused = page.evaluate(
        """() => new Promise(resolve => {
            addEventListener("securitypolicyviolation", e => resolve(e.effectiveDirective));
            document.body.insertAdjacentHTML("beforeend", "<p onclick='document.title = 1'>");
            document.body.lastChild.click();
        })"""
    )
    assert refused == "script-src-attr"
    assert page.title() == "Domains"
    assert "Content Security Policy" in messages.pop()


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("Count", ["b.example.com", "c.example.com", "a.example.com"]),
        ("Name", ["a.example.com", "b.example.com", "c.example.com"]),
        ("Appearance", ["c.example.com", "b.example.com", "a.example.com"]),
    ],
)
def test_names_can_be_sorted(page: Page, order: str, expected: list[str]) -> None:
    text = "c.example.com b.example.com b.example.com a.example.com"
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Find domains").click()
    page.get_by_label("Sort by").select_option(label=order)
    assert names(page) == expected


def test_the_filter_decides_what_is_copied_and_downloaded(page: Page, tmp_path: Path) -> None:
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.get_by_role("button", name="Find domains").click()
    page.get_by_label("Filter").fill("WWW")
    assert names(page) == ["www.example.com"]
    copy = page.get_by_role("button", name="Copy")
    # It says so for a moment only: on a busy machine a look at it may come too late.
    copy.evaluate(
        """button => {
            window.said = [];
            new MutationObserver(() => said.push(button.textContent)).observe(button, {childList: true, subtree: true});
        }"""
    )
    copy.click()
    page.wait_for_function("() => said.includes('Copied')")  # not an expression: the page's policy lets no text be run
    assert page.evaluate("navigator.clipboard.readText()") == "www.example.com"
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    download.value.save_as(tmp_path / "domains.csv")
    assert (tmp_path / "domains.csv").read_bytes() == b'name,count\r\n"www.example.com",2\r\n'


def test_thousands_of_names_are_drawn_a_page_at_a_time(page: Page) -> None:
    text = " ".join(f"host{n}.example.com" for n in range(1200))
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Find domains").click()
    expect(page.locator("#rows tr")).to_have_count(500)
    page.get_by_role("button", name="Show more (700 left)").click()
    expect(page.locator("#rows tr")).to_have_count(1000)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("www.\u0430pple.com", "mixes Cyrillic and Latin: www.xn--pple-43d.com"),
        ("g\u03bf\u03bfgle.com", "mixes Latin and Greek"),
        ("\u0430\u0440\u0440\u04cf\u0435.com", "Cyrillic that looks like Latin"),
        ("p\u0561ypal.com", "mixes Latin and Armenian"),
    ],
)
def test_a_name_that_may_be_taken_for_another_is_marked(page: Page, name: str, why: str) -> None:
    page.get_by_label("Text", exact=True).fill(f"{name} www.example.com")
    page.get_by_role("button", name="Find domains").click()
    expect(page.locator("#rows tr")).to_have_count(2)
    expect(page.locator("#rows .lookalike")).to_have_count(1)
    expect(page.locator("#rows tr", has_text=name)).to_contain_text(why)
    expect(page.get_by_role("status")).to_contain_text("1 may be taken for another name")


def test_international_names_are_not_marked(page: Page) -> None:
    """One script, or those that are written together; a top level of another script is usual."""
    plain = [
        "m\u00fcnchen.de",
        "\u043f\u0440\u0438\u043c\u0435\u0440.com",
        "\u4f8b\u3048\u30c6\u30b9\u30c8.jp",
        "stra\u00dfe.de",
    ]
    plain += [
        "\u043f\u043e\u0447\u0442\u0430.\u0440\u0444",
        "\ud55c\uad6d.kr",
        "z\u00fcrich.ch",
        "\u03b5\u03bb\u03bb\u03ac\u03b4\u03b1.gr",
    ]
    page.get_by_label("Text", exact=True).fill(" ".join(plain))
    page.get_by_role("button", name="Find domains").click()
    expect(page.locator("#rows tr")).to_have_count(len(plain))
    assert page.locator(".lookalike, #rows mark").count() == 0
    expect(page.get_by_role("status")).not_to_contain_text("may be taken")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size(PHONE)
    page.get_by_label("Text", exact=True).fill(f"{'very-long-label.' * 12}example.com {TEXT}")
    page.get_by_role("button", name="Find domains").click()
    expect(page.locator("#rows tr")).to_have_count(3)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    too_small = page.evaluate(
        """[...document.querySelectorAll("button, select, input, footer a")]
            .filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 44)
            .map(e => e.outerHTML)"""
    )
    assert too_small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    variables = ["ground", "surface", "ink", "muted", "accent", "on-accent", "bar", "danger"]
    colors = page.evaluate(
        """names => Object.fromEntries([...names, "danger-ground"].map(name =>
            [name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`)]))""",
        variables,
    )
    pairs = [
        *((text, back) for text in ("ink", "muted", "accent") for back in ("ground", "surface")),
        ("ink", "bar"),
        ("on-accent", "accent"),
        ("danger", "danger-ground"),
        ("ink", "danger-ground"),
    ]
    poor = {pair for pair in pairs if contrast(colors[pair[0]], colors[pair[1]]) < 4.5}
    assert poor == set()


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2.2 between two colors such as `#1c1f21`."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    channels = [int(color.strip()[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
