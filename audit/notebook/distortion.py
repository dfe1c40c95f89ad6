"""torchvision's transforms of the training images, as our flags where these can say them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audit.notebook.cells import Place
from audit.notebook.training import Call, ReadRecipe

SIDE = 28
MEAN, DEVIATION = 0.1307, 0.3081
_SAME = ("ToPILImage", "Grayscale", "PILToTensor", "ToImage")
_TO_UNIT = ("ToTensor", "ConvertImageDtype", "ToDtype")  # white is 1 after them
_CLOSE = 0.01


def is_random(calls: Sequence[Call]) -> bool:
    """Whether some of the transforms draw at random."""
    return any(call.name.startswith(("Random", "ColorJitter", "ElasticTransform")) for call in calls)


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


def read_distortions(calls: Sequence[Call], place: Place, found: ReadRecipe, *, may_normalize: bool) -> None:
    """Transforms of training images as flags; may_normalize: the loop over them may do it itself."""
    background: float = 0.0  # of the images at this place
    unit = 255.0  # how much white is
    before = len(found.missing)
    for index, call in enumerate(calls):
        each = _Transform(call, found, background, unit)
        match call.name:
            case "ToDtype" if call.arguments.get("scale") is not True:
                pass
            case name if name in _TO_UNIT:
                background, unit = background / unit, 1.0
            case "Normalize":
                background, unit = each.normalize()
            case name if name in _SAME:
                pass
            case "Resize":
                if _pair(call.arguments.get("size")) != (SIDE, SIDE):
                    each.lacks(f"images of {call.arguments.get('size')}: ours are {SIDE}x{SIDE}")
            case "CenterCrop" if _pair(call.arguments.get("size")) == (SIDE, SIDE):
                pass
            case "RandomRotation":
                each.rotation()
            case "RandomAffine":
                each.affine()
            case "ColorJitter":
                each.jitter()
            case "RandomErasing":
                each.erasing()
            case "RandomCrop":
                each.crop()
            case "RandomApply":
                each.zoom(calls[:index], calls[index + 1 :])
            case _:
                each.lacks("there is no flag for it")
    if normalization(calls) is None and len(found.missing) == before and not may_normalize:
        found.differs("Normalize", place, f"there is none; here mean {MEAN}, std {DEVIATION}")


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
    ends = (-value, value) if isinstance(value, int | float) else value
    if not isinstance(ends, tuple) or [isinstance(each, int | float) for each in ends] != [True, True]:
        return None
    low, high = ends
    return round(high - centre, 6) if math.isclose(high - centre, centre - low, abs_tol=1e-9) else None


@dataclass(frozen=True)
class _Transform:
    """A transform, read into `found`: it gets images with this background, and white so much above it."""

    call: Call
    found: ReadRecipe
    background: float
    unit: float

    def lacks(self, detail: str) -> None:
        self.found.lacks(self.call.name, self.call.place, detail)

    def differs(self, detail: str) -> None:
        self.found.differs(self.call.name, self.call.place, detail)

    def given(self, name: str, default: Any = None) -> Any:
        return self.call.arguments.get(name, default)

    def set(self, name: str, value: float) -> None:
        """Set a flag; of two transforms that set it, to one draw that varies as much as both."""
        if value == 0:
            return
        before = self.found.flags.get(name)
        both = float(value) if before is None else round(math.hypot(before, value), 4)
        self.found.flags[name] = both
        if before is not None:
            self.differs(f"{name} is drawn twice, {before:g} and {value:g}; here once, {both:g}")

    def range(self, name: str, centre: float, ours: str) -> float | None:
        """How far an argument's range reaches to both sides; None where that differs, or is not known."""
        reach = _around(self.given(name), centre)
        if reach is None:
            self.lacks(f"{name}={self.given(name)}: ours {ours}")
        return reach

    def normalize(self) -> tuple[float, float]:
        """Black and white afterwards."""
        scale = normalization([self.call])
        if scale is None or scale[1] == 0:
            self.lacks("mean and std are not known without running the code")
            return self.background, self.unit
        if self.unit > 1:
            self.lacks(f"white is {self.unit:g} there: ours normalises images from 0 to 1")
        if max(abs(scale[0] - MEAN), abs(scale[1] - DEVIATION)) > _CLOSE / 2:
            self.differs(f"mean {scale[0]:g} and std {scale[1]:g}, here {MEAN} and {DEVIATION}")
        elif scale != (MEAN, DEVIATION):
            self.differs(f"mean {scale[0]:g}, std {scale[1]:g}: nearly ours")
        return (self.background - scale[0]) / scale[1], self.unit / scale[1]

    def fill(self) -> None:
        """What comes into the corners, and where pixels are taken from."""
        fill, background = self.given("fill", self.given("fillcolor", 0)), self.background
        value = 0.0 if fill is None else _first(fill)
        if value is None:
            self.lacks(f"fill={fill} is not known without running the code")
        elif abs(value - background) > 0.02 * self.unit:
            where = f"the background is {background:.3g} there, and white {background + self.unit:.3g}"
            self.found.notes("rotation_fill", self.call.place, f"fill is {value:g}: {where}")
            self.lacks(f"corners are filled with {value:g}, ours with background ({background:.3g})")
        if "bilinear" not in str(self.given("interpolation", self.given("resample", "nearest"))).lower():
            self.differs("pixels of the nearest place; here bilinear between four")

    def rotation(self) -> None:
        degrees = self.range("degrees", 0, "is the same to both sides")
        if degrees is None:
            return
        self.fill()
        self.set("rotation", degrees)
        if self.given("expand") not in (None, False) or self.given("center") is not None:
            self.lacks("expand or center: ours turns about the centre")

    def affine(self) -> None:
        self.fill()
        if (degrees := self.range("degrees", 0, "is the same to both sides")) is not None:
            self.set("rotation", degrees)
        translate = self.given("translate")
        if translate is not None:
            pair = _pair(translate)
            if pair is None or pair[0] != pair[1] or not isinstance(pair[0], int | float):
                self.lacks(f"translate={translate}: ours is the same along both axes")
            else:
                self.set("shift", round(pair[0] * SIDE, 6))
        if self.given("scale") is not None:
            reach = self.range("scale", 1, "reaches as far above 1 as below")
            self.set("scale", reach or 0)
        if self.given("shear") is not None:
            reach = self.range("shear", 0, "is along one axis, the same to both sides")
            if reach is not None:
                self.set("shear", round(math.tan(math.radians(reach)), 4))
                self.differs("shear is uniform in degrees; here in pixels")

    def jitter(self) -> None:
        for name in ("brightness", "contrast"):
            value = self.given(name, 0)
            reach = _around(value, 1) if isinstance(value, tuple) else value
            if not isinstance(reach, int | float) or isinstance(reach, bool):
                self.lacks(f"{name}={value}: ours reaches as far above 1 as below")
            else:
                self.set(name, reach)

    def erasing(self) -> None:
        probability, value = self.given("p", 0.5), _first(self.given("value", 0))
        ranges = self.given("scale", (0.02, 0.33)), self.given("ratio", (0.3, 3.3))
        if ranges != ((0.02, 0.33), (0.3, 3.3)):
            self.lacks("its scale or ratio is not torchvision's default")
        elif not isinstance(probability, int | float) or value is None:
            self.lacks("p or value is not known without running the code, or random")
        else:
            self.set("erasing", probability)
            if abs(value - self.background) > _CLOSE:
                self.differs(f"erased to {value:g}; here to background ({self.background:.3g})")

    def crop(self) -> None:
        padding, size = self.given("padding"), self.given("size")
        if _pair(size) != (SIDE, SIDE) or not isinstance(padding, int) or self.given("fill", 0) != 0:
            self.lacks(f"size={size}, padding={padding}: ours shifts whole images")
            return
        self.set("shift", padding)
        self.differs("shifts by whole pixels; here by any part of one")

    def zoom(self, before: Sequence[Call], after: Sequence[Call]) -> None:
        """RandomApply of CenterCrop, with a Resize behind it."""
        probability, inside = self.given("p", 0.5), self.call.inside
        crop = inside[0] if len(inside) in (1, 2) and inside[0].name == "CenterCrop" else None
        size = _pair(crop.arguments.get("size")) if crop else None
        resized = [each.name for each in (*inside[1:], *after)][:1] == ["Resize"]
        square = size is not None and size[0] == size[1] and isinstance(size[0], int)
        if size is None or not square or not resized or not isinstance(probability, int | float):
            self.lacks("there is no flag that applies a transform to some images alone")
            return
        self.set("zoom", probability)
        self.found.flags["crop_size"] = size[0]
        if any(each.name.startswith("Random") for each in before):
            self.differs("after others; here it comes first")
