"""An area of the page on which a file is dropped, or which is pressed to choose one."""

import base64
import json
from typing import NamedTuple

import gradio as gr

from demo.bounded import MOST_BYTES

# Gradio's own upload would leave the file in a folder of the server's, under a name made from its content:
# two people with the same file would share it. This one sends the file with the event.
_DROP = """
<label>
  <input type="file">
  <b>Drop ${what} here, or press to choose one</b>
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

STYLE = """
.drop label { position: relative; display: flex; flex-direction: column; align-items: center; gap: 0.3em;
  padding: 2em 1em; text-align: center; cursor: pointer; border-radius: 8px;
  border: 2px dashed var(--border-color-primary); background: var(--background-fill-secondary) }
.drop label:hover, .drop label:focus-within, .drop label.over { border-color: var(--color-accent) }
.drop input { position: absolute; inset: 0; opacity: 0; pointer-events: none }
.drop span { opacity: 0.75 }
"""


class Dropped(NamedTuple):
    """A file as the browser sent it; content is None where it is too large or could not be read."""

    name: str
    size: int
    content: bytes | None


def drop_area(what: str, kinds: str, elem_id: str) -> gr.HTML:
    """The area, in the gr.Blocks that is being built; its event `upload` gives `dropped` its argument."""
    return gr.HTML(
        html_template=_DROP,
        js_on_load=_SEND,
        what=what,
        kinds=kinds,
        most_bytes=MOST_BYTES,
        elem_id=elem_id,
        elem_classes="drop",
    )


def dropped(sent: str) -> Dropped:
    """What the browser sent: the file's name and size and, unless it is too large, its content."""
    file = json.loads(sent)
    content = file["content"]
    return Dropped(
        str(file["name"]), int(file["size"]), None if content is None else base64.b64decode(content)
    )
