//! `openmediatrust sign` and `verify`.

use omt_tests::{Server, fixture};
use std::{path::Path, process::Output};

fn run(dir: &Path, arguments: &[&str]) -> Output {
    Server::command(dir, "").current_dir(dir).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn exit_codes_say_what_was_found() {
    depends_on!();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for name in ["a.jpg", "a.mp4", "a.txt", "a.svg"] {
        std::fs::write(dir.join(name), fixture(name)).unwrap();
    }
    // Verifying makes no PKI.
    assert_eq!(run(dir, &["verify", "a.jpg"]).status.code(), Some(3));
    assert!(!dir.join("data").exists());
    std::fs::write(dir.join("note.json"), r#"[{"label":"com.example.note","data":{"text":"hi"}}]"#).unwrap();
    for name in ["a.jpg", "a.mp4", "a.svg"] {
        let output = run(dir, &["sign", name, "-o", &format!("signed-{name}"), "--assertions", "note.json"]);
        assert!(output.status.success(), "{}", text(&output));
        let output = run(dir, &["verify", &format!("signed-{name}")]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert!(text(&output).contains("trusted"));
    }
    let output = run(dir, &["verify", "--json", "signed-a.jpg"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report["validation_state"].as_str(), report["file"].as_str()), (Some("trusted"), Some("signed-a.jpg")));
    assert!(report["assertions_verified"].to_string().contains("com.example.note"));
    // A format without embedding gets its manifest store beside it, and is found there.
    assert!(run(dir, &["sign", "a.txt", "-o", "a.txt.c2pa"]).status.success());
    assert_eq!(run(dir, &["verify", "a.txt"]).status.code(), Some(0));
    std::fs::write(dir.join("a.txt"), "changed").unwrap();
    assert_eq!(run(dir, &["verify", "a.txt"]).status.code(), Some(2));
    let mut tampered = std::fs::read(dir.join("signed-a.jpg")).unwrap();
    let at = tampered.len() - 100;
    tampered[at] ^= 1;
    std::fs::write(dir.join("tampered.jpg"), tampered).unwrap();
    assert_eq!(run(dir, &["verify", "tampered.jpg"]).status.code(), Some(2));
    assert_eq!(run(dir, &["verify", "absent.jpg"]).status.code(), Some(1));
    assert_eq!(run(dir, &["verify", "signed-a.jpg", "a.jpg"]).status.code(), Some(3));
    assert_eq!(run(dir, &["verify", "a.jpg", "tampered.jpg"]).status.code(), Some(2));
    assert_eq!(run(dir, &["verify", "tampered.jpg", "absent.jpg"]).status.code(), Some(1));
    for arguments in [
        ["sign", "a.jpg", "-o", "x.jpg", "--algorithm", "rot13"].as_slice(),
        &["sign", "a.jpg", "-o", "x.jpg", "--algorithm", "ml-dsa-65"],
        &["sign", "absent.jpg", "-o", "x.jpg"],
        &["sign", "a.jpg", "-o", "no/such/dir/x.jpg"],
        &["sign", "a.jpg", "-o", "x.jpg", "--assertions", "a.jpg"],
    ] {
        let output = run(dir, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(output.stderr.starts_with(b"openmediatrust: "), "{}", text(&output));
    }
    assert!(!dir.join("x.jpg").exists());
    // In place, too.
    assert!(run(dir, &["sign", "a.jpg", "-o", "a.jpg"]).status.success());
    assert_eq!(run(dir, &["verify", "a.jpg"]).status.code(), Some(0));
    assert!(text(&run(dir, &["version"])).starts_with("openmediatrust "));
}

#[test]
fn both_providers_read_each_others_keys_and_files() {
    depends_on!();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("a.jpg"), fixture("a.jpg")).unwrap();
    let with = |provider: &str, arguments: &[&str]| {
        let mut command = Server::command(dir, &format!("[crypto]\nprovider = \"{provider}\"\n"));
        command.current_dir(dir).args(arguments).output().unwrap()
    };
    for (signer, verifier) in [("rust", "aws-lc"), ("aws-lc", "rust"), ("rust", "rust")] {
        let output = with(signer, &["sign", "a.jpg", "-o", "b.jpg"]);
        assert!(output.status.success(), "{}", text(&output));
        let output = with(verifier, &["verify", "b.jpg"]);
        assert_eq!(output.status.code(), Some(0), "{signer} then {verifier}: {}", text(&output));
    }
}
