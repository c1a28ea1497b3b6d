"""The documents say what the code does."""

import re
from pathlib import Path

import pytest

from rsp.cli import COMMANDS
from rsp.wire.states import TRANSITIONS, State, Trigger

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("https://"):
            name, _, anchor = link.partition("#")
            there = page.parent / name if name else page
            assert there.is_file(), link
            assert not anchor or anchor in anchors(there), link


def test_the_readme_links_to_no_page() -> None:
    """One that is relative to the checkout leads nowhere from a package index: pages are named."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not re.findall(r"\]\((?!https://)[^)]+\)", text)
    pages = re.findall(r"`((?:docs/)?\w+\.md)`", text)
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= set(pages)
    assert [page for page in pages if not (ROOT / page).is_file()] == []


def test_each_command_has_its_example() -> None:
    text = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^### rsp (\w+)$", text, re.MULTILINE)) == set(COMMANDS)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def test_the_diagram_of_the_states_is_the_table() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    header = next(row for row in rows if row[0] == "state")
    table = rows[rows.index(header) + 2 :][: len(State)]
    assert header[1:] == [trigger.value for trigger in Trigger]
    for row in table:
        state = State[row[0]]
        drawn = {
            trigger: State[cell]
            for trigger, cell in zip(Trigger, row[1:], strict=False)
            if cell.strip()
        }
        assert drawn == TRANSITIONS[state]
    assert [row[0] for row in table] == [state.name for state in State]
