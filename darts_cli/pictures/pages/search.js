"use strict";
const run = JSON.parse(document.getElementById("run").textContent);
const last = run.epochs.length;
const THIN = 1.2, THICK = 4.6;  // widths of edges of the weight 0, and of the largest
const byId = (id) => document.getElementById(id);

function make(parent, tag, kind, text) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  if (text) element.textContent = text;
  parent.append(element);
  return element;
}

// ---- the bars of the operation weights, which are made once

const alphas = [];  // one an edge: its place in the tables, and the elements that move
for (const cell of run.cells) {
  make(byId("alphas"), "h3", "", cell.title[0].toUpperCase() + cell.title.slice(1));
  const edges = make(byId("alphas"), "div", "edges");
  cell.edges.forEach((edge, i) => {
    const box = make(edges, "div", "alpha");
    make(box, "h4", "edge-name", edge.title);
    const list = make(box, "div");
    list.setAttribute("role", "list");
    list.setAttribute("aria-label", "Weights of the operations on " + edge.title);
    const ops = edge.operations.map((op) => {
      const line = make(list, "div", "op");
      line.setAttribute("role", "listitem");
      make(line, "span", "", op);
      const track = make(line, "span", "track");
      const bar = make(track, "i");
      if (run.equal) make(track, "b").style.left = 100 / edge.operations.length / run.largest + "%";
      return {line, bar, value: make(line, "span", "value")};
    });
    alphas.push({cell: cell.name, id: edge.id, row: i, ops, names: edge.operations});
  });
}
byId("scale").textContent = "The longest bar is " + (100 * run.largest).toFixed(1) + " %.";

// ---- what moves with the epoch

const figures = [...document.querySelectorAll(".charts figure")].map((figure) => {
  const svg = figure.querySelector("svg");
  return {left: Number(svg.dataset.left), right: Number(svg.dataset.right), marker: svg.querySelector(".now"),
          values: [...figure.querySelectorAll("output")]};
});

function show(epoch) {
  const now = run.epochs[epoch - 1], before = run.epochs[Math.max(0, epoch - 2)];
  byId("slider").value = epoch;
  byId("epoch").textContent = "epoch " + epoch + " of " + last;
  byId("slider").setAttribute("aria-valuetext", "epoch " + epoch + " of " + last + ", " + now.skips);
  byId("skips").textContent = now.skips;
  byId("skips").classList.toggle("many", now.many);
  for (const cell of run.cells) showCell(cell, now, before, run.shares[epoch - 1]);
  figures.forEach(({left, right, marker, values}, i) => {
    const x = last === 1 ? left : left + (epoch - 1) / (last - 1) * (right - left);
    marker.setAttribute("transform", "translate(" + x + " 0)");
    values.forEach((output, k) => { output.textContent = run.shown[i][k][epoch - 1]; });
  });
  for (const {cell, id, row, ops, names} of alphas) {
    ops.forEach(({line, bar, value}, k) => {
      const weight = now.weights[cell][row][k], chosen = now.taken[id] === names[k];
      bar.style.width = 100 * weight / run.largest + "%";
      value.textContent = (100 * weight).toFixed(1) + " %";
      line.classList.toggle("chosen", chosen);
      line.toggleAttribute("aria-current", chosen);
    });
  }
}

function showCell(cell, now, before, shares) {
  let drawing = null;
  for (const edge of cell.edges) {
    const drawn = byId(edge.id);
    if (!drawn) continue;  // an edge that was never taken
    drawing = drawn.ownerSVGElement;
    const op = now.taken[edge.id];
    drawn.style.opacity = op ? 1 : 0;
    if (op) paint(drawn, op, shares[edge.id] || 0, before.taken[edge.id] !== op);
  }
  if (!drawing) return;
  const words = cell.title + ": " + now.words[cell.name];
  drawing.setAttribute("aria-label", words);
  drawing.querySelector("title").textContent = words;
}

function paint(edge, op, share, changed) {
  const {fill, text} = run.colours[op];
  for (const line of edge.querySelectorAll("path")) {
    line.setAttribute("stroke", fill);
    line.setAttribute("stroke-width", THIN + (THICK - THIN) * share);
  }
  for (const shape of edge.querySelectorAll("polygon, rect")) shape.setAttribute("fill", fill);
  const label = edge.querySelector("text");
  label.textContent = op;
  label.setAttribute("fill", text);
  edge.classList.toggle("changed", changed);
}

// ---- playing, the slider and the keys

let timer = null;
function play(on) {
  clearInterval(timer);
  timer = null;
  byId("play").textContent = on ? "Pause" : "Play";
  byId("epoch").setAttribute("aria-live", on ? "off" : "polite");
  if (!on) return;
  if (Number(byId("slider").value) === last) show(1);
  timer = setInterval(() => {
    const next = Number(byId("slider").value) + 1;
    if (next > last) play(false); else show(next);
  }, 600);
}

byId("slider").max = last;
byId("slider").addEventListener("input", () => { play(false); show(Number(byId("slider").value)); });
byId("play").addEventListener("click", () => play(timer === null));
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const target = event.target;
  if (target === byId("slider") && event.key !== " ") return;  // which moves by itself
  if (target.closest("summary") || (target.closest(".scroll") && event.key.startsWith("Arrow"))) return;  // these have own keys
  const now = Number(byId("slider").value);
  const to = {ArrowLeft: now - 1, ArrowRight: now + 1, Home: 1, End: last}[event.key];
  if (to !== undefined) {
    event.preventDefault();
    play(false);
    show(Math.min(last, Math.max(1, to)));
  } else if (event.key === " " && target !== byId("play")) {
    event.preventDefault();
    play(timer === null);
  }
});
play(false);
show(run.first);
