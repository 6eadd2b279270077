"""The torch.optim.lr_scheduler made of a schedule sets exactly the schedule's rates, also after resuming."""

import pytest
import torch
from torch import nn
from torch.optim import SGD

from repfold import schedule
from repfold.optim.scheduler import lr_scheduler

CURVE = schedule.warmup(1, then=schedule.cosine())


def make() -> tuple[SGD, torch.optim.lr_scheduler.LambdaLR]:
    layer = nn.Linear(2, 2)
    optimizer = SGD([{"params": [layer.weight], "lr": 0.4}, {"params": [layer.bias], "lr": 0.1}])
    return optimizer, lr_scheduler(optimizer, CURVE, steps_per_epoch=5, epochs=3)


def test_each_group_gets_its_base_rate_times_the_schedule() -> None:
    optimizer, scheduler = make()
    for step in range(15):
        expected = CURVE(step, 5, 3)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.4 * expected, 0.1 * expected])
        optimizer.step()
        scheduler.step()


def test_state_dict_resumes() -> None:
    optimizer, scheduler = make()
    for _ in range(6):
        optimizer.step()
        scheduler.step()
    resumed_optimizer, resumed = make()
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    resumed_optimizer.step()
    resumed.step()
    assert resumed.get_last_lr() == pytest.approx([0.4 * CURVE(7, 5, 3), 0.1 * CURVE(7, 5, 3)])
