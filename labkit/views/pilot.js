// The pilot's view: keys and buttons become messages, messages from the kernel become pictures.
// One step is under way at a time; of the keys pressed meanwhile the last one waits.

const PAD = [
  ["raise", "⤒", "raise the gripper (u)"], ["away", "↑", "move away from the camera (up arrow)"],
  ["lower", "⤓", "lower the gripper (d)"], ["left", "←", "move left (left arrow)"],
  ["stay", "•", "stay (s)"], ["right", "→", "move right (right arrow)"], null,
  ["near", "↓", "move near to the camera (down arrow)"],
];
const REST = [
  ["fingers", "Close fingers", "close or open the fingers (f)"], ["undo", "Undo", "take the last step back (backspace)"],
  ["reset", "Reset", "back to the context (r)"], ["resample", "New z", "draw another future (z)"],
  ["save", "Save", "save the episode as a GIF and its actions as a table"],
];
const KEYS = {
  ArrowUp: "away", ArrowDown: "near", ArrowLeft: "left", ArrowRight: "right", u: "raise", d: "lower",
  s: "stay", f: "fingers", Backspace: "undo", r: "reset", z: "resample",
};
const MOVES = ["right", "left", "away", "near", "raise", "lower", "fingers"];
const PATIENCE = 10000; // milliseconds without an answer: there is no kernel

function render({ model, el }) {
  const add = (parent, tag, attributes = {}, text = "") => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    return parent.appendChild(element);
  };
  const root = add(el, "div", {
    class: "labkit-pilot", tabindex: "0", role: "group",
    "aria-label": "Drive the arm: the arrow keys move it and predict the next frame.",
  });
  const where = add(root, "p", { class: "where" });
  const screens = add(root, "div", { class: "screens" });
  const controls = add(root, "div", { class: "controls" });
  const buttons = {};
  const button = (parent, [press, text, label]) => {
    buttons[press] = add(parent, "button", { type: "button", title: label, "aria-label": label }, text);
    buttons[press].addEventListener("click", () => ask({ press }));
  };
  const pad = add(controls, "div", { class: "pad", role: "group", "aria-label": "next action" });
  for (const entry of PAD) entry ? button(pad, entry) : add(pad, "span");
  const rest = add(controls, "div", { class: "group", role: "group", "aria-label": "episode" });
  for (const entry of REST) button(rest, entry);
  const field = add(controls, "label", {}, "speed ");
  const speed = add(field, "input", { type: "range", min: 0.05, step: 0.05, "aria-label": "speed, standard deviations per frame" });
  const amount = add(field, "span");
  const note = add(root, "p", { class: "note", role: "status" });
  const legend = add(root, "p", { class: "legend" });
  legend.innerHTML =
    "Keys, once you have clicked in here: <kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd> move, " +
    "<kbd>u</kbd> <kbd>d</kbd> raise and lower, <kbd>s</kbd> stay, <kbd>f</kbd> fingers, " +
    "<kbd>backspace</kbd> undo, <kbd>r</kbd> reset, <kbd>z</kbd> new z.";
  // Which action column each key changes, and by how much.
  const mapping = add(root, "p", { class: "legend", "aria-label": "action columns of the keys" });
  const columns = {};
  for (const press of MOVES) {
    const entry = add(mapping, "span", {}, `${press}: `);
    columns[press] = add(entry, "code");
    mapping.append("  ");
  }

  // ------------------------------------------------------------------ to the kernel and back
  let busy = 0, waiting = null;
  function ask(what) {
    if (busy) return void (waiting = { ...waiting, ...what });
    busy = setTimeout(() => {
      busy = 0;
      waiting = null;
      note.textContent = "No answer: the kernel is busy or gone. Run the cell again to drive on.";
    }, PATIENCE);
    try {
      model.send(what);
    } catch {
      note.textContent = "There is no kernel. Run the cell again to drive on.";
    }
  }
  let answered = model.get("shown").answered;
  function answer() {
    draw();
    const now = model.get("shown").answered;
    if (now === answered) return;
    answered = now;
    clearTimeout(busy);
    busy = 0;
    const next = waiting;
    waiting = null;
    if (next) ask(next);
  }

  // ----------------------------------------------------------------------------- the pictures
  function draw() {
    const shown = model.get("shown"), bytes = model.get("screens");
    if (!shown.labels || !bytes || !bytes.byteLength) return;
    const { width, height, scale, t, steps, future, psnr } = shown;
    while (screens.children.length < shown.labels.length) {
      const figure = add(screens, "figure");
      add(figure, "figcaption");
      const canvas = add(figure, "canvas", { role: "img", width, height });
      canvas.style.width = `${width * scale}px`;
    }
    const pixels = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    shown.labels.forEach((label, place) => {
      const [caption, canvas] = screens.children[place].children;
      caption.textContent = place === 0 && psnr ? `${label} · ${psnr}` : label;
      canvas.setAttribute("aria-label", `${label}, t = ${t}`);
      const context = canvas.getContext("2d"), image = context.createImageData(width, height);
      for (let i = 0, from = place * width * height * 3; i < image.data.length; i += 4) {
        for (let k = 0; k < 3; k++) image.data[i + k] = pixels[from++];
        image.data[i + 3] = 255;
      }
      context.putImageData(image, 0, 0);
    });
    const parts = [`t = ${t}`, steps ? `step ${steps}` : "last context frame"];
    if (shown.raised !== null) parts.push(`gripper ${shown.raised ? "up" : "down"}`);
    if (shown.closed !== null) parts.push(`fingers ${shown.closed ? "closed" : "open"}`);
    where.textContent = [...parts, `future ${future}`].join(" · ");
    if (shown.raised !== null) {
      buttons.raise.setAttribute("aria-pressed", shown.raised);
      buttons.lower.setAttribute("aria-pressed", !shown.raised);
    }
    buttons.fingers.textContent = shown.closed ? "Open fingers" : "Close fingers";
    for (const press of MOVES) {
      buttons[press].disabled = !(press in shown.effects);
      columns[press].textContent = shown.effects[press] || "none";
    }
    speed.max = shown.max_speed;
    if (document.activeElement !== speed) speed.value = shown.speed;
    amount.textContent = `${shown.speed.toFixed(2)} σ`;
    note.textContent = steps ? `t = ${t}: ${shown.note}` : shown.note;
  }

  // --------------------------------------------------------------------------------- the keys
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    const inSlider = event.target === speed;
    const press = inSlider && event.key.startsWith("Arrow") ? null : KEYS[event.key];
    if (press) {
      event.preventDefault();
      ask({ press });
    }
    // JupyterLab would leave the cell at an arrow, delete it at d d, and run it at others.
    if (event.key !== "Tab" && event.key !== "Escape") event.stopPropagation();
  });
  speed.addEventListener("input", () => ask({ speed: +speed.value }));
  // JupyterLab takes the focus away from what is clicked in an output.
  root.addEventListener("click", (event) => {
    const control = event.target.closest("button, input") || root;
    setTimeout(() => control.focus({ preventScroll: true }));
  });

  model.on("change:shown", answer);
  draw();
  return () => {
    clearTimeout(busy);
    model.off("change:shown", answer);
  };
}

export default { render };
