"""What attributes are, assignments do and calls return: of the code, of modules, of libraries."""

import ast
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from audit.notebook import tensors
from audit.notebook.datasets import default, split_of
from audit.notebook.functions import UNKNOWN, builtin, parsed_arguments
from audit.notebook.library import CONTAINERS, LAYERS, OBJECTS, canonical
from audit.notebook.lightning import run_trainer
from audit.notebook.modules import children, count_of_layer, make_layer, make_sequence, walk
from audit.notebook.natives import LONGEST, METHODS, MOST_TURNS, READING, is_key, name_of, native_method
from audit.notebook.state import Frame, Given, Run, TooLong
from audit.notebook.values import (
    Class,
    Function,
    Instance,
    Method,
    Module,
    Opaque,
    Package,
    Partial,
    Refused,
    Scope,
    Site,
    Super,
    Tensor,
    Unfollowed,
)

_DEEPEST = 30  # calls within calls
_HAS_GPU = {
    f"torch.{kind}.{name}"
    for kind in ("cuda", "accelerator", "xpu", "backends.mps", "mps")
    for name in ("is_available", "is_built", "device_count", "current_accelerator")
}
_SELF = {"to", "cuda", "cpu", "train", "eval", "float", "requires_grad_", "share_memory", "half", "double"}
_SELF |= {"bfloat16", "type", "to_empty"}
_RANDOM = ("torch.rand", "torch.randn", "torch.zeros", "torch.ones", "torch.empty")


def attribute(run: Run, owner: Any, name: str, site: Site, frame: Frame) -> Any:
    """What owner.name is."""
    match owner:
        case Opaque():
            return _opaque_attribute(run, owner, name, site)
        case Package():
            if name in owner.scope.names:
                return owner.scope.names[name]
        case Instance():
            return _instance_attribute(run, owner, name, site, frame)
        case Class():
            if name == "__name__":
                return owner.name
            if (found := owner.find(name)) is not None:
                return _bound(found, owner)
            if owner.torch_base:
                return Method(owner, name)
        case Super(cls, instance):
            of = instance.cls if isinstance(instance, Instance) else cls
            found = of.find(name, after=cls)
            return _bound(found, instance, instance) if isinstance(found, Function) else Method(owner, name)
        case Module():
            if name == "training":
                return run.training
            if name in owner.children:
                return owner.children[name]
            if name in ("weight", "bias") and owner.kind in LAYERS:
                has = count_of_layer(owner) > 0 and (name == "weight" or owner.arguments.get("bias", True))
                return Opaque("attribute", name, site, of=owner) if has else None
            if owner.kind in LAYERS and name in LAYERS[owner.kind]:
                value = owner.arguments.get(name, LAYERS[owner.kind][name])
                pair = owner.kind == "Conv2d" and name in ("kernel_size", "stride", "padding")
                return (value, value) if pair and isinstance(value, int) else value
            if name == "__class__":
                return Opaque("library", f"torch.nn.{owner.kind}")
            return Method(owner, name)
        case Tensor():
            return tensors.attribute(owner, name, site)
        case list() | dict() | str() | tuple() | set():
            return Method(owner, name)
    return Opaque("attribute", f"{name_of(owner)}.{name}", site, of=owner)


def _bound(found: Any, cls: Any, instance: Any = None) -> Any:
    """What a class has under a name as the attribute of the class, or of an instance of it."""
    first = cls if isinstance(found, Function) and found.kind == "classmethod" else instance
    bound = isinstance(found, Function) and found.kind != "staticmethod" and first is not None
    return Partial(found, (first,), {}) if bound else found


def _instance_attribute(run: Run, owner: Instance, name: str, site: Site, frame: Frame) -> Any:
    if name in owner.attributes:
        return owner.attributes[name]
    if owner.is_module and name in ("_modules", "_parameters", "__dict__"):
        raise Unfollowed(site, "what is done to a module's own dict is not followed")
    found = owner.cls.find(name)
    if isinstance(found, Function) and found.kind == "property":
        return _call_function(found, Given(run, (owner,), {}, site, frame))
    if found is not None:
        return _bound(found, owner.cls, owner)
    if name == "__class__":
        return owner.cls
    if name == "training" and owner.is_module:
        return run.training
    if owner.layer is not None and name in (owner.layer.arguments.keys() | owner.layer.children.keys()):
        return attribute(run, owner.layer, name, site, frame)
    getter = owner.cls.find("__getattr__")
    if isinstance(getter, Function):
        return _call_function(getter, Given(run, (owner, name), {}, site, frame))
    if owner.is_module or name == "save_hyperparameters":
        return Method(owner, name)
    return Opaque("attribute", f"{owner.cls.name}.{name}", site, of=owner)


def _opaque_attribute(run: Run, owner: Opaque, name: str, site: Site) -> Any:
    if name in owner.attributes:
        return owner.attributes[name]
    if name == "__dict__" and owner.attributes:  # the command line's arguments
        return dict(owner.attributes)
    if owner.kind == "library":
        full = canonical(f"{owner.name}.{name}")
        constant = {"math.pi": math.pi, "math.e": math.e, "math.inf": math.inf}.get(full)
        if name in ("__name__", "__qualname__"):
            return owner.name.rpartition(".")[2]
        return constant if constant is not None else Opaque("library", full)
    if owner.function == "torch.device" and name == "type" and isinstance(owner.args[0], str):
        return owner.args[0].partition(":")[0]
    if owner.function == "torch.accelerator.current_accelerator" and name == "type":
        return "cuda"
    if name == "dataset" and (split := split_of(owner)) is not None:
        return split[0]
    if name in OBJECTS.get(owner.function, {}):
        return default(owner, name)
    return Opaque("attribute", f"{owner.name}.{name}", site, of=owner)


def assign(run: Run, target: ast.expr, value: Any, frame: Frame) -> None:
    """What target = value does."""
    site = Site(frame.unit, target)
    match target:
        case ast.Name(id=name):
            scope = frame.scope.shared.get(name, frame.scope)
            scope.names[name] = value
            run.note_field(name, value, site)
        case ast.Attribute(value=owner, attr=name):
            set_attribute(run, run.evaluate(owner, frame), name, value, site)
        case ast.Subscript(value=owner, slice=key):
            _set_item(run, run.evaluate(owner, frame), run.evaluate(key, frame), value, site)
        case ast.Tuple(elts=targets) | ast.List(elts=targets):
            _unpack(run, targets, value, site, frame)
        case ast.Starred(value=inner):
            assign(run, inner, value, frame)


def _unpack(run: Run, targets: list[ast.expr], value: Any, site: Site, frame: Frame) -> None:
    items = run.items(value)
    starred = [index for index, each in enumerate(targets) if isinstance(each, ast.Starred)]
    if items is not None and len(starred) == 1 and len(items) >= len(targets) - 1:
        start, after = starred[0], len(targets) - starred[0] - 1
        stop = len(items) - after
        items = [*items[:start], items[start:stop], *items[stop:]]
    if items is None or len(items) != len(targets):
        name = name_of(value)
        items = [
            Opaque("item", f"item {index} of {name}", site, of=value, args=(index,))
            for index in range(len(targets))
        ]
    for target, item in zip(targets, items, strict=True):
        assign(run, target, item, frame)


def set_attribute(run: Run, owner: Any, name: str, value: Any, site: Site) -> None:
    """What owner.name = value does."""
    run.note_field(name, value, site)
    match owner:
        case Instance(attributes=names) | Class(names=names) | Package(scope=Scope(names=names)):
            if name in names and not run.is_certain(owner):
                value = run.one_of([names[name], value], site)
            names[name] = value
        case Module():
            raise Unfollowed(site, f"a layer's {name} is set after it was made")
        case Tensor():
            raise Refused(site, "what is set in the images is not followed")
        case Opaque():
            owner.attributes[name] = value
            run.record(owner, site, key=name, value=value)


def _set_item(run: Run, owner: Any, key: Any, value: Any, site: Site) -> None:
    if isinstance(owner, Opaque):
        run.record(owner, site, key=key, value=value)
    elif isinstance(owner, dict | list) and not run.is_certain(owner):
        run.lose(owner)
    elif (isinstance(owner, dict) and is_key(key) and len(owner) < LONGEST) or (
        isinstance(owner, list) and isinstance(key, int) and -len(owner) <= key < len(owner)
    ):
        owner[key] = value
    elif isinstance(owner, dict | list):
        run.lose(owner)
    elif isinstance(owner, Tensor | Module | Instance | Method):
        raise Unfollowed(site, "what is set there is not followed")


def call(function: Any, given: Given) -> Any:
    """What a call returns."""
    match function:
        case Function():
            return _call_function(function, given)
        case Partial(inner, before, named):
            return call(inner, replace(given, args=(*before, *given.args), kwargs={**named, **given.kwargs}))
        case Class():
            return _instantiate(function, given)
        case Instance() | Module():
            return call_module(function, given)
        case Method(owner, name):
            return _call_method(owner, name, given)
        case Opaque():
            return _call_opaque(function, given)
    return given.result(function)


def _call_function(function: Function, given: Given) -> Any:
    run, args, site = given.run, given.args, given.site
    strict = given.frame.strict or any(isinstance(arg, Tensor) for arg in args)
    if run.depth >= _DEEPEST:
        if strict:
            raise Refused(site, f"calls are nested more than {_DEEPEST} deep")
        return Opaque("call", site.text, site, of=function)
    names = _bind(function, args, given.kwargs)
    if isinstance(names, str):
        if strict:
            raise Refused(site, f"{function.name} is called wrongly: {names}")
        return Opaque("call", site.text, site, of=function)
    inside = Frame(
        Scope(names, parent=function.scope), function.unit, strict, function.owner, args[0] if args else None
    )
    run.depth += 1
    try:
        if isinstance(function.node, ast.Lambda):
            return run.evaluate(function.node.body, inside)
        signal = run.block(function.node.body, inside)
    finally:
        run.depth -= 1
    returned = [*inside.returned, signal.value if signal and signal.kind == "return" else None]
    if len(returned) > 1 and returned[-1] is None:
        returned.pop()
    result = run.one_of(returned, site)
    run.note_field(function.name, result, site)
    return result


def _bind(function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | str:
    """The arguments by the parameters' names; or what is wrong with them."""
    of = function.node.args
    names = [arg.arg for arg in (*of.posonlyargs, *of.args)]
    bound = dict(zip(names[len(names) - len(function.defaults) :], function.defaults, strict=True))
    bound |= function.keyword_defaults
    positional = dict(zip(names, args, strict=False))
    if len(args) > len(names) and of.vararg is None:
        return f"it takes at most {len(names)} arguments"
    bound |= positional
    if of.vararg is not None:
        bound[of.vararg.arg] = tuple(args[len(names) :])
    known = {*names, *(arg.arg for arg in of.kwonlyargs)}
    others = {}
    for name, value in kwargs.items():
        if name in positional:
            return f"it is given {name} twice"
        if name in known:
            bound[name] = value
        elif of.kwarg is not None or name == "(unknown)":
            others[name] = value
        else:
            return f"it has no argument {name}"
    if of.kwarg is not None:
        bound[of.kwarg.arg] = others
    if "(unknown)" in kwargs:  # it may give any of them
        missing = [name for name in known if name not in positional and name not in kwargs]
    else:
        missing = [name for name in known if name not in bound]
        if missing:
            return f"it lacks {', '.join(sorted(missing))}"
    return bound | {name: Opaque("unknown", name, Site(function.unit, function.node)) for name in missing}


def _instantiate(cls: Class, given: Given) -> Any:
    run, site, frame = given.run, given.site, given.frame
    instance = run.new(Instance(cls, site))
    if instance.is_module:
        run.modules.append(instance)
    constructor = cls.find("__init__")
    try:
        if isinstance(constructor, Function):
            strict = Frame(frame.scope, frame.unit, frame.strict or instance.is_module)
            _call_function(constructor, replace(given.but(instance, *given.args), frame=strict))
        elif cls.is_dataclass:
            instance.attributes |= dict(zip(cls.fields, given.args, strict=False)) | dict(given.kwargs)
        elif instance.is_module:
            _base_constructor(instance, given)
    except Refused as error:
        if frame.strict:
            raise
        instance.refused = error
    return instance


def _base_constructor(instance: Instance, given: Given) -> None:
    """What the constructor of a class of torch.nn does to an instance of one that comes from it."""
    kind = instance.cls.torch_base
    if kind in CONTAINERS:
        instance.layer = make_sequence(kind, given.args, given.site)
    elif kind in LAYERS:
        instance.layer = make_layer(kind, given.args, given.kwargs, given.site)


def call_module(module: Instance | Module, given: Given) -> Any:
    """What a network, a part of one, or another object returns when it is called."""
    run, site = given.run, given.site
    is_module = isinstance(module, Module) or module.is_module
    values = (*given.args, *given.kwargs.values())
    if is_module and not any(isinstance(value, Tensor) for value in values):
        result = given.result(module)
        run.record(result, site)
        return result
    if isinstance(module, Instance):
        if module.refused is not None:
            raise module.refused
        if "forward" in module.attributes:
            return call(module.attributes["forward"], given)
        forward = module.cls.find("__call__") or module.cls.find("forward")
        if isinstance(forward, Function):
            try:
                return _call_function(forward, given.but(module, *given.args))
            except Refused as error:
                if module.layer is None or module.layer.kind in CONTAINERS:
                    raise
                base = f"{module.cls.name} is a {module.layer.kind} with a forward of its own"
                raise Refused(site, f"{base}, which is not understood: {error}") from error
        if module.layer is None:
            return given.result(module)
        return call_module(module.layer, given)
    if module.kind == "Sequential":
        value = given.args[0]
        for child in module.children.values():
            value = call(child, given.only(value))
        return value
    if module.kind in CONTAINERS:
        raise Refused(site, f"a {module.kind} cannot be called")
    run.used.add(id(module))
    return tensors.apply(module, given.args[0], site, training=run.training)


def _call_opaque(function: Opaque, given: Given) -> Any:
    name, run, site = function.name, given.run, given.site
    args = tuple(run.known(arg, site) for arg in given.args)
    kwargs = {key: run.known(value, site) for key, value in given.kwargs.items()}
    given = replace(given, args=args, kwargs=kwargs)
    if function.kind == "library":
        if name.startswith("torch.nn."):
            kind = name.removeprefix("torch.nn.")
            if kind in CONTAINERS:
                return run.new(make_sequence(kind, args, site))
            if kind.removeprefix("Lazy") in LAYERS:
                return run.new(make_layer(kind, args, kwargs, site))
            if kind in ("DataParallel",) and args:
                return args[0]
        if name in _HAS_GPU:
            run.asked_for_cuda = True
            if not name.endswith("current_accelerator"):
                return int(run.has_cuda) if name.endswith("count") else run.has_cuda
            return given.result(function) if run.has_cuda else None
        if name in ("torch.compile", "torch.jit.script") and args and not isinstance(args[0], Tensor):
            return args[0]
        computed = _reflective(name, given)
        if computed is UNKNOWN:
            computed = builtin(name, given)
        if computed is not UNKNOWN:
            return computed
    if given.frame.strict and name in _RANDOM:  # a batch, to learn a shape from
        sizes = args[0] if len(args) == 1 and isinstance(args[0], tuple | list) else args
        if len(sizes) == 4 and all(type(size) is int and size > 0 for size in sizes):
            return tensors.batch(tuple(sizes))
    if name == "torch.autograd.Variable" and len(args) == 1:
        return args[0]
    if any(isinstance(value, Tensor) for value in (*args, *kwargs.values())):
        return tensors.function(name, given)
    result = given.result(function)
    if function.kind == "attribute" and isinstance(function.of, Opaque):
        parsed = parsed_arguments(function.of, result.method, given)
        if parsed is not None:
            return parsed
        if function.of.function == "lightning.Trainer":
            return run_trainer(function.of, result.method, given)
    run.record(result, site)
    return result


def _reflective(name: str, given: Given) -> Any:
    """What getattr, setattr and map return; UNKNOWN for all else."""
    run, first, args, site, frame = given.run, given.first, given.args, given.site, given.frame
    match name:
        case "getattr" if len(args) in (2, 3) and isinstance(args[1], str):
            if len(args) == 3 and isinstance(first, Instance):
                has = args[1] in first.attributes or first.cls.find(args[1]) is not None
                return attribute(run, first, args[1], site, frame) if has else args[2]
            return attribute(run, first, args[1], site, frame)
        case "setattr" if len(args) == 3 and isinstance(args[1], str):
            set_attribute(run, first, args[1], args[2], site)
            return None
        case "vars" if isinstance(first, Opaque) and first.attributes:  # the command line's arguments
            return dict(first.attributes)
        case "setattr" | "delattr" | "vars" if not isinstance(first, Opaque):
            raise Unfollowed(site, "which attribute it sets is not known without running the code")
        case "map" if len(args) == 2 and (items := run.items(args[1])) is not None:
            return [call(first, given.only(item)) for item in items[:MOST_TURNS]]
    return UNKNOWN


def _call_method(owner: Any, name: str, given: Given) -> Any:
    run, site = given.run, given.site
    match owner:
        case Tensor():
            return tensors.method(owner, name, given)
        case Super(cls, instance):
            return _call_base(cls, instance, name, given)
        case Class():  # nn.Module.__init__(self)
            return _call_base(owner, given.first, name, given.but(*given.args[1:]))
        case Module() | Instance():
            return _call_of_module(owner, name, given)
    changes = isinstance(owner, list | dict | set) and name not in READING
    if changes and not run.is_certain(owner):
        run.lose(owner)
    args = tuple(run.known(arg, site) for arg in given.args)
    if name in METHODS.get(type(owner), ()) and run.known(owner, site) is owner:
        arguments = [run.items(arg) if isinstance(arg, range) else arg for arg in args]
        try:
            return native_method(owner, name, arguments, given.kwargs)
        except (ArithmeticError, TypeError, ValueError, LookupError, AttributeError):
            pass
    if changes:
        run.lose(owner)
    return Opaque("call", site.text, site, args=(owner, *args), kwargs=given.kwargs)


def _call_base(cls: Class, instance: Any, name: str, given: Given) -> Any:
    """A method that a class of the code has from torch.nn, or from another library."""
    if not isinstance(instance, Instance) or not cls.torch_base:
        return None
    if name == "__init__":
        _base_constructor(instance, given)
        return None
    if name in ("forward", "__call__") and instance.layer is not None:
        return call_module(instance.layer, given)
    return _call_of_module(instance, name, given)


def _call_of_module(module: Instance | Module, name: str, given: Given) -> Any:
    """A method that every module of torch.nn has."""
    run, args, site = given.run, given.args, given.site
    inside = children(module)
    reading: dict[str, Iterable[Any]] = {
        **dict.fromkeys(("children", "values"), inside.values()),
        **dict.fromkeys(("named_children", "items"), inside.items()),
        "keys": inside,
        "modules": walk(module),
        "named_modules": (("", each) for each in walk(module)),
    }
    match name:
        case "forward" | "__call__":
            return call_module(module, given)
        case _ if name in _SELF:
            run.record(given.result(Opaque("attribute", name, of=module)), site)
            return module
        case "save_hyperparameters" if isinstance(module, Instance):
            names = {key: value for key, value in given.frame.scope.names.items() if value is not module}
            module.attributes["hparams"] = Opaque("call", "hparams", site, attributes=names)
            return None
        case "apply":
            for each in walk(module):
                call(args[0], given.only(each))
            return module
        case _ if name in reading:
            return list(reading[name])
        case "add_module" | "register_module" | "register_parameter" if len(args) == 2 and isinstance(
            args[0], str
        ):
            _hold(run, module, args[0], args[1])
            return None
        case "append" if args and isinstance(module, Module | Instance):
            _hold(run, module, str(len(inside)), args[0])
            return module
        case "extend" if args:
            for item in run.items(args[0]) or ():
                _hold(run, module, str(len(children(module))), item)
            return module
        case "insert" | "pop" | "update" | "clear" | "setdefault" | "register_parameter" | "add_module":
            raise Unfollowed(site, f"{name} of a module is not followed")
    result = given.result(Opaque("attribute", name, of=module))
    run.record(result, site)
    return result


def _hold(run: Run, owner: Instance | Module, name: str, child: Any) -> None:
    if isinstance(owner, Instance) and owner.layer is None:
        names = owner.attributes
    else:
        names = (owner if isinstance(owner, Module) else owner.layer).children  # type: ignore[union-attr]
    if not run.is_certain(owner):
        child = Opaque("unknown", f"{name}, which hangs on a condition", owner.site)
    names[name] = child


def call_method(run: Run, owner: Instance, name: str, *args: Any) -> Any:
    """What a method of an object returns; None if it has none of that name, or it is not followed."""
    function = owner.cls.find(name)
    if not isinstance(function, Function):
        return None
    try:
        frame = Frame(Scope({}), owner.site.unit)
        return _call_function(function, Given(run, (owner, *args), {}, owner.site, frame))
    except (Refused, TooLong):
        return None
