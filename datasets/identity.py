"""How participants are told apart, whatever the spelling of their ids."""

import re

# OAS1_9001_MR1 in the download, sub-OAS19001MR1 in BIDS, where an id may hold letters and digits only.
_OASIS = re.compile(r"OAS1[_-]?(?P<person>\d{4})(?!\d)(?:[_-]?MR(?P<visit>\d+))?", re.IGNORECASE)


def participant_of(spelled: str) -> str:
    """Return the participant that an id, as a file or a table spells it, belongs to.

    An OASIS-1 id gives ``OAS1_NNNN`` whatever its spelling and visit; any other id loses its ``sub-``.
    """
    bare = spelled.strip().removeprefix("sub-")
    oasis = _OASIS.match(bare)
    return f"OAS1_{oasis['person']}" if oasis else bare


def scan_of(spelled: str) -> str:
    """Return the id in one spelling with the OASIS-1 visit kept, on which a file and a row of a table are joined."""
    bare = spelled.strip().removeprefix("sub-")
    oasis = _OASIS.fullmatch(bare)
    return f"OAS1_{oasis['person']}_MR{oasis['visit']}" if oasis and oasis["visit"] else participant_of(bare)
