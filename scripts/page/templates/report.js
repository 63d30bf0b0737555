"use strict";
// Draws every figure, in the reader's colour scheme, and again in the light one before it is printed.
const places = [...document.querySelectorAll(".chart")];
const figures = places.map((place) => JSON.parse(document.getElementById(place.dataset.figure).textContent));
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const print = window.matchMedia("print");
const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
const PRINTED = { alone: 660, beside: 320 }; // pixels that a figure may take on paper
let printing = false;

function layoutOf(number) {
  const template = LOOKS[dark.matches && !printing ? "dark" : "light"];
  const layout = { ...figures[number].layout, template, autosize: true };
  if (printing) layout.width = places[number].closest(".charts") ? PRINTED.beside : PRINTED.alone;
  return layout;
}

function draw(number) {
  return Plotly.react(places[number], figures[number].data, layoutOf(number), CONFIG);
}

function drawAgain() {
  printing = print.matches;
  places.forEach((_, number) => draw(number));
}

async function drawAll() {
  for (let number = 0; number < places.length; number++) {
    await draw(number);
    await new Promise((resolve) => setTimeout(resolve)); // the page stays usable meanwhile
  }
  document.documentElement.dataset.drawn = String(places.length);
}

drawAll().then(() => {
  dark.addEventListener("change", drawAgain);
  print.addEventListener("change", drawAgain);
});
