"""No runtime dependency has a licence that would bind who installs this MIT package: none is under the GPL or the AGPL.

The LGPL and the MPL bind the library itself and not what imports it: both may be depended on. What serves tests and development alone
is not handed on, and not looked at.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from email.message import Message
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from folders import ROOT
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

COPYLEFT = re.compile(r"(?<!L)(?<!Lesser )GPL|(GNU|Affero) General Public", re.IGNORECASE)
# With these exceptions the GPL lets anything be linked: the runtime libraries in the wheels of scipy have one.
LINKABLE = ("GCC-exception-3.1", "GCC-exception-2.0", "Classpath-exception-2.0")


def objection(metadata: Message) -> str | None:
    """What forbids to depend on a distribution of this metadata, or ``None``."""
    expression, text = metadata.get("License-Expression"), metadata.get("License") or ""
    try:
        expression = canonicalize_license_expression(expression or text)
    except InvalidLicenseExpression:
        classifiers = [line for line in metadata.get_all("Classifier", []) if line.startswith("License :: ")]
        # Where classifiers say it, a long text is the licence itself, with those of all that the wheel holds.
        said = classifiers + [text] * (bool(text.strip()) and (not classifiers or "\n" not in text.strip()))
        found = [line for line in said if COPYLEFT.search(line)]
        return found[0][:100] if found else None if said else "states no licence"
    return None if _may_be_used(re.findall(r"[()]|[^\s()]+(?: WITH [^\s()]+)?", expression)) else expression


def _may_be_used(tokens: list[str]) -> bool:
    """Whether one alternative of an SPDX expression is free of copyleft in all its parts; takes the tokens up to the closing bracket."""
    alternatives: list[list[bool]] = [[]]
    while tokens and (token := tokens.pop(0)) != ")":
        if token == "OR":
            alternatives.append([])
        elif token != "AND":
            alternatives[-1].append(_may_be_used(tokens) if token == "(" else not COPYLEFT.search(token) or token.endswith(LINKABLE))
    return any(all(parts) for parts in alternatives)


def chains(requirements: Iterable[str], requires_of: Callable[[str], Iterable[str]], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every distribution that the requirements pull in on this machine, as the last of the shortest chain that leads to it."""
    found: dict[str, tuple[str, ...]] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(line), "", above) for line in requirements]
    for requirement, extra, chain in waiting:
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found.setdefault(name, (*chain, name))
        for asked in sorted({"", *requirement.extras} - {asked for of, asked in seen if of == name}):
            seen.add((name, asked))
            waiting += [(Requirement(line), asked, (*chain, name)) for line in requires_of(name)]
    yield from found.values()


def requires_here(name: str) -> list[str]:
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:
        pytest.fail(f"{name}, a runtime dependency, is not installed: its licence cannot be told")


def test_no_runtime_dependency_is_copyleft():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = list(chains(project["dependencies"], requires_here, (project["name"],)))
    assert len(found) > len(project["dependencies"])
    objections = {" needs ".join(chain): objection(distribution(chain[-1]).metadata) for chain in found}
    bad = [f"{chain}: {said}" for chain, said in objections.items() if said]
    assert not bad, f"an MIT package may not depend on: {'; '.join(bad)}"


def metadata(expression: str | None = None, text: str | None = None, classifiers: Iterable[str] = ()) -> Message:
    message = Message()
    for name, value in (("License-Expression", expression), ("License", text)):
        if value is not None:
            message[name] = value
    for classifier in classifiers:
        message["Classifier"] = classifier
    return message


GPL = "License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)"
AGPL = "License :: OSI Approved :: GNU Affero General Public License v3"
LGPL = "License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)"
BSD = "License :: OSI Approved :: BSD License"


@pytest.mark.parametrize(
    "given",
    [
        metadata("GPL-3.0-or-later"),
        metadata("AGPL-3.0-only"),
        metadata("MIT AND GPL-2.0-only"),
        metadata("GPL-2.0-only OR AGPL-3.0-only"),
        metadata("MIT AND (BSD-3-Clause AND GPL-3.0-only)"),
        metadata("(MIT OR Apache-2.0) AND GPL-3.0-only"),
        metadata("GPL-2.0-only WITH Autoconf-exception-2.0"),
        metadata("gpl-3.0-or-later", classifiers=[BSD]),
        metadata(text="GPL-3.0-or-later"),  # as kmedoids 0.5.5 has it
        metadata(text="GNU GPL v2"),
        metadata(text="GNU General Public License"),
        metadata(text="GPLv3", classifiers=[BSD]),
        metadata(classifiers=[GPL]),
        metadata(classifiers=["Topic :: Software Development", AGPL]),
        metadata(text="Copyright\n\nGNU GENERAL PUBLIC LICENSE\nVersion 3"),
        metadata(),
        metadata(classifiers=["Topic :: Scientific/Engineering"]),
        metadata(text="  "),
    ],
    ids=lambda given: "; ".join(f"{name} {value!r}" for name, value in given.items()) or "nothing",
)
def test_copyleft_and_silence_are_objected_to(given):
    assert objection(given)


@pytest.mark.parametrize(
    "given",
    [
        metadata("MIT"),
        metadata("LGPL-2.1-or-later"),
        metadata("MPL-2.0 AND MIT"),
        metadata("GPL-2.0-only OR MIT"),
        metadata("(GPL-3.0-only AND MIT) OR BSD-3-Clause"),
        metadata("BSD-3-Clause AND (MIT OR GPL-3.0-only)"),
        metadata("BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1"),
        metadata(text="GPL-2.0-only OR MIT"),
        metadata(text="new BSD"),
        metadata(text="GNU Lesser GPL"),
        metadata(classifiers=[LGPL]),
        metadata(text="Copyright SciPy\n\nBundled: libgfortran, GPL-3.0-or-later WITH GCC-exception-3.1", classifiers=[BSD]),
    ],
    ids=lambda given: "; ".join(f"{name} {value!r}" for name, value in given.items()),
)
def test_what_may_be_depended_on_is_let_be(given):
    assert objection(given) is None


def test_the_chain_to_what_is_pulled_in_knows_markers_extras_and_circles():
    requires = {
        "one": ["Two[fast]>=1", "never; python_version < '3'"],
        "two": ["three; extra == 'fast'", "four; extra == 'slow'", "one"],
        "three": [],
        "five": ["two", "three"],
    }
    assert list(chains(["one", "five"], requires.__getitem__, ("us",))) == [
        ("us", "one"),
        ("us", "five"),
        ("us", "one", "two"),
        ("us", "five", "three"),
    ]
    assert ("us", "one", "two", "three") in chains(["one"], requires.__getitem__, ("us",))
