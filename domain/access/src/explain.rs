//! Why somebody may do something, or may not.

use crate::{Access, rules};
use omt_kernel::{Actor, Error, ManifestId, Permission, Result, UserId, access::UserRecord};

/// A role that somebody has, and what comes of it.
#[derive(Debug, Clone)]
pub struct RoleReason {
    /// The role.
    pub role: String,
    /// Given to the user here.
    pub assigned: bool,
    /// Groups that give it: by a mapping, or by being values of an issuer's claim that are roles.
    pub groups: Vec<String>,
    /// Where it gives the permission: the roles from this one down to the one that has the line.
    pub chain: Option<Vec<String>>,
}

/// The answer.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The user.
    pub user: UserRecord,
    /// Whether it is allowed.
    pub allowed: bool,
    /// Roles, and what each gives.
    pub roles: Vec<RoleReason>,
    /// What decides, in the order in which it is looked at: what is asked, and whether it holds.
    pub checks: Vec<(String, bool)>,
}

impl Access {
    /// Explains whether a user may do something, with a manifest or at all.
    pub async fn explain(
        &self,
        actor: &Actor,
        id: UserId,
        permission: Permission,
        manifest: Option<ManifestId>,
    ) -> Result<Explanation> {
        actor.require(Permission::AdminUserRead)?;
        let user = self.own_record(actor, id).await?;
        let read = self.deps.database.read().await?;
        let (table, mappings) = (self.role_table(read.as_ref(), &user.tenant).await?, read.roles().mappings(&user.tenant).await?);
        let mut roles = Vec::new();
        for role in user.all_roles() {
            roles.push(RoleReason {
                assigned: user.roles.contains(&role),
                groups: rules::groups_giving(&user, &mappings, &role),
                chain: self.deps.authorizer.because(&table, &role, permission).await?,
                role,
            });
        }
        let mut checks = vec![
            ("the user is active".to_owned(), user.active),
            (
                "a second factor is there where a role needs one".to_owned(),
                !self.asks_second_factor(&table, &user) || user.has_second_factor(),
            ),
            (format!("a role gives {permission}"), roles.iter().any(|role| role.chain.is_some())),
        ];
        if let Some(manifest) = manifest {
            let record = read.manifests().get(&user.tenant, manifest).await?;
            // What the asker cannot see, they are told nothing of.
            let record = record.filter(|r| actor.reach.sees(r)).ok_or_else(|| Error::not_found("manifest"))?;
            let reach = user.effective_reach();
            let only = |department: bool, project: bool, classification: bool| {
                reach.covers(
                    record.department.as_deref().filter(|_| department),
                    record.project.as_deref().filter(|_| project),
                    if classification { record.classification } else { omt_kernel::manifest::Classification::Public },
                )
            };
            checks.push(("the manifest's department is within reach".to_owned(), only(true, false, false)));
            checks.push(("the manifest's project is within reach".to_owned(), only(false, true, false)));
            let words = format!("the clearance {} covers {}", reach.clearance, record.classification);
            checks.push((words, only(false, false, true)));
        }
        let known = rules::check_known(&user.roles, &self.all_roles(&table)).is_ok();
        checks.push(("every role that is assigned exists".to_owned(), known));
        // A role that does not exist gives nothing, and takes nothing either.
        let allowed = checks.iter().take(checks.len() - 1).all(|(_, holds)| *holds);
        Ok(Explanation { user, allowed, roles, checks })
    }
}
