"""Every text of a page against what is behind it: WCAG's contrast, which should be 4.5 at least. Controls that rest are exempt."""

from playwright.sync_api import Page

# Colors of any notation are read through a canvas; alpha and opacity are blended in, from the page's own background inward.
CONTRASTS = """(selector) => {
  const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = color;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under, alpha = top[3]) => [0, 1, 2].map((i) => top[i] * alpha + under[i] * (1 - alpha)).concat(1);
  const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const rests = ":disabled, option, .wbp-hidden, .wba-picture, label:has(:disabled)";  // CircuitsVis' drawing is its own affair
  const found = [];
  for (const root of document.querySelectorAll(selector)) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const [element, text] = [walker.currentNode.parentElement, walker.currentNode.data.trim()];
      if (!text || !element.checkVisibility() || element.closest(rests)) continue;
      const chain = [];
      for (let at = element; at; at = at.parentElement) chain.unshift(getComputedStyle(at));
      const paper = chain.reduce((under, style) => over(rgba(style.backgroundColor), under), [255, 255, 255, 1]);
      const opacity = chain.reduce((product, style) => product * Number(style.opacity), 1);
      const ink = rgba(element instanceof SVGElement ? getComputedStyle(element).fill : getComputedStyle(element).color);
      const [a, b] = [light(over(ink, paper, ink[3] * opacity)), light(paper)].sort((x, y) => y - x);
      found.push([(a + 0.05) / (b + 0.05), `${text.slice(0, 40)} (${element.className?.baseVal ?? element.className ?? element.tagName})`]);
    }
  }
  return found;
}"""
ENOUGH = 4.5
PATIENCE = 50  # looks, a tenth of a second apart


def contrasts(page: Page, selector: str) -> list[tuple[float, str]]:
    """(contrast, text and where) of every text that is seen inside of what the selector finds."""
    return [(ratio, text) for ratio, text in page.evaluate(CONTRASTS, selector)]


def too_faint(page: Page, selector: str) -> list[str]:
    """The texts whose contrast is too low, of a theme that may take a moment to arrive. Asserts that there is any text."""
    found, faint = [], []
    for _ in range(PATIENCE):
        found = contrasts(page, selector)
        faint = [f"{text}: {ratio:.2f}" for ratio, text in found if ratio < ENOUGH]
        if found and not faint:
            break
        page.wait_for_timeout(100)
    assert found, f"{selector} shows no text"
    return faint
