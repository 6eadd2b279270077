import math

import pytest

from repfold.report import wording

THIN = "\u202f"


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (wording.percent, 68.559, "68.56"),
        (wording.percent, None, "–"),
        (wording.percent, math.nan, "NaN"),
        (wording.share, 0.0312, "3.1 %"),
        (wording.share, math.inf, "∞"),
        (wording.significant, 0.097552, "0.09755"),
        (wording.significant, 12345.6, f"12{THIN}346"),
        (wording.significant, 0, "0"),
        (wording.significant, 4e-5, "4.000·10⁻⁵"),
        (wording.significant, -math.inf, "-∞"),
        (wording.scientific, 3.14e-7, "3.1·10⁻⁷"),
        (wording.scientific, 9.96e-7, "1.0·10⁻⁶"),
        (wording.scientific, 0.0, "0"),
        (wording.scientific, None, "–"),
        (wording.large, 812, "812"),
        (wording.large, 36864, f"36.9{THIN}k"),
        (wording.large, 1.36e9, f"1.36{THIN}G"),
        (wording.count, 1797, f"1{THIN}797"),
        (wording.count, math.nan, "NaN"),
        (wording.seconds, 0.84, "0.8 s"),
        (wording.seconds, 59.7, "1 min 0 s"),
        (wording.seconds, 200, "3 min 20 s"),
        (wording.seconds, 4321, "1 h 12 min"),
        (wording.seconds, None, "–"),
        (wording.size, 999, "999 B"),
        (wording.size, 33_200_000, "33.2 MB"),
        (wording.size, 245_000_000, "245 MB"),
        (wording.plain, True, "true"),
        (wording.plain, 0.05, "0.05"),
        (wording.plain, [0.35, 1.0], "0.35, 1"),
        (wording.plain, [], "none"),
        (wording.plain, None, "–"),
        (wording.plain, "cosine", "cosine"),
    ],
)
def test_values_are_written_for_people(function, value, text):
    assert function(value) == text


def test_one_digit_is_a_power_alone():
    assert wording.scientific(1e-3, 1) == "10⁻³"
    assert wording.scientific(3e-3, 1) == "3·10⁻³"
