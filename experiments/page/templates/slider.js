// Moves a histogram's boundary: updates the counts below it, and shades the alarms in the drawing.
for (const slider of document.querySelectorAll(".slider")) {
  const at = JSON.parse(slider.querySelector("script").textContent);
  const [input, reset] = ["input", "button"].map((name) => slider.querySelector(name));
  const svg = slider.closest("figure").querySelector("svg");
  slider.hidden = false;

  // As wide as the histogram's axis, so that the thumb's centre, 10 pixels from its edge, is under the line.
  const plot = svg.querySelector("[id$=_plot]").getBBox();
  const { x, width } = svg.viewBox.baseVal;
  input.style.marginLeft = `calc(${(100 * (plot.x - x)) / width}% - 10px)`;
  input.style.width = `calc(${(100 * plot.width) / width}% + 20px)`;

  const draw = (parent, name, attributes) => {
    const element = document.createElementNS(svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return parent.appendChild(element);
  };
  const marker = draw(svg, "g", { class: "marker" });
  const alarms = draw(marker, "rect", { x: plot.x, y: plot.y, height: plot.height });
  const line = draw(marker, "line", { y1: plot.y, y2: plot.y + plot.height });

  const count = (value) => value.toLocaleString("en");
  const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");
  const show = () => {
    const i = Number(input.value);
    const [falseAlarms, found] = [at.false_alarms[i], at.found[i]];
    const shown = {
      boundary: at.boundary[i].toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 }).replace("-", "−"),
      falseAlarms: count(falseAlarms),
      misses: count(at.frauds - found),
      precision: share(found, found + falseAlarms),
      recall: share(found, at.frauds),
    };
    for (const [name, text] of Object.entries(shown)) slider.querySelector(`[data-show=${name}]`).textContent = text;
    input.setAttribute("aria-valuetext", `${shown.boundary} nats`);
    alarms.setAttribute("width", at.place[i] * plot.width);
    for (const end of ["x1", "x2"]) line.setAttribute(end, plot.x + at.place[i] * plot.width);
    // At the start it would hide the run's own line.
    line.style.display = i === at.start ? "none" : "";
    reset.disabled = i === at.start;
  };
  const start = () => {
    input.value = at.start;
    show();
  };
  input.addEventListener("input", show);
  reset.addEventListener("click", start);
  start();
}
