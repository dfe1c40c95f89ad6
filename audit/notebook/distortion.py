"""torchvision's transforms of the training images, as our flags where these can say them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from audit.notebook.cells import Fact, Place
from audit.notebook.training import Call

SIDE = 28
MEAN, DEVIATION = 0.1307, 0.3081
_SAME = ("ToPILImage", "Grayscale", "PILToTensor", "ToImage")
_TO_UNIT = ("ToTensor", "ConvertImageDtype", "ToDtype")  # white is 1 after them
_CLOSE = 0.01


@dataclass
class Distortions:
    """What the transforms say.

    Attributes:
      flags: fields of cnn.recipe.Recipe.
      missing, departures, facts: as in recipe.ReadRecipe.
    """

    flags: dict[str, Any] = field(default_factory=dict)
    missing: list[Fact] = field(default_factory=list)
    departures: list[Fact] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)

    def lacks(self, call: Call, detail: str) -> None:
        """Note what our flags cannot say."""
        self.missing.append(Fact(call.name, call.place, detail))

    def differs(self, call: Call, detail: str) -> None:
        """Note what our flags say a little otherwise."""
        self.departures.append(Fact(call.name, call.place, detail))


def is_random(calls: Sequence[Call]) -> bool:
    """Whether some of the transforms draw at random."""
    return any(
        call.name.startswith("Random") or call.name in ("ColorJitter", "ElasticTransform") for call in calls
    )


def normalization(calls: Sequence[Call]) -> tuple[float, float] | None:
    """Mean and deviation that the images are normalised with; None without, or where they are not known."""
    for call in calls:
        if call.name == "Normalize":
            mean, deviation = (_first(call.arguments.get(name)) for name in ("mean", "std"))
            if mean is not None and deviation is not None:
                return mean, deviation
    return None


def is_unnormalized(calls: Sequence[Call]) -> bool:
    """Whether they are all known, and none of them is Normalize or may stand for it."""
    plain = (*_SAME, *_TO_UNIT, "Resize", "CenterCrop", "ColorJitter", "ElasticTransform")
    names = [call.name for call in calls]
    return "Normalize" not in names and all(name in plain or name.startswith("Random") for name in names)


def distortions(calls: Sequence[Call], place: Place) -> Distortions:
    """What transforms of training images are in our flags; place is where the images are loaded."""
    found = Distortions()
    background: float = 0.0  # of the images at this place
    unit = 255.0  # how much white is
    for index, call in enumerate(calls):
        match call.name:
            case "ToDtype" if call.arguments.get("scale") is not True:
                pass
            case name if name in _TO_UNIT:
                background, unit = background / unit, 1.0
            case "Normalize":
                scale = normalization([call])
                if scale is None or scale[1] == 0:
                    found.lacks(call, "mean and std are not known without running the code")
                    continue
                if unit > 1:
                    found.lacks(call, f"white is {unit:g} there: ours normalises images from 0 to 1")
                background, unit = (background - scale[0]) / scale[1], unit / scale[1]
                if max(abs(scale[0] - MEAN), abs(scale[1] - DEVIATION)) > _CLOSE / 2:
                    found.differs(
                        call, f"mean {scale[0]:g} and std {scale[1]:g}, here {MEAN} and {DEVIATION}"
                    )
                elif scale != (MEAN, DEVIATION):
                    found.differs(call, f"mean {scale[0]:g}, std {scale[1]:g}: nearly ours")
            case name if name in _SAME:
                pass
            case "Resize":
                if _pair(call.arguments.get("size")) != (SIDE, SIDE):
                    found.lacks(call, f"images of {call.arguments.get('size')}: ours are {SIDE}x{SIDE}")
            case "CenterCrop" if _pair(call.arguments.get("size")) == (SIDE, SIDE):
                pass
            case "RandomRotation":
                _rotation(call, found, background, unit)
            case "RandomAffine":
                _affine(call, found, background, unit)
            case "ColorJitter":
                _jitter(call, found, background)
            case "RandomErasing":
                _erasing(call, found, background)
            case "RandomCrop":
                _crop(call, found)
            case "RandomApply":
                _apply(call, found, calls, index)
            case _:
                found.lacks(call, "there is no flag for it")
    if normalization(calls) is None and not found.missing:
        found.departures.append(Fact("Normalize", place, f"there is none; here mean {MEAN}, std {DEVIATION}"))
    return found


def _first(value: Any) -> float | None:
    while isinstance(value, tuple) and value:
        value = value[0]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _pair(value: Any) -> tuple[Any, Any] | None:
    if isinstance(value, tuple):
        return (value[0], value[-1]) if len(value) in (1, 2) else None
    return (value, value)


def _around(value: Any, centre: float) -> float | None:
    """How far a range reaches to both sides of a number; None if not known, or not the same."""
    low_high: Any = (
        value if isinstance(value, tuple) else (-value, value) if isinstance(value, int | float) else ()
    )
    if len(low_high) != 2 or not all(isinstance(each, int | float) for each in low_high):
        return None
    low, high = low_high
    return round(high - centre, 6) if math.isclose(high - centre, centre - low, abs_tol=1e-9) else None


def _set(found: Distortions, call: Call, name: str, value: float) -> None:
    """A flag; where an earlier transform has set it, too, that of one draw that varies as much as both."""
    if value == 0:
        return
    before = found.flags.get(name)
    found.flags[name] = float(value) if before is None else round(math.hypot(before, value), 4)
    if before is not None:
        found.differs(
            call, f"{name} is drawn twice, {before:g} and {value:g}; here once, {found.flags[name]:g}"
        )


def _fill(call: Call, found: Distortions, background: float, unit: float) -> None:
    fill = call.arguments.get("fill", call.arguments.get("fillcolor", 0))
    value = 0.0 if fill is None else _first(fill)
    if value is None:
        found.lacks(call, f"fill={fill} is not known without running the code")
    elif abs(value - background) > 0.02 * unit:
        where = f"the background is {background:.3g} there, and white {background + unit:.3g}"
        found.facts.append(Fact("rotation_fill", call.place, f"fill is {value:g}: {where}"))
        found.lacks(call, f"corners are filled with {value:g}, ours with background ({background:.3g})")
    interpolation = str(call.arguments.get("interpolation", call.arguments.get("resample", "nearest")))
    if "bilinear" not in interpolation.lower():
        found.differs(call, "pixels of the nearest place; here bilinear between four")


def _rotation(call: Call, found: Distortions, background: float, unit: float) -> None:
    degrees = _around(call.arguments.get("degrees"), 0)
    if degrees is None:
        found.lacks(call, f"degrees={call.arguments.get('degrees')}: ours is the same to both sides")
        return
    _fill(call, found, background, unit)
    _set(found, call, "rotation", degrees)
    if call.arguments.get("expand") not in (None, False) or call.arguments.get("center") is not None:
        found.lacks(call, "expand or center: ours turns about the centre")


def _affine(call: Call, found: Distortions, background: float, unit: float) -> None:
    given = call.arguments
    _fill(call, found, background, unit)
    degrees = _around(given.get("degrees"), 0)
    if degrees is None:
        found.lacks(call, f"degrees={given.get('degrees')}: ours is the same to both sides")
    else:
        _set(found, call, "rotation", degrees)
    translate = given.get("translate")
    if translate is not None:
        pair = _pair(translate)
        if pair is None or pair[0] != pair[1] or not isinstance(pair[0], int | float):
            found.lacks(call, f"translate={translate}: ours is the same along both axes")
        else:
            _set(found, call, "shift", round(pair[0] * SIDE, 6))
    scale = given.get("scale")
    if scale is not None:
        reach = _around(scale, 1) if isinstance(scale, tuple) else None
        if reach is None:
            found.lacks(call, f"scale={scale}: ours reaches as far above 1 as below")
        else:
            _set(found, call, "scale", reach)
    shear = given.get("shear")
    if shear is not None:
        reach = _around(shear, 0)
        if reach is None:
            found.lacks(call, f"shear={shear}: ours is along one axis, the same to both sides")
        else:
            _set(found, call, "shear", round(math.tan(math.radians(reach)), 4))
            found.differs(call, "shear is uniform in degrees; here in pixels")


def _jitter(call: Call, found: Distortions, unit: float) -> None:
    for name in ("brightness", "contrast"):
        value = call.arguments.get(name, 0)
        reach = _around(value, 1) if isinstance(value, tuple) else value
        if not isinstance(reach, int | float) or isinstance(reach, bool):
            found.lacks(call, f"{name}={value}: ours reaches as far above 1 as below")
        else:
            _set(found, call, name, reach)


def _erasing(call: Call, found: Distortions, background: float) -> None:
    given = call.arguments
    probability, value = given.get("p", 0.5), _first(given.get("value", 0))
    if given.get("scale", (0.02, 0.33)) != (0.02, 0.33) or given.get("ratio", (0.3, 3.3)) != (0.3, 3.3):
        found.lacks(call, "its scale or ratio is not torchvision's default")
    elif not isinstance(probability, int | float) or value is None:
        found.lacks(call, "p or value is not known without running the code, or random")
    else:
        _set(found, call, "erasing", probability)
        if abs(value - background) > _CLOSE:
            found.differs(call, f"erased to {value:g}; here to background ({background:.3g})")


def _crop(call: Call, found: Distortions) -> None:
    padding: Any = call.arguments.get("padding")
    whole = _pair(call.arguments.get("size")) == (SIDE, SIDE) and isinstance(padding, int)
    if not whole or call.arguments.get("fill", 0) != 0:
        found.lacks(call, f"size={call.arguments.get('size')}, padding={padding}: ours shifts whole images")
        return
    _set(found, call, "shift", padding)
    found.differs(call, "shifts by whole pixels; here by any part of one")


def _apply(call: Call, found: Distortions, calls: Sequence[Call], index: int) -> None:
    """RandomApply: of CenterCrop, with a Resize behind it, that is our zoom."""
    probability = call.arguments.get("p", 0.5)
    crop = call.inside[0] if len(call.inside) in (1, 2) else None
    size = _pair(crop.arguments.get("size")) if crop is not None and crop.name == "CenterCrop" else None
    after = (*call.inside[1:], *calls[index + 1 :])
    resized = bool(after) and after[0].name == "Resize"
    square = size is not None and size[0] == size[1] and isinstance(size[0], int)
    if not square or not resized or not isinstance(probability, int | float):
        found.lacks(call, "there is no flag that applies a transform to some images alone")
        return
    assert size is not None
    _set(found, call, "zoom", probability)
    found.flags["crop_size"] = size[0]
    if any(before.name.startswith("Random") for before in calls[:index]):
        found.differs(call, "after others; here it comes first")
