use proptest::prelude::*;

use super::*;

/// `name(key=value …)` for each call.
fn render(text: &str) -> String {
    match parse(text) {
        Ok(Line::None) => "none".to_owned(),
        Ok(Line::Clauses(calls)) => {
            let one = |call: &Clause| {
                let args: Vec<String> = call.args.iter().map(|a| format!("{}={}", a.key, a.value)).collect();
                format!("{}({})", call.name, args.join("|"))
            };
            calls.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / "),
    }
}

#[test]
fn line_is_parsed_by_grammar() {
    for (text, meaning) in [
        ("", "none"),
        (" \t\r\n ", "none"),
        ("none", "none"),
        (" 'none' ", "none"),
        ("deny limit=64M", "deny(limit=64M)"),
        (
            "deny  limit=90%  min=4K;oom pressure=40% for=2s",
            "deny(limit=90%|min=4K) oom(pressure=40%|for=2s)",
        ),
        ("a;b;c", "a() b() c()"),
        ("oom for=\"1min 30s\"", "oom(for=1min 30s)"),
        ("oom 'for=1min 30s'", "oom(for=1min 30s)"),
        ("oom for=1min\\ 30s", "oom(for=1min 30s)"),
        ("x k=a\\;b", "x(k=a;b)"),
        ("x k=\"a;b\"'c;d'", "x(k=a;bc;d)"),
        ("x k=a=b", "x(k=a=b)"),
        ("x k=", "x(k=)"),
        ("x k=''", "x(k=)"),
        ("x k=\\x41\\102\\u00e4\\U0001f600\\s\\\\", "x(k=ABä😀 \\)"),
        ("x k=1 k=2", "x(k=1|k=2)"),
    ] {
        assert_eq!(render(text), meaning, "{text}");
    }
}

#[test]
fn positions_are_bytes_of_the_line() {
    let Ok(Line::Clauses(calls)) = parse("ä; deny 'limit=64M'") else { panic!() };
    let arg = &calls[1].args[0];
    assert_eq!((calls[0].at, calls[1].at, arg.at, arg.value_at), (0, 4, 9, 16));
}

#[test]
fn all_errors_are_reported_at_once_in_order() {
    assert_eq!(
        render("; a x =y;; b=1 'c"),
        "column 1: missing policy before ';' / \
         column 5: 'x' is not of the form key=value; to add another policy, separate it with ';' / \
         column 7: '=y' has no key before the '=' / \
         column 10: missing policy before ';' / \
         column 12: expected the name of a policy, found 'b=1' / \
         column 16: missing closing quote ' / \
         column 16: 'c' is not of the form key=value; to add another policy, separate it with ';'"
    );
}

#[test]
fn a_flood_of_errors_is_cut() {
    let errors = parse(&"x ".repeat(2000)).unwrap_err();
    assert_eq!(errors.len(), super::super::diagnostic::DIAGNOSTICS_MAX + 1);
    assert_eq!(errors.last().unwrap().to_string(), "and 1967 more errors like these");
    assert_eq!(parse(&"x".repeat(1 << 20)).unwrap_err().len(), 1);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}", odd in "[\\\\'\"; =a0x\\x00-\\x20u]{0,60}") {
        for text in [text, odd] {
            if let Err(errors) = parse(&text) {
                prop_assert!(!errors.is_empty());
                for error in errors {
                    prop_assert!(error.at.unwrap_or(0) <= text.len());
                    prop_assert!(!error.to_string().contains(char::is_control));
                }
            }
        }
    }

    #[test]
    fn quoted_values_come_back_whole(value in "[^\\x00]{0,40}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let Ok(Line::Clauses(calls)) = parse(&format!("x k=\"{quoted}\"")) else { panic!() };
        prop_assert_eq!(&calls[0].args[0].value, &value);
    }
}
