"""An area of the page on which a file is dropped, or which is pressed to choose one."""

import gradio as gr

from demo.bounded import MOST_BYTES

# Gradio's own upload would leave the file in a folder of the server's, under a name made from its content:
# two people with the same file would share it. This one asks a route of demo/server.py.
_DROP = """
<label>
  <input type="file">
  <b>Drop ${what} here, or press to choose one</b>
  <span>${kinds}, at most ${most_bytes / 2**20} MB</span>
</label>
"""
_SEND = """
const area = element.querySelector("label"), input = element.querySelector("input");
const words = element.querySelector("b"), invitation = words.textContent;
window.visitor ??= String(Math.random());
const answer = async (file) => {
  if (file.size > props.most_bytes)
    return JSON.stringify({words: `${file.name} is too large (${(file.size / 2**20).toFixed(1)} MB): `
      + `give a file of at most ${props.most_bytes / 2**20} MB, ${props.remedy}`});
  const query = new URLSearchParams({name: file.name, visitor: window.visitor});
  try {
    const response = await fetch(`${props.route}?${query}`, {method: "POST", body: file});
    const text = await response.text();
    return response.ok ? text : JSON.stringify({words: `${file.name} was not read: ${text}`});
  } catch {
    return JSON.stringify({words: `${file.name} could not be read by the browser, or the page has ended`});
  }
};
const send = async (file) => {
  if (!file) return;
  words.textContent = `${file.name} is being read`;
  props.value = await answer(file);
  words.textContent = invitation;
  trigger("upload");
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


def drop_area(what: str, kinds: str, *, route: str, remedy: str, elem_id: str) -> gr.HTML:
    """The area, in the gr.Blocks that is being built.

    With its event `upload` its value is JSON: what the route answered, or `words` why there is no answer.

    Args:
      what: is dropped.
      kinds: of files.
      route: of demo/server.py.
      remedy: what somebody can do whose file is too large.
      elem_id: in the page.
    """
    return gr.HTML(
        html_template=_DROP,
        js_on_load=_SEND,
        what=what,
        kinds=kinds,
        route=route,
        remedy=remedy,
        most_bytes=MOST_BYTES,
        elem_id=elem_id,
        elem_classes="drop",
    )
