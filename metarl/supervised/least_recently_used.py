"""Least recently used access: an external memory that writes where it has read last, or where nothing was used lately.

At each step, for R read heads h with keys k_h and gates a_h (equations of the source):
  K_h(i) = cosine of k_h and M_tm1(i)                                          (2)
  w_read_h = softmax over i of b_h K_h(i)                                      (3; b = 1)
  r_h = sum over i of w_read_h(i) M_tm1(i)                                     (4)
  w_write_h = sigmoid(a_h) w_read_h,tm1 + (1 - sigmoid(a_h)) w_lu_tm1          (7)
  w_used = decay w_used,tm1 + sum over h of (w_read_h + w_write_h)             (5)
  w_lu(i) = 1 at the R places used least, else 0                               (6)
  M(i) = M_tm1(i), emptied first at the place used least, + sum over h of w_write_h(i) k_h      (8)

Source: Santoro et al. 2016, "Meta-learning with memory-augmented neural networks", section 3.2.
Choices where the paper leaves them open: reading comes before writing, else a key would find itself; of places used
equally little, those with the lowest number count as least used; b = 1 is the paper's, learned strengths are those of
Graves et al. 2014, equation 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

EMPTY = 1e-6
"""What an unused place holds: not 0, where the cosine has no derivative."""


@dataclass(frozen=True)
class MemoryState:
    """One memory a task."""

    content: Float[Tensor, "task place word"]
    """M."""
    read: Float[Tensor, "task head place"]
    """w_read of the last step."""
    used: Float[Tensor, "task place"]
    """w_used."""


def empty_memory(tasks: int, places: int, word: int, heads: int, like: Tensor) -> MemoryState:
    """The memory at the start of each task: all but empty, as if place 0 had been read last and nothing was used."""
    read = like.new_zeros(tasks, heads, places)
    read[:, :, 0] = 1.0
    return MemoryState(like.new_full((tasks, places, word), EMPTY), read, like.new_zeros(tasks, places))


def read_weights(
    keys: Float[Tensor, "task n word"],
    strengths: Float[Tensor, "task n"] | None,
    content: Float[Tensor, "task place word"],
) -> Float[Tensor, "task n place"]:
    """w_read of any number of keys: equations 2 and 3. strengths: b, None for 1."""
    key_norm = keys.norm(dim=-1, keepdim=True)
    content_norm = content.norm(dim=-1).unsqueeze(1)
    cosine = keys @ content.transpose(1, 2) / (key_norm * content_norm + 1e-8)
    return torch.softmax(cosine if strengths is None else strengths.unsqueeze(-1) * cosine, dim=-1)


def least_used(used: Float[Tensor, "task place"], n: int) -> Float[Tensor, "task place"]:
    """w_lu: 1 at the n places used least, else 0."""
    places = used.argsort(dim=-1, stable=True)[:, :n]
    return torch.zeros_like(used).scatter(1, places, 1.0)


def step(
    state: MemoryState,
    keys: Float[Tensor, "task head word"],
    gates: Float[Tensor, "task head"],
    strengths: Float[Tensor, "task head"] | None,
    decay: float,
) -> tuple[MemoryState, Float[Tensor, "task head word"]]:
    """The memory after a step, and what it read before writing."""
    heads = keys.shape[1]
    read = read_weights(keys, strengths, state.content)
    reading = read @ state.content
    gate = torch.sigmoid(gates).unsqueeze(-1)
    write = gate * state.read + (1 - gate) * least_used(state.used, heads).unsqueeze(1)
    used = decay * state.used + (read + write).sum(dim=1)
    emptied = least_used(state.used, 1).unsqueeze(-1)
    content = state.content * (1 - emptied) + write.transpose(1, 2) @ keys
    return MemoryState(content, read, used), reading
