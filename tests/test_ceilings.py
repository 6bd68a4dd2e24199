from typing import get_args

import pytest

from sweep.errors import StudyFileError
from sweep.study.ceilings import KNOWN_CEILINGS, engine_ceiling, permitted_ceilings


def test_permitted_ceilings_are_those_of_the_installed_vllm():
    from vllm.config.lora import MaxLoRARanks

    assert permitted_ceilings() == get_args(MaxLoRARanks)


def test_the_copy_for_machines_without_vllm_is_up_to_date():
    assert permitted_ceilings() == KNOWN_CEILINGS


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (2, 8), (8, 8), (48, 64), (64, 64), (257, 320)])
def test_a_ceiling_is_rounded_up_to_one_that_vllm_permits(asked, given):
    assert engine_ceiling(asked) == given


def test_a_ceiling_above_all_is_refused():
    with pytest.raises(StudyFileError, match=r"513.*allowed: up to 512"):
        engine_ceiling(513)
