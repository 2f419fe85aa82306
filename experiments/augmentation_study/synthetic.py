"""The method ``model:sampler``: images that are generated class by class, in place of the real ones or mixed with them."""

from ..engine.study_folder import seed_of
from ..engine.systems import System
from .generators import check_no_leakage, generator_of
from .method import Generated, Run, Source
from .mixing import mixed

GENERATED = "images of a generator of each class, mixed with real ones as --mode says (`augment models` lists models and samplers)"


def synthetic(system: System) -> Source:
    """A system as a source of images."""

    def draw(run: Run, label: str, n: int) -> Generated:
        """Images, what the sampler tells, how the fit went, and how close to training images held-out ones come."""
        model = generator_of(system, label, run)
        check_no_leakage(model, run.split, run.data.external_participants)
        training = run.train.of_class(run.data.classes.index(label), run.data.space)
        seed = seed_of_samples(run.context.config.seed, run.number, system)
        generated = system.draw(model, n, training, seed=seed, device=run.context.device)
        fit = model.config.diagnostics
        kept = {name: fit[name] for name in ("held_out_decoded_nearest_median", "explained_validation")}
        return generated.images.pixels, {"sampling": generated.diagnostics.as_dict(), **kept}

    return Source(GENERATED, lambda run: mixed(run, f"{system.trained_as}:{system.drawn_as}", draw), generates=True, system=system)


def seed_of_samples(seed: int, run: int, system: System) -> int:
    """Of the images that a system draws in a run of a study of this ``seed``: models with the same sampler share its randomness."""
    return seed_of(seed, {"run": run, "of": "samples", "sampler": system.sampler})
