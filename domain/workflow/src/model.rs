//! A workflow in progress: what happened to it, what may happen next, and why not.

use omt_kernel::{Error, FieldError, Kind, ManifestId, OffsetDateTime, Permission, TenantId, WorkflowId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A reference to evidence for a decision, kept elsewhere: its name and the SHA-256 of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Name.
    pub name: String,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// One person's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The stage.
    pub stage: String,
    /// The action that it is for.
    pub action: String,
    /// Who decided.
    pub by: String,
    /// In whose place, when it was delegated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_: Option<String>,
    /// The role in which they decided.
    pub role: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comments: Option<String>,
}

/// Somebody decides in another's place for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// The stage.
    pub stage: String,
    /// Whose place.
    pub from: String,
    /// Who.
    pub to: String,
    /// From then on.
    #[serde(with = "time::serde::rfc3339")]
    pub starts: OffsetDateTime,
    /// Until then.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ends: Option<OffsetDateTime>,
}

impl Delegation {
    /// Whether the place is lent now.
    pub fn is_on(&self, now: OffsetDateTime) -> bool {
        self.starts <= now && self.ends.is_none_or(|ends| now < ends)
    }
}

/// A transition that was decided and whose effects are under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The action.
    pub action: String,
    /// Who took it.
    pub by: String,
    /// Words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comments: Option<String>,
}

/// A workflow: what its events add up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Identifier.
    pub id: WorkflowId,
    /// Tenant.
    pub tenant: TenantId,
    /// The manifest that it decides on.
    pub manifest: ManifestId,
    /// Its definition.
    pub definition: String,
    /// The definition's version, which it keeps.
    pub version: u32,
    /// Where it stands.
    pub state: String,
    /// How many events there were.
    pub revision: i64,
    /// How often a state was entered: what people decided counts for one visit.
    pub visit: u32,
    /// The subject that made the content.
    pub author: String,
    /// The subject that began it.
    pub created_by: String,
    /// The subjects that changed the content or its metadata since.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub editors: BTreeSet<String>,
    /// SHA-256 over what was decided on: content and metadata.
    pub fingerprint: String,
    /// Decisions in this visit.
    pub votes: Vec<Vote>,
    /// Decisions on this content since the beginning.
    pub chain: Vec<Vote>,
    /// Who may decide, by stage, where that was said.
    pub assignees: BTreeMap<String, BTreeSet<String>>,
    /// Who took a task for themselves, by stage.
    pub claims: BTreeMap<String, String>,
    /// Who decides in whose place.
    pub delegations: Vec<Delegation>,
    /// Roles that may decide too, by stage, because it took too long.
    pub escalated: BTreeMap<String, BTreeSet<String>>,
    /// Compliance policies that it must pass.
    pub policies: BTreeSet<String>,
    /// A transition whose effects are under way.
    pub pending: Option<Pending>,
    /// Somebody ended it before its end.
    #[serde(default)]
    pub ended: bool,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Last event.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// What happened. An instance is what its events add up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// It began.
    Started {
        /// What begins, before anything happened to it.
        instance: Box<Instance>,
    },
    /// Somebody decided.
    Voted {
        /// The decision.
        vote: Vote,
        /// Evidence.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<Attachment>,
        /// Whether it says something about the content, unlike that its author is done with it.
        decides: bool,
    },
    /// It moved.
    Moved {
        /// The action.
        action: String,
        /// From.
        from: String,
        /// To.
        to: String,
        /// Whoever took the action.
        by: String,
        /// Whether decisions up to here are for nothing: the content begins anew.
        afresh: bool,
        /// Words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comments: Option<String>,
    },
    /// A transition was decided; its effects are under way.
    Began {
        /// It.
        pending: Pending,
    },
    /// Its effects could not be had.
    Failed {
        /// The action.
        action: String,
        /// Why.
        code: String,
        /// Why, in words.
        reason: String,
    },
    /// The content or its metadata changed.
    Changed {
        /// What is decided on from now on.
        fingerprint: String,
        /// Where that leads: to the beginning when something had been decided.
        to: String,
        /// Who changed it.
        by: String,
    },
    /// Somebody took a task.
    Claimed {
        /// Stage.
        stage: String,
        /// Who.
        by: String,
    },
    /// Somebody gave a task back, or it was taken from them.
    Unclaimed {
        /// Stage.
        stage: String,
        /// Who did that.
        by: String,
    },
    /// Somebody lets another decide in their place.
    Delegated {
        /// It.
        delegation: Delegation,
        /// Words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comments: Option<String>,
    },
    /// It took too long.
    Escalated {
        /// Stage.
        stage: String,
        /// The role that may decide too.
        role: String,
    },
    /// Somebody said something.
    Commented {
        /// Who.
        by: String,
        /// Words.
        comments: String,
        /// Evidence.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<Attachment>,
    },
    /// It ended before its end.
    Ended {
        /// Who ended it.
        by: String,
        /// Why.
        reason: String,
    },
    /// Other compliance policies are to be passed.
    PoliciesSet {
        /// They.
        policies: BTreeSet<String>,
        /// Who said so.
        by: String,
    },
    /// It follows another version of its definition.
    Migrated {
        /// The version.
        version: u32,
        /// The state in it.
        to: String,
        /// Who said so.
        by: String,
    },
}

impl Event {
    /// What the world calls it: the name under which listeners are told.
    pub fn told(&self) -> &'static str {
        match self {
            Self::Moved { .. } => "workflow.moved",
            Self::Started { .. } => "workflow.started",
            Self::Failed { .. } => "workflow.failed",
            Self::Ended { .. } => "workflow.cancelled",
            Self::Commented { .. } => "workflow.commented",
            Self::Claimed { .. } | Self::Unclaimed { .. } | Self::Delegated { .. } => "workflow.task_changed",
            Self::PoliciesSet { .. } => "workflow.policies_changed",
            Self::Escalated { .. } => "workflow.escalated",
            Self::Migrated { .. } => "workflow.migrated",
            Self::Changed { .. } => "workflow.voided",
            Self::Voted { .. } | Self::Began { .. } => "workflow.decided",
        }
    }
}

/// Whoever asks for something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    /// Subject.
    pub subject: String,
    /// Roles, as the server knows them.
    pub roles: BTreeSet<String>,
    /// Permissions.
    pub permissions: BTreeSet<Permission>,
    /// Groups, in lower case.
    pub groups: BTreeSet<String>,
}

/// What is so at the moment of the decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// SHA-256 over content and metadata as they are now.
    pub fingerprint: String,
    /// What stands against the guards of the transition that is asked for; empty when nothing does.
    pub against: Vec<String>,
    /// The people behind the author and the editors: where one made it with an API key, whoever made the key.
    pub authors: BTreeSet<String>,
    /// Those in whose place others decide, as they are now; whoever is gone or closed out is missing.
    pub delegators: BTreeMap<String, Who>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Take a transition, or agree to it.
    Take {
        /// The action.
        action: String,
        /// The stage, where it matters.
        stage: Option<String>,
        /// Words.
        comments: Option<String>,
        /// Evidence.
        attachments: Vec<Attachment>,
    },
    /// Take a task for oneself.
    Claim {
        /// Stage.
        stage: String,
    },
    /// Give it back.
    Unclaim {
        /// Stage.
        stage: String,
    },
    /// Let another decide in one's place.
    Delegate {
        /// Stage.
        stage: String,
        /// Who.
        to: Box<Who>,
        /// From then on.
        starts: OffsetDateTime,
        /// Until then.
        ends: Option<OffsetDateTime>,
        /// Words.
        comments: Option<String>,
    },
    /// Say something.
    Comment {
        /// Words.
        comments: String,
        /// Evidence.
        attachments: Vec<Attachment>,
    },
    /// End it before its end.
    Cancel {
        /// Why.
        reason: String,
    },
    /// Set the compliance policies to be passed.
    SetPolicies {
        /// They.
        policies: BTreeSet<String>,
    },
}

/// Why something is refused. The state is untouched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No state of the definition has such an action.
    UnknownAction(BTreeSet<String>),
    /// This state has no such action; these it has.
    WrongState(String, BTreeSet<String>),
    /// The effects of a transition are under way.
    Pending(String),
    /// It needs this permission.
    Permission(Permission),
    /// It needs this role, or membership, or assignment.
    NotEligible(String),
    /// Whoever made the content, or changed it, does not approve.
    FourEyes,
    /// One person decides once.
    AlreadyVoted,
    /// The stage waits for others, or is complete.
    StageClosed(String),
    /// There is no such stage now.
    NoStage(String),
    /// Somebody else has it.
    Claimed,
    /// It is for several people, none of whom can have it alone.
    Shared,
    /// It is nobody's.
    NotClaimed,
    /// It needs words.
    CommentsRequired,
    /// This stands against it.
    Guard(Vec<String>),
    /// The content is not what this was decided on.
    ContentChanged,
    /// To oneself, in a circle, to somebody who may not, or to an end before the beginning.
    Delegation(&'static str),
    /// What is over stays as it is.
    Over,
    /// Too much was said already.
    TooLong,
}

/// Seconds after which effects that are under way may be over.
const PENDING: u32 = 5;

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let list = |allowed: &BTreeSet<String>| allowed.iter().cloned().collect::<Vec<_>>().join(", ");
        let (kind, code, words) = match &refusal {
            Refusal::UnknownAction(known) => {
                (Kind::Unprocessable, "UNKNOWN_ACTION", format!("the workflow knows no such action; it knows {}", list(known)))
            }
            Refusal::WrongState(state, allowed) if allowed.is_empty() => {
                (Kind::Conflict, "WRONG_STATE", format!("nothing more can be done in the state {state}"))
            }
            Refusal::WrongState(state, allowed) => {
                (Kind::Conflict, "WRONG_STATE", format!("in the state {state} these actions are allowed: {}", list(allowed)))
            }
            Refusal::Pending(action) => {
                (Kind::Conflict, "TRANSITION_PENDING", format!("the effects of {action} are under way; ask again in a moment"))
            }
            Refusal::Permission(permission) => (Kind::Forbidden, "FORBIDDEN", format!("this needs the permission {permission}")),
            Refusal::NotEligible(role) => {
                (Kind::Forbidden, "NOT_ELIGIBLE", format!("this is for {role}, among those assigned where some are"))
            }
            Refusal::FourEyes => {
                (Kind::Forbidden, "FOUR_EYES", "whoever made or changed the content cannot approve it".to_owned())
            }
            Refusal::AlreadyVoted => {
                (Kind::Conflict, "ALREADY_DECIDED", "you have decided already; one person decides once".to_owned())
            }
            Refusal::StageClosed(stage) => {
                (Kind::Conflict, "STAGE_CLOSED", format!("the stage {stage} is complete or waits for others"))
            }
            Refusal::NoStage(stage) => (Kind::Unprocessable, "UNKNOWN_STAGE", format!("this state has no stage {stage}")),
            Refusal::Claimed => (Kind::Conflict, "TASK_CLAIMED", "somebody else has taken the task".to_owned()),
            Refusal::Shared => (Kind::Conflict, "TASK_SHARED", "several people decide this; nobody takes it alone".to_owned()),
            Refusal::NotClaimed => {
                (Kind::Conflict, "TASK_NOT_CLAIMED", "nobody you could speak for has taken the task".to_owned())
            }
            Refusal::CommentsRequired => {
                (Kind::Unprocessable, "COMMENTS_REQUIRED", "this action needs words in `comments`".to_owned())
            }
            Refusal::Guard(_) => (Kind::Conflict, "GUARD_FAILED", "something stands against it; see errors".to_owned()),
            Refusal::ContentChanged => (Kind::Conflict, "CONTENT_CHANGED", "the content is not what was decided on".to_owned()),
            Refusal::Delegation(words) => (Kind::Unprocessable, "DELEGATION_REFUSED", (*words).to_owned()),
            Refusal::TooLong => (Kind::Conflict, "TOO_MANY_EVENTS", "the workflow's history is too long for comments".to_owned()),
            Refusal::Over => (Kind::Conflict, "WORKFLOW_OVER", "the workflow is over".to_owned()),
        };
        let mut error = Self::new(kind, code, words);
        match refusal {
            Refusal::Pending(_) => error = error.retry_after(PENDING),
            Refusal::Guard(reasons) => {
                error.fields = reasons.into_iter().map(|reason| FieldError { field: "guard".into(), reason }).collect();
            }
            Refusal::WrongState(_, allowed) | Refusal::UnknownAction(allowed) => {
                let allowed = allowed.into_iter().map(|reason| FieldError { field: "allowed".into(), reason });
                error.fields = allowed.collect();
            }
            _ => {}
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_says_when_to_ask_again() {
        let error = Error::from(Refusal::Pending("publish".into()));
        assert_eq!((error.kind, error.code, error.retry_after), (Kind::Conflict, "TRANSITION_PENDING", Some(5)));
        assert_eq!(Error::from(Refusal::Over).retry_after, None);
    }
}
