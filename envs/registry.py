"""Names of environment families: `register` a class, `make_family` an instance, `family_names` what there is.

A family is found under its name if it is built in, if a module that was imported registered it, or if an installed
package offers it under the entry point `metarl.envs` (name = "module:Class"). Nothing is imported before a family is
asked for by name, and nothing ever because a file names it: see `import_family`.
"""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from .entry_points import load_entry_point, offered
from .registration import register_with_gymnasium

if TYPE_CHECKING:
    from .family import Family
    from .task_family import ProtocolName, TaskFamily

# Built-in families by the module that defines them, so that listing names imports no MuJoCo and compiles no model.
_FAMILIES: dict[str, str | type[TaskFamily]] = {
    "half-cheetah-dir": "half_cheetah:HalfCheetahDir",
    "half-cheetah-vel": "half_cheetah:HalfCheetahVel",
    "ant-dir": "ant:AntDir",
    "ant-dir-2d": "ant:AntDir2D",
    "ant-vel": "ant:AntVel",
    "ant-goal": "ant:AntGoal",
    "ant-crippled": "ant_crippled:AntCrippled",
    "half-cheetah-params": "planar_params:HalfCheetahParams",
    "walker-params": "planar_params:WalkerParams",
    "hopper-params": "planar_params:HopperParams",
    "humanoid-dir": "humanoid:HumanoidDir",
    "point-nav": "point:PointNav",
    "point-nav-sparse": "point:PointNavSparse",
}
BUILT_IN = tuple(_FAMILIES)

# What Gymnasium's ids can be made of.
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

FamilyClass = TypeVar("FamilyClass", bound=type)


def register(family: FamilyClass) -> FamilyClass:
    """Class decorator that registers a user's family under its `name`, and with Gymnasium.

    Defining the same class again (a notebook cell run twice) replaces it. ValueError if the name is missing,
    malformed or another class's.
    """
    name = getattr(family, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{family.__name__}.name is {name!r}; set it to lower-case words joined by dashes, as in 'half-cheetah-vel'"
        )
    existing = _FAMILIES.get(name)
    if existing is not None and (isinstance(existing, str) or not _same_definition(existing, family)):
        raise ValueError(f"an environment family named {name!r} is registered already; choose another name")
    _FAMILIES[name] = family
    register_with_gymnasium(name)
    return family


def register_builtin_families() -> None:
    """Register the built-in families, and those that installed packages offer, with Gymnasium; `import metarl` does."""
    for name in family_names():
        register_with_gymnasium(name)


def family_names() -> tuple[str, ...]:
    """Every name: built-in, registered, then offered by installed packages."""
    return (*_FAMILIES, *(name for name in offered(BUILT_IN).families if name not in _FAMILIES))


def plugin_problems() -> tuple[str, ...]:
    """What is wrong, in words, with entry points of installed packages that were left out; none is imported for it."""
    return offered(BUILT_IN).problems


def family_class(name: str) -> type[TaskFamily]:
    """The class registered under a name.

    ValueError with close matches for an unknown one, and for one whose package cannot be loaded.
    """
    if name in _FAMILIES:
        entry = _FAMILIES[name]
        if isinstance(entry, str):
            module, attribute = entry.split(":")
            return getattr(importlib.import_module(f".{module}", __package__), attribute)
        return entry
    families = offered(BUILT_IN).families
    if name in families:
        return load_entry_point(families[name])
    close = difflib.get_close_matches(name, family_names(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(family_names())}."
    raise ValueError(f"unknown environment {name!r}; {hint} One of your own needs --import my_module:MyFamily")


def make_task_family(name: str, protocol: ProtocolName = "modern", oracle: bool = False) -> TaskFamily:
    """Build a family of either kind by name. ValueError for an unknown name or protocol.

    protocol: "modern" (Gymnasium's physics) or "finn2017" (the paper's environment).
    oracle: append the goal to the observation.
    """
    return family_class(name)(protocol=protocol, oracle=oracle)


def make_family(name: str, protocol: ProtocolName = "modern", oracle: bool = False) -> Family:
    """Build a MuJoCo family by name, as `make_task_family`. ValueError also for one of Gymnasium environments."""
    from .family import Family

    family = make_task_family(name, protocol, oracle)
    if not isinstance(family, Family):
        raise ValueError(
            f"{name} runs Gymnasium environments in worker processes and has no MuJoCo model of ours, which is needed "
            "here; it can be trained, evaluated and adapted, and its own environments used directly"
        )
    return family


def import_family(reference: str) -> type[TaskFamily]:
    """Import and register a family of the user's: "my_module:MyFamily" or "folder/my_file.py:MyFamily".

    The current folder, or the file's, is put on the import path, as Python does for a script. Only for a reference that
    the user gave: importing runs the module. ValueError says why it cannot be imported or is no family.
    """
    from .task_family import TaskFamily

    place, _, attribute = reference.rpartition(":")
    if not place or not attribute.isidentifier():
        raise ValueError(f"{reference!r} names no class; write my_module:MyFamily or folder/my_file.py:MyFamily")
    module = import_users_module(place)
    family = getattr(module, attribute, None)
    if family is None:
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, TaskFamily)]
        own = [n for n in classes if vars(module)[n].__module__ == module.__name__]
        close = difflib.get_close_matches(attribute, own, n=1) or own
        hint = f"did you mean {' or '.join(close)}?" if close else "it defines no family"
        raise ValueError(f"{place} has no {attribute}; {hint}")
    if not (isinstance(family, type) and issubclass(family, TaskFamily)):
        raise ValueError(f"{reference} is not a family: derive the class from metarl.envs.Family or GymnasiumFamily")
    return register(family)


def import_users_module(place: str) -> ModuleType:
    """Import "my_module" or "folder/my_file.py". ValueError with the place and kind of what went wrong."""
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise ValueError(f"there is no file {place}")
        folder, name = str(path.resolve().parent), path.stem
    else:
        folder, name = str(Path.cwd()), place
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except Exception as error:  # whatever the user's module raises
        raise ValueError(f"cannot import {place}: {_where(error)}{type(error).__name__}: {error}") from error
    if place.endswith(".py") and Path(getattr(module, "__file__", None) or "").resolve() != path.resolve():
        raise ValueError(f"{place} has the name of another module, {module.__file__}; rename the file")
    return module


def _where(error: BaseException) -> str:
    """The file and line, outside the import machinery, that an exception came from: "my_module.py, line 3: "."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<frozen") and file != __file__ and "importlib" not in file:
            place = f"{Path(file).name}, line {trace.tb_lineno}: "
        trace = trace.tb_next
    return place


def _same_definition(one: type, other: type) -> bool:
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
