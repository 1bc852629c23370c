"""What runs on a real GPU only (`make test-gpu`); elsewhere these tests are skipped, or fail where a GPU is required."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def device() -> Iterator[torch.device]:
    """The GPU; all of its memory is there again afterwards."""
    if not torch.cuda.is_available():
        if os.environ.get("ALIGNMENT_GPU_REQUIRED"):
            pytest.fail("torch sees no CUDA device here, and ALIGNMENT_GPU_REQUIRED is set")
        pytest.skip("torch sees no CUDA device here")
    torch.cuda.reset_peak_memory_stats()
    yield torch.device("cuda", torch.cuda.current_device())
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()
