"""How Chromium is started, and what is asked of a page's looks: JavaScript for it to evaluate."""

CHROMIUM_ARGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

FOCUSED = """(e => e.id || e.className.baseVal || e.dataset.sort || e.className || e.textContent)
    (document.activeElement)"""

TOO_SMALL = """[...document.querySelectorAll("button, input")]
    .filter(e => e.checkVisibility() && !e.matches(".link, th button") && e.getBoundingClientRect().height < 44)
    .map(e => e.outerHTML)"""

#: Texts below the contrast of 4.5 : 1 of WCAG 2.2 on what is painted behind them, in the colours of the browser.
POOR_CONTRAST = """(() => {
    const probe = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const rgba = color => {
        probe.clearRect(0, 0, 1, 1);
        probe.fillStyle = color;
        probe.fillRect(0, 0, 1, 1);
        return [...probe.getImageData(0, 0, 1, 1).data];
    };
    const luminance = color => {
        const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = rgba(color).map(c => linear(c / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = e => {
        for (; e; e = e.parentElement) {
            const color = getComputedStyle(e).backgroundColor;
            if (rgba(color)[3] === 255) return color;
        }
        return "white";
    };
    const poor = new Set();
    for (const e of document.querySelectorAll("body *")) {
        if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility()) continue;
        const style = getComputedStyle(e), color = e instanceof SVGElement ? style.fill : style.color;
        const [dark, light] = [luminance(color), luminance(behind(e))].sort((a, b) => a - b);
        if ((light + 0.05) / (dark + 0.05) < 4.5) poor.add(`${e.tagName}.${e.className}: ${color} on ${behind(e)}`);
    }
    return [...poor];
})()"""
