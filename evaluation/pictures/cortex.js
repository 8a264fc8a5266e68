// The cortex: flat maps, coloured here from pictures whose grey values are numbers (cortex.py) -----------------------

const NO_ROI = 3; // ROIs are counted from it; below are gyri and sulci
const EDGE = [38, 38, 51], GREYS = [0, 209, 153]; // of gyri and sulci
const WORDS = { lh: "left", rh: "right" };

async function pixelsOf(number) {
  const image = picture(number, "");
  await image.decode();
  const { naturalWidth: width, naturalHeight: height } = image;
  const context = html("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data: bytes } = context.getImageData(0, 0, width, height);
  return { width, height, at: Uint8Array.from({ length: width * height }, (_, k) => bytes[4 * k]) };
}

const rgb = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
const valueOf = ({ low, high }, grey) => (grey ? low + ((grey - 1) / 254) * (high - low) : null);

function colour(rois, map) {
  const { width, height, at } = rois, table = data.colours[map.colours].map(rgb);
  const painted = new ImageData(width, height);
  for (let k = 0; k < at.length; k += 1) {
    if (!at[k]) continue;
    const isEdge = at[k] >= NO_ROI ? at[k] !== at[k + 1] || at[k] !== at[k + width] : at[k + 1] >= NO_ROI || at[k + width] >= NO_ROI;
    const [r, g, b] = isEdge ? EDGE : map.at[k] ? table[map.at[k] - 1] : Array(3).fill(GREYS[at[k]] ?? GREYS[1]);
    painted.data.set([r, g, b, 255], 4 * k);
  }
  return painted;
}

// One subject's canvas, its buttons, and what the pointer is on.
async function showCortex(place) {
  const { rois: number, names, middles, families } = data.cortex[place.dataset.cortex];
  const rois = await pixelsOf(number);
  const state = { family: 0, map: families[0].maps.length - 1 };
  const drawing = html("canvas", {
    width: 2 * rois.width, height: 2 * rois.height, tabindex: 0, role: "img",
    "aria-label": `flat map of the cortex, ${place.dataset.cortex}: arrow keys change the map`,
  });
  const said = html("output", { "aria-live": "polite" }), scale = html("p", { class: "note scale" });
  const choices = families.map(({ name }, k) => html("button", { type: "button" }, name));
  const recipes = families[0].maps.map(({ title }) => html("button", { type: "button" }, title));
  let shown = null; // the map on the canvas, its pixels and the ends of its colours
  let asked = 0, pointed = null; // how many maps were chosen; the pixel that was pointed at last, [x, y]

  async function draw() {
    const { maps } = families[state.family];
    const current = maps[Math.min(state.map, maps.length - 1)];
    choices.forEach((button, k) => button.setAttribute("aria-pressed", k === state.family));
    recipes.forEach((button, k) => {
      button.setAttribute("aria-pressed", maps.length > 1 && k === state.map);
      button.disabled = maps.length === 1;
    });
    const ticket = (asked += 1), { at } = await pixelsOf(current.picture);
    if (ticket !== asked) return; // another one was chosen meanwhile
    shown = { ...current, at };
    const small = html("canvas", { width: rois.width, height: rois.height });
    small.getContext("2d").putImageData(colour(rois, shown), 0, 0);
    const context = drawing.getContext("2d");
    context.clearRect(0, 0, drawing.width, drawing.height);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, drawing.width, drawing.height);
    Object.assign(context, { font: "24px sans-serif", textAlign: "center", textBaseline: "middle", lineWidth: 5 });
    for (const [name, x, y] of middles) {
      context.strokeStyle = "#fff";
      context.strokeText(name, 2 * x, 2 * y);
      context.fillText(name, 2 * x, 2 * y);
    }
    const bar = html("span", { class: "ramp" });
    bar.style.background = `linear-gradient(to right, ${data.colours[current.colours].filter((_, k) => k % 25 === 4).join()})`;
    scale.replaceChildren(format(current.low), bar, format(current.high));
    drawing.dataset.shown = `${families[state.family].name}: ${current.title}`;
    say();
  }

  const turn = (key, by, n) => {
    state[key] = (state[key] + by + n) % n;
    draw();
  };
  function point({ clientX, clientY }) {
    const box = drawing.getBoundingClientRect();
    const x = Math.floor(((clientX - box.left) / box.width) * rois.width);
    const y = Math.floor(((clientY - box.top) / box.height) * rois.height);
    pointed = x < 0 || y < 0 || x >= rois.width ? null : [x, y];
    say();
  }
  function say() {
    const [x, y] = pointed ?? [], k = y * rois.width + x, roi = rois.at[k];
    if (!shown || !roi) {
      said.value = "";
      return;
    }
    const grey = shown.at[k], side = x < rois.width / 2 ? WORDS.lh : WORDS.rh, value = valueOf(shown, grey);
    const beyond = grey === 255 ? "≥ " : shown.low < 0 && grey === 1 ? "≤ " : ""; // the ends hold what is beyond
    const text = value === null ? "no data" : beyond + format(value);
    said.value = `${side} ${roi >= NO_ROI ? names[roi - NO_ROI] : "no region"}: ${text}`;
  }
  choices.forEach((button, k) => button.addEventListener("click", () => turn("family", k - state.family, families.length)));
  recipes.forEach((button, k) => button.addEventListener("click", () => turn("map", k - state.map, recipes.length)));
  for (const kind of ["pointermove", "pointerdown"]) drawing.addEventListener(kind, point);
  // A finger that is lifted has said enough; what it was on stays.
  drawing.addEventListener("pointerleave", ({ pointerType }) => {
    if (pointerType !== "mouse") return;
    pointed = null;
    say();
  });
  drawing.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    if (["ArrowLeft", "ArrowRight"].includes(event.key)) turn("family", by, families.length);
    else turn("map", by, recipes.length);
  });
  const group = (name, buttons) => html("div", { class: "controls", role: "group", "aria-label": name }, buttons);
  place.replaceChildren(group("target", choices), group("recipe", recipes), drawing, html("div", { class: "under" }, scale, said));
  await draw();
}

document.addEventListener("DOMContentLoaded", () => {
  for (const place of findAll("[data-cortex]")) showCortex(place);
});
