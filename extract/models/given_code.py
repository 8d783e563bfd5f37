"""Hash what a network that is given as an object computes: its classes' code and its settings, as they are loaded.

found = of_model(model, lambda: model(images))
found.digest       # SHA-256 of its structure, its settings and the user's code; its weights are hashed elsewhere
found.packages     # {"torchvision"}: installed packages that define a module of it, or that the user's code uses

The loaded code is hashed, not its file: the file may have changed since, and a class of a notebook has none. A function
of the user's counts by its compiled code, without line numbers, with whatever it uses: other functions, classes and
values. A method of a module counts if `forward`, or what `forward` uses, names it. Packages count by their versions,
which the caller adds. A setting is an attribute of a module that is no weight.

What cannot be hashed, such as an open file, is refused. Code that is found by a text only (importlib, getattr) is
missed.
"""

from __future__ import annotations

import collections
import enum
import functools
import logging
import sys
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dissectdb.extract import fingerprints
from dissectdb.extract.models.opened_files import is_installed
from dissectdb.extract.study import StudyError

# Attributes that are no settings. Hooks are: they may change what comes out.
OF_MODULE = set(vars(nn.Module())) - {"_forward_hooks", "_forward_pre_hooks"} | {"_is_torch_compile"}
OF_GRAPH = {"_graph", "_code", "_tracer_cls"}  # of torch.fx, whose code is counted
WAY_OUT = 'write a function that builds it into a file, and name it: network.architecture = "FILE.py:FUNCTION"'
FORWARD = "forward"


@dataclass(frozen=True)
class GivenCode:
    """What was found of a network. digest: SHA-256 of it. packages: their versions are not in the digest."""

    digest: str
    packages: frozenset[str]


class _Unhashable(Exception):
    """Something that no hash can stand for."""

    def __init__(self, value: object) -> None:
        super().__init__(f"a {type(value).__name__}")


def of_model(model: nn.Module, run: Callable[[], object]) -> GivenCode:
    """The code and the settings of a network. Raises StudyError if a part of it cannot be hashed.

    run: a pass through the network, which also imports what `forward` imports. What it changes is no setting but
    something that the network remembers; other code finds out whether answers depend on that (repeatability.py).
    """
    before = _Walk(model)
    run()
    after = _Walk(model)
    kept = {
        key: value
        for key, value in after.found.items()
        if (before.found[key] == value if key in before.found else key not in after.settings)
    }
    # Compiled code depends on Python's version.
    digest = fingerprints.of_values(sorted(kept.items()), sys.version_info[:2])
    return GivenCode(digest, frozenset(after.packages))


class _Walk:
    """One walk through a network.

    found: key → JSON, for each attribute of a module, function, class member and other object. settings: the keys of
    the attributes. An object is described once; after that, its name stands for it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.found: dict[str, object] = {}
        self.settings: set[str] = set()
        self.packages: set[str] = set()
        self.paths = {id(module): path for path, module in model.named_modules()}
        self.names: dict[int, str] = {}
        self.kept: list[object] = []  # so that no two objects have one id
        self.taken: collections.Counter[str] = collections.Counter()
        self.called = {FORWARD}  # names in the code that was described
        self.waiting: dict[str, list[tuple[str, object]]] = {}  # members of modules' classes that are not called yet
        for path, module in model.named_modules():
            self._of_part(path or type(module).__name__, module)

    def _of_part(self, path: str, module: nn.Module) -> None:
        """A module of the network: its class and its attributes."""
        if isinstance(module, torch.jit.ScriptModule):
            raise StudyError(f"network: {path} is TorchScript, whose code cannot be hashed; {WAY_OUT}")
        self.found[f"module {path}"] = self._checked(path, type(module))
        if isinstance(module, torch.fx.GraphModule):
            self.found[f"{path}.code"] = module.code
        for key, value in _attributes(module):
            self.settings.add(f"{path}.{key}")
            self.found[f"{path}.{key}"] = self._checked(f"{path}.{key}", value)

    def _checked(self, where: str, value: object) -> object:
        try:
            return self.of_value(value)
        except (_Unhashable, RecursionError) as problem:
            what = problem if isinstance(problem, _Unhashable) else "nested too deeply"
            raise StudyError(f"network: {where} is or holds {what}, which cannot be hashed; {WAY_OUT}") from None

    # ------------------------------------------------------------ values

    def of_value(self, value: object) -> object:
        """JSON that is equal for equal values. Raises _Unhashable."""
        if isinstance(value, enum.Enum):
            return [self.of_class(type(value)), value.name]
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
            return [type(value).__name__, repr(value)]  # True is not 1
        if isinstance(value, Tensor):
            return fingerprints.of_weights({"": value})
        if isinstance(value, np.ndarray) and value.dtype != object:
            return fingerprints.of_array(value)
        if isinstance(value, Mapping):
            pairs = [[self.of_value(key), self.of_value(each)] for key, each in value.items()]
            return [self.of_class(type(value)), pairs]
        if isinstance(value, list | tuple | collections.deque | np.ndarray):
            return [self.of_class(type(value)), [self.of_value(each) for each in value]]
        if isinstance(value, set | frozenset):
            return ["set", sorted(fingerprints.of_values(self.of_value(each)) for each in value)]
        if isinstance(value, type):
            return self.of_class(value)
        if isinstance(value, nn.Module):
            return self._of_hidden(value)
        return self._of_code(value)

    def _of_hidden(self, module: nn.Module) -> str:
        """A module in an attribute: its place in the network, or all of it if a plain list hides it."""
        if id(module) in self.paths:
            return f"module {self.paths[id(module)]}"
        if id(module) in self.names:
            return self.names[id(module)]
        name = self._named(module, self.of_class(type(module)))
        for key, value in [*_attributes(module), *module.named_children()]:
            self.found[f"object {name}.{key}"] = self.of_value(value)
        self.found[f"object {name}"] = fingerprints.of_weights(module.state_dict())
        return name

    def _of_code(self, value: object) -> object:
        """A function, or what holds functions."""
        if isinstance(value, types.FunctionType):
            return self.of_function(value)
        if isinstance(value, types.MethodType):
            return ["method", self.of_value(value.__func__), self.of_value(value.__self__)]
        if isinstance(value, staticmethod | classmethod):
            return [type(value).__name__, self.of_value(value.__func__)]
        if isinstance(value, property):
            return ["property", self.of_value(value.fget), self.of_value(value.fset)]
        if isinstance(value, functools.partial):
            return ["partial", self.of_value(value.func), self.of_value(value.args), self.of_value(value.keywords)]
        if isinstance(value, torch.jit.ScriptFunction):
            return [value.name, str(value.code)]
        if isinstance(value, types.ModuleType):
            self._add_package(value.__name__)
            return f"module {value.__name__}"
        if isinstance(value, logging.Logger | weakref.ref):
            return type(value).__name__
        return self._of_object(value)

    def _of_object(self, value: object) -> object:
        """An instance of another class: its attributes or, if it has none, how it is written."""
        if id(value) in self.names:
            return self.names[id(value)]
        if hasattr(value, "__dict__") and not isinstance(value, types.BuiltinFunctionType):
            name = self._named(value, self.of_class(type(value)))
            for key, each in vars(value).items():
                self.found[f"object {name}.{key}"] = self.of_value(each)
            return name
        text = repr(value)
        if isinstance(value, types.BuiltinFunctionType) and not isinstance(value.__self__, types.ModuleType | None):
            return ["method", value.__name__, self.of_value(value.__self__)]
        if isinstance(value, types.BuiltinFunctionType):
            self._add_package(value.__module__)
            return f"{value.__module__}.{value.__qualname__}"
        if " at 0x" in text or (hasattr(value, "__iter__") and not isinstance(value, range)):
            raise _Unhashable(value)
        return [self.of_class(type(value)), text]

    # ------------------------------------------------------------ code

    def of_class(self, kind: type) -> str:
        """The name of a class. One of the user's is described, with its bases."""
        if not _is_users(kind.__module__):
            self._add_package(kind.__module__)
            self._of_patches(kind)
            return f"{kind.__module__}.{kind.__qualname__}"
        if id(kind) in self.names:
            return self.names[id(kind)]
        name = self._named(kind, kind.__qualname__)  # a class is the same in a script and in a module
        self.found[f"class {name}"] = [self.of_class(base) for base in kind.__bases__]
        for key, value in vars(kind).items():
            is_special = key.startswith("__") and key.endswith("__")
            if key == "_abc_impl" or (is_special and not callable(getattr(value, "__func__", value))):
                continue
            if isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType):
                continue
            if not issubclass(kind, nn.Module):
                self.found[f"class {name}.{key}"] = self.of_value(value)
            elif not is_special or key in ("__call__", "__getattr__"):  # the network is built: __init__ is over
                self._await(name, key, value)
        return name

    def _await(self, name: str, key: str, value: object) -> None:
        """Describe a member of a module's class, now or when code that is described names it."""
        self.waiting.setdefault(key, []).append((name, value))
        if key in self.called or key.startswith("__"):
            self._wake(key)

    def _wake(self, key: str) -> None:
        self.called.add(key)
        for name, value in self.waiting.pop(key, []):
            self.found[f"class {name}.{key}"] = self.of_value(value)

    def _of_patches(self, kind: type) -> None:
        """Methods that the user has put into a package's class."""
        if id(kind) in self.names or not issubclass(kind, nn.Module):
            return
        self.names[id(kind)] = kind.__qualname__
        for base in kind.__mro__:
            for key, value in vars(base).items():
                if isinstance(value, types.FunctionType) and _is_users(value.__module__) > _is_users(base.__module__):
                    self._await(base.__qualname__, key, value)

    def of_function(self, function: types.FunctionType) -> str:
        """The name of a function. One of the user's is described: its code and everything that it uses."""
        if not _is_users(function.__module__):
            self._add_package(function.__module__)
            return f"{function.__module__}.{function.__qualname__}"
        if id(function) in self.names:
            return self.names[id(function)]
        name = self._named(function, function.__qualname__)
        self.found[f"def {name}"] = _of_compiled(function.__code__)
        self.found[f"def {name}, defaults"] = self.of_value([function.__defaults__, function.__kwdefaults__])
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if variable != "__class__":
                self.found[f"def {name}, {variable}"] = self._checked(f"{name}, its {variable}", cell.cell_contents)
        for variable, value in self._used(function).items():
            self.found[f"def {name}, {variable}"] = self._checked(f"{name}, its {variable}", value)
        for key in _names_in(function.__code__):
            self._wake(key)
        return name

    def _used(self, function: types.FunctionType) -> dict[str, object]:
        """What the names in a function's code stand for: its globals, and parts of the user's modules."""
        names, scope = _names_in(function.__code__), function.__globals__
        package = scope.get("__package__") or ""
        used = {name: scope[name] for name in names if name in scope}
        modules = [value for value in used.values() if isinstance(value, types.ModuleType)]
        # Some are imported inside the function.
        loaded = [sys.modules.get(each) for name in names for each in (name, f"{package}.{name}")]
        modules += [module for module in loaded if module is not None and module not in modules]
        for module in modules:  # grows
            if _is_users(module.__name__):
                parts = {name: vars(module)[name] for name in names if name in vars(module)}
                used |= {f"{module.__name__}.{name}": part for name, part in parts.items()}
                inner = [part for part in parts.values() if isinstance(part, types.ModuleType)]
                modules += [part for part in inner if part not in modules]
        return used

    # ------------------------------------------------------------ names

    def _named(self, value: object, name: str) -> str:
        """A name for an object; numbered if another object has it."""
        self.taken[name] += 1
        self.names[id(value)] = name if self.taken[name] == 1 else f"{name} #{self.taken[name]}"
        self.kept.append(value)
        return self.names[id(value)]

    def _add_package(self, module: str | None) -> None:
        package = (module or "builtins").partition(".")[0]
        if package not in sys.stdlib_module_names and not _is_users(package):
            self.packages.add(package)


def _attributes(module: nn.Module) -> Iterator[tuple[str, object]]:
    """The attributes of a module that are no weights, and its unsaved buffers."""
    left_out = OF_MODULE | (OF_GRAPH if isinstance(module, torch.fx.GraphModule) else set())
    for key, value in vars(module).items():
        if key not in left_out and not (key.startswith("_forward_") and not value):
            yield key, list(value.values()) if key.startswith("_forward_") else value  # hooks, by number
    for key in sorted(module._non_persistent_buffers_set):
        yield key, module._buffers.get(key)


def _names_in(code: types.CodeType) -> list[str]:
    """The global names and attributes that code uses, nested functions included, sorted."""
    nested = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _names_in(part)]
    return sorted({*code.co_names, *nested})


def _of_compiled(code: types.CodeType) -> list[object]:
    """Compiled code as JSON, without line numbers, file and place."""
    constants = [_of_compiled(each) if isinstance(each, types.CodeType) else _constant(each) for each in code.co_consts]
    names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
    counts = [code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount]
    return [code.co_code.hex(), code.co_exceptiontable.hex(), constants, names, counts]


def _constant(value: object) -> str:
    return f"set {sorted(map(repr, value))}" if isinstance(value, frozenset) else repr(value)


def _is_users(module: str | None) -> bool:
    """Whether a module is the user's: neither Python's, nor an installed package's, nor ours."""
    package = (module or "builtins").partition(".")[0]
    if package == "dissectdb" or package in sys.stdlib_module_names:
        return False
    loaded = sys.modules.get(package)
    file = getattr(loaded, "__file__", None) or next(iter(getattr(loaded, "__path__", [])), None)
    return file is None or not _is_installed(file)


@functools.cache
def _is_installed(file: str) -> bool:
    return is_installed(Path(file))
