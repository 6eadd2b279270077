from repfold.counted import counted


def test_one_is_singular_and_all_else_plural():
    assert [counted(n, "epoch") for n in (0, 1, 2, 0.5)] == ["0 epochs", "1 epoch", "2 epochs", "0.5 epochs"]
    assert counted(1234, "class", "classes") == "1,234 classes" and counted(1, "class", "classes") == "1 class"
