//! From status codes to a verdict.

use super::{
    stamp::{self, StampVerdict},
    verify::{OwnChecks, VerifyRequest},
};
use crate::{
    definition::{WORKFLOW_LABEL, WorkflowAssertion, is_workflow_label},
    jumbf::ManifestStore,
    post_quantum::{PostQuantum, PqState},
    report::{
        AssertionVerdict, IngredientStatus, OrganizationalCompliance, Signer, SigningTime, Status, StatusCodes, TrustLevel,
        ValidationState, VerificationReport,
    },
};
use c2pa::{Reader, ValidationState as EngineState, validation_status::ValidationStatus};
use omt_kernel::PqRequirement;
use omt_pki::{AnchorSource, Certificate};
use time::format_description::well_known::Rfc3339;

const UNTRUSTED: &str = "signingCredential.untrusted";
const TRUSTED: &str = "signingCredential.trusted";
const UNSUPPORTED: &str = "algorithm.unsupported";
const MISMATCH: &str = "claimSignature.mismatch";
/// Ours: C2PA has no code for what an ingredient assertion records.
const INVALID_INGREDIENT: &str = "ingredient.manifest.invalid";

/// The report on a manifest that the engine could read.
pub(super) fn report(
    reader: &Reader,
    store: &ManifestStore<'_>,
    own: OwnChecks,
    request: &VerifyRequest<'_>,
) -> VerificationReport {
    let results = reader.validation_results();
    let mut codes = results.and_then(|r| r.active_manifest()).map(convert).unwrap_or_default();
    let deltas = results.and_then(|r| r.ingredient_deltas()).map(Vec::as_slice).unwrap_or_default();
    let mut ingredients: Vec<IngredientStatus> = deltas
        .iter()
        .map(|d| IngredientStatus { ingredient: d.ingredient_assertion_uri().to_owned(), codes: convert(d.validation_deltas()) })
        .collect();
    let mut c2pa_state = engine_state(reader.validation_state());
    if !own.pure_post_quantum.is_empty() || !own.nameless_signer.is_empty() {
        replace_unsupported(&mut codes, &mut ingredients, &own, reader.active_label());
        c2pa_state = state_of(&codes, &ingredients);
    }
    if own.decides_trust {
        decide_trust(&mut codes, &own, reader.active_label());
        c2pa_state = state_of(&codes, &ingredients);
    }
    if let (Some(stamp), Some(label)) = (&own.stamp, reader.active_label()) {
        // The engine has one list of anchors, so that a claim signer's vouches for an authority, does not check that an authority's
        // issuers may issue, and calls every time-stamp of a version 1 claim trusted.
        let is_engines = |status: &Status| status.code.starts_with("timeStamp.");
        [&mut codes.success, &mut codes.informational].into_iter().for_each(|list| list.retain(|status| !is_engines(status)));
        let (good, bad) = stamp::statuses(stamp, &format!("self#jumbf=/c2pa/{label}/c2pa.signature"));
        codes.success.extend(good);
        codes.informational.extend(bad);
    } else {
        codes.success.retain(|status| status.code != "timeStamp.trusted");
    }
    let mut post_quantum = own.post_quantum.clone();
    let demanded = post_quantum.apply(request.post_quantum);
    let path_trusted = own.path.is_ok() && holds(&codes, TRUSTED);
    let mut state = c2pa_state;
    let mut warnings: Vec<Status> = codes.informational.iter().filter(|s| is_warning(s)).cloned().collect();
    if state == ValidationState::Trusted && !path_trusted {
        state = ValidationState::Valid;
        warnings.push(Status::new(UNTRUSTED, path_words(&own)));
    }
    let mut certificate_trusted = path_trusted;
    if request.post_quantum == PqRequirement::PqOnly && state >= ValidationState::Valid {
        certificate_trusted = post_quantum.state == PqState::Trusted;
        state = if certificate_trusted { ValidationState::Trusted } else { ValidationState::Valid };
    }
    if !demanded {
        state = ValidationState::Invalid;
    }
    let valid = state >= ValidationState::Valid;
    let mut issues: Vec<Status> = Vec::new();
    let failures = codes.failure.iter().chain(ingredients.iter().flat_map(|i| &i.codes.failure));
    for failure in failures {
        // A failure that leaves the asset valid is about trust in somebody, not about the asset.
        let list = if failure.code == UNTRUSTED || valid { &mut warnings } else { &mut issues };
        if !list.contains(failure) {
            list.push(failure.clone());
        }
    }
    warnings.extend(invalid_ingredients(reader, &own));
    if let Some(status) = post_quantum_status(&post_quantum) {
        if demanded { warnings.push(status) } else { issues.push(status) }
    }
    let signing_time = signing_time(reader, &own.stamp);
    let source = match request.post_quantum {
        PqRequirement::PqOnly => own.post_quantum_source,
        _ => own.path.as_ref().ok().map(|path| path.source),
    };
    // Only an own signer's word about an own decision counts.
    let own_word = valid && certificate_trusted && source == Some(AnchorSource::Own);
    let compliance = if own_word { compliance(reader) } else { OrganizationalCompliance::default() };
    let trust_level = trust_level(valid, certificate_trusted, source, &post_quantum, signing_time.as_ref(), &compliance);
    let active = reader.active_manifest();
    VerificationReport {
        manifest_id: None,
        manifest_present: true,
        valid,
        trust_level,
        validation_state: state,
        c2pa_state,
        signature_valid: holds(&codes, "claimSignature.validated"),
        certificate_trusted,
        chain_complete: chain_complete(&own),
        assertions_verified: assertions(store, reader.active_label(), &codes),
        issues,
        warnings,
        organizational_compliance: compliance,
        active_manifest: reader.active_label().map(str::to_owned),
        title: active.and_then(|m| m.title()).map(str::to_owned),
        signer: signer(&own),
        claim_generator: active.and_then(|m| {
            let info = m.claim_generator_info.as_ref().and_then(|list| list.first());
            info.and_then(|i| serde_json::to_value(i).ok()).or_else(|| m.claim_generator().map(Into::into))
        }),
        signing_time,
        post_quantum,
        status_codes: codes,
        ingredients,
        strict: false,
    }
}

/// One warning for each ingredient, of whatever manifest in the store, that did not hold when it was added. C2PA has the signer record it
/// (2.2 §15.11) and leaves the asset valid; a reader who is not told takes a composite of forgeries for a sound one.
fn invalid_ingredients(reader: &Reader, own: &OwnChecks) -> Vec<Status> {
    const MAX_NAMED: usize = 5;
    let mut manifests: Vec<_> = reader.manifests().iter().collect();
    manifests.sort_by_key(|(label, _)| (Some(label.as_str()) != reader.active_label(), *label));
    let mut out = Vec::new();
    for (label, ingredient) in manifests.into_iter().flat_map(|(label, m)| m.ingredients().iter().map(move |i| (label, i))) {
        let Ok(written) = serde_json::to_value(ingredient) else { continue };
        let ours = ingredient.active_manifest().is_some_and(|m| own.vouches_for(m));
        let mut codes: Vec<String> = crate::custody::recorded_failures(&written).into_iter().map(|s| s.code).collect();
        codes.retain(|code| code != UNTRUSTED && !(ours && matches!(code.as_str(), UNSUPPORTED | MISMATCH)));
        codes.sort();
        codes.dedup();
        if codes.is_empty() {
            continue;
        }
        codes.truncate(MAX_NAMED);
        let title = ingredient.title().unwrap_or("without a title");
        let words = format!("the ingredient {title:?} was not valid when it was added: {}", codes.join(", "));
        let url = ingredient.label().map(|assertion| format!("self#jumbf=/c2pa/{label}/c2pa.assertions/{assertion}"));
        out.push(Status { code: INVALID_INGREDIENT.into(), url, explanation: Some(words) });
    }
    out
}

/// What the signer attests of its organisation's decisions: a created assertion, since a gathered one is anybody's word. What was not
/// checked, or let through by an override, is not known to hold.
fn compliance(reader: &Reader) -> OrganizationalCompliance {
    let all = reader.active_manifest().into_iter().flat_map(|manifest| manifest.assertions());
    let claimed: Vec<_> = all.filter(|assertion| is_workflow_label(assertion.label())).collect();
    // Beside another of its kind, none says anything.
    let [one] = claimed[..] else { return OrganizationalCompliance::default() };
    let attested = one.created() && one.label() == WORKFLOW_LABEL;
    let said = one.value().ok().filter(|_| attested).cloned();
    let said: Option<WorkflowAssertion> = said.and_then(|value| serde_json::from_value(value).ok());
    let Some(said) = said else { return OrganizationalCompliance::default() };
    let department = said.organizational_context.as_ref().and_then(|context| context.department.as_ref());
    OrganizationalCompliance {
        workflow_id: Some(said.workflow_id),
        pdpa_compliant: said.compliance_check.pdpa_approved.then_some(true),
        workflow_approved: Some(!said.approval_chain.is_empty()),
        // Nobody publishes content of a department beyond their reach.
        department_authorized: department.map(|_| true),
    }
}

fn convert(codes: &c2pa::validation_results::StatusCodes) -> StatusCodes {
    let list = |statuses: &[ValidationStatus]| {
        let one = |s: &ValidationStatus| Status {
            code: s.code().to_owned(),
            url: s.url().map(str::to_owned),
            explanation: s.explanation().map(str::to_owned),
        };
        statuses.iter().map(one).collect()
    };
    StatusCodes { success: list(codes.success()), informational: list(codes.informational()), failure: list(codes.failure()) }
}

fn engine_state(state: EngineState) -> ValidationState {
    match state {
        EngineState::Trusted => ValidationState::Trusted,
        EngineState::Valid => ValidationState::Valid,
        _ => ValidationState::Invalid,
    }
}

fn holds(codes: &StatusCodes, code: &str) -> bool {
    codes.success.iter().any(|s| s.code == code)
}

/// C2PA's rule: valid when the claim signature holds within its validity and nothing fails but trust; trusted when the
/// credential is, and nothing fails at all.
fn state_of(codes: &StatusCodes, ingredients: &[IngredientStatus]) -> ValidationState {
    let mut failures = codes.failure.iter().chain(ingredients.iter().flat_map(|i| &i.codes.failure)).peekable();
    let signed = holds(codes, "claimSignature.validated") && holds(codes, "claimSignature.insideValidity");
    let clean = failures.peek().is_none();
    if !signed || failures.any(|s| s.code != UNTRUSTED) {
        ValidationState::Invalid
    } else if clean && holds(codes, TRUSTED) {
        ValidationState::Trusted
    } else {
        ValidationState::Valid
    }
}

/// Replaces the engine's verdict that an algorithm is unsupported, or that a signer without an organisation signed badly,
/// exactly where our own check passed on the same bytes.
fn replace_unsupported(codes: &mut StatusCodes, ingredients: &mut [IngredientStatus], own: &OwnChecks, active: Option<&str>) {
    // The one URI that names a manifest's claim signature; anything looser would let one manifest vouch for another.
    let signature_of = |label: &str| format!("self#jumbf=/c2pa/{label}/c2pa.signature");
    let verified: Vec<&String> = own.pure_post_quantum.keys().chain(&own.nameless_signer).collect();
    let fix = |codes: &mut StatusCodes, of: &dyn Fn(&str) -> bool| {
        let mut replaced = Vec::new();
        codes.failure.retain(|status| match (status.code.as_str(), status.url.as_deref()) {
            // The engine does not say which signature it means, so this goes only when none is left over.
            ("algorithm.unsupported", Some("Cose_Sign1") | None) => own.unsupported_left || own.pure_post_quantum.is_empty(),
            ("claimSignature.mismatch", Some(url)) => {
                let label = verified.iter().find(|label| of(label) && url == signature_of(label));
                replaced.extend(label.map(|label| (label.to_string(), url.to_owned())));
                label.is_none()
            }
            _ => true,
        });
        for (label, url) in replaced {
            let status =
                |code: &str, words: &str| Status { code: code.into(), url: Some(url.clone()), explanation: Some(words.into()) };
            codes.success.push(status("claimSignature.insideValidity", "claim signature valid (checked by OpenMediaTrust)"));
            codes.success.push(status("claimSignature.validated", "claim signature valid (checked by OpenMediaTrust)"));
            match own.pure_post_quantum.get(&label) {
                Some(true) => {
                    codes.success.push(status(TRUSTED, "signing certificate trusted, found in the post-quantum trust list"));
                }
                Some(false) => codes.failure.push(status(UNTRUSTED, "signing certificate untrusted")),
                // The engine judges the trust of classical signers before it stumbles over the name.
                None => {}
            }
        }
    };
    fix(codes, &|label| Some(label) == active);
    ingredients.iter_mut().for_each(|i| fix(&mut i.codes, &|label| Some(label) != active));
}

/// Says what the engine would have said of the signer's trust, had it been asked. It says nothing of algorithms it does not know.
fn decide_trust(codes: &mut StatusCodes, own: &OwnChecks, active: Option<&str>) {
    let (Some(label), Some(sign1)) = (active, &own.active) else { return };
    if sign1.claim.algorithm().is_some_and(|a| a.is_post_quantum()) {
        return;
    }
    let url = Some(format!("self#jumbf=/c2pa/{label}/c2pa.signature"));
    let status = |code: &str, words: String| Status { code: code.into(), url: url.clone(), explanation: Some(words) };
    match &own.path {
        Ok(_) => codes.success.push(status(TRUSTED, "signing certificate trusted, found in the trust list".into())),
        Err(error) => codes.failure.push(status(UNTRUSTED, format!("signing certificate untrusted: {error}"))),
    }
}

fn is_warning(status: &Status) -> bool {
    status.code.starts_with("timeStamp.") || status.code.contains("ocsp") || status.code.starts_with("ingredient.unknown")
}

fn path_words(own: &OwnChecks) -> String {
    match &own.path {
        Err(error) => error.to_string(),
        Ok(_) => "the signing certificate is not trusted".into(),
    }
}

fn post_quantum_status(verdict: &PostQuantum) -> Option<Status> {
    let reason = verdict.reason.clone().unwrap_or_default();
    let code = match verdict.state {
        PqState::Stripped => "postQuantum.stripped",
        PqState::Invalid => "postQuantum.invalid",
        PqState::Valid => "postQuantum.untrusted",
        PqState::Absent if verdict.required_by.is_some() => "postQuantum.absent",
        PqState::Absent | PqState::Trusted => return None,
    };
    Some(Status::new(code, reason))
}

fn trust_level(
    valid: bool,
    trusted: bool,
    source: Option<AnchorSource>,
    post_quantum: &PostQuantum,
    time: Option<&SigningTime>,
    compliance: &OrganizationalCompliance,
) -> TrustLevel {
    if !valid {
        return TrustLevel::Invalid;
    }
    if !trusted {
        return TrustLevel::Basic;
    }
    if !matches!(source, Some(AnchorSource::Tenant | AnchorSource::Own)) {
        return TrustLevel::Standard;
    }
    let assured =
        post_quantum.state == PqState::Trusted && time.is_some_and(|t| t.trusted) && compliance.workflow_approved == Some(true);
    if assured { TrustLevel::HighAssurance } else { TrustLevel::Enterprise }
}

fn chain_complete(own: &OwnChecks) -> bool {
    let ends_in_root = |chain: &[Certificate]| chain.last().is_some_and(|last| last.issuer == last.subject);
    own.path.is_ok() || own.linked.as_deref().is_some_and(ends_in_root)
}

fn signer(own: &OwnChecks) -> Option<Signer> {
    let block = &own.active.as_ref()?.claim;
    let leaf = own.leaf.as_ref()?;
    let (not_before, not_after) = leaf.validity();
    let name = |id: i64| match id {
        -8 => "ed25519".to_owned(),
        -36 => "es512".to_owned(),
        -37 => "ps256".to_owned(),
        -38 => "ps384".to_owned(),
        -39 => "ps512".to_owned(),
        other => other.to_string(),
    };
    Some(Signer {
        subject: leaf.subject_text(),
        issuer: leaf.issuer_text(),
        serial: leaf.serial(),
        algorithm: block.algorithm().map_or_else(|| name(block.alg), |a| a.name().to_owned()),
        not_before,
        not_after,
        fingerprint_sha256: hex::encode(leaf.fingerprint()),
    })
}

/// When the claim was signed: as the token beside the signature says it. A time that stands elsewhere, such as in a time-stamp assertion,
/// is only the engine's word.
fn signing_time(reader: &Reader, stamp: &StampVerdict) -> Option<SigningTime> {
    if let Some(Ok(stamped)) = stamp {
        let time = stamped.stamp.time.format(&Rfc3339).ok()?;
        return Some(SigningTime { time, trusted: stamped.is_trusted(), authority: Some(stamped.stamp.authority.clone()) });
    }
    let time = reader.active_manifest()?.time().filter(|_| stamp.is_none())?;
    Some(SigningTime { time, trusted: false, authority: None })
}

/// What became of each assertion of the active manifest, by the codes that name it.
fn assertions(store: &ManifestStore<'_>, active: Option<&str>, codes: &StatusCodes) -> Vec<AssertionVerdict> {
    let Some(manifest) = active.and_then(|label| store.get(label)) else { return Vec::new() };
    let about = |status: &Status, label: &str| status.url.as_deref().is_some_and(|url| url.rsplit('/').next() == Some(label));
    manifest
        .assertions
        .iter()
        .map(|(label, _)| {
            let failed = codes.failure.iter().find(|s| s.code.starts_with("assertion.") && about(s, label));
            let mut passed = codes.success.iter().filter(|s| s.code.starts_with("assertion.") && about(s, label));
            let (verified, message) = match failed {
                Some(status) => (false, words(status)),
                None => match passed.next_back() {
                    Some(status) => (true, words(status)),
                    None => (false, "the claim does not reference this assertion".to_owned()),
                },
            };
            AssertionVerdict { label: label.clone(), verified, message }
        })
        .collect()
}

fn words(status: &Status) -> String {
    match &status.explanation {
        Some(explanation) => format!("{}: {explanation}", status.code),
        None => status.code.clone(),
    }
}

/// The C2PA status code for an engine error that ended validation early.
pub(super) fn error_code(error: &c2pa::Error) -> &'static str {
    use c2pa::Error as E;
    match error {
        E::ClaimMissingHardBinding => "claim.hardBindings.missing",
        E::AssertionMissing { .. } => "assertion.missing",
        E::AssertionDecoding(_) => "assertion.cbor.invalid",
        E::ClaimDecoding(_) => "claim.cbor.invalid",
        E::ClaimMissing { .. } | E::ProvenanceMissing => "claim.missing",
        E::CoseX5ChainMissing | E::CoseInvalidCert => "signingCredential.invalid",
        E::CertificateTrustError(_) => "signingCredential.ocsp.revoked",
        E::CoseTimeStampGeneration | E::CoseVerifier | E::CoseSignature => "claimSignature.mismatch",
        E::UnknownAlgorithm => "algorithm.unsupported",
        E::JumbfNotFound => "manifest.notFound",
        E::RemoteManifestUrl(_) => "manifest.inaccessible",
        _ => "general.error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_pki::path::PathError;
    use std::collections::{BTreeMap, BTreeSet};

    fn own(verified: &[&str]) -> OwnChecks {
        OwnChecks {
            decides_trust: false,
            pure_post_quantum: verified.iter().map(|label| ((*label).to_owned(), true)).collect::<BTreeMap<_, _>>(),
            nameless_signer: BTreeSet::new(),
            unsupported_left: false,
            active: None,
            leaf: None,
            path: Err(PathError::NoAnchor),
            linked: None,
            post_quantum: PostQuantum::absent(),
            post_quantum_source: None,
            stamp: None,
        }
    }

    fn mismatch(label: &str) -> StatusCodes {
        let url = Some(format!("self#jumbf=/c2pa/{label}/c2pa.signature"));
        let status = |code: &str, url: Option<String>| Status { code: code.into(), url, explanation: None };
        StatusCodes {
            failure: vec![status("algorithm.unsupported", Some("Cose_Sign1".into())), status("claimSignature.mismatch", url)],
            ..Default::default()
        }
    }

    #[test]
    fn a_manifest_vouches_only_for_itself() {
        let active = "urn:c2pa:active";
        for (verified, replaced) in [(active, true), ("c2pa", false), ("c2pa.signature", false), ("urn:c2pa:act", false)] {
            let mut codes = mismatch(active);
            replace_unsupported(&mut codes, &mut [], &own(&[verified]), Some(active));
            let left = codes.failure.iter().any(|s| s.code == "claimSignature.mismatch");
            assert_eq!((left, state_of(&codes, &[]) == ValidationState::Trusted), (!replaced, replaced), "{verified}");
        }
        // An ingredient that we verified says nothing of the active manifest, nor the reverse.
        let mut codes = mismatch(active);
        replace_unsupported(&mut codes, &mut [], &own(&["urn:c2pa:ingredient"]), Some(active));
        assert_eq!(state_of(&codes, &[]), ValidationState::Invalid);
        let delta = IngredientStatus { ingredient: "x".into(), codes: mismatch(active) };
        let mut deltas = [delta];
        replace_unsupported(&mut StatusCodes::default(), &mut deltas, &own(&[active]), Some(active));
        assert!(deltas[0].codes.failure.iter().any(|s| s.code == "claimSignature.mismatch"));
    }

    #[test]
    fn trust_has_levels() {
        use PqState::{Trusted, Valid};
        let level = |valid, trusted, source, pq: PqState, time: Option<bool>, approved: Option<bool>| {
            let post_quantum = PostQuantum { state: pq, ..PostQuantum::absent() };
            let time = time.map(|trusted| SigningTime { time: "2026-01-02T03:04:05Z".into(), trusted, authority: None });
            let compliance = OrganizationalCompliance { workflow_approved: approved, ..Default::default() };
            trust_level(valid, trusted, source, &post_quantum, time.as_ref(), &compliance)
        };
        let own = Some(AnchorSource::Own);
        assert_eq!(level(true, true, own, Trusted, Some(true), Some(true)), TrustLevel::HighAssurance);
        // Each part that is missing costs the highest level.
        assert_eq!(level(true, true, own, Valid, Some(true), Some(true)), TrustLevel::Enterprise);
        assert_eq!(level(true, true, own, Trusted, Some(false), Some(true)), TrustLevel::Enterprise);
        assert_eq!(level(true, true, own, Trusted, None, Some(true)), TrustLevel::Enterprise);
        assert_eq!(level(true, true, own, Trusted, Some(true), Some(false)), TrustLevel::Enterprise);
        assert_eq!(level(true, true, own, Trusted, Some(true), None), TrustLevel::Enterprise);
        assert_eq!(level(true, true, Some(AnchorSource::Tenant), Valid, None, None), TrustLevel::Enterprise);
        // Under anybody else's anchors, by nobody's, and broken.
        assert_eq!(level(true, true, Some(AnchorSource::C2pa), Trusted, Some(true), Some(true)), TrustLevel::Standard);
        assert_eq!(level(true, true, None, Trusted, Some(true), Some(true)), TrustLevel::Standard);
        assert_eq!(level(true, false, own, Trusted, Some(true), Some(true)), TrustLevel::Basic);
        assert_eq!(level(false, true, own, Trusted, Some(true), Some(true)), TrustLevel::Invalid);
    }

    #[test]
    fn an_unsupported_algorithm_stays_while_any_signature_is_unverified() {
        let active = "urn:c2pa:active";
        let mut codes = mismatch(active);
        let mut own = own(&[active]);
        own.unsupported_left = true;
        replace_unsupported(&mut codes, &mut [], &own, Some(active));
        assert_eq!(state_of(&codes, &[]), ValidationState::Invalid);
    }
}
