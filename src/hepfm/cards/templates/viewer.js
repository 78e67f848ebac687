"use strict";
// The viewer of jets: draws the views of one jet side by side, in SVG, from the JSON in the page.
(() => {
  const source = document.getElementById("gallery");
  if (!source) return;
  const { jets, variations, kinds, radius, reach, other } = JSON.parse(source.textContent);
  const SIDE = 280, MARGIN = { left: 34, bottom: 30, top: 6, right: 6 }, AREA_A_GEV = 2.6, LEAST = 1.6;
  const WIDTH = SIDE - MARGIN.left - MARGIN.right, HEIGHT = WIDTH;
  const at = (id) => document.getElementById(id);
  const hidden = new Set();
  let listed = jets.map((_, i) => i), place = 0, chosen = null;

  const make = (name, attributes = {}, text = "") => {
    const svg = ["svg", "g", "rect", "circle", "line", "text", "clipPath"].includes(name);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== "") node.textContent = text;
    return node;
  };
  const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  const number = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
  const x = (eta) => MARGIN.left + ((eta + reach) / (2 * reach)) * WIDTH;
  const y = (phi) => MARGIN.top + ((reach - phi) / (2 * reach)) * HEIGHT;
  const size = (pt) => Math.max(LEAST, Math.sqrt((AREA_A_GEV * pt) / Math.PI) * 1.35);
  const kindOf = (i) => (i < 0 ? other : kinds[i]);

  function describe(particles, i) {
    const lines = [kindOf(particles.kind[i]).name, `pt ${number(particles.pt[i], 2)} GeV`];
    if (particles.charge) {
      const charge = particles.charge[i];
      lines.push(`charge ${charge > 0 ? "+" : charge < 0 ? "−" : ""}${Math.abs(charge)}`);
    }
    if (particles.d0) lines.push(particles.charge && !particles.charge[i] ? "d0 – (no track)" : `d0 ${number(particles.d0[i], 3)} mm`);
    return lines.join("\n");
  }

  function frame(svg, id) {
    const clip = make("clipPath", { id });
    clip.append(make("rect", { x: MARGIN.left, y: MARGIN.top, width: WIDTH, height: HEIGHT }));
    svg.append(clip, make("rect", { class: "plane", x: MARGIN.left, y: MARGIN.top, width: WIDTH, height: HEIGHT }));
    const step = reach > 1.2 ? 1 : reach > 0.6 ? 0.5 : 0.2;
    for (let k = -Math.floor(reach / step); k <= reach / step; k += 1) {
      const value = k * step, label = `${value < 0 ? "−" : ""}${Math.abs(value) || 0}`;
      const bottom = MARGIN.top + HEIGHT;
      svg.append(
        make("line", { class: "tick", x1: x(value), x2: x(value), y1: bottom, y2: bottom - 4 }),
        make("line", { class: "tick", x1: MARGIN.left, x2: MARGIN.left + 4, y1: y(value), y2: y(value) }),
        make("text", { x: x(value), y: bottom + 13, "text-anchor": "middle" }, label),
        make("text", { x: MARGIN.left - 5, y: y(value) + 4, "text-anchor": "end" }, label),
      );
    }
    svg.append(
      make("text", { x: MARGIN.left + WIDTH / 2, y: SIDE - 3 - MARGIN.top + MARGIN.right, "text-anchor": "middle" }, "Δη"),
      make("text", { x: 9, y: MARGIN.top + HEIGHT / 2, "text-anchor": "middle", transform: `rotate(-90 9 ${MARGIN.top + HEIGHT / 2})` }, "Δφ [rad]"),
    );
  }

  function drawPanel(jet, variation, index) {
    const view = jet.views[variation];
    const panel = make("div", { class: "panel" });
    if (variation) panel.append(make("h3", {}, variation));
    const count = view ? view.particles.pt.length : 0;
    const facts = view ? `${number(view.pt, 0)} GeV, mass ${number(view.mass, 0)} GeV, n = ${count}` : "";
    panel.append(make("p", {}, facts));
    const label = view
      ? `${variation || "jet"}: ${plural(count, "constituent")}, transverse momentum ${number(view.pt, 0)} GeV, mass ${number(view.mass, 0)} GeV`
      : `${variation}: no jet passed the selection`;
    const svg = make("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, role: "img", "aria-label": label, tabindex: "0" });
    frame(svg, `plane-${index}`);
    if (view) {
      const group = make("g", { "clip-path": `url(#plane-${index})` });
      if (radius) group.append(make("circle", { class: "cone", cx: x(view.axis[0]), cy: y(view.axis[1]), r: (radius / (2 * reach)) * WIDTH }));
      const { particles } = view;
      // Large ones first, whatever the order, so that none is covered.
      const order = particles.pt.map((_, i) => i).sort((a, b) => particles.pt[b] - particles.pt[a]);
      const discs = [];
      for (const i of order) {
        if (hidden.has(particles.kind[i])) continue;
        const disc = make("circle", { class: "constituent", cx: x(particles.x[i]), cy: y(particles.y[i]), r: size(particles.pt[i]), fill: kindOf(particles.kind[i]).colour });
        disc.addEventListener("pointerenter", () => choose(disc, describe(particles, i)));
        disc.addEventListener("pointerleave", () => choose(null));
        discs.push([disc, describe(particles, i)]);
        group.append(disc);
      }
      svg.append(group);
      let current = -1;
      svg.addEventListener("keydown", (event) => {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (event.key === "Escape") choose(null);
        if (!step || !discs.length) return;
        event.preventDefault();
        current = (current + step + discs.length + (current < 0 && step < 0 ? 1 : 0)) % discs.length;
        choose(...discs[current]);
      });
      svg.addEventListener("blur", () => { current = -1; choose(null); });
    } else {
      svg.append(make("text", { class: "absent", x: MARGIN.left + WIDTH / 2, y: MARGIN.top + HEIGHT - 22, "text-anchor": "middle" }, "no jet passed the selection"));
    }
    const marks = jet.prongs[0].length ? jet.prongs : jet.frozen ? [[0], [0]] : [[], []];
    marks[0].forEach((eta, i) => {
      const [a, b] = [x(eta), y(marks[1][i])];
      for (const [dx, dy] of [[7, 0], [0, 7]]) svg.append(make("line", { class: "prong", x1: a - dx, x2: a + dx, y1: b - dy, y2: b + dy }));
    });
    panel.append(svg);
    return panel;
  }

  function choose(disc, text = "") {
    const tooltip = at("tooltip");
    if (chosen) chosen.classList.remove("chosen");
    chosen = disc;
    tooltip.hidden = !disc;
    if (!disc) return;
    disc.classList.add("chosen");
    tooltip.textContent = text;
    follow();
  }

  function follow() {
    if (!chosen) return;
    const tooltip = at("tooltip"), box = chosen.getBoundingClientRect(), own = tooltip.getBoundingClientRect();
    const left = Math.min(Math.max(8, box.right + 10), window.innerWidth - own.width - 8);
    tooltip.style.left = `${left}px`;
    tooltip.style.top = `${Math.max(8, box.top - own.height - 6)}px`;
  }

  function draw() {
    choose(null);
    const panels = at("panels"), jet = jets[listed[place]];
    const focused = [...panels.querySelectorAll("svg")].indexOf(document.activeElement);
    panels.replaceChildren();
    at("slider").max = Math.max(1, listed.length);
    at("slider").value = place + 1;
    at("position").textContent = `${listed.length ? place + 1 : 0} of ${listed.length}`;
    for (const id of ["previous", "next", "random", "slider", "event"]) at(id).disabled = listed.length < 2;
    if (!jet) {
      at("caption").textContent = "No jet of this class and process is in the page.";
      return;
    }
    at("event").value = String(listed[place]);
    const made = variations.filter((name) => jet.views[name]).length;
    const facts = [jet.class && `class ${jet.class}`, jet.process && jet.process !== jet.class && `process ${jet.process}`];
    if (variations.length > 1) facts.push(`a jet in ${made} of ${plural(variations.length, "view")}`);
    const title = make("strong", {}, nameOf(jet));
    at("caption").replaceChildren(title, ...facts.filter(Boolean).map((fact) => document.createTextNode(` · ${fact}`)));
    panels.style.setProperty("--count", variations.length);
    panels.append(...variations.map((name, index) => drawPanel(jet, name, index)));
    if (focused >= 0) panels.querySelectorAll("svg")[focused].focus({ preventScroll: true });
  }

  const several = new Set(jets.map((jet) => jet.jet)).size > 1;
  const nameOf = (jet) => (jet.numbered ? `Jet ${jet.event}` : `Event ${jet.event}${several ? `, jet ${jet.jet}` : ""}`);

  function list() {
    const wanted = { class: at("class").value, process: at("process").value };
    const before = listed[place];
    listed = jets.flatMap((jet, i) => (Object.entries(wanted).every(([key, value]) => !value || jet[key] === value) ? [i] : []));
    place = Math.max(0, listed.indexOf(before));
    at("event").replaceChildren(...listed.map((i) => make("option", { value: i }, nameOf(jets[i]))));
    draw();
  }

  function go(to) {
    if (!listed.length) return;
    place = (to + listed.length) % listed.length;
    draw();
  }

  function random() {
    if (listed.length > 1) go(place + 1 + Math.floor(Math.random() * (listed.length - 1)));
  }

  for (const key of ["class", "process"]) {
    const names = [...new Set(jets.map((jet) => jet[key]))].filter(Boolean);
    at(key).append(make("option", { value: "" }, "all"), ...names.map((name) => make("option", { value: name }, name)));
    at(key).addEventListener("change", list);
    document.querySelector(`.${key}-filter`).hidden = names.length < 2;
  }
  const present = new Set(jets.flatMap((jet) => Object.values(jet.views).flatMap((view) => view.particles.kind)));
  for (const i of [...kinds.keys(), -1].filter((kind) => present.has(kind))) {
    const button = make("button", { type: "button", "aria-pressed": "true" });
    const dot = make("i");
    dot.style.background = kindOf(i).colour;
    button.append(dot, document.createTextNode(kindOf(i).name));
    button.addEventListener("click", () => {
      hidden.has(i) ? hidden.delete(i) : hidden.add(i);
      button.setAttribute("aria-pressed", String(!hidden.has(i)));
      draw();
    });
    at("kinds").append(button);
  }
  const key = (node, text) => {
    const entry = make("span");
    const svg = make("svg", { width: 18, height: 18, viewBox: "-9 -9 18 18", "aria-hidden": "true" });
    svg.append(...node);
    entry.append(svg, document.createTextNode(text));
    at("kinds").append(entry);
  };
  const cross = () => [make("line", { class: "prong", x1: -7, x2: 7, y1: 0, y2: 0 }), make("line", { class: "prong", x1: 0, x2: 0, y1: -7, y2: 7 })];
  if (jets.some((jet) => jet.prongs[0].length)) key(cross(), "frozen quark or lepton");
  else if (jets.some((jet) => jet.frozen)) key(cross(), "frozen particle");
  if (radius) key([make("circle", { class: "cone", r: 8 })], `jet, R = ${radius}`);
  for (const pt of [5, 50]) key([make("circle", { r: size(pt), fill: other.colour, "fill-opacity": 0.6 })], `${pt} GeV`);

  at("previous").addEventListener("click", () => go(place - 1));
  at("next").addEventListener("click", () => go(place + 1));
  at("random").addEventListener("click", random);
  at("slider").addEventListener("input", () => go(Number(at("slider").value) - 1));
  at("event").addEventListener("change", () => go(listed.indexOf(Number(at("event").value))));
  document.addEventListener("keydown", (event) => {
    // Where a key has a meaning of its own, it keeps it.
    if (event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const action = { ArrowLeft: () => go(place - 1), ArrowRight: () => go(place + 1), r: random }[event.key];
    if (action) action();
  });
  window.addEventListener("scroll", follow, { passive: true });
  list();
})();
