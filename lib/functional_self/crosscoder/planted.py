"""Rows of two sources whose difference is known, and how much of it a crosscoder's diagnostics find.

Letters: N rows, d width, K = 2 d, G planted features, F latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment

from functional_self.crosscoder import diff
from functional_self.crosscoder.model import Crosscoder

KINDS = {"shared": (1.0, 1.0), "a only": (1.0, 0.0), "b only": (0.0, 1.0), "scaled": (1.0, 0.6)}
"""How strongly a feature of each kind is written in source a and in source b."""
FREQUENCIES = (0.1, 0.01, 0.005)
NU_R, NU_E = 0.5, 0.2
"""A latent is called exclusive where nu is below these. Source: Minder et al. 2025 (arXiv 2504.02922)."""
FOUND = 0.9
"""Cosine from which a latent is a feature."""


@dataclass(frozen=True)
class Planted:
    """Rows of both sources side by side (N x K) and what is in them: each feature's directions (G x K), kind and frequency."""

    rows_NK: torch.Tensor
    direction_GK: torch.Tensor
    kind: list[str]
    frequency: list[float]


def plant(rows: int, width: int = 48, each: int = 4, noise: float = 0.03, seed: int = 0, texts: int = 0) -> Planted:
    """x^m = mu^m + sum_g a_mg f_g v_g + noise, with f_g zero but at its frequency and there uniform from 0.5 to 1.5.

    ``each`` features of every kind at every frequency, unit v_g at random; mu^m at random, of norm 1. ``seed`` decides the
    features and ``texts`` the rows, so that other rows of the same features can be held out.
    """
    rng, draw = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1, texts])
    kind = [name for name in KINDS for _ in FREQUENCIES for _ in range(each)]
    frequency = [p for _ in KINDS for p in FREQUENCIES for _ in range(each)]
    v_Gd = rng.normal(size=(len(kind), width))
    v_Gd /= np.linalg.norm(v_Gd, axis=1, keepdims=True)
    strength_G2 = np.array([KINDS[name] for name in kind])
    direction_GK = (strength_G2[:, :, None] * v_Gd[:, None]).reshape(len(kind), 2 * width)
    mu_K = rng.normal(size=2 * width) / width**0.5
    f_NG = draw.uniform(0.5, 1.5, (rows, len(kind))) * (draw.random((rows, len(kind))) < np.array(frequency))
    rows_NK = mu_K + f_NG @ direction_GK + noise * draw.normal(size=(rows, 2 * width))
    return Planted(torch.from_numpy(rows_NK).float(), torch.from_numpy(direction_GK).float(), kind, frequency)


def exclusive(crosscoder: Crosscoder, rows_NK: torch.Tensor) -> pd.DataFrame:
    """What each diagnostic calls each latent, F rows: ``bins``, ``nu_r``, ``nu_e``, each 'a only', 'b only', '' or 'dead'.

    nu is asked of a latent only in a source where it is written at all.
    """
    batches = rows_NK.split(4096)
    count_F = diff.quality(crosscoder, batches).count_F
    D_F, norms_Fn = diff.difference(crosscoder, count_F), crosscoder.scaled_norms_Fn.detach()
    said = pd.DataFrame({"bins": [""] * len(D_F), "nu_r": "", "nu_e": ""})
    for target, name in enumerate(("a only", "b only")):
        low, high = diff.BINS[name]
        said.loc[(D_F.ge(low) & D_F.le(high)).numpy(), "bins"] = name
        nu_r_F, nu_e_F = diff.latent_scaling(crosscoder, batches, target).nu(1 - target)
        written_F = norms_Fn[:, target] > 0.1 * norms_Fn.max(dim=1).values
        for column, nu_F, most in (("nu_r", nu_r_F, NU_R), ("nu_e", nu_e_F, NU_E)):
            said.loc[(nu_F.abs().lt(most) & written_F).numpy(), column] = name
    said[(count_F == 0).numpy()] = "dead"
    return said


def recovery(crosscoder: Crosscoder, planted: Planted, held_out: Planted) -> pd.DataFrame:
    """What of the planted difference is found: a row for each kind and frequency, and one of false positives.

    A feature is ``found`` where the latent paired with it (Hungarian, by the cosine of both sources' decoders) has a cosine of
    ``FOUND`` or more. Columns ``bins``, ``nu_r``, ``nu_e``: for exclusive kinds, how many found features the diagnostic calls by
    their right name; for the others, how many it calls exclusive. The row 'false' counts latents called exclusive that are no
    exclusive feature's, shared, scaled or of none; ``of`` is then all latents called so by any of the three.
    """
    scale_K = crosscoder.scale_n.repeat_interleave(crosscoder.config.width).float()
    normal = torch.nn.functional.normalize
    cosine_GF = normal(planted.direction_GK * scale_K) @ normal(crosscoder.D_FK.detach() * scale_K).T
    feature, latent = linear_sum_assignment(cosine_GF.numpy(), maximize=True)
    said = exclusive(crosscoder, held_out.rows_NK)
    names = ["bins", "nu_r", "nu_e"]
    truth = pd.DataFrame({"kind": planted.kind, "frequency": planted.frequency, "latent": -1, "found": False})
    truth.loc[feature, "latent"] = latent
    truth.loc[feature, "found"] = cosine_GF.numpy()[feature, latent] >= FOUND
    live = (said["bins"] != "dead").to_numpy()
    truth["found"] &= live[truth["latent"]]
    for name in names:
        called = said[name].to_numpy()[truth["latent"]]
        wanted = truth["kind"].where(truth["kind"].isin(diff.BINS) & (truth["kind"] != "shared"))
        truth[name] = truth["found"] & np.where(wanted.isna(), called != "", called == wanted)
    table = truth.groupby(["kind", "frequency"], sort=False)[["found", *names]].sum().reset_index()
    table["of"] = truth.groupby(["kind", "frequency"], sort=False).size().to_numpy()
    own = {int(row["latent"]): row["kind"] for _, row in truth[truth["found"]].iterrows()}
    false, any_called = {}, np.zeros(len(said), dtype=bool)
    for name in names:
        called = said[name].isin(["a only", "b only"]).to_numpy()
        any_called |= called
        false[name] = sum(own.get(int(j)) != said[name][j] for j in np.flatnonzero(called))
    extra = {"kind": "false", "frequency": float("nan"), "found": 0, **false, "of": int(any_called.sum())}
    return pd.concat([table, pd.DataFrame([extra])], ignore_index=True)
