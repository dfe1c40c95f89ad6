"""The third tab: a run's curves, its confusion matrix and the images it gets wrong."""

import base64
import io

import gradio as gr
import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8
from PIL import Image

from cnn.architecture import count_parameters
from cnn.plots import picture
from demo.trained import Trained

_COLOURS = {"train": "#7f7f7f", "validation": "#0072b2", "test": "#d55e00"}  # Okabe and Ito, and grey
_MOST_SHOWN = 100

STYLE = """
.confusion { border-collapse: collapse; table-layout: fixed; width: 100%; max-width: 620px; font-size: 12px }
.confusion td, .confusion th { padding: 5px 2px; border: 1px solid var(--border-color-primary);
  text-align: center }
.confusion th { font-weight: 700 }
.confusion .mistake { font-weight: 700; color: #000 }
.misclassified { display: grid; grid-template-columns: repeat(auto-fill, minmax(64px, 1fr)); gap: 10px }
.misclassified figure { margin: 0; text-align: center; font-size: 13px }
.misclassified img { width: 100%; image-rendering: pixelated; border: 1px solid var(--border-color-primary) }
"""


def run_tab(trained: Trained) -> None:
    """Lay out the tab in the gr.Blocks that is being built."""
    experiment, test = trained.run.experiment, trained.run.splits["test"]
    wrong = int((trained.logits.argmax(-1) != test.labels).sum())
    means = f"; the curves are means of {trained.seeds} seeds" if trained.seeds > 1 else ""
    gr.Markdown(
        f"### {trained.name}: {1 - wrong / len(test.labels):.2%} of the test images correct\n"
        f"{count_parameters(experiment.architecture):,} parameters, epoch {len(trained.history)} of "
        f"{experiment.recipe.epochs}, in {trained.run.folder.name}{means}"
    )
    with gr.Row():
        for metric, title in (("accuracy", "accuracy (fraction correct)"), ("loss", "loss (cross-entropy)")):
            rows = [
                {"epoch": row["epoch"], "images": split, metric: row[f"{split}_{metric}"]}
                for split in _COLOURS
                for row in trained.history
                if f"{split}_{metric}" in row
            ]
            gr.LinePlot(
                pd.DataFrame(rows),
                x="epoch",
                y=metric,
                color="images",
                color_map=_COLOURS,
                y_title=title,
                height=280,
                buttons=[],
            )
    gr.Markdown(f"### Confusion matrix: {wrong} of {len(test.labels):,} test images are misclassified")
    counts = np.zeros((trained.logits.shape[1],) * 2, np.int64)
    np.add.at(counts, (test.labels, trained.logits.argmax(-1)), 1)
    gr.HTML(confusion_table(counts), elem_id="confusion")
    gr.Markdown("### Misclassified images (true → predicted), the most certain mistakes first")
    gr.HTML(misclassified(test.images, test.labels, trained.logits), elem_id="misclassified")


def confusion_table(counts: Int[np.ndarray, "true predicted"]) -> str:
    """An HTML table: a row for each true class, the mistakes shaded by their number."""
    most = max(1, (counts - np.diag(np.diag(counts))).max())
    rows = [
        '<tr><th title="true, predicted"></th>'
        + "".join(f"<th>{c}</th>" for c in range(len(counts)))
        + "</tr>"
    ]
    for true, row in enumerate(counts):
        cells = f"<th>{true}</th>"
        for predicted, count in enumerate(row):
            if true == predicted:
                cells += f"<td>{count}</td>"
            elif count:
                shade = f"background: rgb(230 159 0 / {0.3 + 0.7 * count / most:.2f})"
                cells += f'<td class="mistake" style="{shade}">{count}</td>'
            else:
                cells += "<td></td>"
        rows.append(f"<tr>{cells}</tr>")
    return (
        f'<p>rows: true class; columns: predicted class</p><table class="confusion">{"".join(rows)}</table>'
    )


def misclassified(
    images: UInt8[np.ndarray, "images height width channels"],
    labels: Int[np.ndarray, " images"],
    logits: Float[np.ndarray, "images classes"],
) -> str:
    """The misclassified images as HTML, the most certain mistakes first, a hundred at most."""
    predicted = logits.argmax(-1)
    wrong = np.flatnonzero(predicted != labels)
    margin = logits[wrong].max(-1) - logits[wrong, labels[wrong]]
    figures = []
    for index in wrong[np.argsort(-margin, kind="stable")][:_MOST_SHOWN]:
        png = io.BytesIO()
        Image.fromarray(picture(images[index])).save(png, "png")
        source = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
        caption = f"{labels[index]} → {predicted[index]}"
        figures.append(
            f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
        )
    return f'<div class="misclassified">{"".join(figures)}</div>'
