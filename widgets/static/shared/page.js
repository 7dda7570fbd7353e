// A saved page: models that hold the traits that Python held, for the widgets' own modules to draw. What Python would answer, a widget's
// offline module answers; one selection is shared by all models that have a `feature`.

const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
const packed = new Blob([bytes(document.getElementById("state").textContent)]);
const unpacked = await new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).text();
const parts = JSON.parse(unpacked, (key, value) => (value?.["@bytes"] == null ? value : new DataView(bytes(value["@bytes"]).buffer)));
const modules = new Map(); // each text is loaded once
const load = (text) => {
  if (!modules.has(text)) modules.set(text, import(URL.createObjectURL(new Blob([text], { type: "text/javascript" }))));
  return modules.get(text);
};

// As much of Jupyter's model as our modules use. set() tells listeners at once, as Backbone does; "saved" is where Python would hear of it.
function model(state) {
  const listeners = new Map();
  const fire = (event, ...about) => [...(listeners.get(event) ?? [])].forEach((listener) => listener(...about));
  const made = {
    isSaved: true,
    has: (name) => name in state,
    get: (name) => state[name],
    set(name, value) {
      if (Object.is(state[name], value)) return;
      state[name] = value;
      fire(`change:${name}`);
      fire("change");
    },
    save_changes: () => fire("saved"),
    send: (content) => fire("sent", content),
    fire,
    on: (event, listener) => listeners.set(event, [...(listeners.get(event) ?? []), listener]),
    off: (event, listener) => listeners.set(event, listener ? (listeners.get(event) ?? []).filter((each) => each !== listener) : []),
  };
  return made;
}

const models = new Map(parts.map((part) => [part.name, model(part.state)]));
const sharing = [...models.values()].filter((each) => each.has("feature"));
for (const one of sharing) {
  one.on("change:feature", () => {
    for (const other of sharing.filter((each) => !Object.is(each.get("feature"), one.get("feature")))) {
      other.set("feature", one.get("feature"));
      other.save_changes();
    }
  });
}

const host = {
  getWidget: async (reference) => {
    const part = parts.find(({ name }) => reference === `anywidget:${name}`);
    return { render: ({ el }) => show(part, el) };
  },
};

const place = document.getElementById("widget");
let nComing = 0; // widgets that are not drawn yet: the page says that it is busy
async function show(part, el) {
  place.ariaBusy = String(++nComing > 0);
  const { default: definition } = await load(part.module);
  const drawn = await (definition.render ?? definition)({ model: models.get(part.name), el, host, signal: new AbortController().signal });
  place.ariaBusy = String(--nComing > 0);
  return drawn;
}

place.ariaBusy = "true";
for (const part of parts) if (part.offline) (await load(part.offline)).answer(models.get(part.name), part.data);
place.replaceChildren();
await show(parts[0], place);
