(() => {
  "use strict";

  // Without this script the film strips stay as they are: a still picture of every frame.
  function start(root) {
    const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    const films = [...root.querySelectorAll(".still img")];
    let now = 0, timer = 0;

    const add = (parent, tag, attributes = {}, text = "") => {
      const element = document.createElement(tag);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      element.textContent = text;
      return parent.appendChild(element);
    };
    const player = add(root, "div", {
      class: "player", role: "group", "aria-label": `Clips under a slider: ${data.labels.join(", ")}`,
    });

    // ------------------------------------------------------------------------ the screens
    const screens = add(player, "div", { class: "screens" });
    const canvas = (parent) => {
      const made = add(parent, "canvas", { role: "img", width: data.width, height: data.height });
      made.style.maxWidth = `${data.width * data.scale}px`;
      return made;
    };
    const widest = Math.max(data.width * data.scale, 112);
    const columns = Math.min(data.labels.length, 4);
    screens.style.gridTemplateColumns = `repeat(${columns}, minmax(0, ${widest}px))`;
    const clips = data.labels.map((label, row) => {
      const figure = add(screens, "figure");
      const caption = add(figure, "figcaption");
      const name = add(caption, "span", { class: "name" }, label);
      name.style.borderColor = data.colors[row] === "#000000" ? "var(--ink)" : data.colors[row];
      const psnr = add(caption, "span", { class: "psnr" });
      const clip = { row, label, psnr, frame: canvas(figure) };
      if (data.psnr[row]) {
        clip.box = add(figure, "div", { class: "difference" });
        add(clip.box, "span", {}, `|truth − this| × ${data.gain}`);
        clip.difference = canvas(clip.box);
      }
      return clip;
    });

    const place = (context, row, t) => {
      const [film, left] = data.places[t];
      const { width, height } = data;
      context.drawImage(films[film], left, data.tops[row], width, height, 0, 0, width, height);
    };
    const subtract = (context, row, t) => {
      context.globalCompositeOperation = "source-over";
      place(context, data.truth, t);
      context.globalCompositeOperation = "difference";
      place(context, row, t);
      context.globalCompositeOperation = "lighter"; // the picture added to itself: twice as bright
      for (let gain = 1; gain < data.gain; gain *= 2) context.drawImage(context.canvas, 0, 0);
    };

    // ----------------------------------------------------------------------- the controls
    const where = add(player, "p", { class: "where" });
    const slider = add(add(player, "div", { class: "bar" }), "input", {
      type: "range", min: 0, max: data.last, step: 1, value: 0, "aria-label": "time step",
    });
    if (data.n_past !== null) ruler();
    const controls = add(player, "div", { class: "controls" });
    const button = (text, label, action) => {
      const made = add(controls, "button", { type: "button", "aria-label": label, title: label }, text);
      made.addEventListener("click", action);
      return made;
    };
    button("‹", "one time step back (left arrow)", () => step(-1));
    const play = button("Play", "play (space)", () => toggle());
    play.classList.add("play");
    button("›", "one time step on (right arrow)", () => step(1));
    const check = (text, on) => {
      const label = add(controls, "label");
      const box = add(label, "input", { type: "checkbox" });
      box.checked = on;
      label.append(text);
      return box;
    };
    const loop = check("loop", true);
    const speed = add(controls, "select", { "aria-label": "speed" });
    for (const factor of [0.25, 0.5, 1, 2, 4]) {
      const rate = data.fps * factor;
      if (rate <= 60) add(speed, "option", { value: rate }, `${+rate.toFixed(2)} frames/s`);
    }
    speed.value = data.fps;
    const subtracted = clips.some((clip) => clip.box) ? check("difference", data.difference) : null;
    if (subtracted) subtracted.addEventListener("change", () => show(now));

    add(player, "p", { class: "legend" },
      "Keys: left and right arrow step, space plays and pauses, Home and End go to the ends.");

    function ruler() {
      const given = data.n_past, all = data.last + 1;
      // The mark stands between the slider's last place in the context and the first after it.
      const share = data.last ? Math.min(Math.max((given - 0.5) / data.last, 0), 1) : given;
      const line = add(player, "div", { class: "ruler", "aria-hidden": "true" });
      add(line, "span", { class: "given" }).style.width = `${100 * share}%`;
      if (0 < given && given < all) add(line, "span", { class: "mark" });
      if (given < all) add(line, "span", { class: "made" });
      const legend = add(player, "p", { class: "legend" });
      const entry = (color, text) => {
        const item = add(legend, "span");
        add(item, "i").style.background = `var(--${color})`;
        item.append(text);
      };
      const steps = (a, b) => (a === b ? `t = ${a}` : `t = ${a} to ${b}`);
      if (given > 0) entry("context", `context, ${steps(0, given - 1)}`);
      if (given < all) entry("predicted", `future, ${steps(given, data.last)}`);
    }

    // ------------------------------------------------------------------------- one frame
    function show(t) {
      now = Math.min(Math.max(t, 0), data.last);
      const film = films[data.places[now][0]];
      const kind = data.n_past === null ? "" : now < data.n_past ? "context" : "future";
      where.textContent = `t = ${now} of ${data.last}` + (kind && ` · ${kind}`);
      where.className = `where ${{ context: "given", future: "made" }[kind] || ""}`;
      const said = [where.textContent];
      for (const clip of clips) {
        const values = data.psnr[clip.row];
        if (values) {
          const psnr = values[now] === null ? "identical" : `${values[now].toFixed(1)} dB`;
          clip.psnr.textContent = psnr === "identical" ? psnr : `PSNR ${psnr}`;
          said.push(`${clip.label} ${psnr}`);
          clip.box.hidden = !subtracted.checked;
          clip.difference.setAttribute("aria-label", `difference of ${clip.label}, t = ${now}`);
        }
        clip.frame.setAttribute("aria-label", `${clip.label}, t = ${now}`);
        if (!film.complete || !film.naturalWidth) continue; // it is drawn when it has loaded
        place(clip.frame.getContext("2d"), clip.row, now);
        if (clip.box && subtracted.checked) {
          subtract(clip.difference.getContext("2d"), clip.row, now);
        }
      }
      slider.value = now;
      slider.style.accentColor = `var(--${kind === "context" ? "context" : "predicted"})`;
      slider.setAttribute("aria-valuetext", said.join(", "));
    }

    function pause() {
      clearTimeout(timer);
      timer = 0;
      play.textContent = "Play";
      play.setAttribute("aria-label", (play.title = "play (space)"));
    }
    function wait() {
      const time = 1000 / speed.value;
      // The last frame stays a second before the clip begins again, as in the GIFs.
      timer = setTimeout(tick, now === data.last ? Math.max(time, 1000) : time);
    }
    function tick() {
      if (!root.isConnected || (now === data.last && !loop.checked)) return pause();
      show(now === data.last ? 0 : now + 1);
      if (now === data.last && !loop.checked) return pause();
      wait();
    }
    function toggle() {
      if (timer) return pause();
      play.textContent = "Pause";
      play.setAttribute("aria-label", (play.title = "pause (space)"));
      if (now === data.last) show(0);
      wait();
    }
    function step(by) {
      pause();
      show(now + by); // which stops at the ends
    }

    function key(event) {
      if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
      const kind = event.target.tagName;
      const moves = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: data.last };
      if (event.target === slider || kind === "SELECT") {
        // These move by themselves: "input" and "change" tell us.
        if (!/^(Arrow|Page|Home|End| )/.test(event.key)) return;
        if (event.target === slider && event.key === " ") act(toggle);
      } else if (event.key in moves) act(step, moves[event.key] - now);
      else if (event.key === " " && kind !== "BUTTON" && kind !== "INPUT") act(toggle);
      else if (event.key !== " " && event.key !== "Enter") return;
      // JupyterLab would take the same key to fold a heading, edit or leave the cell.
      event.stopPropagation();

      function act(what, ...by) {
        event.preventDefault();
        what(...by);
      }
    }
    root.addEventListener("keydown", key);
    // A page of its own takes the keys wherever the focus is; in a notebook they are not ours.
    if (data.page) document.addEventListener("keydown", (event) => {
      if (event.target === document.body) key(event);
    });
    slider.addEventListener("input", () => {
      pause();
      show(+slider.value);
    });
    // JupyterLab takes the focus away from what is clicked in an output.
    player.addEventListener("click", (event) => {
      const control = event.target.closest("button, input");
      if (control) setTimeout(() => control.focus());
    });
    films.forEach((film) => film.addEventListener("load", () => show(now)));
    root.querySelector(".still").hidden = true;
    show(0);
  }

  const script = document.currentScript;
  const roots = script ? [script.closest(".labkit-scrubber")] : document.querySelectorAll(".labkit-scrubber");
  for (const root of roots) if (root && !root.querySelector(".player")) start(root);
})();
