"""Every parameter and return value of what `from carve_nb import ...` offers has a type: functions, constructors, `__call__`.

Usage: python tools/check_types.py   (`make lint` calls it; lists what lacks one, and exits with 1 if there is any)"""
import inspect, sys
import carve_nb


def lacking(f):
    "Names of the parameters of a function that have no annotation, and 'return'; of *args and **kw none is asked"
    f = inspect.unwrap(f)
    n = f.__code__.co_argcount + f.__code__.co_kwonlyargcount
    wanted = [*f.__code__.co_varnames[:n], *['return']*(f.__name__ != '__init__')]
    return [k for k in wanted if k not in ('self', *f.__annotations__)]


def functions(o):
    "A function itself; of a class its constructor and `__call__`, as far as they are ours"
    found = [vars(c)[k] for k in ('__init__', '__call__') for c in o.__mro__[::-1] if k in vars(c)] if inspect.isclass(o) else [o]
    return {f.__qualname__: f for f in found if getattr(f, '__module__', '').startswith('carve_nb')}


if __name__ == '__main__':
    every = {k: f for name in carve_nb.__all__ for k, f in functions(getattr(carve_nb, name)).items()}
    sys.exit('\n'.join(f'{k}: no type for {", ".join(names)}' for k, f in every.items() if (names := lacking(f))) or 0)
