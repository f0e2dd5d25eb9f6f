// Draws the face anew while a slider moves, in the js_on_load of the face's component; begins with newest.js.
const studio = element.closest(".studio");
let start = null; // the photograph's latents; null for a new face

const one = (selector) => studio.querySelector(selector);
const number = (input) => Number(input.value);

function asked() {
  const source = start ?? {
    density: one("#density input:checked").value,
    temperature: number(one("#temperature input[type=range]")),
    seed: number(one("#seed input")),
  };
  return { start: source, amounts: [...studio.querySelectorAll(".sliders input[type=range]")].map(number) };
}

function show(answer) {
  const [image, caption] = ["img", "figcaption span"].map((name) => element.querySelector(name));
  if (!image) return; // the model is not open yet
  if (!answer) {
    caption.textContent = "No answer from the server; move a slider to ask again";
    return;
  }
  const { picture, words, command } = answer;
  image.src = picture;
  image.alt = caption.textContent = words;
  one("#command pre").textContent = command;
  one("#command button").textContent = "Copy";
  studio.dataset.start = start ? "photograph" : "new";
}

const draw = newestOnly(async () => show(await server.draw(asked())));

function set(input, value) {
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
}

studio.addEventListener("input", ({ target }) => {
  if (target.type === "file") return;
  if (target.closest(".source")) start = null;
  draw();
});
studio.addEventListener("click", ({ target }) => {
  if (target.closest("#another")) set(one("#seed input"), Math.floor(Math.random() * 2 ** 31));
  if (target.closest("#reset")) studio.querySelectorAll(".sliders input[type=range]").forEach((slider) => set(slider, 0));
});
studio.addEventListener("photograph", () => {
  start = JSON.parse(one("#before [data-start]").dataset.start);
  draw();
});
