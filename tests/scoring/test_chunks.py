import torch

from dissectdb.extract.scoring.chunks import threads_within_cores
from dissectdb.machine import available_cores


def test_torch_gets_no_more_threads_than_cores_and_then_its_own_number_again():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(available_cores() + 5)
        with threads_within_cores():
            assert torch.get_num_threads() == available_cores()
        assert torch.get_num_threads() == available_cores() + 5
        torch.set_num_threads(1)
        with threads_within_cores():
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
