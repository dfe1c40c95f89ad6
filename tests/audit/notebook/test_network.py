import textwrap

import pytest

from audit.notebook import cells
from audit.notebook.interpreter import follow
from audit.notebook.mistakes import MISTAKES, REMARKS, SILENT
from audit.notebook.network import read_network
from cnn.architecture import count_parameters
from harness.errors import UserError
from tests.audit.notebook.written import IMPORTS, LOADERS, LOOPS, NET, TRAINING, WHOLE, net, write

HEAD = """
self.conv = nn.Conv2d(1, 10, 3)
"""
END = """
x = F.avg_pool2d(x, 26)
return F.log_softmax(x.view(-1, 10), dim=1)
"""


def read(folder, *texts, class_name=None, **others):
    return read_network(follow(cells.read(write(folder, *texts, **others))), class_name)


CONSTRUCTS = {
    "Sequential of layers": (
        net(
            "self.a = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 10, 26))",
            "return self.a(x).view(-1, 10)",
        ),
        "conv 8 3x3 bias, ReLU, conv 10 26x26 bias",
    ),
    "Sequential of an OrderedDict, and add_module": (
        net(
            """
            self.a = nn.Sequential(OrderedDict([("c", nn.Conv2d(1, 10, 3)), ("r", nn.ReLU())]))
            self.a.add_module("p", nn.AdaptiveAvgPool2d((1, 1)))
            """,
            "return self.a(x).squeeze()",
        ),
        "conv 10 3x3 bias, ReLU, global average pool",
    ),
    "nested calls and functional forms": (
        net(
            HEAD + "self.bn = nn.BatchNorm2d(10)",
            "return F.avg_pool2d(F.relu(self.bn(F.max_pool2d(self.conv(x), 2))), kernel_size=13).flatten(1)",
        ),
        "conv 10 3x3 bias, max pool 2x2, batch norm, ReLU, global average pool",
    ),
    "convolutions in groups": (
        net(
            """
            self.a = nn.Conv2d(1, 8, 3)
            self.b = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.Conv2d(8, 12, 1, groups=4))
            self.c = nn.Conv2d(12, 10, 1)
            """,
            "return self.c(F.relu(self.b(F.relu(self.a(x))))).mean((2, 3))",
        ),
        "conv 8 3x3 bias, ReLU, conv 8 3x3 groups 8, conv 12 1x1 groups 4 bias, ReLU, conv 10 1x1 bias, "
        "global average pool",
    ),
    "constants and arithmetic outside the class": (
        net(
            "self.conv = nn.Conv2d(1, N, K, padding=K // 2)",
            "x = self.conv(x)\nreturn x.mean([2, 3])",
            "N, K = 5 * 2, 5",
        ),
        "conv 10 5x5 pad 2 bias, global average pool",
    ),
    "a loop over a list of widths": (
        net(
            """
            layers, before = [], 1
            for index, width in enumerate([4, 8]):
                layers += [nn.Conv2d(before, width, 3, bias=False), nn.ReLU()]
                before = width
            self.body = nn.Sequential(*layers)
            self.last = nn.Conv2d(before, 10, 1)
            """,
            "x = self.last(self.body(x))\nreturn nn.AdaptiveAvgPool2d(1)(x).reshape(x.size(0), -1)",
        ),
        "conv 4 3x3, ReLU, conv 8 3x3, ReLU, conv 10 1x1 bias, global average pool",
    ),
    "a comprehension in a ModuleList, and setattr": (
        net(
            """
            self.list = nn.ModuleList([nn.Conv2d(1 if i == 0 else 10, 10, 3) for i in range(2)])
            for i in range(2):
                setattr(self, f"drop{i}", nn.Dropout2d(0.05 * (i + 1)))
            """,
            """
            for i, layer in enumerate(self.list):
                x = getattr(self, "drop%d" % i)(layer(x))
            return x.mean(-1).mean(-1)
            """,
        ),
        "conv 10 3x3 bias, channel dropout 0.05, conv 10 3x3 bias, channel dropout 0.1, global average pool",
    ),
    "a helper method, a helper function and a dict of settings": (
        net(
            "self.body = self.block(**SETTINGS)",
            "return pooled(self.body(x))",
            """
            SETTINGS = dict(before=1, after=10, kernel=3)
            def pooled(x):
                return torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
            """,
        )
        + """
    def block(self, before, after, kernel, bias=False):
        return nn.Sequential(nn.Conv2d(before, after, kernel, bias=bias), nn.BatchNorm2d(after), nn.SiLU())
""",
        "conv 10 3x3, batch norm, SiLU, global average pool",
    ),
    "a class of its own with arguments and defaults": (
        net(
            "self.a = Block(1, 8)\nself.b = Block(8, out=10, act=nn.GELU)",
            "return self.b(self.a(x)).mean((2, 3))",
            """
            class Block(nn.Module):
                def __init__(self, inp, out, act=nn.ReLU, **kw):
                    super().__init__()
                    self.conv = nn.Conv2d(in_channels=inp, out_channels=out, kernel_size=(3, 3), **kw)
                    self.act = act()
                def forward(self, x):
                    return self.act(self.conv(x))
            """,
        ),
        "conv 8 3x3 bias, ReLU, conv 10 3x3 bias, GELU, global average pool",
    ),
    "an attribute assigned twice counts once": (
        net("self.conv = nn.Conv2d(1, 99, 3)\n" + HEAD, "x = self.conv(x)" + END),
        "conv 10 3x3 bias, global average pool",
    ),
    "a convolution used again shares its weights": (
        net(
            """
            self.a = nn.Conv2d(1, 10, 3, padding=1)
            self.b = nn.Conv2d(10, 10, 3, padding='same', bias=False)
            """,
            "x = self.b(F.relu(self.b(F.relu(self.a(x)))))\nreturn x.mean((2, 3))",
        ),
        "conv 10 3x3 pad 1 bias, ReLU, conv 10 3x3 pad 1, ReLU, conv 10 3x3 pad 1 as conv 1, "
        "global average pool",
    ),
    "a sum with what came in": (
        net(
            "self.a = nn.Conv2d(1, 10, 3)\nself.b = nn.Conv2d(10, 10, 3, padding=1)",
            "x = self.a(x)\nx = x + F.relu(self.b(x))\nreturn x.mean((2, 3))",
        ),
        "conv 10 3x3 bias, residual (conv 10 3x3 pad 1 bias, ReLU), global average pool",
    ),
    "a stride and a dense head": (
        net(
            """
            self.a = nn.Conv2d(1, 4, 3, stride=2)
            self.b = nn.Linear(676, 32)
            self.c = nn.Linear(32, 10, bias=False)
            """,
            "x = F.leaky_relu(self.a(x), 0.1)\nx = x.view(x.shape[0], -1)\nreturn self.c(F.relu(self.b(x)))",
        ),
        "conv 4 3x3 stride 2 bias, leaky ReLU 0.1, dense 32 bias, ReLU, dense 10",
    ),
    "dropout that is told whether it trains": (
        net(HEAD, "x = F.dropout(self.conv(x), p=0.2, training=self.training)" + END),
        "conv 10 3x3 bias, dropout 0.2, global average pool",
    ),
    "a size that is found with random images": (
        net(
            """
            self.conv = nn.Conv2d(1, 4, 5, stride=4)
            size = self.conv(torch.randn(1, 1, 28, 28)).view(1, -1).size(1)
            self.head = nn.Linear(size, 10)
            """,
            "return self.head(torch.flatten(self.conv(x), start_dim=1))",
        ),
        "conv 4 5x5 stride 4 bias, dense 10 bias",
    ),
    "a crop of the margin": (
        net(HEAD, "x = self.conv(x[:, :, 2:-2, 2:-2])\nreturn x.mean((2, 3))"),
        "crop 2, conv 10 3x3 bias, global average pool",
    ),
    "a condition that is known": (
        net(
            HEAD + "self.bn = nn.BatchNorm2d(10) if NORM else None",
            "x = self.conv(x)\nif self.bn is not None:\n    x = self.bn(x)\nprint(x.shape)" + END,
            "NORM = True",
        ),
        "conv 10 3x3 bias, batch norm, global average pool",
    ),
}


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_a_construct_is_read_as_the_network_that_it_is(name, tmp_path):
    text, expected = CONSTRUCTS[name]
    network = read(tmp_path, IMPORTS, text)
    assert network.text == expected
    assert network.parameters == count_parameters(network.architecture)
    assert {fact.name for fact in network.facts} <= {*MISTAKES, *REMARKS, *SILENT}


CONSTRUCTS |= {
    "a list that is changed in place": (
        net(
            """
            widths = [10, 4]
            widths.sort()
            widths += [10]
            del widths[0]
            same = widths
            same *= 1
            self.body = nn.Sequential(nn.Conv2d(1, widths[0], 3), nn.Conv2d(same[0], same[1], 1))
            """,
            "return self.body(x).mean((2, 3))",
        ),
        "conv 10 3x3 bias, conv 10 1x1 bias, global average pool",
    ),
    "an activation in place, whose result is not taken": (
        net(
            HEAD + "self.act = nn.ReLU(inplace=True)",
            "x = self.conv(x)\nself.act(x)\nF.leaky_relu(x, 0.2, True)\nF.silu(x)\nx.relu_()" + END,
        ),
        "conv 10 3x3 bias, ReLU, leaky ReLU 0.2, ReLU, global average pool",
    ),
    "an activation in place before a sum changes what is added, too": (
        net(
            HEAD + "self.b = nn.Conv2d(10, 10, 1)",
            "x = self.conv(x)\ny = self.b(F.relu(x, inplace=True))\nx += y\nreturn x.mean((2, 3))",
        ),
        "conv 10 3x3 bias, ReLU, residual (conv 10 1x1 bias), global average pool",
    ),
    "a forward that is set later": (
        net(HEAD, "return self.conv(x)")
        + "\ndef pooled(self, x):\n    return self.conv(x).mean((2, 3))\nNet.forward = pooled",
        "conv 10 3x3 bias, global average pool",
    ),
}

REFUSED = {
    "ghost batch norm": (
        net(
            HEAD + "self.bn = Ghost(10)",
            "return self.bn(self.conv(x)).mean((2, 3))",
            """
            class Ghost(nn.BatchNorm2d):
                def __init__(self, features, splits=2, **kw):
                    super().__init__(features, **kw)
                    self.splits = splits
                def forward(self, x):
                    n, c, h, w = x.shape
                    return F.batch_norm(x.view(-1, c * self.splits, h, w), None, None).view(n, c, h, w)
            """,
        ),
        "Ghost is a BatchNorm2d with a forward of its own",
    ),
    "an unknown part of a Sequential": (
        net(HEAD + "self.body = nn.Sequential(self.conv, nn.Unfold(3))", "return self.body(x).mean((2, 3))"),
        "self.body(x): what this makes of the images is not known",
    ),
    "an unused part of another library": (
        net(HEAD + "self.spare = nn.LSTM(3, 3)", "x = self.conv(x)" + END),
        "nn.LSTM(3, 3): what this module holds is not known",
    ),
    "weights that are shared by assignment": (
        net(
            HEAD + "self.b = nn.Conv2d(10, 10, 3)\nself.b.weight = self.conv.weight", "x = self.conv(x)" + END
        ),
        "a layer's weight is set after it was made",
    ),
    "a module's own dict": (
        net(HEAD + "self._modules['b'] = nn.ReLU()", "x = self.conv(x)" + END),
        "a module's own dict",
    ),
    "an attribute whose name is not known": (
        net(HEAD + "setattr(self, input(), nn.Linear(3, 3))", "x = self.conv(x)" + END),
        "which attribute it sets is not known",
    ),
    "pixels that are set": (
        net(HEAD, "x = self.conv(x)\nx[:, 0] = 0" + END),
        "what is set there is not followed",
    ),
    "a function in place that is not known": (
        net(HEAD, "x = self.conv(x)\nx.mul_(2)" + END),
        "cell 2, line 7: x.mul_(2): what this makes of the images",
    ),
    "a list that hangs on a condition": (
        net(
            HEAD + "self.body = made()",
            "x = self.body(self.conv(x))" + END,
            """
            def made():
                layers = []
                if torch.load("x"):
                    layers.append(nn.ReLU())
                return nn.Sequential(*layers)
            """,
        ),
        "the condition is not known",
    ),
    "convolution in groups": (
        net(
            "self.conv = nn.Conv2d(1, 10, 3, groups=1)\nself.b = nn.Conv2d(10, 10, 3, groups=3)",
            "x = self.b(self.conv(x))\nreturn x.mean((2, 3))",
        ),
        "line 5: nn.Conv2d(10, 10, 3, groups=3): 10 channels and 10 features do not divide into 3 groups",
    ),
    "dilation": (
        net("self.conv = nn.Conv2d(1, 10, 3, dilation=2)", "return self.conv(x).mean((2, 3))"),
        "dilation=2",
    ),
    "padding that reflects": (
        net(
            "self.conv = nn.Conv2d(1, 10, 3, padding=1, padding_mode='reflect')",
            "return self.conv(x).mean((2, 3))",
        ),
        "padding_mode=reflect",
    ),
    "windows that overlap": (net(HEAD, "return F.max_pool2d(self.conv(x), 3, 2).mean((2, 3))"), "overlap"),
    "another epsilon": (
        net(HEAD + "self.bn = nn.BatchNorm2d(10, eps=1e-3)", "return self.bn(self.conv(x)).mean((2, 3))"),
        "eps=0.001",
    ),
    "branches side by side": (
        net(HEAD, "x = torch.cat([self.conv(x), self.conv(x)], 1)\nreturn x.mean((2, 3))"),
        "torch.cat",
    ),
    "a gate": (
        net(HEAD, "y = self.conv(x)\nreturn (y * torch.sigmoid(y)).mean((2, 3))"),
        "torch.sigmoid(y): sigmoid is no layer",
    ),
    "a sum of two branches": (
        net(HEAD, "x = self.conv(x) + F.relu(self.conv(x))\nreturn x.mean((2, 3))"),
        "neither part of this sum",
    ),
    "images of a batch mixed": (net(HEAD, "return self.conv(x).view(-1, 10)"), "images of a batch apart"),
    "a flattening that ends before it starts": (
        net(HEAD, "return self.conv(x).mean((2, 3)).flatten(1, 0)"),
        "flattens up to a dimension before its first",
    ),
    "channels that do not fit": (
        net(HEAD + "self.b = nn.Conv2d(12, 10, 1)", "return self.b(self.conv(x)).mean((2, 3))"),
        "it takes 12 channels and gets 10",
    ),
    "a condition on the pixels": (
        net(HEAD, "x = self.conv(x)\nif x.max() > 3:\n    x = F.relu(x)" + END),
        "the condition is not known",
    ),
    "a width that a library computes": (
        net("self.conv = nn.Conv2d(1, int(torch.load('w')), 3)", "return self.conv(x).mean((2, 3))"),
        "out_channels is not known",
    ),
    "a class that nothing defines": (
        net("self.conv = Block(1, 10)", "return self.conv(x).mean((2, 3))"),
        "self.conv(x)",
    ),
    "an endless loop": (net(HEAD, "while True:\n    x = F.relu(x)" + END), "more than 1,000 turns"),
    "calls without end": (net(HEAD, "return self.forward(x)"), "nested more than 30 deep"),
    "a module that holds itself": (
        net(
            "self.me = self\nself.body = nn.Sequential(nn.ReLU())\nself.body.add_module('b', self.body)",
            "return self.body(x)",
        ),
        "nests too deep",
    ),
    "batch norm used twice": (
        net(
            HEAD + "self.bn = nn.BatchNorm2d(10)",
            "return self.bn(F.relu(self.bn(self.conv(x)))).mean((2, 3))",
        ),
        "used twice",
    ),
    "several values": (net(HEAD, "x = self.conv(x)\nreturn x, x"), "forward returns several values"),
    "another way in evaluation": (
        net(HEAD, "x = self.conv(x)\nif self.training:\n    x = F.relu(x)" + END),
        "another way in evaluation",
    ),
    "layers after log_softmax": (
        net(HEAD, "x = F.log_softmax(self.conv(x), dim=1)\nreturn F.relu(x).mean((2, 3))"),
        "at the network's end alone",
    ),
    "a layer of another kind": (
        net(HEAD + "self.p = nn.PReLU()", "return self.p(self.conv(x)).mean((2, 3))"),
        "PReLU is no layer of our language",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_in_one_line_with_its_place(name, tmp_path):
    text, expected = REFUSED[name]
    with pytest.raises(UserError) as caught:
        read(tmp_path, IMPORTS, text)
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert "submission.ipynb, cell 2, line " in message or "nests too deep" in expected


def test_the_class_that_is_trained_is_read_where_there_are_several(tmp_path):
    other = NET.replace("Net", "Other").replace("8, 3", "4, 3")
    network = read(tmp_path, IMPORTS, NET, other, LOADERS, LOOPS, TRAINING)
    assert network.class_name == "Net"
    assert (network.place.cell, network.place.line) == (2, 1)


def test_a_class_may_be_named(tmp_path):
    other = NET.replace("Net", "Other").replace("nn.ReLU()", "nn.SiLU()")
    assert "SiLU" in read(tmp_path, IMPORTS, NET, other, LOADERS, LOOPS, TRAINING, class_name="Other").text
    with pytest.raises(UserError, match=r"no class Ohter \(did you mean Other\?\).*Net, Other"):
        read(tmp_path, IMPORTS, NET, other, class_name="Ohter")


def test_two_classes_without_training_need_a_word_on_which(tmp_path):
    with pytest.raises(UserError, match=r"has the classes Net, Other: say which, submission\.ipynb:Net"):
        read(tmp_path, IMPORTS, NET, NET.replace("Net", "Other"))


@pytest.mark.parametrize(
    "use",
    [
        "from model import *",
        "from model import Net as Best\nNet = Best",
        "import model\nNet = model.Net",
        "from model import create_model\nNet = create_model",
        "from clone.folder.model import Net",
    ],
)
def test_a_class_in_a_file_beside_it(use, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    model = IMPORTS + NET + "\ndef create_model():\n    return Net()\n"
    network = read(folder, IMPORTS, use, LOADERS, LOOPS, TRAINING, model=model)
    assert network.class_name == "Net"
    assert str(network.place) == "model.py, line 9"


def test_a_cell_that_writes_the_file_that_is_imported(tmp_path):
    network = read(
        tmp_path, "%%writefile model.py\n" + IMPORTS + NET, IMPORTS, "from model import Net", "model = Net()"
    )
    assert network.parameters == 8 * 9 + 16 + 13520 + 10


def test_unused_layers_count_in_the_class_and_not_in_what_forward_uses(tmp_path):
    text = net(HEAD + "self.spare = nn.Linear(10, 10)\nself.drop = nn.Dropout(0.1)", "x = self.conv(x)" + END)
    network = read(tmp_path, IMPORTS, text)
    assert (network.parameters, network.used_parameters) == (210, 100)
    assert [(each.name, each.parameters) for each in network.unused] == [("spare", 110), ("drop", 0)]
    assert str(network.unused[0].place) == "cell 2, line 5"


def facts(network, name):
    return [(str(fact.place), fact.detail) for fact in network.facts if fact.name == name]


def test_facts_have_their_places(tmp_path):
    text = net(
        """
        self.a = nn.Conv2d(1, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.b = nn.Conv2d(8, 8, 1, padding=1)
        self.c = nn.Conv2d(8, 10, 1)
        """,
        """
        x = F.dropout(self.bn(self.a(x)), 0.1)
        x = F.max_pool2d(self.b(x), 4)
        x = F.relu(self.c(x))
        x = F.avg_pool2d(x, 7)
        return F.log_softmax(x)
        """,
    )
    network = read(tmp_path, IMPORTS, text)
    assert facts(network, "bias_before_batch_norm") == [("cell 2, line 4", "")]
    assert facts(network, "padded_1x1_convolution") == [("cell 2, line 6", "padding 1")]
    assert facts(network, "dropout_in_evaluation") == [("cell 2, line 9", "0.1")]
    assert facts(network, "pool_drops_border") == [("cell 2, line 10", "4x4 of 30 wide")]
    assert facts(network, "no_nonlinearity_between") == [("cell 2, line 6", "cell 2, line 4 and here")]
    assert facts(network, "activation_after_last_layer") == [("cell 2, line 11", "relu")]
    assert facts(network, "log_softmax_without_dim") == [("cell 2, line 13", "")]
    assert facts(network, "output_keeps_1x1_map") == [("cell 2, line 1", "10x1x1")]
    assert facts(network, "no_dropout") == []
    assert facts(network, "no_pooling_to_1x1") == []  # the function pools the whole map


def test_a_separable_convolution_needs_no_nonlinearity_within(tmp_path):
    network = read(tmp_path, IMPORTS, CONSTRUCTS["convolutions in groups"][0])
    assert facts(network, "no_nonlinearity_between") == []


def test_layers_have_pytorchs_names_and_their_places(tmp_path):
    network = read(tmp_path, *WHOLE)
    assert [(each.name, str(each.place)) for each in network.layers][:2] == [
        ("body.0", "cell 2, line 5"),
        ("body.1", "cell 2, line 5"),
    ]
    assert network.layers[-1].name == "head"


def test_a_layer_of_its_own_that_changes_nothing_is_that_layer(tmp_path):
    before = """
    class Conv(nn.Conv2d):
        def __init__(self, *args):
            super().__init__(*args, padding=1, bias=False)
        def forward(self, x):
            return super().forward(x)
    """
    text = net("self.a = Conv(1, 10, 3)", "return self.a(x).mean((2, 3))", before)
    assert read(tmp_path, IMPORTS, text).text == "conv 10 3x3 pad 1, global average pool"


OUTSIDE = {
    "a list": "layers = [nn.Conv2d(1, 10, 3)]\nif unknown():\n    layers.append(nn.ReLU())\n"
    "model = nn.Sequential(*layers, nn.Flatten())",
    "a list by a loop": "layers = [nn.Conv2d(1, 10, 3)]\nfor i in unknown():\n    layers.append(nn.ReLU())\n"
    "model = nn.Sequential(*layers, nn.Flatten())",
    "a width": "width = 8\nif unknown():\n    width = 9\nmodel = nn.Sequential(nn.Conv2d(1, width, 3))",
    "settings": "s = dict(kernel_size=3)\nunknown() and s.update(stride=2)\n"
    "model = nn.Sequential(nn.Conv2d(1, 10, **s))",
    "unknown settings": "def f(w=8):\n    return nn.Conv2d(1, w, 3)\nmodel = nn.Sequential(f(**unknown()))",
    "weights that are shared": "model = Net()\nother = Net()\nmodel.head.weight = other.head.weight",
    "a part that is taken away": "model = nn.Sequential(nn.Conv2d(1, 10, 3), nn.ReLU())\ndel model[1]",
    "a name whose new value is refused": "model = Net()\nmodel = nn.Conv2d(1)",
    "an attribute": "model = Net()\nif unknown():\n    model.body = nn.ReLU()",
    "the network": "model = Net()\nif unknown():\n    model = Other()",
    "a part": "model = nn.Sequential(nn.Conv2d(1, 10, 3))\n"
    "if unknown():\n    model.add_module('b', nn.ReLU())",
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_hangs_on_something_unknown_outside_a_class_is_refused(name, tmp_path):
    given = "from somewhere import unknown\n" + NET.replace("Net", "Other")
    with pytest.raises(UserError):
        read(tmp_path, IMPORTS + given, NET, OUTSIDE[name], "optim.SGD(model.parameters(), lr=0.1)")


def test_names_that_only_a_later_cell_defines_are_known(tmp_path):
    cells_in_order = [IMPORTS, NET.replace("1, 8, 3", "1, WIDTH, 3"), "model = Net()", "WIDTH = 8"]
    assert read(tmp_path, *cells_in_order).parameters == 13618


def test_nothing_is_run(tmp_path):
    evil = tmp_path / "evil"
    text = f"""
    import os, subprocess
    open({str(evil)!r}, "w").write("x")
    os.system("touch {evil}")
    subprocess.run(["touch", {str(evil)!r}])
    exec("open({str(evil)!r}, 'w')")
    __import__("pathlib").Path({str(evil)!r}).touch()
    """
    beside = textwrap.dedent(text) + IMPORTS + NET
    read(
        tmp_path, IMPORTS, text, "!touch " + str(evil), "from model import Net", "model = Net()", model=beside
    )
    assert not evil.exists()
