// Draws the question: prompt, tokens, the model's next tokens, answer and baseline, and how far a ranking is. Python reads what is typed
// (prompt, answer, baseline, sae) and answers with tokens, next_tokens, problems; "run" and "cancel" are asked for by messages.

const percent = (p) => (p >= 0.995 ? "> 99 %" : p >= 0.01 ? `${Math.round(100 * p)} %` : "< 1 %");

function render({ model, el }) {
  const root = node("div", { class: "wbp wbq" });
  const which = model.get("which");
  const called = (name) => (which ? `${which} ${name[0].toLowerCase()}${name.slice(1)}` : name); // two questions may stand on one screen
  const prompt = node("textarea", { rows: 1, "aria-label": called("Prompt"), placeholder: "a text whose next token you want explained", title: "Enter ranks; Shift+Enter makes a new line", spellcheck: "false" });
  const answer = node("input", { "aria-label": called("Answer"), title: "the token whose logit is explained; empty: the model's own first", size: 12, spellcheck: "false" });
  const baseline = node("input", { "aria-label": called("Baseline"), title: "the token that it is compared with; empty: the mean over the vocabulary", size: 12, placeholder: "mean logit", spellcheck: "false" });
  const sae = node("select", { "aria-label": called("SAE") });
  const run = button("Rank", () => model.send({ do: isRunning() ? "cancel" : "run" }), { class: "wbp-main" });
  const tokens = node("div", { class: "wbq-tokens", role: "group", "aria-label": called("Tokens") });
  const offered = node("div", { class: "wbq-next", role: "group", "aria-label": called("The model's next tokens") });
  const bar = node("div", { class: "wbq-bar", role: "progressbar", "aria-label": called("Effects measured"), "aria-valuemin": 0 }, node("i"));
  const status = node("span", { class: "wbp-faint wbq-status", role: "status" });
  const wrong = node("div", { class: "wbq-wrong wbp-wrong", role: "alert" });
  const flag = node("div", { class: "wbq-flag", role: "status", "aria-label": called("What the model says itself") });
  const asked = node("select", { "aria-label": called("Questions asked before, and to begin with"), title: "return to a question, with what was measured of it; or begin with one" });
  root.append(
    node("div", { class: "wbq-line wbq-asking" }, prompt, asked),
    tokens,
    node("div", { class: "wbq-line" }, node("label", {}, "Why ", answer), node("label", {}, "rather than ", baseline), run, status, node("label", { class: "wbp-push" }, "SAE ", sae)),
    offered,
    flag,
    bar,
    wrong,
  );
  el.append(root);
  for (const each of [prompt, answer, baseline]) each.readOnly = Boolean(model.isSaved); // a saved page has no model to ask
  for (const each of [run, sae, asked]) each.disabled = Boolean(model.isSaved);

  const boxes = [["prompt", prompt], ["answer", answer], ["baseline", baseline]];
  const isRunning = () => ["waiting", "running"].includes(model.get("progress").stage);
  const send = (name, box) => {
    if (model.get(name) !== box.value) change(model, { [name]: box.value });
  };
  const grow = () => {
    if (CSS.supports("field-sizing", "content")) return; // the browser does it, and also where the cell was out of sight
    prompt.style.height = "auto";
    prompt.style.height = `${Math.min(prompt.scrollHeight + 2, 140)}px`;
  };

  function drawTyped() {
    for (const fill of fills) fill();
    grow();
  }

  function drawTokens() {
    const shown = model.get("tokens");
    const n = model.get("n_tokens");
    const rest = n > shown.length ? [node("span", { class: "wbp-faint" }, ` … ${several(n - shown.length, "more token")}`)] : [];
    const first = model.get("first_look");
    if (first == null || model.isSaved) return tokens.replaceChildren(...shown.map((token, i) => node("span", { class: "wbp-token", title: `position ${i}` }, token)), ...rest);
    const look = (i) => model.send({ do: "look", at: i });
    const looking = shown.slice(first).map((token, i) => button(token, () => look(first + i), { class: "wbp-token", tabindex: i ? -1 : 0, title: `position ${first + i}: what is active here?` }));
    looking.forEach((each, i) => {
      each.onkeydown = (event) => {
        const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: looking.length - 1 }[event.key];
        if (to == null || event.altKey) return;
        event.preventDefault();
        looking[Math.min(Math.max(to, 0), looking.length - 1)].focus();
      };
    });
    const start = shown.slice(0, first).map((token, i) => node("span", { class: "wbp-token", title: `position ${i}` }, token));
    tokens.replaceChildren(...start, ...looking, ...rest);
  }

  function drawNext() {
    const best = model.get("next_tokens");
    const chips = best.map(({ token, probability }) => {
      const is = token === model.get("answer") ? "answer" : token === model.get("baseline") ? "baseline" : null;
      const chip = button("", (event) => change(model, { [event.shiftKey ? "baseline" : "answer"]: token }), {
        class: `wbq-chip ${is ?? ""}`,
        title: `${percent(probability)} of the model's next token. Click: the answer; Shift+click or B: the baseline`,
        "aria-label": `${token.trim()}, ${percent(probability)}${is ? `, ${is}` : ""}`,
      });
      if (model.isSaved) chip.onclick = null;
      chip.append(visible(token), node("small", {}, percent(probability)));
      chip.style.setProperty("--share", `${Math.round(100 * probability)}%`);
      chip.onkeydown = (event) => {
        if (!model.isSaved && event.key.toLowerCase() === "b") change(model, { baseline: token });
      };
      return chip;
    });
    const at = [...offered.querySelectorAll("button")].indexOf(el.getRootNode().activeElement);
    offered.replaceChildren(...(chips.length ? [node("span", { class: "wbp-faint" }, "next token"), ...chips] : []));
    if (at >= 0) offered.querySelectorAll("button")[at]?.focus();
    answer.placeholder = best.length ? "its first" : "its own first";
    answer.title = `the token whose logit is explained; empty: the model's own first${best.length ? `, “${visible(best[0].token).trim()}”` : ""}`;
  }

  function drawProblems() {
    const problems = model.get("problems");
    for (const [name, box] of boxes) box.setAttribute("aria-invalid", Boolean(problems[name]));
    wrong.replaceChildren(...Object.values(problems).filter(Boolean).map((text) => node("div", {}, text)));
  }

  function drawProgress() {
    const { stage, done = 0, total = 0, message = "", seconds = 0 } = model.get("progress");
    const share = total ? done / total : 0;
    run.firstChild.data = isRunning() ? "Cancel" : "Rank";
    run.classList.toggle("wbp-main", !isRunning());
    bar.firstChild.style.width = `${100 * share}%`;
    bar.classList.toggle("over", !isRunning());
    bar.setAttribute("aria-valuenow", done);
    bar.setAttribute("aria-valuemax", total || 1);
    const effects = `${count(done)} of ${several(total, "effect")} measured`;
    const says = { waiting: "waiting for other work on this model", running: total ? effects : "attributing", done: `${several(total, "effect")} in ${seconds.toFixed(1)} s`, cancelled: `cancelled: ${effects}`, failed: "" };
    status.setAttribute("aria-live", stage === "running" ? "off" : "polite"); // a count that runs would be read out to its end
    status.textContent = says[stage] ?? "";
    root.dataset.stage = stage ?? "idle";
    if (stage === "failed") wrong.replaceChildren(message);
  }

  // An answer that is not what the model would say: what is explained then is why it has as much as it has.
  function drawFlag() {
    const { token, probability, rank, first } = model.get("standing");
    flag.hidden = rank == null || rank === 1;
    if (flag.hidden) return;
    const own = button(`Why “${visible(first.token).trim()}”?`, () => change(model, { answer: first.token }), { title: "ask for the model's own first choice" });
    own.disabled = Boolean(model.isSaved);
    flag.replaceChildren("⚠ ", node("b", {}, visible(token).trim()), ` is not what the model says: it comes #${count(rank)}, ${percent(probability)}. Its own first choice is `, node("b", {}, visible(first.token).trim()), `, ${percent(first.probability)}. `, own);
  }

  function drawAsked() {
    const [known, examples] = [model.get("asked"), model.get("examples")];
    asked.hidden = known.length < (which ? 1 : 2) && !examples.length;
    const said = ({ prompt: text, answer: why, baseline: than, sae: name }) => `${visible(text).slice(-60)} · ${visible(why) || "its first"}${than ? ` / ${visible(than)}` : ""} · ${name}`;
    const group = (label, ...options) => node("optgroup", { label }, ...options);
    const earlier = known.map((each, i) => node("option", { value: `recall ${i}` }, said(each)));
    const first = examples.map(({ about, prompt: text }, i) => node("option", { value: `try ${i}`, title: text }, about));
    asked.replaceChildren(node("option", { value: "" }, "questions …"), ...(earlier.length ? [group("asked before", ...earlier)] : []), ...(first.length ? [group("to begin with", ...first)] : []));
    asked.value = "";
  }

  function drawSaes() {
    sae.replaceChildren(...model.get("saes").map(([name, says]) => node("option", { value: name }, `${name} · ${says}`)));
    sae.value = model.get("sae");
  }

  let typing;
  prompt.oninput = () => {
    grow();
    clearTimeout(typing);
    typing = setTimeout(() => send("prompt", prompt), 200);
  };
  for (const [name, box] of boxes) box.onchange = () => send(name, box);
  const fills = boxes.map(([name, box]) => filled(box, () => model.get(name))); // after onchange, which tells what was typed
  sae.onchange = () => {
    change(model, { sae: sae.value });
    model.send({ do: "rank" });
  };
  asked.onchange = () => {
    const [way, at] = asked.value.split(" ");
    if (at != null) model.send({ do: way, at: Number(at) });
    asked.value = "";
  };
  root.onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || model.isSaved || ![prompt, answer, baseline].includes(event.target)) return;
    event.preventDefault();
    clearTimeout(typing);
    for (const [name, box] of boxes) send(name, box);
    model.send({ do: "run" });
  };

  drawSaes();
  drawAsked();
  drawFlag();
  drawTyped();
  drawTokens();
  drawNext();
  drawProgress();
  drawProblems();
  let wide = 0;
  const observer = new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width === wide) return;
    wide = contentRect.width; // a narrower box has more lines
    requestAnimationFrame(grow);
  });
  observer.observe(prompt);
  const unwatch = watch(model, [
    [["prompt", "answer", "baseline"], drawTyped],
    [["tokens", "n_tokens", "first_look"], drawTokens],
    [["next_tokens", "answer", "baseline"], drawNext],
    [["problems"], drawProblems],
    [["progress"], drawProgress],
    [["saes", "sae"], drawSaes],
    [["asked", "examples"], drawAsked],
    [["standing"], drawFlag],
  ]);
  return () => (unwatch(), observer.disconnect());
}

export default { render };
