"""``repfold.expand`` is the room's main function, and warns at the caller's line."""

from __future__ import annotations

import warnings

import pytest
from torch import nn

import repfold
from repfold.expand import EXPANDABLE, ExpandWarning, expand


def test_a_warning_points_at_the_callers_line():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1))
    for how in (repfold.expand, expand):
        with pytest.warns(ExpandWarning) as caught:
            assert isinstance(how(network, "acb", where=None)[0], EXPANDABLE["acb"])
        assert caught[0].filename == __file__  # the user's line, not the room's


def test_nothing_is_said_where_nothing_stays():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        repfold.expand(nn.Conv2d(3, 4, 3), "acb")
