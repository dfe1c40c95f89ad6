import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backprop.check import gradients
from backprop.config import BackpropConfig
from backprop.equations import all_equations, derivatives, steps
from backprop.network import forward, total_error
from backprop.shape import ACTIVATIONS, CLASSROOM, Shape
from backprop.task import start

shapes = st.builds(
    Shape, *[st.integers(1, 4)] * 3, activation=st.sampled_from(ACTIVATIONS), biases=st.booleans()
)


@st.composite
def cases(draw):
    shape = draw(shapes)
    values = st.floats(-2, 2, width=16)
    weights = draw(st.lists(values, min_size=len(shape.weight_names), max_size=len(shape.weight_names)))
    example = draw(st.lists(values, min_size=len(shape.example_names), max_size=len(shape.example_names)))
    return shape, weights, example


def matrices(shape, flat):
    """The flat weights as matrices [neuron, source] and bias vectors, layer by layer."""
    flat, layers = np.asarray(flat), []
    for sources, neurons in ((shape.inputs, shape.hidden), (shape.hidden, shape.outputs)):
        split = sources * neurons
        matrix, flat = flat[:split].reshape(neurons, sources), flat[split:]
        bias = np.zeros(neurons)
        if shape.biases:
            bias, flat = flat[:neurons], flat[neurons:]
        layers += [matrix, bias]
    assert flat.size == 0
    return layers


FUNCTIONS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
}


@settings(max_examples=25)
@given(cases())
def test_the_forward_pass_is_two_matrix_products(case):
    shape, weights, example = case
    to_hidden, hidden_bias, to_output, output_bias = matrices(shape, weights)
    inputs, targets = np.split(np.asarray(example), [shape.inputs])
    h = to_hidden @ inputs + hidden_bias
    o = to_output @ FUNCTIONS[shape.activation](h) + output_bias
    E = (targets - FUNCTIONS[shape.activation](o)) ** 2 / 2
    with jax.enable_x64(True):
        found = forward(tuple(map(jnp.asarray, weights)), tuple(map(jnp.asarray, example)), shape)
    assert found._fields == shape.forward_names
    np.testing.assert_allclose([getattr(found, f"h{n + 1}") for n in range(shape.hidden)], h, atol=1e-14)
    np.testing.assert_allclose([getattr(found, f"o{n + 1}") for n in range(shape.outputs)], o, atol=1e-14)
    np.testing.assert_allclose([getattr(found, f"E{n + 1}") for n in range(shape.outputs)], E, atol=1e-13)
    np.testing.assert_allclose(found.E_total, E.sum(), atol=1e-13)


def test_central_differences_find_the_slopes_of_another_network():
    config = BackpropConfig(hidden=3, outputs=1, inputs=(0.1, 0.2), targets=(0.4,), biases=True)
    with jax.enable_x64(True):
        found = gradients(*start(config), config.shape)
    np.testing.assert_allclose(found.by_hand, found.autodiff, rtol=1e-13)
    np.testing.assert_allclose(found.finite_difference, found.autodiff, atol=1e-9)


def test_weights_are_numbered_as_in_the_assignment():
    shape = Shape(3, 4, 2, "tanh", biases=True)
    assert " ".join(shape.columns) == (
        "t1 t2 i1 i2 i3 w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12 b1 b2 b3 b4 "
        "h1 a_h1 h2 a_h2 h3 a_h3 h4 a_h4 w13 w14 w15 w16 w17 w18 w19 w20 b5 b6 o1 a_o1 o2 a_o2 E1 E2 E_total "
        "dE_dw1 dE_dw2 dE_dw3 dE_dw4 dE_dw5 dE_dw6 dE_dw7 dE_dw8 dE_dw9 dE_dw10 dE_dw11 dE_dw12 "
        "dE_db1 dE_db2 dE_db3 dE_db4 "
        "dE_dw13 dE_dw14 dE_dw15 dE_dw16 dE_dw17 dE_dw18 dE_dw19 dE_dw20 dE_db5 dE_db6"
    )
    table = all_equations(shape)
    assert table["h4"] == "w10*i1 + w11*i2 + w12*i3 + b4"
    assert table["a_h4"] == "tanh(h4)"
    assert table["o2"] == "w17*a_h1 + w18*a_h2 + w19*a_h3 + w20*a_h4 + b6"
    assert table["dE_dw11"] == ("((a_o1-t1)*(1-a_o1^2)*w16 + (a_o2-t2)*(1-a_o2^2)*w20) * (1-a_h4^2) * i2")
    assert table["dE_db6"] == "(a_o2-t2) * (1-a_o2^2)"
    given = {*shape.weight_names, *shape.example_names}
    assert tuple(table) == tuple(name for name in shape.columns if name not in given)


def test_the_steps_are_named_for_the_network():
    assert list(steps(Shape(1, 1, 1, "relu"))) == [
        "1. The forward pass and E_total",
        "2. dE_total/dw2 by the chain rule",
        "3. The same for other weights to an output: there are none",
        "4. Each hidden activation is reached by one route, E1",
        "5. dE_total/dw1 as chains through da_h/dh and dh/dw",
        "6. The same, expanded into closed form",
    ]
    assert "4. Each hidden activation is reached by eight routes, E1 .. E8" in steps(Shape(8, 8, 8))
    assert list(steps(Shape(3, 4, 3, biases=True)))[2:5] == [
        "3. The same for w14 .. w24, b5, b6 and b7",
        "4. Each hidden activation is reached by three routes, E1, E2 and E3",
        "5. dE_total/dw1 .. dw12, db1 .. db4 as chains through da_h/dh and dh/dw",
    ]


def test_an_update_with_biases_is_the_textbooks():
    """Matt Mazur, A Step by Step Backpropagation Example (2015): its biases are 0.35 and 0.60."""
    config = BackpropConfig(biases=True)
    with jax.enable_x64(True):
        weights, example = start(config)
        slopes = dict(
            zip(config.shape.weight_names, derivatives(weights, example, config.shape), strict=True)
        )
        assert float(total_error(weights, example, config.shape)) == pytest.approx(0.298371109, abs=5e-10)
    updated = [value - 0.5 * float(slopes[name]) for name, value in config.start.items() if name[0] == "w"]
    assert updated == pytest.approx(
        [0.149780716, 0.19956143, 0.24975114, 0.29950229, 0.35891648, 0.408666186, 0.511301270, 0.561370121],
        abs=5e-9,
    )


def test_start_values_of_other_networks():
    assert BackpropConfig(hidden=3).weights == (
        0.15,
        0.2,
        0.25,
        0.3,
        0.35,
        0.4,
        0.45,
        0.5,
        0.55,
        0.6,
        0.65,
        0.7,
    )
    assert BackpropConfig(activation="tanh").weights == BackpropConfig().weights
    eight = (0.5,) * 8
    config = BackpropConfig(hidden=8, outputs=8, inputs=eight, targets=eight, biases=True)
    assert config.weights[15:19] == (0.9, 0.95, 0.15, 0.2)
    to_hidden, hidden_bias, to_output, output_bias = matrices(config.shape, list(config.start.values()))
    for matrix in (to_hidden, to_output, to_output.T):  # no two neurons are alike
        assert len({tuple(row) for row in matrix}) == 8
    assert (set(hidden_bias), set(output_bias)) == ({0.35}, {0.6})
    assert BackpropConfig().shape == CLASSROOM
