"""nnterp's side of ``benchmarks.harvest``: reads batches named on stdin, answers with seconds; imports no other module here."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import nnsight
import torch
from nnterp import StandardizedTransformer


def main(where: str, layer: int, threads: int) -> None:
    """Answer until stdin ends."""
    torch.set_num_threads(threads)
    model = StandardizedTransformer(where, device_map="cpu", dtype=torch.float32, check_renaming=False)
    print(json.dumps({"nnsight": nnsight.__version__}), flush=True)
    for line in sys.stdin:
        folder = Path(line.strip())
        given = torch.load(folder / "given.pt", weights_only=True)
        start, found = (time.perf_counter(), time.process_time()), []
        for ids_BL, mask_BL in given:
            keep_BL = mask_BL.bool()
            with torch.no_grad(), model.trace({"input_ids": ids_BL, "attention_mask": mask_BL}) as tracer:
                rows_ND = model.layers_output[layer][keep_BL].save()
                tracer.stop()
            found.append(rows_ND)
        seconds = (time.perf_counter() - start[0], time.process_time() - start[1])
        torch.save(torch.cat(found), folder / "found.pt")
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
