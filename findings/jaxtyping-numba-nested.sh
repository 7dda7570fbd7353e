#!/bin/sh
# jaxtyping 0.3.11's import hook and numba 0.61.0: a compiled function of a hooked package that calls another one cannot be compiled, and a
# function defined inside of another is wrapped anew each time that it is defined, over a thousand times slower.
#
# The hook (install_import_hook, pytest --jaxtyping-packages) wraps every function below its other decorators, with annotations or without.
# numba then compiles the wrapper; what it pickles of it holds a weak reference. Wrapping builds source and compiles it: no matter once for
# a module, but a callback defined in a loop pays for it every time. numba 0.68.1 fails in the same way.
#
# Output when last run (November 2026):
#   jaxtyping 0.3.11: TypeError: cannot pickle 'weakref.ReferenceType' object
#   without the hook: 3.0
#   defined in a loop: more than 100 times the time without the hook
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "numba==0.61.0" "numpy==2.0.0" "beartype==0.21.0" "jaxtyping==0.3.11"
mkdir "$folder/here"
cat > "$folder/here/loops.py" <<'PYTHON'
import numba


@numba.njit(cache=True)
def twice(x):
    return 2.0 * x


@numba.njit(cache=True)
def thrice(x):
    return twice(x) + x


def defines(n):
    for _ in range(n):

        def seen(x: int) -> int:
            return x

    return seen
PYTHON
cat > "$folder/here/try_it.py" <<'PYTHON'
import sys
import time
from importlib.metadata import version

import jaxtyping

if sys.argv[1] == "hooked":
    jaxtyping.install_import_hook("loops", "beartype.beartype")
import loops

start = time.perf_counter()
loops.defines(100)
print(f"{time.perf_counter() - start:.9f}", file=sys.stderr)
try:
    said = str(loops.thrice(1.0))
except Exception as error:
    said = f"{type(error).__name__}: {str(error).splitlines()[0]}"
print(f"jaxtyping {version('jaxtyping')}: {said}" if sys.argv[1] == "hooked" else f"without the hook: {said}")
PYTHON
cd "$folder/here"
hooked=$("$folder/venv/bin/python" try_it.py hooked 2> slow)
plain=$("$folder/venv/bin/python" try_it.py plain 2> fast)
printf '%s\n%s\n' "$hooked" "$plain"
"$folder/venv/bin/python" -c '
slow, fast = (float(open(name).read().split()[-1]) for name in ("slow", "fast"))
assert slow > 100 * fast, "jaxtyping has changed: functions inside of functions are no longer wrapped anew"
print("defined in a loop: more than 100 times the time without the hook")
'
case "$hooked" in *"cannot pickle"*) ;; *) echo "it compiles under the hook now"; exit 1 ;; esac
case "$plain" in *": 3.0") ;; *) echo "it does not compile without the hook"; exit 1 ;; esac
