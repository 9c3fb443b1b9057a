"""Allow list of variables that TorchServe and its workers inherit, because a secret may have any name."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD"),  # drivers, and the allocator an operator has chosen
        *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_TF32_OVERRIDE"),
    }
)
# Settings of the libraries: threads, devices, memory, caches of compiled kernels.
_PREFIXES = (
    *("LC_", "CUDA_", "NCCL_", "PYTORCH_", "TORCH_", "TORCHINDUCTOR_", "TRITON_"),
    *("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "BLIS_", "NUMEXPR_", "TBB_", "MALLOC_"),
    *("OV_", "OPENVINO_", "ONEDNN_", "DNNL_"),
)
# A prefix may match a variable that is no setting of its library, such as NVIDIA_API_KEY.
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH")


def allowed(inherited: Mapping[str, str]) -> dict[str, str]:
    """The part of `inherited` that a worker may see."""
    return {
        name: value
        for name, value in inherited.items()
        if name in _NAMES or (name.startswith(_PREFIXES) and not _SECRET.search(name))
    }
