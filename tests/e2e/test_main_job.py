"""The main job: two strangers learn the lines that they have in common, whoever posts."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

from agent.engine import LABEL
from nodeclient.images.engine import DEFAULT_SOCKET
from nodeclient.machine.process import AgentProcess
from scripts.embedded.chain import ROOT
from scripts.embedded.job import order
from tests.e2e import quick
from tests.e2e.books import Books
from tests.e2e.conftest import Driver

FUNCTION = ROOT / "examples" / "common-names" / "function"
LISTS = sorted((ROOT / "examples" / "common-names" / "lists").glob("*.txt"))


@pytest.mark.parametrize("poster", ["requester", "owner-b", "owner-c"])
def test_common_names__posted_by_anyone__both_owners_hold_the_same_right_answer(
    driver: Driver, poster: str
) -> None:
    who = driver.network.people[poster]
    if poster == "requester":
        task = driver.post(FUNCTION, LISTS)  # once as people do it, by the command line
    else:
        task = order(who, quick.request(driver, FUNCTION, LISTS, poster=who))
    driver.until(task, "SETTLED", node=who)
    wanted = set(LISTS[0].read_bytes().splitlines()) & set(LISTS[1].read_bytes().splitlines())
    answers = [
        (driver.results(task, node) / "common.txt").read_bytes() for node in (driver.b, driver.c)
    ]
    assert answers[0] == answers[1]
    assert set(answers[0].splitlines()) == wanted
    assert len(wanted) > 100
    drawn = Books(driver.network).logs("TaskMarket", "CommitteeDrawn")
    (accepted,) = [each["accepted"] for each in drawn if each["task"] == task]
    assert accepted, "the executor needed a transaction of its own to accept"


def test_machine_is_clean_afterwards(driver: Driver, lists: tuple[Path, Path]) -> None:
    task = order(driver.requester, quick.request(driver, FUNCTION, lists))
    driver.until(task, "SETTLED")
    ours = {
        AgentProcess(node.folder / "machine", DEFAULT_SOCKET).label
        for node in driver.network.workers.values()
    }
    left = docker.from_env().containers.list(all=True, filters={"label": LABEL})
    assert [each for each in left if each.labels[LABEL] in ours] == []
