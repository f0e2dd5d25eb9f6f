// Makes of a function that asks the server one that may be called at every move of a slider: it asks for one thing at a
// time, and for the newest next. Gradio's own events take some ten times as long.
function newestOnly(ask) {
  let asking = false;
  let moved = false;
  return async () => {
    moved = true;
    if (asking) return;
    asking = true;
    try {
      while (moved) {
        await new Promise((next) => setTimeout(next)); // the slider of a number that was typed has followed by then
        moved = false;
        await ask();
      }
    } finally {
      asking = false;
    }
  };
}
