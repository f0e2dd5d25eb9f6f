"""The page of a run of faces: Gradio's components, and what moves what."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports] (in an environment of its own)
import numpy as np

from experiments.celeba.face_model import ATTRIBUTE_NAMES
from experiments.celeba.gallery import NUM_PRINCIPAL, PRINCIPAL
from experiments.explore import faces, markup
from experiments.explore.faces import Start
from experiments.explore.finished import Finished
from experiments.explore.opened import LIVE, ONCE, Opened, empty, script, shown, take
from vae_jax.images.listing import SUFFIXES

SCRIPT = script("face.js")
PHOTOGRAPH = "() => { document.querySelector('.studio').dispatchEvent(new Event('photograph')); }"
MOVED = "() => { document.querySelector('.studio').dispatchEvent(new Event('input')); }"
SEEDS = 2**31
NEW = "New face"
DENSITIES = [("the mixture", "mixture"), ("the prior", "prior")]
OPENING = '<p class="empty">Opening the model …</p>'
NOTHING = '<p class="empty">Drop two photographs to see the way from the first to the second.</p>'


def build(found: Finished) -> gr.Blocks:
    """The page."""
    opened = Opened(lambda: faces.open_faces(found.run))
    principal = [f"{PRINCIPAL}{i}" for i in range(1, min(NUM_PRINCIPAL, found.metrics["config"]["latent_dim"]) + 1)]
    attributes = found.run.read_json(ATTRIBUTE_NAMES)
    names = [*principal, *attributes]

    @lru_cache(maxsize=16)  # while its sliders are moved
    def new_face(density: str, seed: int, temperature: float) -> Start:
        return faces.new_face(opened(), density, seed, temperature)

    def begin(density: str, temperature: float, seed: float) -> tuple[str, str]:
        pixels, command = faces.moved(opened(), new_face(density, int(seed), temperature), {})
        return markup.figure(pixels, NEW, "face"), markup.code(command)

    def draw(asked: dict[str, Any]) -> dict[str, str]:
        """What face.js asks for when a slider was moved."""
        start = start_of(asked["start"])
        pixels, command = faces.moved(opened(), start, dict(zip(names, asked["amounts"], strict=True)))
        words = "Edited" if any(asked["amounts"]) else "Edited: not yet" if "z" in asked["start"] else NEW
        return {"picture": markup.picture_uri(pixels), "words": words, "command": command}

    def start_of(asked: dict[str, Any]) -> Start:
        """A photograph's latents, or a new face."""
        if "z" in asked:
            return Start(np.asarray(asked["z"], np.float32), asked["command"])
        seed = int(np.clip(asked["seed"] or 0, 0, SEEDS - 1))
        return new_face(asked["density"], seed, asked["temperature"])

    def drop(upload: str) -> Start:
        content, name = take(upload)
        return shown(lambda: faces.photograph(opened(), content, name))

    def drop_to_edit(upload: str) -> str:
        start = drop(upload)
        assert start.pixels is not None
        plain, _ = faces.moved(opened(), start, {})
        described = json.dumps({"z": start.z.tolist(), "command": start.command})
        return (
            f'<div data-start="{markup.escape(described)}">'
            f"{markup.figure(start.pixels, 'Photograph', 'photograph')}"
            f"{markup.figure(plain, 'Reconstruction', 'reconstruction')}</div>"
        )

    def way(first: Start | None, second: Start | None) -> str:
        if first is None or second is None:
            return NOTHING
        steps, command = faces.way(opened(), first, second)
        figures = [
            markup.figure(pixels, f"{100 * i / (len(steps) - 1):.0f} %", f"step_{i}") for i, pixels in enumerate(steps)
        ]
        hint = '<p class="hint">The command takes a folder with the two photographs.</p>'
        return f'<div class="way">{"".join(figures)}</div>{markup.code(command)}{hint}'

    with gr.Blocks(title=f"{Path(found.address).name} · faces · vae_jax", analytics_enabled=False) as page:
        first, second = gr.State(), gr.State()
        gr.HTML(heading(found))
        with gr.Row(elem_classes="studio"):
            with gr.Column(elem_classes="stage"):
                before = gr.HTML(elem_id="before")
                face = gr.HTML(OPENING, elem_id="face", js_on_load=SCRIPT, server_functions=[draw])
            with gr.Column(elem_classes="source"):
                with gr.Row():
                    gr.Button("A new one", variant="primary", elem_id="another", min_width=120)
                    gr.Button("Reset sliders", elem_id="reset", min_width=120)
                made_by = gr.HTML(elem_id="command")
                density = gr.Radio(DENSITIES, value="mixture", label="Draw new faces from", elem_id="density")
                temperature = slider("Temperature (lower = more typical)", "temperature", 0.1, 1.5, 1.0, 0.05)
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=SEEDS - 1, elem_id="seed")
                photo = drop_zone("Or drop a photograph", "photo")
            with gr.Column(elem_classes="along"):
                move_along("Principal directions, in standard deviations", principal)
                if attributes:
                    move_along("Attributes", attributes)
        gr.HTML("<h2>From one photograph to another</h2>")
        with gr.Row():
            zones = drop_zone("First photograph", "first"), drop_zone("Second photograph", "second")
        between = gr.HTML(NOTHING, elem_id="way")

        begun = page.load(begin, [density, temperature, seed], [face, made_by], **ONCE)
        begun.success(None, None, None, js=MOVED)  # sliders may have been moved while the model was opened
        dropped = photo.upload(drop_to_edit, photo, before, **ONCE)
        empty(photo, dropped)
        dropped.success(None, None, None, js=PHOTOGRAPH)
        for zone, state in zip(zones, (first, second), strict=True):
            dropped = zone.upload(drop, zone, state, **ONCE)
            dropped.success(way, [first, second], between, **ONCE)
            dropped.failure(lambda: (None, None, NOTHING), None, [zone, state, between], **LIVE)
            zone.clear(lambda: None, None, state, **LIVE).then(way, [first, second], between, **LIVE)
    return page


def heading(found: Finished) -> str:
    """What was trained on what."""
    data, evaluation = found.metrics["data"], found.metrics["evaluation"]
    notices = "".join(map(markup.notice, found.metrics["notices"]))
    return (
        f'<header><a href="/">All runs</a><h1>Faces</h1><p>{markup.escape(found.address)}: {data["train"]:,} training '
        f"pictures, {found.metrics['config']['latent_dim']} latents, held-out RMSE {evaluation['rmse']:.3f}</p>"
        f"</header>{notices}"
    )


def slider(label: str, name: str, low: float, high: float, value: float, step: float) -> gr.Slider:
    """A slider."""
    return gr.Slider(low, high, value, step=step, label=label, buttons=[], elem_id=name)


def drop_zone(label: str, name: str) -> gr.File:
    """Where a photograph can be dropped."""
    return gr.File(label=label, file_types=list(SUFFIXES), height=140, elem_id=name)


def move_along(title: str, names: list[str]) -> None:
    """A group of sliders, beside each other where there is room."""
    gr.HTML(f"<h2>{title}</h2>")
    with gr.Group(elem_classes="sliders"):
        for name in names:
            slider(name.replace("_", " "), f"along-{name}", -faces.AMOUNT, faces.AMOUNT, 0.0, 0.1)
