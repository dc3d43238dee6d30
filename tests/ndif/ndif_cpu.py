"""NDIF's own server on a machine without an accelerator: a model actor for the CPU and a controller to go with nnsight 0.8.1.

Loaded by the server, not by the tests: ``NDIF_DEFAULT_MODEL_ACTOR_CLASS=ndif_cpu.CPUModelActor`` and
``NDIF_CONTROLLER_IMPORT_PATH=ndif_cpu.CPUController``.
"""

from __future__ import annotations

import inspect
import os
import time
from pathlib import Path

import ray
import torch
from ndif.common.metrics import ModelLoadTimeMetric
from ndif.common.telemetry import elapsed_ms
from ndif.services.ray.deployments.controller.controller import _ControllerActor
from ndif.services.ray.deployments.modeling import base
from nnsight.modeling.huggingface import HuggingFaceModel
from nnsight.modeling.mixins.remotable import Remotable

EXECUTED = "NDIF_TEST_EXECUTED"
"""Environment variable: the file that gets one line, a request's id, whenever a request's block is executed."""

if not torch.cuda.is_available():
    torch.cuda.synchronize = lambda *_, **__: None  # called between requests; needs a driver


class CPUBase(base.BaseModelDeployment):
    """The model in memory, on one or more threads; executions are counted for the tests."""

    CACHEABLE = False  # nothing to park: the weights are in RAM

    def load_from_disk(self):
        started = time.time()
        torch.set_num_threads(int(os.environ.get("NDIF_CPU_THREADS", "2")))
        model = HuggingFaceModel.from_model_key(self.model_key, dispatch=True, dtype=self.dtype_name, device="cpu", **self.kwargs)
        model._module.requires_grad_(False)
        ModelLoadTimeMetric.update(model_key=self.model_key, duration_ms=elapsed_ms(started), load_type="initial", num_gpus=0)
        return model

    def execute(self, request):
        with Path(os.environ[EXECUTED]).open("a") as file:
            file.write(f"{request.id}\n")
        return super().execute(request)


@ray.remote(num_cpus=1, max_restarts=-1)
class CPUModelActor(CPUBase):
    """What the controller deploys."""


class CPUControllerBase(_ControllerActor):
    """Importable, so that unpickling it in the controller's process imports this module and its patches.

    Ray ships the decorated class below by value: patched from there, nothing would happen.
    """


CPUController = ray.remote(num_cpus=1, num_gpus=0, max_restarts=-1, resources={"head": 1})(CPUControllerBase)


def _tolerate(name: str) -> None:
    """Drop ``trust_remote_code=``: ndif 0.1.2 passes it where nnsight 0.8.1 reads it from the model's key."""
    original = getattr(Remotable, name).__func__
    parameters = inspect.signature(original).parameters.values()
    if any(p.name == "trust_remote_code" or p.kind is p.VAR_KEYWORD for p in parameters):
        return

    def without(cls, *arguments, trust_remote_code=False, **keywords):
        return original(cls, *arguments, **keywords)

    setattr(Remotable, name, classmethod(without))


for _name in ("describe_checkpoint", "max_tp_size"):
    _tolerate(_name)

if os.environ.get("HF_HUB_OFFLINE") == "1":  # size a checkpoint by building it on meta instead of asking the hub
    HuggingFaceModel._hub_parameter_count = staticmethod(lambda repo_id, revision: None)
