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
    generator = seeded_generator(run.context.config.seed, run.number, label, "morph")
    training = run.train.of_class(run.data.classes.index(label), run.data.space)
    images = training.images.pixels.to(choose_device(run.context.device))
    return draw_morphs(images, training.people, n, generator).pixels.cpu(), {}
