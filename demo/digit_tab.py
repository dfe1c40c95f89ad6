"""The second tab: a person draws a digit, the trained network answers."""

import base64
import io

import gradio as gr
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cnn.architecture import MNIST, format_shape
from demo.bounded import Refused
from demo.bounded_drawing import SIDE, ink_of
from demo.trained import Trained, as_mnist, probabilities

_AT_ONCE = 4  # drawings; others wait in Gradio's queue

# Gradio's own sketchpad draws only once a tool is chosen, zooms, and needs WebGL.
_PAPER = f"""
<canvas width="{SIDE}" height="{SIDE}"></canvas>
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
#seen p { margin: 0 0 0.6em; text-align: center }
#seen img { width: 196px; margin: auto; image-rendering: pixelated }
"""


def digit_tab(trained: Trained) -> None:
    """Lay out the tab in the gr.Blocks that is being built; of a network for other images it says so."""
    shape, classes = trained.run.config.network.architecture.input_shape, trained.logits.shape[1]
    if (shape, classes) != MNIST:
        gr.Markdown(
            f"This network reads images of {format_shape(shape)} in {classes} classes; a drawn digit is one "
            f"of {format_shape(MNIST.shape)} in {MNIST.classes}, as MNIST has them."
        )
        return

    def answer(drawn: str) -> tuple[dict[str, float] | None, str]:
        """The probabilities, and what the network sees; nothing where nothing is drawn."""
        try:
            ink = ink_of(drawn)
        except Refused as refused:
            raise gr.Error(str(refused), print_exception=False) from None
        if not ink.any():
            return None, ""
        image = as_mnist(ink)
        answers = probabilities(trained, image)
        return {str(label): float(value) for label, value in enumerate(answers)}, _seen(image)

    with gr.Row():
        with gr.Column():
            paper = gr.HTML(html_template=_PAPER, js_on_load=_PEN, elem_id="paper")
        with gr.Column():
            label = gr.Label(num_top_classes=10, label=f"the answer of {trained.name}", elem_id="answer")
        with gr.Column():
            seen = gr.HTML(elem_id="seen")
    paper.input(answer, paper, [label, seen], show_progress="hidden", concurrency_limit=_AT_ONCE)


def _seen(image: UInt8[np.ndarray, "height width"]) -> str:
    """An image as HTML that holds all of it: gr.Image would leave a file for each."""
    png = io.BytesIO()
    Image.fromarray(image).save(png, "png")
    source = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    return (
        "<p>what the network sees: scaled and centred as MNIST was</p>"
        f'<img src="{source}" alt="the drawing in {len(image)}x{len(image)} pixels">'
    )
