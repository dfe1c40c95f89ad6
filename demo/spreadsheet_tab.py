"""The second tab: a workbook is dropped, the audit says what is wrong in it and gives a marked copy."""

import gradio as gr

from audit.spreadsheet.reading import KINDS
from demo import bounded_audit
from demo.bounded import MOST_BYTES, refusal, too_large
from demo.drop import drop_area, dropped

_AT_ONCE = 4  # audits; others wait in Gradio's queue
STYLE = bounded_audit.STYLE


def spreadsheet_tab() -> None:
    """Lay out the tab in the gr.Blocks that is being built."""
    gr.Markdown(
        "A table of back-propagation by hand, as a spreadsheet: every cell is compared with what it "
        "should be. Nothing is kept: the file is deleted as soon as the answer is there."
    )
    workbook = drop_area("a spreadsheet", KINDS, "workbook")
    answer = gr.HTML(elem_id="audit", min_height=120)
    workbook.upload(_answer, workbook, answer, concurrency_limit=_AT_ONCE)


def _answer(sent: str) -> str:
    """What became of a file."""
    file = dropped(sent)
    if file.size > MOST_BYTES:
        return refusal(too_large(file.name, file.size, bounded_audit.REMEDY))
    if file.content is None:
        return refusal(f"{file.name} could not be read by the browser: give an {KINDS} file")
    return bounded_audit.audited(file.name, file.content)
