// Rows as a file that spreadsheets read: quoted where there is need, and a text that looks like a formula is text.
function csv(head, rows) {
  const cell = (value) => {
    const text = value == null ? "" : typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function download(name, text, type, root) {
  const link = node("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })), class: "wbp-hidden" });
  root.append(link); // some browsers follow only what is in the page
  link.click();
  link.remove();
}

// The button that gives a table away; head and rows are asked for when it is pressed.
const csvButton = (name, what, root, head, rows) => button("CSV", () => download(`${name}.csv`, csv(head(), rows()), "text/csv", root()), { title: "the table as a file", "aria-label": `${what} as CSV` });

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

