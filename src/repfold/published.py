"""Where trained weights of the networks can be had, for ``--init``: known repositories, their size of image, licences.

The licences are those that timm states of the weights; the card of the repository has the last word.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """``repository``: on the Hugging Face Hub; ``image_size``: that the weights are meant for, px."""

    repository: str
    licence: str
    image_size: int = 224


_APPLE = "mobileone-license (Apple's own)"
_REPVGG = ("a0", "a1", "a2", "b0", "b1", "b1g4", "b2", "b2g4", "b3", "b3g4")

PUBLISHED: dict[str, tuple[Published, ...]] = {
    **{f"repvgg-{name}": (Published(f"timm/repvgg_{name}.rvgg_in1k", "mit"),) for name in _REPVGG},
    "repvgg-d2se": (Published("timm/repvgg_d2se.rvgg_in1k", "mit", 320),),
    **{f"mobileone-s{k}": (Published(f"timm/mobileone_s{k}.apple_in1k", _APPLE),) for k in range(5)},
    **{
        name: (
            Published(f"timm/{name}.a1_in1k", "apache-2.0"),
            Published(f"timm/{name}.tv_in1k", "bsd-3-clause"),
        )
        for name in ("resnet18", "resnet34", "resnet50")
    },
    "resnet50-vd": (Published("timm/resnet50d.a1_in1k", "apache-2.0"),),
    "mobilenetv1": (Published("timm/mobilenetv1_100.ra4_e3600_r224_in1k", "apache-2.0"),),
    "mobilenetv2": (Published("timm/mobilenetv2_100.ra_in1k", "apache-2.0"),),
}
