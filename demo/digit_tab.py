"""The second tab: a person draws a digit, the trained network answers."""

import base64
import io

import gradio as gr
import numpy as np
from PIL import Image

from cnn.architecture import format_shape
from cnn.data import CLASSES, IMAGE_SHAPE
from demo.trained import Trained, as_mnist, probabilities

_ENLARGED = 7  # times, so that a person sees each pixel

# Gradio's own sketchpad draws only once a tool is chosen, zooms, and needs WebGL.
_PAPER = """
<canvas width="280" height="280"></canvas>
<button type="button">Clear</button>
"""
_PEN = """
const canvas = element.querySelector("canvas"), pen = canvas.getContext("2d");
Object.assign(pen, {lineWidth: 22, lineCap: "round", lineJoin: "round"});
const place = (event) => {
  const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
};
const send = () => { props.value = canvas.toDataURL("image/png"); trigger("input"); };
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pen.beginPath();
  pen.moveTo(...place(event));
  pen.lineTo(...place(event));
  pen.stroke();
});
canvas.addEventListener("pointermove", (event) => {
  if (!event.buttons) return;
  pen.lineTo(...place(event));
  pen.stroke();
});
canvas.addEventListener("pointerup", send);
element.querySelector("button").addEventListener("click", () => {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  send();
});
"""

STYLE = """
#paper canvas { display: block; width: 280px; max-width: 100%; margin: auto; touch-action: none;
  cursor: crosshair; background: white; border: 2px solid var(--body-text-color); border-radius: 8px }
#paper button { display: block; margin: 10px auto 0; padding: 6px 24px; border-radius: 8px;
  background: var(--button-secondary-background-fill); color: var(--button-secondary-text-color) }
#seen img { image-rendering: pixelated }
"""


def digit_tab(trained: Trained) -> None:
    """Lay out the tab in the gr.Blocks that is being built; of a network for other images it says so."""
    shape, classes = trained.run.config.network.architecture.input_shape, trained.logits.shape[1]
    if (shape, classes) != (IMAGE_SHAPE, CLASSES):
        gr.Markdown(
            f"This network reads images of {format_shape(shape)} in {classes} classes; a drawn digit is one "
            f"of {format_shape(IMAGE_SHAPE)} in {CLASSES}, as MNIST has them."
        )
        return

    def answer(drawn: str) -> tuple[dict[str, float] | None, np.ndarray | None]:
        """The probabilities, and what the network sees, enlarged; nothing where nothing is drawn."""
        ink = ink_of(drawn)
        if not ink.any():
            return None, None
        image = as_mnist(ink)
        answers = probabilities(trained, image)
        shown = np.kron(image, np.ones((_ENLARGED, _ENLARGED), np.uint8))
        return {str(label): float(value) for label, value in enumerate(answers)}, shown

    with gr.Row():
        with gr.Column():
            paper = gr.HTML(html_template=_PAPER, js_on_load=_PEN, elem_id="paper")
        with gr.Column():
            label = gr.Label(num_top_classes=10, label=f"the answer of {trained.name}", elem_id="answer")
        with gr.Column():
            seen = gr.Image(
                label="what the network sees: scaled and centred as MNIST was",
                height=250,
                buttons=[],
                elem_id="seen",
            )
    paper.input(answer, paper, [label, seen], show_progress="hidden")


def ink_of(drawn: str) -> np.ndarray:
    """The opacity of a PNG in a data URL: uint8 [height width]."""
    png = base64.b64decode(drawn.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))[..., 3]
