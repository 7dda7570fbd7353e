"""How long from a hand's event to the repaint that shows its answer, measured inside the page; for benchmarks/repaint.py."""

import statistics
from collections.abc import Callable

from playwright.sync_api import Page

# From the event's own time to the frame after the change is drawn: an animation frame, and the first task after it.
CLOCK = """() => { window.arm = (event, isDone) => new Promise((resolve) => {
  addEventListener(event, ({ timeStamp }) => {
    const painted = () => requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => resolve(performance.now() - timeStamp);
      channel.port2.postMessage(0);
    });
    const observer = new MutationObserver(() => {
      if (!isDone()) return;
      observer.disconnect();
      painted();
    });
    observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
  }, { capture: true, once: true });
}); }"""
ARM = "([event, done]) => { window.measured = window.arm(event, new Function(`return ${done}`)); }"
MEASURED = "() => Promise.race([window.measured, new Promise((resolve) => setTimeout(() => resolve(null), 20_000))])"


def milliseconds(page: Page, event: str, act: Callable[[], object], done: str) -> float:
    """act() makes Chromium fire `event`; done: a JavaScript expression that is true once its answer is in the page. Raises TimeoutError."""
    page.evaluate(CLOCK)
    page.evaluate(ARM, [event, done])
    act()
    took = page.evaluate(MEASURED)
    if took is None:
        raise TimeoutError(f"20 seconds after {event} the page does not say: {done}")
    return float(took)


def busy(page: Page) -> Callable[[], float]:
    """A clock of the CPU time that the page's main thread has taken, in milliseconds: what others do on the machine does not count."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    return lambda: 1000 * next(each["value"] for each in session.send("Performance.getMetrics")["metrics"] if each["name"] == "ThreadTime")


def median(n_rounds: int, measure: Callable[[int], float]) -> float:
    """A first round warms up and does not count."""
    return statistics.median([measure(i) for i in range(n_rounds + 1)][1:])
