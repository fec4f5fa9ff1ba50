"""Omniglot (Lake, Salakhutdinov, Tenenbaum 2015) from local files, and its customary splits."""

from __future__ import annotations

from typing import Literal

OmniglotSplit = Literal["characters", "alphabets"]
Rotations = Literal["none", "train", "all"]
