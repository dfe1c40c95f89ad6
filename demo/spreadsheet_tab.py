"""The second tab: a workbook is dropped, the audit says what is wrong in it and gives a marked copy."""

import base64
import json

import gradio as gr

from audit.spreadsheet.reading import KINDS
from demo import bounded_audit

_AT_ONCE = 4  # audits; others wait in Gradio's queue

# Gradio's own upload would leave the file in a folder of the server's, under a name made from its content:
# two people with the same file would share it. This one sends the file with the event.
_DROP = """
<label>
  <input type="file">
  <b>Drop a spreadsheet here, or press to choose one</b>
  <span>${kinds}, at most ${most_bytes / 2**20} MB</span>
</label>
"""
_SEND = """
const area = element.querySelector("label"), input = element.querySelector("input");
const send = (file) => {
  if (!file) return;
  const deliver = (content) => {
    props.value = JSON.stringify({name: file.name, size: file.size, content: content});
    trigger("upload");
  };
  if (file.size > props.most_bytes) return deliver(null);
  const reader = new FileReader();
  reader.onload = () => deliver(reader.result.split(",")[1] || "");
  reader.onerror = () => deliver(null);
  reader.readAsDataURL(file);
};
input.addEventListener("change", () => { send(input.files[0]); input.value = ""; });
for (const kind of ["dragenter", "dragover", "dragleave", "drop"])
  area.addEventListener(kind, (event) => {
    event.preventDefault();
    area.classList.toggle("over", kind === "dragenter" || kind === "dragover");
  });
area.addEventListener("drop", (event) => send(event.dataTransfer.files[0]));
"""

STYLE = (
    bounded_audit.STYLE
    + """
#workbook label { position: relative; display: flex; flex-direction: column; align-items: center; gap: 0.3em;
  padding: 2em 1em; text-align: center; cursor: pointer; border-radius: 8px;
  border: 2px dashed var(--border-color-primary); background: var(--background-fill-secondary) }
#workbook label:hover, #workbook label:focus-within, #workbook label.over {
  border-color: var(--color-accent) }
#workbook input { position: absolute; inset: 0; opacity: 0; pointer-events: none }
#workbook span { opacity: 0.75 }
"""
)


def spreadsheet_tab() -> None:
    """Lay out the tab in the gr.Blocks that is being built."""
    gr.Markdown(
        "A table of back-propagation by hand, as a spreadsheet: every cell is compared with what it "
        "should be. Nothing is kept: the file is deleted as soon as the answer is there."
    )
    workbook = gr.HTML(
        html_template=_DROP,
        js_on_load=_SEND,
        kinds=KINDS,
        most_bytes=bounded_audit.MOST_BYTES,
        elem_id="workbook",
    )
    answer = gr.HTML(elem_id="audit", min_height=120)
    workbook.upload(_answer, workbook, answer, concurrency_limit=_AT_ONCE)


def _answer(dropped: str) -> str:
    """What became of a file: the browser sends its name and size and, unless it is too large, its content."""
    file = json.loads(dropped)
    name, size, content = str(file["name"]), int(file["size"]), file["content"]
    if size > bounded_audit.MOST_BYTES:
        return bounded_audit.too_large(name, size)
    if content is None:
        return bounded_audit.refusal(f"{name} could not be read by the browser: give an {KINDS} file")
    return bounded_audit.audited(name, base64.b64decode(content))
