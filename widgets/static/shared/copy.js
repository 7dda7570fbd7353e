// The clipboard's own call needs a safe origin; selecting a hidden text works everywhere else.
async function copyText(text, root) {
  if (navigator.clipboard && isSecureContext) return navigator.clipboard.writeText(text);
  const box = node("textarea", { class: "wbp-hidden" });
  box.value = text;
  root.append(box);
  box.select();
  document.execCommand("copy");
  box.remove();
}

