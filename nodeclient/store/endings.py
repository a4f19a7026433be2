"""Which orders end with their Task."""

from __future__ import annotations

from nodeclient.core import actions
from nodeclient.core.actions import Action

# A Task that is over needs none of these any more; keys, warnings and power-off still go out, and a
# judgement that has begun is ended: it may be a dissent, which must not count as silence.
ENDS_WITH_TASK: tuple[type[Action], ...] = (
    actions.EvaluateTicket,
    actions.VetTask,
    actions.SubmitClaim,
    actions.SubmitDraw,
    actions.SubmitAccept,
    actions.SubmitRecord,
    actions.SubmitRefuse,
    actions.SubmitExpire,
    actions.SubmitFailBarred,
    actions.BootMachine,
    actions.PrepareTask,
    actions.CollectNonces,
    actions.TakeEvidence,
    actions.CollectVotes,
    actions.DeliverKey,
    actions.WatchMachine,
    actions.MonitorMachine,
    actions.ReportIncident,
    actions.CleanMachine,
    actions.LearnBefore,
    actions.AskDuring,
    actions.ShareVote,
    actions.QueryMachine,
    actions.SealKeys,
    actions.SendKeys,
    actions.SendBrief,
)
