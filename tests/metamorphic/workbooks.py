"""Right workbooks rewritten so that nothing changes, and with mistakes: what the audit says of each.

A dozen random tables (tests/audit/spreadsheet/styles.py), each rewritten in every way of REWRITES; each of
MISTAKES in five drawn dresses, which are rewrites and programs; pairs of mistakes. All by fixed seeds.
"""

import concurrent.futures
import itertools
import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from openpyxl.utils.cell import coordinate_to_tuple, get_column_letter

from audit.spreadsheet.verdict import audit_file
from backprop.equations import heading
from tests.audit.spreadsheet.styles import MISTAKES, Sample, first_row
from tests.metamorphic.counting import Outcome

WORKBOOKS = 12
DRESSES = 5
PAIRS = 300


def _headed(change):
    def rewrite(sample):
        sample.heads = change

    return rewrite


def _words(name):
    """Other words for some quantities."""
    words = {"h": "net h", "o": "net o", "t": "target ", "i": "input ", "w": "weight ", "E": "Error"}
    return re.sub(r"^([hotiwE])(?=\d)", lambda it: words[it[1]], heading(name))


def _subscripts(name):
    return re.sub(r"\d", lambda digit: chr(0x2080 + int(digit[0])), heading(name)).replace("a_", "a ")


def _spanish(name):
    words = {"i": "entrada ", "w": "peso ", "t": "objetivo "}
    name = re.sub(r"^([iwt])(?=\d)", lambda it: words[it[1]], name)
    return name.replace("dE_dw", "∂E/∂peso ").replace("E_total", "error total")


def _equations(sample):
    sample.heads = lambda name: (
        f"{heading(name)} = {sample.network.equations[name]}"
        if name in sample.network.equations
        else heading(name)
    )


def _moved(sample):
    sample.top, sample.left = sample.top + 7, sample.left + 3


def _gap(row, lines, text=None):
    def rewrite(sample):
        if text:
            at = coordinate_to_tuple(sample.place("w1", row))
            sample.notes[f"{get_column_letter(at[1])}{at[0]}"] = text
        sample.gaps[row] = lines

    return rewrite


def _ordered(key):
    def rewrite(sample):
        sample.columns.sort(key=key)

    return rewrite


def _shuffled(sample):
    sample.random.shuffle(sample.columns)


def _turned(sample):
    sample.turned, sample.left = True, 3


def _rate(text, column):
    """The rate beside a text that stands above a column's heading."""

    def rewrite(sample):
        row, at = coordinate_to_tuple(sample.place(column, -1))
        sample.label = (text, f"{get_column_letter(at)}{row - 1}")
        sample.eta, sample.literal = f"${get_column_letter(at + 1)}${row - 1}", False

    return rewrite


def _rate_elsewhere(sample):
    sample.eta, sample.literal = "Values!$B$2", False

    def more(book, sheet):
        other = book.add_worksheet("Values")
        other.write("A2", "eta")
        other.write("B2", sample.lr)

    sample.more = more


def _rate_named(sample):
    sample.eta, sample.literal = "rate", False
    sample.more = lambda book, sheet: (
        sheet.write("A1", sample.lr),
        book.define_name("rate", f"={sample.title}!$A$1"),
    )


def _rate_typed(sample):
    sample.literal = True
    sample.label = ("rate", "A1")


def _rate_in_a_text(sample):
    sample.literal, sample.eta = True, ""
    sample.notes["A1"] = f"η = {sample.lr}"


def _equation_above(sample):
    row, column = coordinate_to_tuple(sample.place("w2", -1))
    sample.notes[f"{get_column_letter(column)}{row - 1}"] = "E1 = 1/2*(t1 - a_o1)^2"


def _counter(side, first=0):
    def rewrite(sample):
        if side == "left":
            sample.left += 1
        row, column = coordinate_to_tuple(sample.place(sample.columns[0 if side == "left" else -1], -1))
        column += -1 if side == "left" else 1
        sample.notes[f"{get_column_letter(column)}{row}"] = "epoch"
        for number in range(sample.epochs + 1):
            sample.notes[f"{get_column_letter(column)}{row + 1 + number}"] = str(number + first)

    return rewrite


def _summary_beside(gap, names):
    def rewrite(sample):
        row, column = coordinate_to_tuple(sample.place(sample.columns[-1], -1))
        for place, name in enumerate(names, start=column + 1 + gap):
            sample.notes[f"{get_column_letter(place)}{row}"] = name
            for number in range(sample.epochs + 1):
                at = f"{get_column_letter(place)}{row + 1 + number}"
                sample.notes[at] = repr(round(0.3 / (1 + number + place), 6))

    return rewrite


def _chart_column(sample):
    row, column = coordinate_to_tuple(sample.place(sample.columns[-1], -1))
    letter = get_column_letter(column + 2)
    sample.notes[f"{letter}{row}"] = "for the chart"
    for number, values in enumerate(sample.numbers()):
        shown = (f"=100*{sample.place('E_total', number)}", repr(100 * values["E_total"]))
        sample.notes[f"{letter}{row + 1 + number}"] = shown


def _second_table(side):
    def rewrite(sample):
        other = Sample(random.Random(77))
        other.left, other.top, other.eta, other.literal = sample.left, sample.top, "", True
        row, _ = coordinate_to_tuple(sample.place("w1", sample.epochs))
        if side == "below":
            other.top = row
        else:
            other.left = sample.left + len(sample.columns) + 2
        sample.notes |= other.cells("Excel")

    return rewrite


def _below(lines, gap):
    def rewrite(sample):
        row, _ = coordinate_to_tuple(sample.place("w1", sample.epochs))
        for number, line in enumerate(lines, start=row + 1 + gap):
            for place, text in enumerate(line, start=sample.left + 1):
                sample.notes[f"{get_column_letter(place)}{number}"] = text

    return rewrite


def _average(sample):
    row, column = coordinate_to_tuple(sample.place("E_total", sample.epochs))
    letter = get_column_letter(column)
    mean = sum(row["E_total"] for row in sample.numbers()) / (sample.epochs + 1)
    sample.notes[f"{letter}{row + 1}"] = (
        f"=AVERAGE({letter}{row - sample.epochs}:{letter}{row})",
        repr(mean),
    )


def _hidden_sheet(sample):
    def more(book, sheet):
        book.add_worksheet("Notes").write("A1", "a note")
        book.worksheets()[1].activate()
        sheet.hide()

    sample.more = more


def _other_sheet(sample):
    sample.more = lambda book, sheet: book.add_worksheet("Notes").write(
        "A1", "w1 and h1 are what we start with"
    )


def _formula(pattern, new):
    def rewrite(sample):
        sample.rewritten = lambda formula: re.sub(pattern, new, formula)

    return rewrite


def _lower(sample):
    sample.rewritten = str.lower


def _helpers(sample):
    for k in (1, 2):
        delta = f"(a_o{k}-t{k})*a_o{k}*(1-a_o{k})"
        sample.helpers[f"delta_o{k}"] = delta
        for name, text in sample.equations.items():
            if name.startswith("dE"):
                text = text.replace(f"(a_o{k}-t{k}) * a_o{k}*(1-a_o{k})", f"delta_o{k}")
                sample.equations[name] = text.replace(delta, f"delta_o{k}")


def _set(**changes):
    def rewrite(sample):
        vars(sample).update(changes)

    return rewrite


REWRITES = {
    "∂E/∂w": _headed(lambda name: heading(name).replace("dE/d", "∂E/∂")),
    "out_h": _headed(lambda name: heading(name).replace("a_", "out_")),
    "σ(h)": _headed(lambda name: re.sub(r"^a_(\w\d)", r"σ(\1)", heading(name))),
    "capitals": _headed(lambda name: heading(name).upper().replace("_TOTAL", "_total")),
    "subscripts": _headed(_subscripts),
    "other words": _headed(_words),
    "remarks in brackets": _headed(lambda name: f"{heading(name)} (row by row)"),
    "Spanish": _headed(_spanish),
    "equations as headings": _equations,
    "farther right and down": _moved,
    "a blank line": _gap(5, 1),
    "three blank lines": _gap(4, 3),
    "two blank lines apart": lambda sample: (_gap(3, 1)(sample), _gap(8, 1)(sample)),
    "a note between rows": _gap(6, 1, "here it gets slower"),
    "columns shuffled": _shuffled,
    "columns by name": _ordered(str),
    "derivatives first": _ordered(lambda name: not name.startswith("dE")),
    "targets last": _ordered(lambda name: name.startswith("t")),
    "on its side": _turned,
    "rate above w2": _rate("η =", "w2"),
    "rate above w1": _rate("η =", "w1"),
    "rate above h1": _rate("Learning rate (η):", "h1"),
    "rate on another sheet": _rate_elsewhere,
    "rate with a name": _rate_named,
    "rate typed": _rate_typed,
    "rate in a text": _rate_in_a_text,
    "equation above w2": _equation_above,
    "epochs from 0": _counter("left"),
    "epochs from 1": _counter("left", first=1),
    "epochs at the right": _counter("right"),
    "summary by rate": _summary_beside(1, ["η = 0.1", "η = 2"]),
    "summary by rate right beside": _summary_beside(0, ["η=0.1", "lr = 0.2"]),
    "summary by numbers": _summary_beside(1, ["0.1", "0.5", "2.0"]),
    "rates and losses": _summary_beside(1, ["η", "E_total"]),
    "a column for a chart": _chart_column,
    "a second table beside": _second_table("beside"),
    "a second table below": _second_table("below"),
    "a summary below": _below([["epoch", "η=0.1", "η=2"], ["1", "0.24", "0.25"], ["2", "0.23", "0.21"]], 0),
    "a summary farther below": _below([["epoch", "loss"], ["1", "0.24"], ["2", "0.23"]], 2),
    "an average below": _average,
    "words below": _below([["The loss falls."], ["So we stop."]], 0),
    "a title": _below([["Back-propagation"]], -15),
    "another sheet": _other_sheet,
    "the sheet is hidden": _hidden_sheet,
    "POWER": _formula(r"(\([^()]*\))\^2", r"POWER(\1,2)"),
    "half in front": _formula(r"^=(\(.*\)\^2) ?/ ?2$", r"=0.5*\1"),
    "in brackets": _formula(r"^=(.*)$", r"=(\1)"),
    "a plus in front": _formula(r"^=", "=+"),
    "small letters": _lower,
    "deltas in columns": _helpers,
    "inputs once": _set(once=True, fixed=True),
    "inputs by $": _set(fixed=True),
}
STYLES = {"LibreOffice": {}, "Google": {}, "WPS": {}, "CSV": {}}
ONLY_FORMULAS = ("Spanish",)
MORE_MISTAKES = (
    ("h1", ("w1*i1 + w2*i2", "w1*i2 + w2*i1"), "i1 and i2 are swapped"),
    ("h2", ("w3*i1 + w4*i2", "w3*i2 + w4*i1"), "i1 and i2 are swapped"),
    ("o1", ("w5*a_h1 + w6*a_h2", "w5*a_h2 + w6*a_h1"), "a_h1 and a_h2 are swapped"),
    ("a_h1", ("sigmoid", "tanh"), "tanh was used instead of the sigmoid"),
    ("a_o2", ("sigmoid", "tanh"), "tanh was used instead of the sigmoid"),
    ("E2", ("t2", "t1"), "t1 was used instead of t2"),
    ("dE_dw8", ("a_o2-t2", "a_o2-t1"), "t1 was used instead of t2"),
    ("dE_dw4", ("i2", "i1"), "i1 was used instead of i2"),
    ("dE_dw7", ("a_o2*(1-a_o2) * ", ""), "the factor a_o2*(1-a_o2): it is missing"),
    ("h1", (" + w2*i2", ""), "w2*i2 is missing"),
    ("dE_dw6", ("a_h2", "a_h1"), "a_h1 was used instead of a_h2"),
    ("w8", ("prev_eta*", ""), "eta was left out of the update"),
)
ALL_MISTAKES = MISTAKES + MORE_MISTAKES
DRESS = (*(name for name in REWRITES if name not in ONLY_FORMULAS), *STYLES)


def workbook(seed):
    """A right workbook; its rate shows every mistake."""
    sample = Sample(random.Random(seed))
    sample.lr, sample.epochs, sample.eta = 1.7, 8, "$B$1"
    sample.top += 1
    return sample


def dressed(sample, dress):
    """The sample rewritten; what it is written by."""
    if dress in STYLES:
        return sample, dress
    REWRITES[dress](sample)
    return sample, "Excel"


def said(folder, sample, style):
    """The verdict, and each finding's cell and words, of the table itself, not of one beside it."""
    content, kind = sample.written(style)
    (folder / f"table{kind}").write_bytes(content)
    audit = audit_file(folder / f"table{kind}")
    assert not audit.refused, audit.refused
    tables = [each for each in audit.tables if each.table.address("w1", 0) == sample.place("w1", 0)]
    assert tables, [each.table.address("w1", 0) for each in audit.tables]
    (table,) = tables
    found = [(finding.cells[0].address, str(finding.mistake)) for finding in table.findings]
    return table.verdict, found, table.warnings, table.rate.value


class Case(NamedTuple):
    """A workbook by its seed, the mistakes put into it, and the dress that it is written in."""

    kind: str
    seed: int
    dress: str
    mistakes: tuple[Any, ...] = ()


def cases() -> Iterator[Case]:
    """Every rewrite of every workbook; every mistake of each in five drawn dresses; pairs of mistakes."""
    for seed, dress in itertools.product(range(WORKBOOKS), (*REWRITES, *STYLES)):
        yield Case("rewrite", seed, dress)
    draw = random.Random(31)
    for seed, mistake in itertools.product(range(WORKBOOKS), ALL_MISTAKES):
        yield from (Case("mistake", seed, dress, (mistake,)) for dress in draw.sample(DRESS, DRESSES))
    for _ in range(PAIRS):
        one, other = draw.sample(ALL_MISTAKES, 2)
        while one[0] == other[0]:
            one, other = draw.sample(ALL_MISTAKES, 2)
        yield Case("pair", draw.randrange(WORKBOOKS), draw.choice(DRESS), (one, other))


def sample() -> list[Case]:
    """Each rewrite and each mistake once, and a few pairs; the workbooks take turns."""
    found = list(cases())
    ways = [(dress,) for dress in (*REWRITES, *STYLES)]
    chosen = [Case("rewrite", number % WORKBOOKS, *way) for number, way in enumerate(ways)]
    for number, mistake in enumerate(ALL_MISTAKES):
        of_it = [case for case in found if case.mistakes == (mistake,)]
        chosen.append(of_it[7 * number % len(of_it)])
    return chosen + [case for case in found if case.kind == "pair"][:12]


def outcomes() -> Iterator[Outcome]:
    """All cases, judged on all cores."""
    with concurrent.futures.ProcessPoolExecutor() as pool:
        yield from pool.map(outcome, cases(), chunksize=20)


def outcome(case: Case) -> Outcome:
    """A case judged: right as before, or each mistake named at its place and nothing else."""
    names = " and ".join(f"{name}: {words}" for name, _, words in case.mistakes)
    written = workbook(case.seed)
    for name, change, _ in case.mistakes:
        written.with_mistake(name, change)
    written, style = dressed(written, case.dress)
    places = {
        written.place(name, first_row(name, written.network)): words for name, _, words in case.mistakes
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            verdict, found, warnings, rate = said(Path(folder), written, style)
        except AssertionError as error:
            return Outcome(case.kind, names or case.dress, f"workbook {case.seed}, {case.dress}", str(error))
    right = (verdict, warnings, rate) == ("right", (), written.lr) if not places else verdict == "wrong"
    named = all(at in places and places[at] in words for at, words in found)
    fault = "" if right and named and len(found) == len(places) else f"{verdict}, {found[:4]}, {warnings}"
    return Outcome(case.kind, names or case.dress, f"workbook {case.seed}, {case.dress}", fault)
