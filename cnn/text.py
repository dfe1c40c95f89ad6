"""A network's layers as text, both ways: the words that --describe prints.

    conv 16 3x3 pad 1, batch norm, ReLU           # a comma or a line's end comes after each layer
    2 x (conv 16 3x3 pad 1, batch norm, SiLU)     # the same as writing them twice
    residual (conv 16 3x3 pad 1, batch norm)      # their sum with what came in
    conv 16 3x3 pad 1 as conv 1, max pool 2x2     # with the weights of that convolution
    global average pool, dense 10 bias

Upper or lower case, more spaces and empty lines change nothing. "as conv 1" counts the convolutions from 0
over the whole network as if every repetition were written out: all copies in a repetition name the same one.
No JAX here.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from cnn.architecture import FORMS, LIMITS, SQUARES, Form, Layer, Residual, describe
from harness.errors import UserError, did_you_mean

MOST_LAYERS = 1_000
_DEEPEST = 20  # brackets within brackets
_LONGEST = 40  # characters of a word that an error quotes
_OTHER_NAMES = {  # in PyTorch, Keras or papers, where the letters do not give ours away
    "linear": "dense",
    "fc": "dense",
    "dropout2d": "channel dropout",
    "swish": "SiLU",
    "gap": "global average pool",
}
_TOKENS = re.compile(
    r"""[^\S\n]+ | \#[^\n]*                                            # skipped
    | (?P<word> [0-9]+[^\S\n]*x[^\S\n]*[0-9]+ (?![^\s(),#])            # 3x3
    |           [0-9]+[^\S\n]*x (?![^\s(),#])                          # 2 x
    |           [^\s(),#]+ | [(),\n] )""",
    re.VERBOSE | re.IGNORECASE,
)


class LayersError(UserError):
    """Layers that cannot be read.

    Attributes:
      word: the first one that is wrong, as it was written; empty at the text's end.
      line: its line, from 1.
      column: its first character's place in the line, from 1.
    """

    def __init__(self, word: "_Word", problem: str) -> None:
        super().__init__(f"{word.shown} (line {word.line}, column {word.column}) {problem}")
        self.word, self.line, self.column = word.written, word.line, word.column


def parse(text: str) -> tuple[Layer, ...]:
    """Return the layers of a text, in order; architecture.summarize says whether they fit each other.

    Raises:
      LayersError: a word that is not known or not allowed where it stands, a number out of its limits, more
        than MOST_LAYERS layers, or none.
    """
    words = _Words(text)
    layers = _sequence(words, depth=0)
    if words.next.written:
        words.refuse("closes nothing: leave it out, or open it with 2 x ( or residual (")
    if not layers:
        words.refuse("comes before any layer: write some, such as global average pool, dense 10 bias")
    return tuple(layers)


def format_layers(layers: Iterable[Layer]) -> str:
    """Return the text of some layers, on one line; `parse` makes the same layers of it."""
    return ", ".join(map(describe, layers))


def on_one_line(text: str) -> str:
    """Return a text without comments and line ends, as a flag or a line of a file of flags can hold it."""
    lines = (" ".join(line.partition("#")[0].split()).strip(" ,") for line in text.split("\n"))
    joined = ", ".join(line for line in lines if line)
    return re.sub(r"\(,\s*", "(", re.sub(r",\s*\)", ")", joined))


class _Word(NamedTuple):
    """A word, a bracket, a comma or a line's end; written is empty at the text's end."""

    written: str
    line: int
    column: int

    @property
    def key(self) -> str:
        """The word in lower case, without spaces."""
        return "".join(self.written.lower().split())

    @property
    def separates(self) -> bool:
        """True between two layers."""
        return self.written in (",", "\n")

    @property
    def ends_layer(self) -> bool:
        """True where no more of a layer can follow."""
        return self.separates or self.written in (")", "")

    @property
    def shown(self) -> str:
        """As an error quotes it."""
        if self.written in ("", "\n"):
            return "the line's end" if self.written else "the text's end"
        return f"'{self.written}'" if len(self.written) <= _LONGEST else f"'{self.written[:_LONGEST]}...'"


class _Words:
    """The words of a text, read one after the other."""

    def __init__(self, text: str) -> None:
        self._words, self._read = list(_split(text)), 0

    @property
    def next(self) -> _Word:
        """The word that take will return; the text's end is never behind it."""
        return self._words[min(self._read, len(self._words) - 1)]

    def take(self) -> _Word:
        """Read a word."""
        word = self.next
        self._read += 1
        return word

    def phrase(self) -> str:
        """The words behind the next one to the layer's end, but for its numbers."""
        left = itertools.takewhile(lambda word: not word.ends_layer, self._words[self._read + 1 :])
        return " ".join(word.key for word in left if word.key.isalpha())

    def refuse(self, problem: str) -> NoReturn:
        """Raise LayersError about the next word."""
        raise LayersError(self.next, problem)


def _split(text: str) -> Iterator[_Word]:
    line, start = 1, 0
    for match in _TOKENS.finditer(text):
        written = match["word"]
        if written:
            yield _Word(written, line, match.start() - start + 1)
        if written == "\n":
            line, start = line + 1, match.end()
    yield _Word("", line, len(text) - start + 1)


def _sequence(words: _Words, depth: int) -> list[Layer]:
    """Return the layers up to a closing bracket or the text's end, which is left to read."""
    layers: list[Layer] = []
    while True:
        while words.next.separates:
            words.take()
        if words.next.ends_layer:
            return layers
        first = words.next
        layers += _layers(words, depth)
        if _count(layers) > MOST_LAYERS:
            raise LayersError(first, f"is more than can be: a network has at most {MOST_LAYERS:,} layers")
        if not words.next.ends_layer:
            words.refuse("follows a closing bracket: put a comma or a line's end before it")


def _count(layers: Iterable[Layer]) -> int:
    return sum(1 + (_count(layer.layers) if isinstance(layer, Residual) else 0) for layer in layers)


def _layers(words: _Words, depth: int) -> list[Layer]:
    """Return one layer, or those that are repeated."""
    first, times = words.next, re.fullmatch(r"([0-9]+)x", words.next.key)
    if first.key == "residual":
        return [Residual(tuple(_bracketed(words, depth)))]
    if times is None:
        return [_layer(words)]
    count = int(times[1][:_LONGEST])
    if not 1 <= count <= MOST_LAYERS:
        words.refuse(f"repeats too little or too much: give a whole number from 1 to {MOST_LAYERS:,}")
    layers = _bracketed(words, depth)
    if count * _count(layers) > MOST_LAYERS:
        raise LayersError(first, f"repeats too much: a network has at most {MOST_LAYERS:,} layers")
    return layers * count


def _bracketed(words: _Words, depth: int) -> list[Layer]:
    """Return the layers in the brackets that follow a word, at least one."""
    before = words.take()
    if words.next.written != "(":
        words.refuse(f"follows {before.written}: write its layers in brackets, {before.written} ( ... )")
    opened = words.take()
    if depth == _DEEPEST:
        raise LayersError(opened, f"is one bracket too many within another: at most {_DEEPEST} are read")
    layers = _sequence(words, depth + 1)
    if words.next.written == "":
        raise LayersError(opened, "is never closed: write a ) after its last layer")
    if not layers:
        words.refuse(f"ends {before.written} without a layer: write at least one in its brackets")
    words.take()
    return layers


def _layer(words: _Words) -> Layer:
    """Return one layer, neither repeated nor a residual."""
    form = _form(words)
    kinds = form.kind.__annotations__
    values: dict[str, Any] = {field: False for field in form.options.values() if kinds[field] is bool}
    for field in form.numbers:
        if not (words.next.ends_layer and _may_be_left_out(form, field)):
            values[field] = _number(words, form, field, of=f"{form.words} needs its {field}")
    left = dict(form.options)
    while not words.next.ends_layer:
        option = next((each for each in left if each.split()[0] == words.next.key), None)
        if option is None:
            _refuse_option(words, form, left)
        field = left.pop(option)
        for part in option.split():
            if words.next.key != part:
                words.refuse(f"is not how {option} goes on: write {_usage(form)}")
            words.take()
        values[field] = kinds[field] is bool or _number(words, form, field, of=f"{option} needs its number")
    return form.kind(**values)  # type: ignore[no-any-return]


def _form(words: _Words) -> Form:
    """Read the words with which a form starts, and return it."""
    forms: tuple[Form, ...] = FORMS
    said: list[str] = []
    while True:
        going_on = tuple(form for form in forms if form.words.lower().split()[len(said)] == words.next.key)
        if not going_on and said:
            words.refuse(f"follows {' '.join(said)}: write {' or '.join(map(_usage, forms))}")
        if not going_on:
            _refuse_layer(words)
        forms = going_on
        said.append(words.take().key)
        for form in forms:  # no form is the beginning of another
            if form.words.lower().split() == said:
                return form


def _number(words: _Words, form: Form, field: str, *, of: str) -> int | float:
    """Read a number for a field of a layer, and return it. An error says what it is `of`."""
    is_float = form.kind.__annotations__[field] is float
    written = words.next.key
    allowed, limits = LIMITS[field]
    if field in SQUARES:
        written, _, other = written.partition("x")
        written = written if written == other else ""
        limits = f"written as 3x3, each side {limits}"
    digits = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?" if is_float else r"[+-]?[0-9]+"
    if len(written) > _LONGEST or not re.fullmatch(digits, written):
        written = "-1"  # which no field may be
    number: int | float = float(written) if is_float else int(written)
    if not allowed(number):
        if _may_be_left_out(form, field):
            _require_no_layer(words)
        words.refuse(f"stands where {of}, {limits}: write {_usage(form)}")
    words.take()
    return number


def _may_be_left_out(form: Form, field: str) -> bool:
    return getattr(form.kind, field, None) is not None  # the class has the default


def _usage(form: Form) -> str:
    """Return the form of a layer: its fields in capitals, in brackets those that may be left out."""
    parts = [form.words]
    for field in form.numbers:
        shown = "x".join([field.upper()] * (2 if field in SQUARES else 1))
        parts.append(f"[{shown}]" if _may_be_left_out(form, field) else shown)
    return " ".join([*parts, *_options(form, form.options)])


def _options(form: Form, options: Mapping[str, str]) -> Iterator[str]:
    for words, field in options.items():
        yield f"[{words}]" if isinstance(getattr(form.kind, field), bool) else f"[{words} NUMBER]"


def _require_no_layer(words: _Words) -> None:
    """Raise LayersError if the next word begins a layer where none may begin."""
    if words.next.key in {"residual", *(form.words.lower().split()[0] for form in FORMS)}:
        words.refuse("begins another layer: put a comma or a line's end before it")


def _refuse_option(words: _Words, form: Form, left: Mapping[str, str]) -> NoReturn:
    """Raise LayersError about a word that is none of the options that may follow."""
    _require_no_layer(words)
    if any(option.split()[0] == words.next.key for option in form.options):
        words.refuse("is there twice: leave one out")
    allowed = ", ".join([*_options(form, left), "a comma or a line's end"])
    near = did_you_mean(words.next.key, left)
    words.refuse(f"is not part of {form.words}{near}: what may follow is {allowed}")


def _refuse_layer(words: _Words) -> NoReturn:
    """Raise LayersError about a word that begins no layer."""
    names = [*(form.words for form in FORMS), "residual"]
    key, near = words.next.key, ""
    if key in _OTHER_NAMES:
        near = f" (did you mean {_OTHER_NAMES[key]}?)"
    elif key[0].isalpha():
        near = did_you_mean(f"{key} {words.phrase()}", names) or did_you_mean(key, names)
    words.refuse(f"is not a layer{near}: the layers are {', '.join(names)} ( ... ) and 2 x ( ... )")
