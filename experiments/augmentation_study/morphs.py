"""The method ``morph``: images between two people of a class, in place of the real ones or mixed with them. It fits nothing."""

from ...augment.detail.morph import draw_morphs
from ...datasets.common.compute import choose_device
from ...datasets.common.seeds import seeded_generator
from .method import Generated, Run, TrainingSet
from .mixing import mixed


def morphs(run: Run) -> TrainingSet:
    """Morphs of the training side, mixed with real images as a generator's are."""
    return mixed(run, "morph", _draw)


def _draw(run: Run, label: str, n: int) -> Generated:
    own = run.train.labels == run.data.classes.index(label)
    generator = seeded_generator(run.context.config.seed, run.number, label, "morph")
    people = run.train.table["participant_id"][own.numpy()].tolist()
    images = run.train.images[own].to(choose_device(run.context.device))
    return draw_morphs(images, people, n, generator).pixels.cpu(), {}
