// A list of prompts: typed, pasted by the line, read from a file, taken away one by one. onchange hears the new list.

const linesOf = (text) => text.split(/\r\n|\r|\n/).map((line) => line.trim()).filter(Boolean);
const MOST_BYTES = 2 ** 20; // of a file: thousands of prompts

function promptList(name, help, onchange) {
  let prompts = [];
  const box = node("textarea", { rows: 1, "aria-label": `Add ${name} prompts, one a line`, placeholder: help, spellcheck: "false" });
  const file = node("input", { type: "file", accept: ".txt,text/plain", class: "wbp-hidden", tabindex: -1, "aria-label": `File of ${name} prompts, one a line` });
  const load = button("From a file …", () => file.click(), { title: "A text file, one prompt a line" });
  const clear = button("Clear", () => take([], `${several(prompts.length, "prompt")} taken away `), { "aria-label": `Clear the ${name} prompts` });
  const said = node("span", { class: "wbp-wrong", role: "status" });
  const title = node("h4", {});
  const list = node("ol", { class: "wbf-prompts", "aria-label": `${name} prompts` });
  // What was typed or pasted is not lost to a click.
  let after = null; // what Undo leads back from
  const take = (rest, words) => {
    const before = prompts;
    const undo = button("Undo", () => (said.replaceChildren(), onchange(before), box.focus()), { "aria-label": `Undo: the ${name} prompts as they were` });
    said.replaceChildren(node("span", { class: "wbp-faint" }, words), undo);
    after = JSON.stringify(rest);
    onchange(rest);
    if (!rest.length) undo.focus();
  };
  const add = (texts) => {
    said.replaceChildren();
    const fresh = [...new Set(texts)].filter((text) => text.trim() && !prompts.includes(text));
    box.value = "";
    box.rows = 1;
    if (fresh.length) onchange([...prompts, ...fresh]);
    return fresh;
  };
  box.onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    add([box.value.includes("\n") ? box.value.replace(/\s+$/, "") : box.value.trim()]); // a prompt of several lines keeps them
  };
  box.oninput = () => (box.rows = Math.min(box.value.split("\n").length, 8));
  box.onpaste = (event) => {
    const text = event.clipboardData.getData("text");
    if (linesOf(text).length < 2 || box.value) return; // into what is being typed it goes as it is
    event.preventDefault();
    const before = prompts;
    const added = add(linesOf(text));
    if (added.length < 2) return;
    const whole = button("one prompt instead", () => (said.replaceChildren(), onchange([...before, text.replaceAll("\r\n", "\n").replace(/\s+$/, "")])));
    said.replaceChildren(node("span", { class: "wbp-faint" }, `${count(added.length)} prompts, one a line `), whole);
  };
  file.onchange = async () => {
    const [chosen] = file.files;
    file.value = "";
    if (!chosen) return;
    const isText = chosen.size <= MOST_BYTES && !(await chosen.slice(0, 4096).text()).includes("\0");
    said.textContent = isText ? "" : `${chosen.name} is ${chosen.size > MOST_BYTES ? "larger than 1 MB" : "not a text file"}`;
    if (isText) add(linesOf(await chosen.text()));
  };

  function draw(next, isLive) {
    prompts = next;
    if (after !== null && (!isLive || JSON.stringify(next) !== after)) (said.replaceChildren(), (after = null)); // what came since stays
    title.textContent = `${name[0].toUpperCase()}${name.slice(1)} · ${count(prompts.length)}`;
    const at = [...list.children].findIndex((line) => line.contains(list.getRootNode().activeElement));
    list.replaceChildren(
      ...prompts.map((prompt, i) => {
        const remove = button("✕", () => take(prompts.filter((_, other) => other !== i), `“${visible(prompt).slice(0, 40)}” taken away `), { class: "wbp-icon", "aria-label": `Remove ${name} prompt ${i + 1}` });
        remove.disabled = !isLive;
        return node("li", {}, node("span", { dir: "auto" }, inLines(prompt)), remove);
      }),
    );
    if (at >= 0) (list.children[Math.min(at, prompts.length - 1)]?.querySelector("button") ?? box).focus();
    for (const control of [box, load, file]) control.disabled = !isLive;
    clear.disabled = !isLive || !prompts.length;
  }
  return { root: node("section", { class: "wbf-set" }, node("div", { class: "wbf-head" }, title, load, file, clear), list, box, said), draw };
}
