function download(name, text, type, root) {
  const link = node("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })), class: "wbp-hidden" });
  root.append(link); // some browsers follow only what is in the page
  link.click();
  link.remove();
}

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

