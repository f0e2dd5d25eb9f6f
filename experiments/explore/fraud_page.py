"""The page of a run of transactions: Gradio's components, and what moves what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports] (in an environment of its own)

from experiments.explore import drawing, markup, transactions
from experiments.explore.faces import shown_path
from experiments.explore.finished import Finished
from experiments.explore.opened import LIVE, ONCE, Opened, discard, empty, script, shown
from experiments.explore.rows import POSITIONS
from experiments.explore.transactions import MOST, Recipe, ScoredTable, score_command, scores_name
from experiments.page.charts import minus
from experiments.score.tables import INPUT_SUFFIXES

ROWS_A_DAY = 10_000
OPENING = '<p class="empty">Opening the run …</p>'
CLICK = '<p class="empty">Click on a row to see what speaks against it.</p>'
NO_DATA = (
    "The run's data or its checkpoints are not where they were: its alarms can't be explained. Rows that you upload "
    "below can be."
)
SUFFIXES = sorted({f".{name.split('.')[-1]}" for name in INPUT_SUFFIXES})  # Gradio knows the last part alone
# What takes longer follows once the boundary rests: of calls in quick succession the last one goes on.
RESTED = """(...given) => new Promise((go_on) => {
  clearTimeout(window.resting);
  window.resting = setTimeout(() => go_on(given), 250);
})"""
SCRIPT = script("boundary.js")
SET_BY = ("position", "score", "share", "alarms")  # what the boundary can be set by


def build(found: Finished) -> gr.Blocks:
    """The page."""
    opened = Opened(lambda: transactions.open_recipes(found.run))
    recipes = list(found.metrics["recipes"])
    preferred = "gaussian" if "gaussian" in recipes else recipes[0]
    parts: dict[str, Any] = {}  # the components that show the boundary

    def of(recipe: str) -> Recipe:
        return opened()[recipe]

    def drawn(recipe: str, boundary: float, a_day: float | None) -> dict[str, Any]:
        scored = of(recipe).scored
        share = scored.share(boundary)
        return {
            "plot": drawing.histogram(scored, boundary),
            "tiles": drawing.tiles(scored, boundary),
            "position": scored.position(boundary),
            "score": round(boundary, 3),
            "share": round(100 * share, 3),
            "alarms": round(share * (a_day or 0), 1),
            "boundary": boundary,
        }

    def set_by(what: str) -> Callable[[str, float | None, float | None], list]:
        """Sets the boundary by one component, and leaves that one alone."""

        def move(recipe: str, value: float | None, a_day: float | None) -> list:
            if value is None:
                return [gr.skip()] * (len(parts) - 1)
            scored = of(recipe).scored
            boundary = {
                "position": lambda: scored.at(value),
                "score": lambda: float(value),
                "share": lambda: scored.at_share(value / 100),
                "alarms": lambda: scored.at_share(value / max(a_day or 0, 1)),
            }[what]()
            return [value for name, value in drawn(recipe, boundary, a_day).items() if name != what]

        return move

    def follow(asked: dict[str, Any]) -> dict[str, Any]:
        """What boundary.js asks for while the slider moves."""
        recipe = asked["recipe"] or preferred
        found = drawn(recipe, of(recipe).scored.at(asked["position"]), asked["a_day"])
        return {"plot": found["plot"], "tiles": found["tiles"], "numbers": {name: found[name] for name in SET_BY[1:]}}

    def begin(recipe: str, a_day: float | None) -> list:
        chosen = of(recipe)
        missing = "" if chosen.inputs else markup.notice(NO_DATA)
        return [*drawn(recipe, chosen.scored.boundary, a_day).values(), missing, CLICK]

    def alarms(recipe: str, boundary: float) -> tuple[str, str]:
        chosen = of(recipe)
        return alarm_table(chosen, boundary), markup.code(in_python(chosen, boundary))

    def explain(recipe: str, event: gr.EventData) -> str:
        chosen = of(recipe)
        if chosen.inputs is None:
            return markup.notice(NO_DATA)
        scored = chosen.scored
        place = int(scored.lowest[event.row])
        return drawing.explanation(
            row_title(scored.rows[place], label(int(scored.labels[place])), scored.scores[place]), chosen.explain(place)
        )

    def upload(recipe: str, path: str) -> tuple[ScoredTable, str, str, str]:
        file = Path(path)
        try:
            table = shown(lambda: transactions.score_file(of(recipe), file, file.name))
        finally:
            discard(file)
        return table, summary(table, file.name), own_table(table), CLICK

    def explain_own(table: ScoredTable, event: gr.EventData) -> str:
        row, score, decision = (table.lowest[name].iloc[event.row] for name in ("row", "score", "decision"))
        return drawing.explanation(row_title(row, decision, score), table.explain(event.row))

    with gr.Blocks(title=f"{Path(found.address).name} · transactions · vae_jax", analytics_enabled=False) as page:
        boundary, uploaded = gr.State(), gr.State()
        gr.HTML(heading(found))
        recipe = gr.Radio(recipes, value=preferred, label="Recipe", elem_id="recipe", visible=len(recipes) > 1)
        plot = gr.HTML(OPENING, elem_id="plot", js_on_load=SCRIPT, server_functions=[follow])
        slider = gr.Slider(0, POSITIONS, 0, step=1, label="Drag the boundary", buttons=[], elem_id="boundary")
        tiles = gr.HTML(elem_id="counts")
        with gr.Row(elem_classes="numbers"):
            score = number("Boundary (nats)", "score", step=1)
            share = number("False alarms (%)", "share", step=0.1, minimum=0, maximum=100)
            a_day_alarms = number("False alarms a day", "alarms", step=1, minimum=0)
            a_day = number("… of genuine rows a day", "a-day", value=ROWS_A_DAY, step=1000, minimum=1, precision=0)
        missing = gr.HTML()
        with gr.Row(elem_classes="halves"):
            listed = gr.HTML(elem_id="alarm-table", js_on_load=markup.ROW_CHOSEN)
            why = gr.HTML(CLICK, elem_id="why")
        with gr.Accordion("Use this boundary in Python", open=False):
            made_by = gr.HTML(elem_id="command")
        gr.HTML("<h2>Score your own rows</h2>")
        file = gr.File(
            label="Drop a table: CSV, JSON lines, Parquet or Excel", file_types=SUFFIXES, height=140, elem_id="table"
        )
        told = gr.HTML(elem_id="told")
        with gr.Row(elem_classes="halves"):
            own = gr.HTML(elem_id="own-table", js_on_load=markup.ROW_CHOSEN)
            own_why = gr.HTML(elem_id="own-why")

        shows = (plot, tiles, slider, score, share, a_day_alarms, boundary)
        parts |= zip(("plot", "tiles", *SET_BY, "boundary"), shows, strict=True)
        tabled = {"fn": alarms, "inputs": [recipe, boundary], "outputs": [listed, made_by], "js": RESTED, **LIVE}
        gr.on([page.load, recipe.input], begin, [recipe, a_day], [*shows, missing, why], **ONCE).success(**tabled)
        for what in SET_BY:
            others = [component for name, component in parts.items() if name != what]
            js = RESTED if what == "position" else None
            parts[what].input(set_by(what), [recipe, parts[what], a_day], others, js=js, **LIVE).then(**tabled)
        # By the boundary itself: the number that is shown is rounded, and may have another row below it.
        a_day.input(set_by("score"), [recipe, boundary, a_day], [part for part in shows if part is not score], **LIVE)
        listed.select(explain, recipe, why, **ONCE)
        empty(file, file.upload(upload, [recipe, file], [uploaded, told, own, own_why], **ONCE))
        own.select(explain_own, uploaded, own_why, **ONCE)
    return page


def number(label: str, name: str, **options: Any) -> gr.Number:
    """A field for a number."""
    return gr.Number(label=label, elem_id=name, min_width=130, **options)


def heading(found: Finished) -> str:
    """What was trained on what."""
    data = found.metrics["data"]
    notices = "".join(map(markup.notice, found.metrics["notices"]))
    return (
        f'<header><a href="/">All runs</a><h1>Transactions</h1><p>{markup.escape(found.address)}: {data["test"]:,} '
        f"test rows, of which {data['test_frauds']:,} frauds</p></header>{notices}"
    )


def alarm_table(recipe: Recipe, boundary: float) -> str:
    """The rows below a boundary, least normal first."""
    scored = recipe.scored
    count = int((scored.scores < boundary).sum())
    titles = ["Row", "Score (nats)", "Label", *(["Top evidence"] if recipe.inputs else [])]
    lines = [
        [
            f"{scored.rows[place]:,}",
            minus(float(scored.scores[place]), 1),
            label(int(scored.labels[place])),
            *([recipe.strongest[int(place)]] if recipe.inputs else []),
        ]
        for place in scored.alarms(boundary, MOST)
    ]
    title = f"{count:,} alarms" + (f", the {MOST} least normal" if count > MOST else "")
    return f"<h2>{title}</h2>{markup.table(titles, lines)}"


def own_table(table: ScoredTable) -> str:
    """The least normal rows of an uploaded table."""
    lowest = table.lowest
    lines = [
        [f"{row:,}", minus(score, 1), decision]
        for row, score, decision in zip(lowest["row"], lowest["score"], lowest["decision"], strict=True)
    ]
    title = "All rows" if len(lowest) == table.count else f"The {len(lowest)} least normal rows"
    return f"<h2>{title}</h2>{markup.table(['Row', 'Score (nats)', 'Decision'], lines)}"


def label(code: int) -> str:
    """What a row is."""
    return "fraud" if code == 1 else "genuine"


def row_title(row: int, what: str, score: float) -> str:
    """A row in a few words."""
    return f"Row {row:,}, {what}, {minus(score, 1)} nats"


def in_python(recipe: Recipe, boundary: float) -> str:
    """How to use a boundary that was found here."""
    return (
        "from vae_jax import VAEDetector\n\n"
        f"detector = VAEDetector.load({json.dumps(shown_path(recipe.folder), ensure_ascii=False)})\n"
        f"detector.offset_ = {recipe.scored.typed(boundary)}\n"
        "detector.predict(rows)  # -1 is an alarm"
    )


def summary(table: ScoredTable, name: str) -> str:
    """What came of a table, with its scores to save and the command that makes them."""
    saved = scores_name(name)
    broken = ""
    if table.broken:
        broken = f" Left out: {len(table.broken):,} broken rows, the first because of {table.broken[0].reason}."
    save = (
        f'<a download="{markup.escape(saved)}" href="{markup.data_uri(table.output, "text/csv")}">Save all scores</a>'
    )
    return (
        f"<p><b>{table.alarms:,} of {table.count:,} rows</b> are below the model's own boundary, "
        f"{minus(table.recipe.detector.offset_, 1)} nats.{markup.escape(broken)} {save}</p>"
        f"{markup.code(score_command(table, name))}"
    )
