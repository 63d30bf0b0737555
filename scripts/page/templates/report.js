"use strict";
// Draws every figure, in the reader's colour scheme, and again in the light one before it is printed.
const places = [...document.querySelectorAll(".chart")];
const figures = places.map((place) => JSON.parse(document.getElementById(place.dataset.figure).textContent));
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const print = window.matchMedia("print");
const CONFIG = { displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
const PRINTED = { alone: 660, beside: 320 }; // pixels that a figure may take on paper
const shown = document.documentElement.dataset; // what is drawn, and for what: read by tests
let printing = print.matches;
let soon; // a timer: a window that is being resized is drawn for once

function layoutOf(number) {
  const template = LOOKS[dark.matches && !printing ? "dark" : "light"];
  const paper = places[number].closest(".charts") ? PRINTED.beside : PRINTED.alone;
  const width = printing ? paper : places[number].clientWidth;
  return { ...figures[number].layout, template, width, height: places[number].clientHeight };
}

function draw(number) {
  return Plotly.react(places[number], figures[number].data, layoutOf(number), CONFIG);
}

async function drawAgain() {
  printing = print.matches;
  await Promise.all(places.map((_, number) => draw(number)));
  shown.look = printing ? "paper" : dark.matches ? "dark" : "light";
  shown.width = String(window.innerWidth);
}

async function drawAll() {
  for (let number = 0; number < places.length; number++) {
    await draw(number);
    await new Promise((resolve) => setTimeout(resolve)); // the page stays usable meanwhile
  }
  shown.drawn = String(places.length);
}

dark.addEventListener("change", drawAgain);
print.addEventListener("change", drawAgain);
window.addEventListener("resize", () => {
  clearTimeout(soon);
  soon = setTimeout(drawAgain, 200);
});
drawAll();
