"""Who a participant is, whatever the spelling of an id: the one rule by which people are counted and kept on one side.

Only what a published naming scheme says is a visit is taken off an id: BIDS's ``ses-``, what BIDS writes behind a ``sub-...``, and the
schemes of OASIS-1 to 3 and ADNI. Anything else stays as it is: ``P1`` and ``P01`` are two people, and so are ``X_MR1`` and ``X_MR2`` of a
study that nobody knows here.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

_BIDS_SUBJECT = re.compile(r"(?:sub-)+(?=.)", re.IGNORECASE)  # an id that is nothing but the prefix keeps it
_BIDS_SESSION = re.compile(r"(?P<person>.+?)(?P<visit>_ses-[A-Za-z0-9]+(?:_.*)?)", re.DOTALL)
# OAS1_9001_MR1 in the download, sub-OAS19001MR1 in BIDS, where an id may hold letters and digits only; OASIS-2 has the same scheme.
_OASIS = re.compile(r"(?P<study>OAS[12])[_-]?(?P<person>\d{4})(?!\d)(?:[_-]?MR(?P<visit>\d+))?", re.IGNORECASE)
# OAS39001, whose sessions are OAS39001_MR_d0129: what was done, and on which day.
_OASIS_3 = re.compile(r"OAS3(?P<person>\d{4})(?!\d)(?:[_-]?(?P<what>[A-Za-z0-9]+?)[_-]?(?P<day>d\d{4}))?", re.IGNORECASE)
# Site and roster number: 902_S_9295 in the tables, sub-ADNI902S9295 or sub-902S9295 in BIDS.
_ADNI = re.compile(r"(?:ADNI[_-]?)?(?P<site>\d{3})[_-]?S[_-]?(?P<roster>\d{4,5})", re.IGNORECASE)
# Behind ``sub-`` a person of BIDS ends at the first underscore, be it of an entity (_run-1) or one of the standard's suffixes of images
# (_T1w); in sub-AD_01 and sub-AD_anna, which are no BIDS, it is the person's. An id of ADNI has underscores of its own.
_SUFFIX = (
    r"(?:(?:inplane)?[TR][12](?:w|rho|star|starw|map|starmap)?|T1rho|PD|PDw|PDT2|PDmap|FLAIR|FLASH|angio|UNIT1|M0map|MTRmap|MTsat|MTVmap|MTwmap"
    r"|MWFmap|Chimap|S0map|TB1map|RB1map|defacemask|mask|dseg|probseg|VFA|IRT1|MP2RAGE|MESE|MEGRE|MTR|MTS|MPM|bold|cbv|sbref|noRF|phase|phase1"
    r"|phase2|phasediff|magnitude|magnitude1|magnitude2|fieldmap|epi|m0scan|asl|dwi|adc|FA|trace|pet|ct|XR|svs|mrsi|OCT|TEM|SEM|PHE)(?![^_])"
)
_BIDS_FILE = re.compile(
    rf"(?P<person>(?>{_ADNI.pattern}(?=_)|[^_]+))(?P<visit>_(?:[a-z0-9]+-[a-z0-9]|{_SUFFIX}).*)", re.IGNORECASE | re.DOTALL
)


class _Scan(NamedTuple):
    person: str
    visit: str  # as it follows the person in ``scan_of``; empty where none is told
    sign: str = ""  # what stands before the person there, where the visit would not be read as one without


def participant_of(spelled: str) -> str:
    """Return the participant that an id, as a file or a table spells it, belongs to.

    The id loses its ``sub-``, with all that BIDS writes behind the person, and ``_ses-...``, and is put into Unicode's composed form (NFC);
    ids of OASIS-1 to 3 and of ADNI come into one spelling, without a visit.
    """
    return _parsed(spelled).person


def scan_of(spelled: str) -> str:
    """Return the id in one spelling with the visit kept, on which a file and a row of a table are joined."""
    scan = _parsed(spelled)
    return scan.sign + scan.person + scan.visit


def place_of_id(name: str) -> tuple[tuple[str, int, str], ...]:
    """What ids are sorted by, their numbers as numbers: ``P9`` is before ``P10``, as files and published arrays have them."""
    parts = re.findall(r"(\D*)0*(\d*)", name)
    # By length and digits, because Python makes no numbers of thousands of digits.
    return (*((text, len(digits), digits) for text, digits in parts), (name, 0, ""))


def form_of(name: str) -> str:
    """Return what an id has in common with those that differ from it by case or Unicode form only, such as ``P01`` and ``p01``.

    Such ids are told, and never put on two sides; they are not taken for one participant, which they need not be.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def differing_in_form(ids: Iterable[str]) -> list[tuple[str, ...]]:
    """Return those among different ids that differ by case or Unicode form only, sorted, in groups of two or more."""
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for name in ids:
        groups[form_of(name)].add(name)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def _parsed(spelled: str) -> _Scan:
    bare = unicodedata.normalize("NFC", spelled.strip())
    prefix = _BIDS_SUBJECT.match(bare)
    bare = bare[prefix.end() :] if prefix else bare
    session = _BIDS_SESSION.fullmatch(bare)
    if session:
        return _Scan(_of_a_study(session["person"]).person, session["visit"])
    scan = _of_a_study(bare)
    file = _BIDS_FILE.fullmatch(bare) if prefix and scan.person == bare else None
    return _Scan(_of_a_study(file["person"]).person, file["visit"], sign="sub-") if file else scan


def _of_a_study(bare: str) -> _Scan:
    """The id in the spelling of the study that it is of; of none that is known, as it is."""
    if oasis := _OASIS.match(bare):
        # A visit is one where nothing follows it: what does is no part of the scheme, and joins no file.
        visit = oasis["visit"] if oasis.end() == len(bare) else None
        return _Scan(f"{oasis['study'].upper()}_{oasis['person']}", f"_MR{visit}" if visit else "")
    if oasis := _OASIS_3.match(bare):
        day = oasis["day"] if oasis.end() == len(bare) else None
        return _Scan(f"OAS3{oasis['person']}", f"_{oasis['what']}_{day.lower()}" if day else "")
    if adni := _ADNI.fullmatch(bare):
        return _Scan(f"{adni['site']}_S_{adni['roster']}", "")
    return _Scan(bare, "")
