"""The page: three tabs in one gr.Blocks."""

import gradio as gr

from demo import digit_tab, network_drawing, network_tab, run_tab
from demo.trained import Trained

STYLE = network_drawing.STYLE + network_tab.STYLE + digit_tab.STYLE + run_tab.STYLE
THEME = gr.themes.Default(
    primary_hue="blue", font=(gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "sans-serif")
)
"""With fonts that are in Gradio's package: nothing is fetched."""

_HOW_TO_GET_A_RUN = """
This tab needs a trained network. Train one (minutes on a laptop), then open the page with it:

    python launch.py --task=mnist --workdir=runs/mine
    python launch.py --task=demo --workdir=runs/mine
"""


def build(trained: Trained | None) -> gr.Blocks:
    """The page; without a trained network two tabs say how to get one."""
    with gr.Blocks(title="Back-propagation and MNIST", analytics_enabled=False) as page:
        with gr.Tab("By hand"):
            network_tab.network_tab()
        for title, tab in (("Draw a digit", digit_tab.digit_tab), ("The run", run_tab.run_tab)):
            with gr.Tab(title):
                if trained is None:
                    gr.Markdown(_HOW_TO_GET_A_RUN)
                else:
                    tab(trained)
    return page
