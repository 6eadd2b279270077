"""Studies as files: what they say, what a scale changes of it, and what is refused, with the nearest match."""

import re

import pytest

from repfold.errors import RepFoldError
from repfold.study import study_file

HEAD = 'name = "x"\nrecipe = "digits"\nseeds = [0, 1]\nreference = "none"\nmetric = "val_top1"\n'
ARMS = '[arms.none]\nwarmup = "0"\n[arms.linear]\nwarmup = "2ep"\n'


def test_arms_times_axes():
    study = study_file.parse(HEAD + ARMS + "[axes]\nlr = [0.05, 0.2]\nbatch = [32, 64]\n[settings]\nepochs = 3\n")
    assert len(study.arms) == 8
    arm = study.arm("linear, lr=0.2, batch=32")
    assert (arm.recipe.lr, arm.recipe.batch, arm.recipe.warmup, arm.recipe.epochs) == (0.2, 32, "2ep", 3)
    assert arm.reference == "none, lr=0.2, batch=32"
    assert study.arm(arm.reference).is_reference


def test_axes_alone_are_the_arms_and_the_reference_is_one_of_them():
    study = study_file.parse(HEAD.replace('"none"', '"lr=0.2"') + "[axes]\nlr = [0.05, 0.2]\n")
    assert [arm.name for arm in study.arms] == ["lr=0.05", "lr=0.2"]
    assert {arm.reference for arm in study.arms} == {"lr=0.2"}


def test_a_full_name_as_the_reference_of_all():
    head = HEAD.replace('"none"', '"none, lr=0.05"')
    study = study_file.parse(head + ARMS + "[axes]\nlr = [0.05, 0.2]\n")
    assert {arm.reference for arm in study.arms} == {"none, lr=0.05"}


SCALED = HEAD + ARMS + (
    '[arms.constant]\nwarmup = "2ep"\nwarmup_shape = "constant"\n'
    '[scales.small]\nabout = "tiny"\nseeds = 3\ndrop = ["constant"]\n'
    "[scales.small.settings]\nepochs = 4\n[scales.small.arms.linear]\nwarmup = \"1ep\"\n"
    '[scales.full]\nrecipe = "warmup-none"\n'
)  # fmt: skip


def test_scales():
    small, full = study_file.parse(SCALED), study_file.parse(SCALED, scale="full", data="photos")
    assert (small.scale, small.about, small.seeds) == ("small", "tiny", (0, 1, 2))
    assert [(arm.name, arm.recipe.warmup, arm.recipe.epochs) for arm in small.arms] == [
        ("none", "0", 4),
        ("linear", "1ep", 4),
    ]
    assert len(full.arms) == 3 and {(arm.recipe.model, arm.recipe.data) for arm in full.arms} == {
        ("repvgg-a0", "photos")
    }
    assert study_file.scales_of(SCALED) == {"small": "tiny", "full": ""}


def test_an_arm_with_a_recipe_of_its_own():
    study = study_file.parse(HEAD + ARMS + '[arms.other]\nrecipe = "cifar10"\n[settings]\ndata = "digits"\n')
    assert study.arm("other").recipe.model != study.arm("none").recipe.model
    assert study.arm("other").recipe.data == "digits"


REFUSED = {
    "warmpu": (HEAD + '[arms.none]\nwarmpu = "0"\n', "arm 'none': Unknown recipe key 'warmpu'. Did you mean 'warmup'?"),
    "an axis": (HEAD + ARMS + "[axes]\nlearning = [1]\n", "Unknown recipe key 'learning'"),
    "a value": (HEAD + ARMS + "[axes]\nlr = [-1.0]\n", "lr is -1.0; it must be"),
    "a key": ("sedes = [0]\n" + HEAD + ARMS, "Unknown key 'sedes'. Did you mean 'seeds'?"),
    "an empty grid": (HEAD, "neither [arms.NAME] nor [axes]"),
    "an empty axis": (HEAD + ARMS + "[axes]\nlr = []\n", "axes.lr is empty"),
    "a reference": (HEAD.replace('"none"', '"nona"') + ARMS, "'nona', which is no arm. Did you mean 'none'?"),
    "no reference": (HEAD.replace('reference = "none"\n', "") + ARMS, "It has no reference"),
    "a metric": (HEAD.replace("val_top1", "val_topp1") + ARMS, "Did you mean 'val_top1'?"),
    "no seeds": (HEAD.replace("[0, 1]", "[]") + ARMS, "seeds is []"),
    "twin seeds": (HEAD.replace("[0, 1]", "[1, 1]") + ARMS, "seeds is [1, 1]"),
    "twins": (HEAD + ARMS + '[arms.again]\nwarmup = "2ep"\n', "'linear', 'again' are the same training"),
    "a claim": (HEAD + ARMS + '[claims]\nlinaer = "x"\n', "claims.linaer is of no arm. Did you mean 'linear'?"),
    "a recipe": (HEAD.replace('"digits"', '"digit"') + ARMS, "Unknown recipe 'digit'. Did you mean 'digits'?"),
    "a type": (HEAD.replace("[0, 1]", '"0"') + ARMS, "seeds is '0'; it must be a list or a whole number"),
    "no table": (HEAD + "[arms]\nnone = 1\n", "write a table, [arms.none]"),
    "no TOML": ("name = ", "it is not TOML"),
    "best_over": ('best_over = "lr"\n' + HEAD + ARMS, "best_over names 'lr', which is no axis"),
    "a scale's key": (HEAD + ARMS + "[scales.small]\nseed = [1]\n", "'scales.small.seed'. Did you mean 'seeds'?"),
    "a scale": (HEAD + ARMS + "[scales.tiny]\n", "Unknown scale 'tiny'"),
    "drop": (HEAD + ARMS + '[scales.small]\ndrop = ["lin"]\n', "drop names 'lin'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    text, message = REFUSED[case]
    with pytest.raises(RepFoldError, match=re.escape(message)) as error:
        study_file.parse(text, name="my.toml")
    assert str(error.value).startswith("my.toml: ")


def test_a_scale_that_it_has_not():
    with pytest.raises(RepFoldError, match=r"has no scale 'medium'. It has: small, full"):
        study_file.parse(SCALED, scale="medium")


def test_unknown_study():
    with pytest.raises(RepFoldError, match=r"Unknown study 'warmup-digit'. Did you mean 'warmup-digits'?"):
        study_file.find("warmup-digit")


@pytest.mark.parametrize(
    "name", [name for name, text in study_file.shipped().items() if not study_file.scales_of(text)]
)
def test_shipped_studies_without_scales_parse(name):
    assert study_file.find(name).name == name
