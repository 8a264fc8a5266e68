"""LAPACK and BLAS without Python's interpreter lock, so that threads can solve systems side by side.

scipy.linalg's own wrappers hold the lock while they compute; these call the same routines by the pointers that SciPy
publishes for C (`scipy.linalg.cython_lapack`). Matrices are C-contiguous and square, and only their lower
triangle is read or written: it is Fortran's upper one, hence the "U" below. Vectors are contiguous.
Each call runs on the threads of SciPy's BLAS: hold them to one (threadpoolctl) where calls run in threads of their own.
"""

import ctypes
from collections.abc import Callable
from ctypes import byref, c_double, c_int
from types import ModuleType

import numpy as np
from scipy.linalg import cython_blas, cython_lapack


def _routine(module: ModuleType, name: str, n_arguments: int) -> Callable[..., None]:
    """Make a function of a Fortran routine, whose arguments are all addresses."""
    capsule = module.__pyx_capi__[name]
    signature = _capsule_name(capsule)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * n_arguments)(_capsule_pointer(capsule, signature))


_capsule_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_spotrf = _routine(cython_lapack, "spotrf", 5)
_strsv = _routine(cython_blas, "strsv", 8)
_dsymv = _routine(cython_blas, "dsymv", 10)
_ONE = byref(c_int(1))


def cholesky(A: np.ndarray) -> bool:
    """Replace the lower triangle of float32 A by its Cholesky factor L, A = L L^T; False if A is not positive definite.

    A's upper triangle is left as it is.
    """
    failed = c_int()
    n = byref(c_int(len(A)))
    _spotrf(b"U", n, A.ctypes.data, n, byref(failed))
    return failed.value == 0


def solve(L: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Solve L L^T x = b in float32, for b of shape (n,)."""
    x = b.astype(np.float32)
    n = byref(c_int(len(L)))
    for transpose in (b"T", b"N"):
        _strsv(b"U", transpose, b"N", n, L.ctypes.data, n, x.ctypes.data, _ONE)
    return x


def subtract_product(A: np.ndarray, x: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return b - A x in float64, for symmetric A given by its lower triangle."""
    residual = b.astype(np.float64)
    n = byref(c_int(len(A)))
    _dsymv(
        b"U", n, byref(c_double(-1)), A.ctypes.data, n, x.ctypes.data, _ONE,
        byref(c_double(1)), residual.ctypes.data, _ONE,
    )  # fmt: skip
    return residual
