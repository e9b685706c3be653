//! What is decided without asking anybody.

use omt_kernel::{
    Error, Kind, Permission, Reach, Result,
    access::{Attempts, GroupMapping, Mapped, RoleRecord, UserRecord, UserSource},
};
use std::collections::{BTreeMap, BTreeSet};
use time::{Duration, OffsetDateTime};

/// The role that administers a tenant.
pub const ADMINISTRATOR: &str = "administrator";
/// The longest login name in characters.
const MAX_NAME: usize = 128;
/// Passwords that are tried first; far from all of them, but these are too short a step from nothing.
const COMMON: &[&str] = &[
    "123456789012",
    "1234567890123",
    "password1234",
    "passwordpassword",
    "qwertyuiop12",
    "qwertyuiopas",
    "adminadminadmin",
    "administrator",
    "letmeinletmein",
    "iloveyou1234",
    "welcome12345",
    "changemechangeme",
    "changeme1234",
    "openmediatrust",
    "correcthorsebatterystaple",
    "abcdefghijkl",
    "abc123abc123",
    "monkeymonkey",
    "dragondragon",
    "secretsecret",
];

/// How many failed logins under a name are let through, and for how long it is closed after.
#[derive(Debug, Clone, Copy)]
pub struct Lockout {
    /// Failures in a row that are free.
    pub attempts: u32,
    /// How long the name is closed after; twice as long for each failure beyond, up to a day.
    pub closed: Duration,
}

impl Lockout {
    /// When a name that failed so often is open again; none when it is open now.
    pub fn closed_until(self, attempts: Attempts, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let last = attempts.last_at?;
        let beyond = attempts.failures.checked_sub(self.attempts)?;
        let closed = (self.closed * 2_i32.pow(beyond.min(10))).min(Duration::days(1));
        Some(last + closed).filter(|until| *until > now)
    }
}

/// Refuses a weak password (after NIST SP 800-63B §5.1.1.2: length and lists, no rules of composition).
pub fn check_password(password: &str, username: &str, min: usize) -> Result<()> {
    let weak = |words: String| Err(Error::unprocessable_field("WEAK_PASSWORD", "password", words));
    let length = password.chars().count();
    if length < min {
        return weak(format!("at least {min} characters are needed"));
    }
    if password.len() > crate::password::MAX_LEN {
        return weak(format!("at most {} bytes are taken", crate::password::MAX_LEN));
    }
    let folded = password.to_lowercase();
    let distinct: BTreeSet<char> = folded.chars().collect();
    if COMMON.contains(&folded.as_str()) || distinct.len() < 4 {
        return weak("it is among the first that anybody would try".to_owned());
    }
    if username.chars().count() >= 4 && folded.contains(&username.to_lowercase()) {
        return weak("it contains the login name".to_owned());
    }
    Ok(())
}

/// A login name as failed logins are counted under: directories look past case and spaces, so the count does too.
pub fn counted_name(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Refuses a login name that cannot be one.
pub fn check_username(name: &str) -> Result<()> {
    let proper = !name.is_empty()
        && name.chars().count() <= MAX_NAME
        && !name.starts_with(' ')
        && !name.ends_with(' ')
        && !name.chars().any(|c| c.is_control() || matches!(c, '*' | '(' | ')' | '\\' | '/' | '<' | '>' | '"' | ';' | ','));
    let words = "1 to 128 characters without control characters and any of * ( ) \\ / < > \" ; ,";
    if proper { Ok(()) } else { Err(Error::unprocessable_field("INVALID_FIELD", "username", words)) }
}

/// Refuses words of more than 200 bytes or with control characters.
pub fn check_words(field: &str, value: &str) -> Result<()> {
    if !value.trim().is_empty() && value.len() <= 200 && !value.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::unprocessable_field("INVALID_FIELD", field, "1 to 200 bytes without control characters"))
}

/// Refuses a role's name that cannot be one.
pub fn check_role_name(name: &str) -> Result<()> {
    let proper = (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    let words = "1 to 63 characters of a-z, 0-9 and inner hyphens";
    if proper { Ok(()) } else { Err(Error::unprocessable_field("INVALID_FIELD", "name", words)) }
}

/// Refuses roles that are not among these.
pub fn check_known(roles: &BTreeSet<String>, known: &[RoleRecord]) -> Result<()> {
    match roles.iter().find(|name| known.iter().all(|role| role.name != **name)) {
        Some(unknown) => Err(Error::unprocessable_field("UNKNOWN_ROLE", "roles", format!("there is no role {unknown:?}"))),
        None => Ok(()),
    }
}

/// Refuses a role whose inheritance leads back to itself. `all` are the others.
pub fn check_cycle(role: &RoleRecord, all: &[RoleRecord]) -> Result<()> {
    let others: BTreeMap<&str, &BTreeSet<String>> = all.iter().map(|role| (role.name.as_str(), &role.inherits)).collect();
    let (mut seen, mut next): (BTreeSet<&str>, Vec<&str>) = (BTreeSet::new(), role.inherits.iter().map(String::as_str).collect());
    while let Some(name) = next.pop() {
        if name == role.name {
            return Err(Error::unprocessable_field("ROLE_CYCLE", "inherits", "the role would inherit from itself"));
        }
        if seen.insert(name) {
            next.extend(others.get(name).into_iter().flat_map(|parents| parents.iter().map(String::as_str)));
        }
    }
    Ok(())
}

/// Everything that roles inherit, themselves included.
pub fn inherited(roles: &BTreeSet<String>, all: &[RoleRecord]) -> BTreeSet<String> {
    let (mut out, mut next) = (BTreeSet::new(), roles.iter().cloned().collect::<Vec<_>>());
    while let Some(name) = next.pop() {
        if let Some(role) = all.iter().find(|role| role.name == name) {
            next.extend(role.inherits.iter().filter(|parent| !out.contains(*parent)).cloned());
        }
        out.insert(name);
    }
    out
}

/// Refuses to give what one does not hold.
pub fn check_grant(held: &BTreeSet<Permission>, given: &BTreeSet<Permission>) -> Result<()> {
    match given.iter().find(|permission| !held.contains(permission)) {
        Some(excess) => Err(Error::new(
            Kind::Forbidden,
            "PERMISSION_NOT_HELD",
            format!("you do not hold {excess} yourself, so you cannot give it"),
        )),
        None => Ok(()),
    }
}

/// Refuses to give a wider reach than one's own.
pub fn check_reach(own: &Reach, given: &Reach) -> Result<()> {
    if own.includes(given) {
        return Ok(());
    }
    let words = "you cannot give a department, projects or a clearance beyond your own";
    Err(Error::new(Kind::Forbidden, "REACH_NOT_HELD", words))
}

/// What a tenant's mappings give to the members of these groups. Of several clearances the highest counts, of several departments
/// the first by name of group. A group that has the very name of one of the roles `by_name` gives that role.
pub fn apply_mappings(
    mappings: &[GroupMapping],
    groups: &BTreeSet<String>,
    by_name: &[RoleRecord],
    now: OffsetDateTime,
) -> Mapped {
    let folded: BTreeSet<String> = groups.iter().map(|group| group.to_lowercase()).collect();
    let mut hits: Vec<&GroupMapping> = mappings.iter().filter(|m| folded.contains(&m.group.to_lowercase())).collect();
    hits.sort_by_key(|mapping| mapping.group.to_lowercase());
    let named = by_name.iter().map(|role| &role.name).filter(|name| groups.contains(*name));
    Mapped {
        groups: groups.clone(),
        roles: hits.iter().flat_map(|m| &m.roles).chain(named).cloned().collect(),
        department: hits.iter().find_map(|m| m.department.clone()),
        projects: hits.iter().flat_map(|m| m.projects.iter().cloned()).collect(),
        clearance: hits.iter().filter_map(|m| m.clearance).max(),
        seen_at: Some(now),
    }
}

/// What a user sees once this mapping is among the others, by the groups they were last seen in.
pub fn reach_with(user: &UserRecord, mappings: &[GroupMapping], new: &GroupMapping) -> Reach {
    let all: Vec<GroupMapping> = mappings.iter().chain([new]).cloned().collect();
    let mapped = apply_mappings(&all, &user.mapped.groups, &[], OffsetDateTime::UNIX_EPOCH);
    UserRecord { mapped, ..user.clone() }.effective_reach()
}

/// What groups give, without when they were seen.
pub fn timeless(mapped: &Mapped) -> Mapped {
    Mapped { seen_at: None, ..mapped.clone() }
}

/// The groups by which a user has a role: those whose mapping gives it, and of an issuer's user the value of the claim that is
/// the role's very name.
pub fn groups_giving(user: &UserRecord, mappings: &[GroupMapping], role: &str) -> Vec<String> {
    let groups: BTreeSet<String> = user.mapped.groups.iter().map(|group| group.to_lowercase()).collect();
    let giving = mappings.iter().filter(|m| m.roles.contains(role) && groups.contains(&m.group.to_lowercase()));
    let mut giving: Vec<String> = giving.map(|mapping| mapping.group.clone()).collect();
    if user.source == UserSource::Oidc && user.mapped.groups.contains(role) && user.mapped.roles.contains(role) {
        giving.extend(Some(role.to_owned()).filter(|role| !giving.contains(role)));
    }
    giving
}

/// Whether one of these roles, or one that they inherit from, is among those that ask for a second factor.
pub fn asks_second_factor(asking: &BTreeSet<String>, roles: &BTreeSet<String>, all: &[RoleRecord]) -> bool {
    !asking.is_empty() && !asking.is_disjoint(&inherited(roles, all))
}

/// Whether the directory does not know its user any more. It is forgotten with the next login.
pub fn is_gone(user: &UserRecord) -> bool {
    user.source == UserSource::Ldap && user.mapped.seen_at.is_none()
}

/// What is left of a user whom the directory does not know any more: nothing that its groups gave, and no time at which it saw
/// them.
pub fn gone(user: &UserRecord) -> UserRecord {
    UserRecord { mapped: Mapped::default(), revision: user.revision + 1, ..user.clone() }
}

/// Whether there is any way for a user to log in: a password that is kept here, or somebody who vouched for them once. Who is
/// gone from the directory has none.
pub fn can_log_in(user: &UserRecord) -> bool {
    user.active
        && match user.source {
            UserSource::Local => user.password_hash.is_some(),
            UserSource::Ldap => user.identity.is_some() && !is_gone(user),
            UserSource::Oidc | UserSource::Scim => user.identity.is_some(),
        }
}

/// Whether a user administers the tenant. Who cannot log in administers nothing.
pub fn administers(user: &UserRecord, all: &[RoleRecord]) -> bool {
    can_log_in(user) && inherited(&user.all_roles(), all).contains(ADMINISTRATOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_kernel::{MappingId, TenantId, UserId, manifest::Classification};

    fn code<T>(result: Result<T>) -> &'static str {
        result.err().map_or("ok", |error| error.code)
    }

    fn role(name: &str, inherits: &[&str]) -> RoleRecord {
        RoleRecord {
            tenant: TenantId::default_tenant(),
            name: name.into(),
            description: String::new(),
            inherits: inherits.iter().map(|r| (*r).to_owned()).collect(),
            permissions: BTreeSet::new(),
            revision: 1,
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_name_closes_for_longer_and_longer() {
        let (lockout, at) = (Lockout { attempts: 3, closed: Duration::minutes(1) }, OffsetDateTime::UNIX_EPOCH);
        let until = |failures, after| lockout.closed_until(Attempts { failures, last_at: Some(at) }, at + after);
        assert_eq!(until(2, Duration::ZERO), None);
        assert_eq!(until(3, Duration::ZERO), Some(at + Duration::minutes(1)));
        assert_eq!(until(3, Duration::minutes(1)), None);
        assert_eq!(until(5, Duration::ZERO), Some(at + Duration::minutes(4)));
        assert_eq!(until(u32::MAX, Duration::ZERO), until(13, Duration::ZERO));
    }

    #[test]
    fn weak_passwords_are_refused() {
        for weak in ["short", "aaaaaaaaaaaaaaa", "Administrator", "alice-in-chains-1", &"ab cd".repeat(500)] {
            assert_eq!(code(check_password(weak, "alice", 12)), "WEAK_PASSWORD", "{weak}");
        }
        assert_eq!(code(check_password("a plain long sentence", "alice", 12)), "ok");
        for bad in ["", " a", "a*", "a)(uid=*", "a\u{0}", &"x".repeat(129)] {
            assert_eq!(code(check_username(bad)), "INVALID_FIELD", "{bad}");
        }
        assert_eq!(code(check_username("alice@example.test")), "ok");
    }

    #[test]
    fn roles_do_not_lead_back() {
        let all = [role("a", &["b"]), role("b", &["c"]), role("c", &[])];
        assert_eq!(code(check_cycle(&role("c", &["a"]), &all)), "ROLE_CYCLE");
        assert_eq!(code(check_cycle(&role("c", &["c"]), &all)), "ROLE_CYCLE");
        assert_eq!(code(check_cycle(&role("d", &["a"]), &all)), "ok");
        let roles: Vec<String> = inherited(&["a".to_owned()].into(), &all).into_iter().collect();
        assert_eq!(roles, ["a", "b", "c"]);
        assert_eq!(code(check_known(&["x".to_owned()].into(), &all)), "UNKNOWN_ROLE");
    }

    #[test]
    fn mappings_add_up() {
        let mapping = |group: &str, role: &str, clearance| GroupMapping {
            id: MappingId(Default::default()),
            tenant: TenantId::default_tenant(),
            group: group.into(),
            roles: [role.to_owned()].into(),
            department: Some(format!("of {group}")),
            projects: BTreeSet::new(),
            clearance,
            created_at: OffsetDateTime::UNIX_EPOCH,
        };
        let mappings = [
            mapping("CN=B", "approver", Some(Classification::Public)),
            mapping("cn=a", "creator", Some(Classification::Secret)),
            mapping("cn=c", "manager", Some(Classification::TopSecret)),
        ];
        let groups = ["cn=b".to_owned(), "CN=A".to_owned()].into();
        let mapped = apply_mappings(&mappings, &groups, &[], OffsetDateTime::UNIX_EPOCH);
        assert_eq!(mapped.roles, ["approver".to_owned(), "creator".to_owned()].into());
        assert_eq!((mapped.department.as_deref(), mapped.clearance), (Some("of cn=a"), Some(Classification::Secret)));
        let roles = [role("cn=b", &[]), role("cn=a", &[]), role("cn=z", &[])];
        assert!(apply_mappings(&mappings, &BTreeSet::new(), &roles, OffsetDateTime::UNIX_EPOCH).roles.is_empty());
        // What an issuer calls exactly as a role is called is that role.
        let named = apply_mappings(&mappings, &groups, &roles, OffsetDateTime::UNIX_EPOCH);
        assert_eq!(named.roles, ["approver", "cn=b", "creator"].map(str::to_owned).into());
    }

    fn user(source: UserSource) -> UserRecord {
        UserRecord::new(
            UserId(Default::default()),
            TenantId::default_tenant(),
            "alice".into(),
            source,
            OffsetDateTime::UNIX_EPOCH,
        )
    }

    #[test]
    fn a_second_factor_is_asked_for_by_what_a_role_inherits() {
        let all = [role(ADMINISTRATOR, &[]), role("boss", &[ADMINISTRATOR]), role("chief", &["boss"]), role("desk", &[])];
        let asks = |asking: &[&str], held: &str| {
            let asking = asking.iter().map(|r| (*r).to_owned()).collect();
            asks_second_factor(&asking, &[held.to_owned()].into(), &all)
        };
        assert!(asks(&[ADMINISTRATOR], ADMINISTRATOR) && asks(&[ADMINISTRATOR], "boss") && asks(&[ADMINISTRATOR], "chief"));
        assert!(!asks(&[ADMINISTRATOR], "desk") && !asks(&[], "chief") && !asks(&["boss"], ADMINISTRATOR));
    }

    #[test]
    fn who_cannot_log_in_administers_nothing() {
        let all = [role(ADMINISTRATOR, &[])];
        let with = |source, password: Option<&str>, identity: Option<&str>| UserRecord {
            roles: [ADMINISTRATOR.to_owned()].into(),
            password_hash: password.map(str::to_owned),
            identity: identity.map(str::to_owned),
            mapped: Mapped { seen_at: Some(OffsetDateTime::UNIX_EPOCH), ..Mapped::default() },
            ..user(source)
        };
        assert!(administers(&with(UserSource::Local, Some("hash"), None), &all));
        assert!(administers(&with(UserSource::Ldap, None, Some("ldap:uid=alice")), &all));
        assert!(!administers(&with(UserSource::Local, None, None), &all));
        assert!(!administers(&with(UserSource::Scim, None, None), &all));
        let inactive = UserRecord { active: false, ..with(UserSource::Local, Some("hash"), None) };
        assert!(!administers(&inactive, &all));
    }

    #[test]
    fn who_is_gone_from_the_directory_administers_nothing_until_it_is_heard_of_them_again() {
        let all = [role(ADMINISTRATOR, &[])];
        let roles: BTreeSet<String> = [ADMINISTRATOR.to_owned()].into();
        let mapped = |seen_at| Mapped { groups: ["cn=a".to_owned()].into(), roles: roles.clone(), seen_at, ..Mapped::default() };
        let seen = Some(OffsetDateTime::UNIX_EPOCH);
        // Whether a group gives the role or somebody here did.
        for own in [BTreeSet::new(), roles.clone()] {
            let identity = Some("ldap:uid=alice".to_owned());
            let alice = UserRecord { identity, roles: own, mapped: mapped(seen), ..user(UserSource::Ldap) };
            assert!(administers(&alice, &all));
            let left = gone(&alice);
            assert!(left.active && is_gone(&left) && !administers(&left, &all));
            assert_eq!((left.revision, left.mapped), (alice.revision + 1, Mapped::default()));
            assert!(administers(&UserRecord { mapped: mapped(seen), ..gone(&alice) }, &all));
        }
        // Nobody else needs to be seen by a directory.
        let local = UserRecord { password_hash: Some("hash".into()), roles, ..user(UserSource::Local) };
        assert!(!is_gone(&local) && administers(&local, &all));
    }

    #[test]
    fn a_mapping_changes_what_its_members_see() {
        let mapping = |group: &str, clearance, department: Option<&str>| GroupMapping {
            id: MappingId(Default::default()),
            tenant: TenantId::default_tenant(),
            group: group.into(),
            roles: BTreeSet::new(),
            department: department.map(str::to_owned),
            projects: BTreeSet::new(),
            clearance,
            created_at: OffsetDateTime::UNIX_EPOCH,
        };
        let mut alice = user(UserSource::Ldap);
        alice.mapped.groups = ["cn=a".to_owned(), "cn=b".to_owned()].into();
        let there = [mapping("cn=b", Some(Classification::Secret), Some("news"))];
        let seen = reach_with(&alice, &there, &mapping("CN=A", Some(Classification::TopSecret), None));
        assert_eq!((seen.clearance, seen.department.as_deref()), (Classification::TopSecret, Some("news")));
        let lower = reach_with(&alice, &there, &mapping("cn=a", Some(Classification::Public), None));
        assert_eq!(lower.clearance, Classification::Secret);
        let others = reach_with(&alice, &[], &mapping("cn=z", Some(Classification::TopSecret), None));
        assert_eq!(others, alice.effective_reach());
    }

    #[test]
    fn a_role_is_traced_to_its_group() {
        let mapping = GroupMapping {
            id: MappingId(Default::default()),
            tenant: TenantId::default_tenant(),
            group: "Desk".into(),
            roles: ["creator".to_owned()].into(),
            department: None,
            projects: BTreeSet::new(),
            clearance: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
        };
        let mut alice = user(UserSource::Oidc);
        alice.mapped.groups = ["desk".to_owned(), "approver".to_owned()].into();
        alice.mapped.roles = ["creator".to_owned(), "approver".to_owned()].into();
        let mappings = [mapping];
        assert_eq!(groups_giving(&alice, &mappings, "creator"), ["Desk"]);
        assert_eq!(groups_giving(&alice, &mappings, "approver"), ["approver"]);
        assert!(groups_giving(&alice, &mappings, "manager").is_empty());
        // A directory's group is no role by its name alone.
        alice.source = UserSource::Ldap;
        assert!(groups_giving(&alice, &mappings, "approver").is_empty());
    }
}
