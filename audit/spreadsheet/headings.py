"""What a heading means, however it is spelled."""

import functools
import re
import unicodedata

ETA = r"(?:eta|lr|alpha|learningrate|learnrate|stepsize)"
_D = r"(?:d|del|delta|partial|par|grad|gradient|derivative|derivativeof|slope|nabla)"
_E = r"(?:e|eo|error|err|loss|l|cost|c|j|mse)(?:total|tot|t)?|totalerror|totalloss|et"
_A = r"(?:(?:a|out|output|sigma|sigmoid|sig|act|activation|tanh|relu){}|{}out)"
_N = r"([1-9]\d?)"
_SPELLINGS = {
    rf"(?:t|target|desired|y|out?putt?arget)o?{_N}": "t{}",
    rf"(?:i|in|inp|input|x){_N}": "i{}",
    r"(?:w|wt|weight)([1-9]\d{0,2})": "w{}",
    rf"(?:b|bias){_N}": "b{}",
    rf"(?:h|neth|hin|inh|zh|sumh|hnet|nethidden){_N}|h{_N}(?:net|in)": "h{}",
    rf"{_A.format('h', 'h')}{_N}|h{_N}(?:out|act)": "a_h{}",
    rf"(?:o|neto|net0|oin|ino|zo|sumo|onet|netoutput){_N}|o{_N}(?:net|in)": "o{}",
    rf"{_A.format('[o0]', 'o')}{_N}|o{_N}(?:out|act)": "a_o{}",
    rf"(?:e|error|err|eo|e0|erroro|loss|eout){_N}": "E{}",
    r"e|et|etot|etotal|(?:tot|total|sum)?(?:e|error|loss|cost)(?:total|tot|t|sum)?|c": "E_total",
    rf"{_D}?(?:{_E})?{_D}?(?:by|wrt|over)?(?:w|wt|weight)([1-9]\d{{0,2}})": "dE_dw{}",
    r"(?:w|weight)([1-9]\d{0,2})(?:grad|gradient|slope|derivative)": "dE_dw{}",
    rf"{_D}?(?:{_E})?{_D}?(?:by|wrt|over)?(?:b|bias){_N}": "dE_db{}",
    ETA: "eta",
}
_COMPILED = [(re.compile(pattern), name) for pattern, name in _SPELLINGS.items()]
_LONGEST = 60
LONGEST = 400  # a whole equation
_LETTERS = (
    ("∂δәəǝðđ∆∇¶\uf0b6\uf064", "d"),  # the last ones are ∂ and δ of the font Symbol
    ("ηɳƞŋ", "eta"),
    ("α", "alpha"),
    ("σς", "sigma"),
    ("σ", "sigma"),
    ("∑", "sum"),
)
_NUMBER = re.compile(r"\s*[\d.,]+\s*")
_UPDATED = re.compile(r"\w['’′+*]$")


@functools.lru_cache(4096)
def canonical(text: str) -> str | None:
    """The name that a heading means, such as a_h1 or eta; None if it means none.

    Of an equation, such as "h1 = w1*i1 + w2*i2", the left side is the heading; but "eta = 0.1" heads what
    was done at that rate. w1' and w1+ are updated weights, not w1.
    """
    left, equals, right = text.partition("=")
    if len(text) > (LONGEST if equals else _LONGEST) or _UPDATED.search(left.strip()):
        return None
    if equals and _NUMBER.fullmatch(right):
        return None if re.fullmatch(ETA, plain_letters(left)) else canonical(left)
    for part in (left, re.sub(r"[(\[].*[)\]]\s*$", "", left, flags=re.DOTALL)):
        plain = plain_letters(part)
        for pattern, name in _COMPILED:
            if found := pattern.fullmatch(plain):
                return name.format(*(group for group in found.groups() if group))
    return None


def plain_letters(text: str) -> str:
    """Letters and digits only: ∂E_t/∂w₁ -> detdw1, ɳ -> eta."""
    text = unicodedata.normalize("NFKC", text).lower().replace("\\partial", "d").replace("\\eta", "eta")
    for letters, word in _LETTERS:
        for letter in letters:
            text = text.replace(letter, word)
    return re.sub(r"[^a-z0-9]", "", text)


def keep_number(text: str) -> str:
    """As plain_letters, with a number at the end kept whole: "η = 0.5" -> eta0.5."""
    words, number = re.fullmatch(r"(.*?)([0-9.,]*(?:[0-9]e-?[0-9]+)?)\)?\s*", text, re.DOTALL).groups()  # type: ignore[union-attr]
    return plain_letters(words) + number
