// A map's features as arrays, from the traits' bytes, and what is worked out of them once.

const N_SHADES = 64; // steps of a color scale
const UNKNOWN = 255; // no step: no value
const USUAL = 0.95; // the share of the values that a scale is for, where the rest lie far above
const SCORES = ["reads", "writes"]; // of every feature, where an index keeps them; "score" is a search's

// The traits' bytes as arrays.
function decode(model) {
  const array = (name, Type) => {
    const bytes = model.get(name);
    const length = bytes?.byteLength ?? 0;
    return new Type(length ? bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + length) : 0);
  };
  const xy = array("points", Float32Array);
  const n = xy.length / 2;
  const numbers = array("numbers", Int32Array);
  const bytes = model.get("texts");
  const texts = bytes?.byteLength ? new TextDecoder().decode(bytes).split("\n") : [""];
  const [features, saes, labels] = [0, 1, 2].map((k) => numbers.subarray(k * n, (k + 1) * n));
  const half = [0, 1].map((k) => xy.subarray(k * n, (k + 1) * n).reduce((most, value) => Math.max(most, Math.abs(value)), 1e-6));
  const densities = array("densities", Float32Array);
  const scores = Object.fromEntries([...SCORES, "score"].map((name) => [name, array(name === "score" ? "scores" : name, Float32Array)]));
  const scales = { density: scaled(densities, n, true), ...Object.fromEntries(Object.entries(scores).map(([name, values]) => [name, scaled(values, n, false)])) };
  return { n, x: xy.subarray(0, n), y: xy.subarray(n), features, saes, labels, texts, isNamed: texts.map(Boolean), half, densities, scores, scales };
}

// A fixed shuffle, so that no dictionary hides another.
function shuffled(n) {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  let seed = 1;
  for (let i = n - 1; i > 0; i -= 1) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = seed % (i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

// Each value's step on a scale of N_SHADES, equal ones for equal ratios (density) or differences (score); UNKNOWN where there is no value.
// A few values far above the others would leave all others pale: what is above `high` has the last step, and `most` is the largest.
function scaled(values, n, isLog) {
  const f = isLog ? Math.log : (value) => value;
  const known = values.filter((value) => Number.isFinite(value) && !(isLog && value <= 0)).sort();
  const at = (share) => known[Math.floor(share * (known.length - 1))] ?? NaN;
  const [low, most] = [at(0), at(1)];
  const isTailed = !isLog && most - at(USUAL) > at(USUAL) - at(0.5);
  const high = isTailed ? at(USUAL) : most;
  const [least, range] = [f(low), f(high) - f(low) || 1];
  const steps = new Uint8Array(n).fill(UNKNOWN);
  values.forEach((value, i) => {
    if (Number.isFinite(value)) steps[i] = isLog && value <= 0 ? 0 : Math.min(Math.round(((N_SHADES - 1) * (f(value) - least)) / range), N_SHADES - 1);
  });
  return { low, high, most, steps };
}
