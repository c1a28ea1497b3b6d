"""The documents say what the code does."""

from pathlib import Path

from rsp.wire.states import TRANSITIONS, State, Trigger

ROOT = Path(__file__).parent.parent


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
