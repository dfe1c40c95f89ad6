import math

import numpy as np
import pytest

from audit.spreadsheet.formulas import UnknownFormula, parse, relative, resolved, symbols, value, written


def meaning(formula, at=(5, 3)):
    def quantity(reference, place):
        return f"{chr(64 + place[1])}{place[0]}"

    return resolved(parse(formula, at), quantity, at, lambda name: 0.5)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("=1+2*3", 7),
        ("=-2^2", 4),  # as spreadsheets have it
        ("=0-2^2", -4),
        ("=2^3^2", 64),
        ("=2^-1", 0.5),
        ("=50%+1e-1", 0.6),
        ("=(1+2)/-4", -0.75),
        ("=1/(1+EXP(-0))", 0.5),
        ("=1/(1+exp( -0 ))", 0.5),
        ("=SUM(A1:B2)", 1 + 2 + 3 + 4),
        ("=sum(A1;B2)*2", 10),
        ("=SUMPRODUCT(A1:A2,B1:B2)", 1 * 2 + 3 * 4),
        ("=SUMSQ(A1:B2)", 30),
        ("=SUMXMY2(A1:A2,B1:B2)", 2),
        ("=POWER(A2,2)/SQRT(B2)", 4.5),
        ("=IF(A1>0,B1,0)", 2),
        ("=MAX(0,-A1)", 0),
        ("=TANH(0)+LN(1)+ABS(-A1)+PI()", 1 + math.pi),
        ("=ROUND(A2/B2,2)", 0.75),  # rounding is a matter of digits
        ("=$A$1+A$2+$B1", 6),
        ("=rate*2", 1),
        ("='My sheet'!A1+Other.2!B2", 5),
    ],
)
def test_formulas_as_a_spreadsheet_computes_them(formula, expected):
    quantities = {"A1": np.array([1.0]), "B1": np.array([2.0]), "A2": np.array([3.0]), "B2": np.array([4.0])}
    assert float(np.squeeze(value(meaning(formula), quantities))) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    "formula",
    [
        *('="a"&"b"', "=INDIRECT(A1)", "=A1 B1", "=(A1", "=A1+", "=VLOOKUP(1,A1:B2,2)", "=A1:B2*2", "="),
        *("=" + "(" * 99, "=SUM(A1:XFD1048576)", "=1+" * 3000 + "1", "=A1:", "=WEBSERVICE(A1)"),
    ],
)
def test_what_is_not_known_here_is_said_so(formula):
    with pytest.raises(UnknownFormula):
        value(meaning(formula), {"A1": np.ones(1)})


def test_a_filled_formula_is_the_same_relative_to_its_cells():
    assert relative("=E4-$B$1*X4", (5, 5)) == relative("=E5-$B$1*X5", (6, 5))
    assert relative("=E4-B1*X4", (5, 5)) != relative("=E5-B1*X5", (6, 5))
    assert relative("=LOG10(A1)", (1, 1)) == "=LOG10(R[0]C[0])"


def test_a_tree_in_words():
    tree = meaning("=-(A1+B2)*2^(A2-1)/SUM(A1,B1)")
    assert symbols(tree) == ["A1", "B2", "A2", "B1"]
    assert written(tree) == "-(A1+B2)*2^(A2-1)/SUM(A1, B1)"
