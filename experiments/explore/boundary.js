// Moves the boundary while its slider moves, in the js_on_load of the histogram's component; begins with newest.js. The
// tables follow by Gradio's own events, once it rests.
const one = (selector) => document.querySelector(selector);

// What is within an element, as its HTML has it; the element itself is Gradio's to replace.
function fill(shown, html) {
  const made = document.createElement("template");
  made.innerHTML = html;
  shown.replaceChildren(...made.content.firstElementChild.childNodes);
}

function show(answer) {
  if (!answer || !one("#plot .histogram")) return; // the server is gone, which Gradio tells; or the run is not open yet
  const { plot, tiles, numbers } = answer;
  fill(one("#plot .histogram"), plot);
  fill(one("#counts .tiles"), tiles);
  for (const [name, number] of Object.entries(numbers)) one(`#${name} input`).value = number;
  tell();
}

// Screen readers say the boundary, not the slider's position.
function tell() {
  one("#boundary input[type=range]")?.setAttribute("aria-valuetext", one("#plot .legend .boundary")?.textContent ?? "");
}
watch("value", tell);

const draw = newestOnly(async () => {
  const recipe = one("#recipe input:checked")?.value ?? null;
  const a_day = Number(one("#a-day input").value);
  show(await server.follow({ recipe, a_day, position: Number(one("#boundary input[type=range]").value) }));
});

document.addEventListener("input", ({ target }) => {
  if (target.closest("#boundary")) draw();
});
