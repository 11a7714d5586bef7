use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> (String, String, Vec<String>) {
    let ParsedProfile { profile, warnings } = parse_profile("gold", "gold.profile", text).unwrap();
    (profile.line, profile.doc, warnings.iter().map(ToString::to_string).collect())
}

fn errors(name: &str, text: &str) -> Vec<String> {
    parse_profile(name, "f", text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_profile_is_read_as_systemd_reads_its_files() {
    let text = "\u{feff}# gold\r\n\r\n[Profile]\r\nDescription = first\r\nDescription=A database.\r\n\
                Policy=observe\nPolicy=\nPolicy=deny \\\n; a comment in between\n  limit=90%\n\
                Policy = oom pressure=40%; observe\nX-Mine=1\n[X-Mine]\nanything\n";
    let (line, doc, warnings) = parsed(text);
    assert_eq!(line, "deny    limit=90%; oom pressure=40%; observe");
    assert_eq!(doc, "A database.");
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn unknown_entries_are_ignored_with_a_warning() {
    let (line, _, warnings) =
        parsed("Policy=none\n[Profile]\nPolcy=x\nPolicy=deny\nwhat\u{1b}\n[Profil\n[Unit]\nPolicy=oom\n");
    assert_eq!(line, "deny");
    assert_eq!(
        warnings,
        [
            "gold.profile:1: ignoring 'Policy=' before the first section",
            "gold.profile:3: ignoring unknown key 'Polcy'; did you mean 'Policy'?",
            "gold.profile:5: ignoring 'what\\u{1b}', which is not of the form KEY=VALUE",
            "gold.profile:6: ignoring unknown section '[Profil'; valid: [Profile]",
            "gold.profile:7: ignoring unknown section '[Unit]'; valid: [Profile]",
        ]
    );
}

#[test]
fn invalid_profile_is_reported_with_reason() {
    let ok = "[Profile]\nPolicy=deny\n";
    for name in ["", "Gold", "1st", "a b", "a/b", "..", &"x".repeat(65), "g\u{f6}ld"] {
        assert_eq!(
            errors(name, ok),
            [format!(
                "f: '{}' is not a valid profile name; valid: lower-case letters, digits and '-', \
                 starting with a letter",
                quote(name, QUOTE_MAX)
            )]
        );
    }
    assert_eq!(errors("none", ok), ["f: 'none' means no policy and cannot be the name of a profile"]);
    assert_eq!(errors("a", "[Profile]\n"), ["f: profile 'a' has no Policy= in its section [Profile]"]);
    assert_eq!(errors("a", "[Profile]\nPolicy=none"), ["f:2, column 1: a profile cannot contain 'none'"]);
    assert_eq!(
        errors("a", "[Profile]\nPolicy=deny\nPolicy=deny limit; ;\n"),
        [
            "f:3, column 6: 'limit' is not of the form key=value; to add another policy, separate it with ';'",
            "f:3, column 13: missing policy before ';'",
            "f:3, column 13: missing policy after ';'",
        ]
    );
    // A reset discards the errors before it too.
    assert!(parse_profile("a", "f", "[Profile]\nPolicy=;\nPolicy=\nPolicy=deny").is_ok());
    assert_eq!(
        errors("a", &format!("[Profile]\n{}", "Policy=deny\n".repeat(17))),
        ["f: the line has 17 policies, and the maximum is 16"]
    );
    assert_eq!(
        errors("a", &"x".repeat(1 << 20)),
        ["f: the profile is 1048576 bytes long, and the maximum is 65536"]
    );
}

#[test]
fn first_directory_wins_and_empty_files_mask() {
    let file = |dir: usize, name: &str, text: Option<&str>| ProfileFile {
        dir: PROFILE_DIRS[dir].to_owned(),
        file_name: name.to_owned(),
        text: text.map(str::to_owned),
    };
    let deny = Some("[Profile]\nPolicy=deny");
    let files = [
        file(3, "a.profile", deny),
        file(0, "a.profile", Some("[Profile]\nPolicy=oom")),
        file(1, "a.profile", deny),
        file(2, "masked.profile", deny),
        file(1, "masked.profile", None),
        file(3, "empty.profile", deny),
        file(0, "empty.profile", Some("")),
        file(0, "README", deny),
        file(3, "Bad.profile", deny),
        file(3, "b.profile", deny),
    ];
    let (profiles, errors) = load(&files);
    let reported: Vec<(&str, &str)> = profiles.values().map(|p| (p.file.as_str(), p.line.as_str())).collect();
    assert_eq!(
        reported,
        [("/etc/memcg-bpf/profiles.d/a.profile", "oom"), ("/usr/lib/memcg-bpf/profiles.d/b.profile", "deny"),]
    );
    assert_eq!(errors.len(), 1);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(\\[Profile\\]\n)?(\\PC{0,30}\n|Policy=[a-z=; \\\\]{0,20}\n){0,6}") {
        let _ = parse_profile("a", "f", &text);
    }
}

#[test]
fn escaped_backslash_at_the_end_continues_no_line() {
    let parsed =
        parse_profile("gold", "gold.profile", "[Profile]\nDescription=a \\\\\nPolicy=observe\n").unwrap();
    assert_eq!(parsed.profile.doc, "a \\\\");
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
}
