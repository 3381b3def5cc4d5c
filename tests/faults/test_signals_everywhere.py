"""Every operation of the flow, ended by every signal: nothing twice, lost, left"""

import signal

import pytest

from .lab import ALWAYS, ENDLESS, STATUS, operations

# At which of its commands
SIGNALS = {signal.SIGINT: 0.0, signal.SIGTERM: 0.5, signal.SIGKILL: 1.0}
REPRESENTATIVE = {
    (signal.SIGINT, "build_uki"),
    (signal.SIGTERM, "partition"),
    (signal.SIGKILL, "package_ssi_service"),
}


def cases():
    for operation in operations():
        for number in SIGNALS:
            quick = (number, operation) in REPRESENTATIVE
            marks = () if quick else pytest.mark.slow
            name = f"{operation}-{number.name}"
            yield pytest.param(operation, number, id=name, marks=marks)


@pytest.mark.parametrize("operation, number", list(cases()))
def test_ended_by(lab, operation, number):
    with lab.forgetting(operation, for_good=operation not in ENDLESS):
        before = lab.state()
        build = lab.build().until_within(operation, SIGNALS[number]).end(number)
        assert build.status == STATUS[number], build.said
        assert "Traceback" not in build.said
        assert before.damage(swept=number != signal.SIGKILL) == []
    again = lab.build().end()
    assert again.status == 0, again.said
    assert again.started() - ALWAYS <= {operation}
    assert before.damage() == []
    for one in again.told("start", operation):
        assert one["reason"] == build.told("start", operation)[0]["reason"]
