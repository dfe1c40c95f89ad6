"""The second tab: a workbook is dropped, the audit says what is wrong in it and gives a marked copy."""

import gradio as gr

from audit.config import WORKBOOKS
from demo import bounded_audit
from demo.drop import drop_area

STYLE = bounded_audit.STYLE
_SHOW = """(sent) => {
  const {html, words} = JSON.parse(sent);
  if (html) return html;
  const line = document.createElement("p");
  line.className = "refused";
  line.textContent = words;
  return `<div class="audit">${line.outerHTML}</div>`;
}"""


def spreadsheet_tab() -> None:
    """Lay out the tab in the gr.Blocks that is being built."""
    gr.Markdown(
        "A table of back-propagation by hand, as a spreadsheet: every cell is compared with what it "
        "should be. Nothing is kept: the file is deleted as soon as the answer is there."
    )
    workbook = drop_area(
        "a spreadsheet",
        WORKBOOKS,
        route="files/spreadsheet",
        remedy="give the table's sheet alone, or use --task=audit",
        elem_id="workbook",
    )
    answer = gr.HTML(elem_id="audit", min_height=120)
    workbook.upload(None, workbook, answer, js=_SHOW)
