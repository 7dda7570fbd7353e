"""A question in the explorer: an answer that is not the model's own is flagged, rows of another question are greyed and named, lines stay
lines, what was asked before comes back without being measured, the heads of the chosen row are measured, numbers say what they are."""

import re

import pytest
from live_page import open_live
from playwright.sync_api import Page, expect

from widgets.marks import number
from widgets.panes.pane import STATIC
from workbench.circuits.ranking.measurement import Measurement

pytestmark = pytest.mark.browser
FIRST, SECOND = "the cat sat on the", "the dog ran to"
SAYS = "(text) => document.querySelector('.wbr tbody').innerText === text"
DIGITS = re.compile(r"[+−](\d+)\.(\d+)")


@pytest.fixture
def explorer(explorer_of):
    return explorer_of({3: "cats"}, FIRST, " mat", " dog")


def test_an_answer_that_is_not_the_models_own_is_flagged_and_a_click_asks_for_its_own(page: Page, tmp_path, explorer):
    standing = explorer.pane["prompt"].standing
    assert standing["rank"] > 1
    open_live(page, explorer, tmp_path)
    flag = page.locator(".wbq-flag")
    expect(flag).to_contain_text(f"mat is not what the model says: it comes #{standing['rank']}")
    expect(page.locator(".wbr-caveat")).to_contain_text(f"#{standing['rank']}")
    flag.get_by_role("button").press("Enter")
    expect(page.get_by_label("Answer", exact=True)).to_have_value(standing["first"]["token"])
    expect(flag).to_be_hidden()
    expect(page.locator(".wbr-stale")).to_contain_text(f"These rows are of “{FIRST}”  mat rather than  dog")
    assert float(page.locator(".wbr-scroll").evaluate("(each) => getComputedStyle(each).opacity")) < 1


def test_what_was_asked_before_comes_back_without_being_measured(page: Page, tmp_path, explorer, monkeypatch):
    open_live(page, explorer, tmp_path)
    box, status = page.get_by_role("textbox", name="Prompt", exact=True), page.locator(".wbq-status").first
    rows = page.locator(".wbr tbody")
    before = rows.inner_text()
    box.fill(SECOND)
    box.press("Enter")
    explorer.pane["prompt"]._job.wait(60)
    page.evaluate("ask({})")
    expect(page.locator(".wbr tbody tr").first).to_have_attribute("aria-selected", "true")  # the new question's first feature
    assert explorer.feature == int(page.locator(".wbr tbody tr td").first.inner_text()) == explorer.first_feature()
    monkeypatch.setattr(Measurement, "measure", lambda *args, **options: pytest.fail("measured again"))
    asked = page.get_by_label("Questions asked before")
    asked.focus()
    asked.select_option(value="recall 1")
    expect(box).to_have_value(FIRST)
    page.wait_for_function(SAYS, arg=before)
    page.keyboard.press("Alt+ArrowLeft")
    expect(box).to_have_value(SECOND)
    page.keyboard.press("Alt+ArrowRight")
    expect(box).to_have_value(FIRST)
    expect(status).not_to_contain_text("measured again")


def test_lines_stay_lines_wherever_a_text_is_shown(page: Page, tmp_path, explorer):
    open_live(page, explorer, tmp_path)
    box = page.get_by_role("textbox", name="Prompt", exact=True)
    shown = page.locator(".wbr-detail .wbr-tokens").first
    low = shown.bounding_box()["height"]
    box.press("End")
    for _ in range(2):
        box.press("Shift+Enter")
        page.keyboard.type("the cat")
    page.keyboard.press("Enter")
    expect(shown).to_contain_text("⏎")
    explorer.pane["prompt"]._job.wait(60)
    assert explorer.pane["ranking"].ranking.prompt == f"{FIRST}\nthe cat\nthe cat"
    page.evaluate("ask({})")
    expect(shown).to_be_visible()
    assert shown.bounding_box()["height"] > 2 * low
    assert box.evaluate("(box) => box.scrollHeight <= box.clientHeight + 2"), "the box grows with its lines"
    box.fill("the cat and the dog " * 6)
    for width in (1500, 700):
        page.set_viewport_size({"width": width, "height": 720})
        page.wait_for_function("(box) => box.scrollHeight <= box.clientHeight + 2", arg=box.element_handle())


def test_a_question_that_is_drawn_while_its_cell_is_not_laid_out_is_read_when_it_is_back(page: Page, tmp_path, explorer):
    """JupyterLab takes a cell out for a moment, shorter than any observer of sizes hears of: measured there, the box had no line."""
    open_live(page, explorer, tmp_path)
    box = page.get_by_role("textbox", name="Prompt", exact=True)
    for asked in (SECOND, "the cat and the dog " * 20):
        explorer.pane["prompt"].prompt = asked
        page.evaluate("ask({})")
        page.wait_for_function("(asked) => document.querySelector('.wbq textarea').value === asked", arg=asked)
        box.evaluate("""(box) => {
          const cell = document.getElementById("widget");
          cell.style.display = "none";
          box.dispatchEvent(new Event("input", { bubbles: true }));
          cell.style.display = "";
        }""")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        height, inside, letter = box.evaluate("(box) => [box.clientHeight, box.scrollHeight, parseFloat(getComputedStyle(box).fontSize)]")
        assert height >= 2 * letter and inside <= height + 2, asked[:20]


def test_the_heads_of_the_row_that_is_chosen_are_measured_as_soon_as_they_are_looked_at(page: Page, tmp_path, explorer):
    page.emulate_media(color_scheme="dark")
    open_live(page, explorer, tmp_path)
    row = page.locator(".wbr tbody tr").nth(2)
    row.click()
    feature, pos = (row.locator("td").nth(i).inner_text() for i in (0, 3))
    page.get_by_role("tab", name="Attention").click()
    expect(page.locator(".wba-about")).to_contain_text(f"eature {feature}" if feature != "3" else "cats (3)")
    expect(page.get_by_text("Head Selector")).to_be_visible()  # CircuitsVis draws dark ink on white: turned round where it is dark
    assert explorer.pane["attention"].view["pos"] == int(pos)
    assert "invert" in page.locator(".wba-picture").evaluate("(each) => getComputedStyle(each).filter")
    page.emulate_media(color_scheme="light")
    page.wait_for_function("getComputedStyle(document.querySelector('.wba-picture')).filter === 'none'")


def test_numbers_are_written_alike_by_python_and_by_the_page_and_0_has_no_sign(page: Page):
    values = [0.0, -0.0004, 0.0004, -0.004, 0.0051, -1.234, 1234.5, 0.03]
    said = "return values.map((value) => [number(value), number(value, true, 0.05)])"
    said = f"([source, values]) => new Function('values', `${{source}}; {said}`)(values)"
    written = page.evaluate(said, [(STATIC / "shared" / "pane.js").read_text(), values])
    assert written == [[number(value), number(value, scale=0.05)] for value in values]
    assert written[1][0] == written[2][0] == "0.00"


def test_headings_colors_and_shares_explain_themselves_and_digits_agree(page: Page, tmp_path, explorer):
    open_live(page, explorer, tmp_path)
    ranking = explorer.pane["ranking"].ranking
    expect(page.locator(".wbr")).to_contain_text("logit( mat) − logit( dog) = ")
    heads = page.locator(".wbr thead th button")
    assert all(len(each.get_attribute("title") or "") > 15 for each in heads.all()) and heads.count() == 7
    expect(page.locator(".wbr-legend")).to_have_count(1)
    expect(page.locator(".wbr-legend")).to_contain_text("supports the answer")
    cells = page.locator(".wbr tbody td.wbr-measure")
    titles = cells.evaluate_all("(all) => all.map((each) => each.title)")
    shares = [each for each in titles if each.startswith(("effect", "attribution"))]
    assert len(shares) > 10 and all("% of " in each and "rank" in each for each in shares)
    texts = cells.all_inner_texts()
    signed = [DIGITS.search(each) for each in texts]
    assert len({len(each[2]) for each in signed if each}) == 1, texts
    effect = ranking.by_feature().iloc[0]["effect"]
    share = f"{100 * effect / ranking.clean_metric:.0f}".replace("-", "−")
    expect(page.locator(".wbr-detail")).to_contain_text(re.compile(rf"{share}(\.\d)? %"))
