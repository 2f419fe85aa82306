"""A step that is recorded and replayed computes what it would have computed as it is; one that cannot be goes on."""

import gc
import warnings

import pytest
import torch
from recorded import CountingRecorder
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tinycohort.datasets.common.graphs import WARM_UP, CudaGraphs, Replayed, replayed

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


def test_on_a_processor_a_step_stays_what_it_is():
    def step(rows: Tensor) -> None: ...

    assert replayed(step, torch.device("cpu")) is step


class Learner:
    """A small network whose step has all that changes from one to the next: rows, noise, a learning rate, statistics, a sum."""

    def __init__(self, device: str):
        torch.manual_seed(0)
        # A bias before a batch norm has a gradient of rounding errors alone, which Adam makes as large as any.
        self.network = torch.nn.Sequential(torch.nn.Linear(4, 8, bias=False), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1)).to(device)
        self.images = torch.rand((40, 4), generator=torch.Generator().manual_seed(1)).to(device)
        self.noise = torch.Generator(device)
        rate = torch.tensor(0.1, device=device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=rate, fused=True, capturable=device == "cuda")
        self.schedule = ReduceLROnPlateau(self.optimizer, patience=0, factor=0.5)
        self.total = torch.zeros((), device=device)

    def step(self, rows: Tensor, weights: Tensor) -> None:
        x = self.images[rows] + 0.1 * torch.randn((len(rows), 4), generator=self.noise, device=rows.device)
        loss = (weights * self.network(x)[:, 0].square()).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach()

    def learn(self, step, sizes=(5, 5, 3)) -> list[Tensor]:
        """Six epochs, each with noise of its own and half the rate of the one before."""
        generator = torch.Generator().manual_seed(2)
        for epoch in range(6):
            self.noise.manual_seed(epoch)
            self.total.zero_()
            for size in sizes:
                rows, weights = torch.randperm(40, generator=generator)[:size], torch.rand(size, generator=generator)
                step(rows.to(self.images.device), weights.to(self.images.device))
            self.schedule.step(float(self.total) * 0 + epoch)
        return [self.total, *self.network.state_dict().values()]


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_replays_learn_what_steps_learn(device):
    plain, recorded = Learner(device), Learner(device)
    recorder = CountingRecorder() if device == "cpu" else CudaGraphs([recorded.noise])
    expected = plain.learn(plain.step)
    assert float(plain.optimizer.param_groups[0]["lr"]) == pytest.approx(0.1 / 2**5)
    for value, other in zip(recorded.learn(Replayed(recorded.step, recorder)), expected, strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=0 if device == "cpu" else 1e-6)
    if isinstance(recorder, CountingRecorder):
        assert (recorder.as_it_is, recorder.recorded, recorder.again) == (2 * WARM_UP, 2, 18 - 2 * WARM_UP)


def test_a_number_that_only_python_knows_would_be_replayed_as_it_was():
    """As on a GPU."""
    total = torch.zeros(())
    count = iter(range(100))

    def step(rows: Tensor) -> None:
        total.add_(rows.sum() * 0 + next(count))

    learnt = Replayed(step, CountingRecorder())
    for _ in range(6):
        learnt(torch.ones(2))
    assert float(total) == 0 + 1 + 2 + 3 + 3 + 3


def test_a_step_that_cannot_be_recorded_goes_on_as_it_is_and_says_so_once():
    seen = []

    def step(rows: Tensor) -> None:
        seen.append(int(rows.sum()))

    recorder = CountingRecorder()
    learnt = Replayed(step, recorder)
    for number in range(WARM_UP):
        learnt(torch.tensor([number]))
    with pytest.warns(RuntimeWarning, match=r"cannot be a CUDA graph, and so goes on more slowly: aten::_local_scalar_dense .* recorded$"):
        learnt(torch.tensor([WARM_UP]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(WARM_UP + 1, 8):
            learnt(torch.tensor([number]))
            learnt(torch.tensor([number, 0]))
    assert seen == [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert recorder.recorded == 0


def test_what_failed_first_is_told():
    class Failing(CountingRecorder):
        def record(self, work):
            try:
                work()
            except RuntimeError:
                raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904

    taken = iter(range(100))

    def step(rows: Tensor) -> None:
        if next(taken) == WARM_UP:
            raise RuntimeError("operation not permitted when stream is capturing")

    learnt = Replayed(step, Failing())
    for _ in range(WARM_UP):
        learnt(torch.ones(2))
    with pytest.warns(RuntimeWarning, match="operation not permitted when stream is capturing"):
        learnt(torch.ones(2))


@pytest.mark.parametrize("fails", [False, True])
def test_no_garbage_is_collected_while_a_step_is_recorded(fails):
    """Of a graph that nobody holds any more, it would spoil the recording."""
    collected: list[bool] = []

    class Watching(CountingRecorder):
        def record(self, work):
            collected.append(gc.isenabled())
            if fails:
                raise RuntimeError("not permitted")
            return super().record(work)

    learnt = Replayed(lambda rows: None, Watching())
    with warnings.catch_warnings(action="ignore"):
        for _ in range(WARM_UP + 2):
            learnt(torch.ones(2))
    assert collected == [False]
    assert gc.isenabled()


def test_without_memory_for_a_graph_a_step_goes_on_as_it_is():
    class Full(CountingRecorder):
        def record(self, work):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    seen: list[int] = []
    learnt = Replayed(lambda rows: seen.append(len(rows)), Full())
    for _ in range(WARM_UP):
        learnt(torch.ones(2))
    with pytest.warns(RuntimeWarning, match="out of memory"):
        learnt(torch.ones(2))
    learnt(torch.ones(2))
    assert seen == [2] * (WARM_UP + 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_step_that_cannot_be_recorded_goes_on_where_it_was():
    noise, seen = torch.Generator("cuda").manual_seed(0), []

    def step(rows: Tensor) -> None:
        seen.append(float((rows + torch.randn(2, generator=noise, device="cuda")).sum()))

    learnt, stream = replayed(step, torch.device("cuda"), [noise]), torch.cuda.current_stream()
    rows = torch.ones(2, device="cuda")
    for _ in range(WARM_UP):
        learnt(rows)
    with pytest.warns(RuntimeWarning, match="cannot be a CUDA graph"):
        learnt(rows)
    for _ in range(2):
        learnt(rows)
    assert torch.cuda.current_stream() == stream
    assert len(set(seen)) == WARM_UP + 3
    other = Learner("cuda")
    other.learn(replayed(other.step, torch.device("cuda"), [other.noise]))
