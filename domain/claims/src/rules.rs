//! Pure decisions about drafts: which actions a claim will say, what may be changed when, and which content is refused.

use crate::{
    definition::{ClaimDefinition, DEFAULT_SOURCE_TYPE},
    engine::PlannedAction,
    media::{self, Embedding, Media},
};
use omt_crypto::SignatureScheme;
use omt_kernel::{
    Actor, Error, Kind, Result, TenantSettings,
    manifest::{Classification, ManifestRecord, ManifestState, Relationship},
};

const MAX_TEXT: usize = 512;

/// Refuses content that its own maker would not see.
pub fn check_within(
    actor: &Actor,
    department: Option<&str>,
    project: Option<&str>,
    classification: Classification,
) -> Result<()> {
    let refuse = |code, field: &str, words: &str| {
        let mut error = Error::new(Kind::Forbidden, code, words);
        error.fields.push(omt_kernel::FieldError { field: field.to_owned(), reason: words.to_owned() });
        Err(error)
    };
    let reach = &actor.reach;
    if classification > reach.clearance {
        return refuse("CLEARANCE_EXCEEDED", "classification", "the classification is above your clearance");
    }
    if !reach.covers(department, None, Classification::Public) {
        return refuse("DEPARTMENT_NOT_YOURS", "department", "you work for another department");
    }
    if !reach.covers(None, project, Classification::Public) {
        return refuse("PROJECT_NOT_YOURS", "project", "you do not work for this project");
    }
    Ok(())
}

/// Refuses to sign at once what must be approved first.
pub fn check_unapproved(classification: Classification, settings: &TenantSettings) -> Result<()> {
    let Some(workflow) = settings.approval.get(&classification) else { return Ok(()) };
    let words = format!("content classified {classification} is signed after the workflow {workflow} approved it");
    Err(Error::new(Kind::Conflict, "APPROVAL_REQUIRED", words))
}

/// Refuses a caller's own word about approval where the tenant has approval: the platform says what happened.
pub fn check_no_own_approval(definition: &ClaimDefinition, settings: &TenantSettings) -> Result<()> {
    let own = definition.assertions.iter().any(|assertion| crate::definition::is_workflow_label(&assertion.label));
    if settings.approval.is_empty() || !own {
        return Ok(());
    }
    let words = "this organisation has approval workflows; the platform writes this assertion itself";
    Err(Error::unprocessable_field("RESERVED_LABEL", "assertions", words))
}

/// Checks a text field: not blank, no control characters, at most 512 bytes.
pub fn check_text(field: &str, value: &str) -> Result<()> {
    let reason = if value.trim().is_empty() {
        "must not be empty"
    } else if value.len() > MAX_TEXT {
        "at most 512 bytes are allowed"
    } else if value.chars().any(char::is_control) {
        "control characters are not allowed"
    } else {
        return Ok(());
    };
    Err(Error::unprocessable_field("INVALID_FIELD", field, reason))
}

/// The actions of a claim, and whether the source itself must be its parent ingredient.
#[derive(Debug)]
pub struct ActionPlan {
    /// The actions, an inception first. Ingredient positions count the given ingredients; the source as parent comes after.
    pub actions: Vec<PlannedAction>,
    /// The source is a parent ingredient.
    pub source_is_parent: bool,
}

/// Derives the actions (C2PA 2.2 §18.15.4.2: the first is `c2pa.created` or `c2pa.opened`).
///
/// Content that has a manifest already, or is said to be edited, was opened: it, or the parent given, becomes a `parentOf`
/// ingredient. Components are `c2pa.placed`; inputs belong to the action itself.
pub fn plan_actions(definition: &ClaimDefinition, has_manifest: bool, ingredients: &[Relationship]) -> Result<ActionPlan> {
    let with = |wanted: Relationship| -> Vec<usize> {
        ingredients.iter().enumerate().filter(|(_, r)| **r == wanted).map(|(at, _)| at).collect()
    };
    let parents = with(Relationship::ParentOf);
    if parents.len() > 1 {
        return Err(Error::unprocessable_field("TOO_MANY_PARENTS", "ingredient", "only one ingredient can be the parent"));
    }
    let created = definition.action == "c2pa.created";
    if created && definition.action_given && (has_manifest || !parents.is_empty()) {
        return Err(Error::unprocessable_field(
            "ACTION_CONFLICT",
            "action",
            "the content has a manifest or a parent already, so it was not created here; use c2pa.opened or an editing action",
        ));
    }
    let source_is_parent = parents.is_empty() && (has_manifest || !created);
    let inputs = with(Relationship::InputTo);
    let action = |name: &str, ingredients: Vec<usize>| PlannedAction {
        action: name.to_owned(),
        digital_source_type: None,
        software_agent: definition.software_agent.clone(),
        ingredients,
    };
    let mut actions = Vec::new();
    if source_is_parent || !parents.is_empty() {
        let parent = parents.first().copied().unwrap_or(ingredients.len());
        let mut opened = action("c2pa.opened", vec![parent]);
        if created || definition.action == "c2pa.opened" {
            opened.digital_source_type = definition.digital_source_type.clone();
            opened.ingredients.extend(inputs);
            actions.push(opened);
        } else {
            actions.push(opened);
            let mut own = action(&definition.action, inputs);
            own.digital_source_type = definition.digital_source_type.clone();
            actions.push(own);
        }
    } else {
        let mut inception = action("c2pa.created", inputs);
        inception.digital_source_type =
            Some(definition.digital_source_type.clone().unwrap_or_else(|| DEFAULT_SOURCE_TYPE.to_owned()));
        actions.push(inception);
    }
    actions.extend(with(Relationship::ComponentOf).into_iter().map(|at| action("c2pa.placed", vec![at])));
    Ok(ActionPlan { actions, source_is_parent })
}

/// Refuses content, of the field that it came in, whose name or declared type promises a format that its bytes are not.
pub fn check_promise(sniffed: Media, field: &str, file_name: Option<&str>, declared: Option<&str>) -> Result<()> {
    // Recognised formats are taken for what they are, whatever they are called.
    if matches!(sniffed.embedding, Embedding::Embedded(_)) {
        return Ok(());
    }
    let declared = declared.map(|d| d.split(';').next().unwrap_or(d).trim().to_ascii_lowercase());
    let by_type = declared.as_deref().map(media::by_mime).filter(|m| m.mime != media::UNKNOWN.mime);
    let extension = file_name.and_then(|n| n.rsplit_once('.')).map(|(_, e)| e.to_ascii_lowercase());
    let by_name = extension.as_deref().and_then(media::by_extension);
    match by_type.or(by_name) {
        Some(promised) if promised.mime != sniffed.mime => Err(Error::unprocessable_field(
            "MEDIA_TYPE_MISMATCH",
            field,
            format!("is called {} but its bytes are not", promised.mime),
        )),
        _ => Ok(()),
    }
}

/// Whether the tenant may use the scheme.
pub fn check_scheme(scheme: SignatureScheme, settings: &TenantSettings) -> Result<()> {
    if scheme.is_private_profile() && !settings.private_profile {
        return Err(Error::unprocessable_field(
            "PRIVATE_PROFILE_DISABLED",
            "algorithm",
            "pure post-quantum claims are a private profile that this tenant has not enabled",
        ));
    }
    Ok(())
}

/// Parses an algorithm's name.
pub fn parse_scheme(name: &str) -> Result<SignatureScheme> {
    name.parse().map_err(|()| {
        let known: Vec<String> = SignatureScheme::ALL.iter().map(ToString::to_string).collect();
        Error::unprocessable_field("UNKNOWN_ALGORITHM", "algorithm", format!("must be one of {}", known.join(", ")))
    })
}

/// Whether a draft may still be changed or signed.
pub fn check_draft(record: &ManifestRecord) -> Result<()> {
    match record.state {
        ManifestState::Draft => Ok(()),
        ManifestState::Signed => {
            Err(Error::new(Kind::Conflict, "ALREADY_SIGNED", "the manifest is signed and no longer changes"))
        }
        ManifestState::Archived => Err(Error::new(Kind::Conflict, "ARCHIVED", "the manifest is archived")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(action: Option<&str>, has_manifest: bool, ingredients: &[Relationship]) -> Result<Vec<String>> {
        let mut definition = ClaimDefinition::default();
        if let Some(action) = action {
            definition.action = action.into();
            definition.action_given = true;
        }
        let plan = plan_actions(&definition, has_manifest, ingredients)?;
        let mut out: Vec<String> = plan.actions.iter().map(|a| format!("{}{:?}", a.action, a.ingredients)).collect();
        if plan.source_is_parent {
            out.push("source".into());
        }
        Ok(out)
    }

    #[test]
    fn the_first_action_is_an_inception() {
        use Relationship::{ComponentOf, InputTo, ParentOf};
        assert_eq!(plan(None, false, &[]).unwrap(), ["c2pa.created[]"]);
        assert_eq!(plan(None, true, &[]).unwrap(), ["c2pa.opened[0]", "source"]);
        assert_eq!(plan(Some("c2pa.edited"), false, &[]).unwrap(), ["c2pa.opened[0]", "c2pa.edited[]", "source"]);
        assert_eq!(plan(Some("c2pa.cropped"), false, &[ParentOf]).unwrap(), ["c2pa.opened[0]", "c2pa.cropped[]"]);
        assert_eq!(plan(None, false, &[ComponentOf, InputTo]).unwrap(), ["c2pa.created[1]", "c2pa.placed[0]"]);
        assert_eq!(plan(None, true, &[ComponentOf]).unwrap(), ["c2pa.opened[1]", "c2pa.placed[0]", "source"]);
        assert_eq!(plan(Some("c2pa.created"), true, &[]).unwrap_err().code, "ACTION_CONFLICT");
        assert_eq!(plan(None, false, &[ParentOf, ParentOf]).unwrap_err().code, "TOO_MANY_PARENTS");
    }

    #[test]
    fn promises_are_kept() {
        let code = |head: &[u8], name, declared| check_promise(media::sniff(head), "file", name, declared).err().map(|e| e.code);
        assert_eq!(code(b"hello", Some("a.jpg"), None), Some("MEDIA_TYPE_MISMATCH"));
        assert_eq!(code(b"hello", None, Some("image/png")), Some("MEDIA_TYPE_MISMATCH"));
        assert_eq!(code(b"hello", Some("a.txt"), Some("text/plain")), None);
        assert_eq!(code(b"hello", Some("a"), Some("application/octet-stream")), None);
        assert_eq!(code(b"\xff\xd8\xff\xe0", Some("a.png"), Some("image/png")), None);
        assert_eq!(code(b"\xff\x0a\0\0", Some("a.jxl"), Some("image/jxl")), None);
    }

    #[test]
    fn text_is_bounded() {
        assert!(check_text("title", "Title").is_ok());
        for bad in ["", "  ", "a\nb", &"x".repeat(513)] {
            assert_eq!(check_text("title", bad).unwrap_err().fields[0].field, "title");
        }
    }
}
