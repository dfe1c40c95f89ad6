"""The page: five tabs in one gr.Blocks."""

import gradio as gr

from demo import design_tab, digit_tab, network_drawing, network_tab, run_tab, spreadsheet_tab
from demo.trained import Trained

STYLE = "".join(
    part.STYLE for part in (network_drawing, network_tab, spreadsheet_tab, design_tab, digit_tab, run_tab)
)
THEME = gr.themes.Default(
    primary_hue="blue", font=(gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "sans-serif")
)
"""With fonts that are in Gradio's package: nothing is fetched."""

_HEADING = """
# Back-propagation by hand, and MNIST under a budget

How a network learns, small enough to follow. **By hand** steps through an update of the classroom network.
**Check a spreadsheet** finds the first wrong cell of one that somebody made. **Design a network** counts the
parameters of layers as you type, and reads those of a notebook. **Draw a digit** asks a trained network, and
**The run** shows how it was trained.
"""
_HOW_TO_GET_A_RUN = """
This tab needs a trained network. Train one (minutes on a laptop), then open the page with it:

    python launch.py --task=mnist --workdir=runs/mine
    python launch.py --task=demo --workdir=runs/mine
"""
_LONGEST_QUEUE = 100  # of what people have asked for and wait for


def build(trained: Trained | None) -> gr.Blocks:
    """The page; without a trained network two tabs say how to get one."""
    with gr.Blocks(title="Back-propagation and MNIST", analytics_enabled=False) as page:
        gr.Markdown(_HEADING)
        with gr.Tabs(overflow_behavior="wrap"):  # on a phone, too, all are seen
            with gr.Tab("By hand"):
                network_tab.network_tab()
            with gr.Tab("Check a spreadsheet"):
                spreadsheet_tab.spreadsheet_tab()
            with gr.Tab("Design a network"):
                design_tab.design_tab()
            for title, tab in (("Draw a digit", digit_tab.digit_tab), ("The run", run_tab.run_tab)):
                with gr.Tab(title):
                    if trained is None:
                        gr.Markdown(_HOW_TO_GET_A_RUN)
                    else:
                        tab(trained)
    page.queue(max_size=_LONGEST_QUEUE)
    return page
