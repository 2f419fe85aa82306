"""The gate's verdict on a whole cohort, from the findings on its classes."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...augment.release.gate import Gate
from . import planted
from .audit import Finding
from .membership import Attack


@dataclass(frozen=True, eq=False)
class Verdict:
    """The verdict on one cohort.

    Parameters
    ----------
    cohort : str
    findings : tuple of Finding
        Findings on its classes.
    already : tuple of int
        Number of images of each that had been set aside before.
    objections : tuple of str
        Reasons of the gate to refuse it; empty if it passes.
    sentence : str
        The verdict in words.
    """

    cohort: str
    findings: tuple[Finding, ...]
    already: tuple[int, ...]
    objections: tuple[str, ...]
    sentence: str

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.objections


def judge(cohort: str, findings: Sequence[Finding], gate: Gate, already: Sequence[int]) -> Verdict:
    """The verdict on a cohort; of each class so many images were set aside ``already``."""
    found = tuple(clause for finding, earlier in zip(findings, already, strict=True) for clause in objections(finding, gate, earlier))
    sentence = f"{cohort} is refused: {'; '.join(found)}." if found else _praise(cohort, findings, gate, sum(already))
    if blind := blind_to(findings, gate):
        sentence += f" The audit is blind to {blind}."
    if told := _told_by_model(findings):
        sentence += f" Keep the models where the patients' images are kept: {told}."
    return Verdict(cohort, tuple(findings), tuple(already), found, sentence)


def objections(finding: Finding, gate: Gate, already: int = 0) -> list[str]:
    """Why a gate refuses a class, a clause each; empty if it does not. So many images were set aside ``already``."""
    label, n = finding.audited.label, len(finding.audited.synthetic.participants)
    found = [
        f"the audit is blind: of {power.planted} planted {power.kind} copies of {label} it found {power.found}"
        for power in finding.power
        if power.kind in planted.MUST_BE_FOUND and power.found < gate.power * power.planted
    ]
    aside = len(finding.copies) + already
    if aside > gate.copies * (n + already):
        found.append(f"{aside} of {n + already} images of {label} copy a patient, where {gate.copies:.0%} may")
    share = float(finding.repeated.mean())
    if share > gate.duplicates:
        found.append(f"{share:.0%} of the images of {label} repeat another, where {gate.duplicates:.0%} may")
    where, attack = finding.deciding or ("", None)
    if attack is not None and attack.high > gate.membership:
        area = f"by {where}, {_area(attack)}, where up to {gate.membership:.2f} is allowed"
        if attack.low > 0.5:
            found.append(f"the images of {label} give away who was trained on ({area})")
        else:
            found.append(f"there are too few people of {label} to tell whether the images give away who was trained on ({area})")
    return found


def blind_to(findings: Sequence[Finding], gate: Gate) -> str:
    """The kinds of planted copies of which too few are found, each with the share that is, in the class where it is least."""
    shares: dict[str, float] = {}
    for power in (power for finding in findings for power in finding.power):
        shares[power.kind] = min(power.found / power.planted, shares.get(power.kind, 1.0))
    return ", ".join(f"{kind} ({share:.0%})" for kind, share in shares.items() if share < gate.power)


def _told_by_model(findings: Sequence[Finding]) -> str:
    """What who holds a model itself can tell, where it can tell anything."""
    strongest = [
        (finding.audited.label, max(finding.on_model.values(), key=lambda attack: attack.auc)) for finding in findings if finding.on_model
    ]
    clauses = [f"of {label} with an {_area(attack)}" for label, attack in strongest if attack.low > 0.5]
    return f"who holds them tells who was trained on, {' and '.join(clauses)}" if clauses else ""


def _area(attack: Attack) -> str:
    return f"area under the curve {attack.auc:.2f} [{attack.low:.2f}, {attack.high:.2f}]"


def _praise(cohort: str, findings: Sequence[Finding], gate: Gate, already: int) -> str:
    aside = sum(len(finding.copies) for finding in findings) + already
    n = sum(len(finding.audited.synthetic.participants) for finding in findings) + already
    tried = len({power.kind for finding in findings for power in finding.power})
    attacks = [finding.deciding[1] for finding in findings if finding.deciding is not None]
    area = max((attack.high for attack in attacks), default=0)
    copied = f"{aside} of {n} images copied a patient and were set aside" if aside else f"none of {n} images copies a patient"
    but = ", but for those below" if blind_to(findings, gate) else ""
    seen = f"of {tried} kinds of planted copies the audit finds {gate.power:.0%} or more{but}"
    given_away = f"who holds the images tells who was trained on with an area under the curve of at most {area:.2f}"
    if (ways := len({name for finding in findings for name in finding.attacks})) > 1:
        given_away += f", and no other of {ways} attacks is seen to tell more"
    if not_asked := [finding.audited.label for finding in findings if finding.deciding is None]:
        given_away += f"; of {', '.join(not_asked)} it was not asked"
    return f"{cohort} passes: {copied}; {seen}; " + (f"and {given_away}." if attacks else "who was trained on was not asked.")
