#![allow(clippy::arithmetic_side_effects)]

use proptest::prelude::*;

use super::super::fixture;
use super::super::line::{self, Line};
use super::super::schema::{ParamKind, SIZE_IS_PPM};
use super::*;

fn schema(name: &str) -> PolicySchema {
    // Some profiles of the fixture have the names of policies; these tests use the policies.
    fixture::catalog().policies[name].clone()
}

fn encoded(text: &str) -> Result<Params, Vec<Diagnostic>> {
    let Ok(Line::Clauses(calls)) = line::parse(text) else { panic!("{text}") };
    from_call(&schema(&calls[0].name), &calls[0])
}

fn render(text: &str) -> String {
    encoded(text).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join(" / ")
}

fn settings(params: &Params) -> String {
    params.parameters.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_parameter_has_its_place_and_its_canonical_text() {
    let params = encoded("deny limit=65536K mode=dry-run").unwrap();
    let mut bytes = Vec::new();
    bytes.extend((64u64 << 20).to_ne_bytes());
    bytes.extend(0u64.to_ne_bytes());
    bytes.extend(1u32.to_ne_bytes());
    bytes.extend([0; 4]);
    assert_eq!(params.bytes, bytes);
    assert_eq!(settings(&params), "limit=64M min=0 mode=dry-run");

    let params = encoded("deny limit=12.5%").unwrap();
    assert_eq!(params.bytes[..8], (SIZE_IS_PPM | 125_000).to_ne_bytes());
    let params = encoded("oom for='1min 30s' group=TRUE most=007 pressure=0040.50%").unwrap();
    assert_eq!(settings(&params), "for=1min 30s group=yes mode=act most=7 pressure=40.5% select=largest");
}

#[test]
fn all_errors_of_a_clause_are_in_line_order() {
    assert_eq!(
        render("oom pressure=101% for=soon for=1s selct=newest most=0 most=101"),
        "column 14: '101%' is out of range for parameter 'pressure' of policy 'oom'; \
         valid: values from 1% to 100% / \
         column 23: 'soon' is not valid for parameter 'for' of policy 'oom': it does not start with a digit; \
         valid: durations such as 250ms, 2s or 1min 30s / \
         column 28: duplicate parameter 'for' of policy 'oom' / \
         column 35: unknown parameter 'selct' of policy 'oom'; did you mean 'select'? / \
         column 53: '0' is out of range for parameter 'most' of policy 'oom'; valid: values from 1 to 100 / \
         column 55: duplicate parameter 'most' of policy 'oom'"
    );
    assert_eq!(render("deny mode=act"), "column 1: missing parameter 'limit' of policy 'deny'");
}

#[test]
fn ranges_of_sizes_compare_like_with_like() {
    // 10%..95%: bytes are not compared with percentages.
    assert!(encoded("throttle high=4K").is_ok() && encoded("throttle high=95%").is_ok());
    assert_eq!(
        render("throttle high=96%"),
        "column 15: '96%' is out of range for parameter 'high' of policy 'throttle'; \
         valid: values from 10% to 95%"
    );
    // 1..: every percentage is at least 0.
    assert_eq!(
        render("deny limit=0%"),
        "column 12: '0%' is out of range for parameter 'limit' of policy 'deny'; valid: values of at least 1"
    );
    assert!(encoded("deny limit=0.0001%").is_ok() && encoded("deny limit=1").is_ok());
}

#[test]
fn bytes_of_another_struct_are_not_decoded() {
    let deny = schema("deny");
    let mut bytes = encoded("deny limit=1K").unwrap().bytes;
    assert_eq!(
        to_text(&deny, &bytes[1..]).unwrap_err().to_string(),
        "the parameters of policy 'deny' are 23 bytes long, but its schema says 24: \
         it was replaced by another version"
    );
    bytes[16] = 7;
    assert_eq!(
        to_text(&deny, &bytes).unwrap_err().to_string(),
        "parameter 'mode' of policy 'deny' holds 7, which is not a value of its type"
    );
    bytes[..8].copy_from_slice(&u64::MAX.to_ne_bytes());
    assert!(to_text(&deny, &bytes).unwrap_err().to_string().starts_with("parameter 'limit'"));
}

#[test]
fn enumerators_may_be_negative_and_narrow() {
    for width in [1, 2, 4, 8] {
        let mut odd = fixture::policy("odd", true, vec![("way", ParamKind::Count, None, None)]);
        odd.params[0].kind = ParamKind::Choice(vec![("down".into(), -1), ("up".into(), 127)]);
        odd.params[0].width = width;
        for way in ["down", "up"] {
            let Ok(Line::Clauses(calls)) = line::parse(&format!("odd way={way}")) else { panic!() };
            let params = from_call(&odd, &calls[0]).unwrap();
            assert_eq!(to_text(&odd, &params.bytes).unwrap()["way"], way, "{width}");
        }
        assert_eq!(validate_schema(&odd), []);
    }
}

#[test]
fn schema_errors_are_reported() {
    for policy in fixture::catalog().policies.values() {
        assert_eq!(validate_schema(policy), []);
    }
    let mut bad = schema("oom");
    bad.name = "Oom".into();
    bad.params[0].default = Some("lots".into());
    bad.params[0].range = Some("5%".into());
    bad.params[1].range = Some("2s..1s".into());
    bad.params[1].offset = 4;
    bad.params[2].range = Some("largest..".into());
    bad.params[2].kind = ParamKind::Choice(vec![("a".into(), 1 << 40), ("a".into(), 2)]);
    bad.params[3].width = 4;
    bad.params[4].offset = usize::MAX;
    bad.params[4].name = "for".into();
    let reported: Vec<String> = validate_schema(&bad).iter().map(ToString::to_string).collect();
    assert_eq!(
        reported,
        [
            "policy 'Oom': its name is not made of lower-case letters, digits, '-' and '_'",
            "policy 'Oom': parameter 'for' is declared twice",
            "policy 'Oom': parameter 'pressure': its range '5%' is wrong: it is not written LOW..HIGH",
            "policy 'Oom': parameter 'pressure': its default 'lots' is wrong: it does not start with a digit",
            "policy 'Oom': parameter 'for': its range '2s..1s' is wrong: its low end is above its high end",
            "policy 'Oom': parameter 'select': the choice 'a' occurs twice",
            "policy 'Oom': parameter 'select': its range 'largest..' is wrong: only numbers have a range",
            "policy 'Oom': parameter 'select': its default 'largest' is wrong: no such choice",
            "policy 'Oom': parameter 'select': its values do not fit 4 bytes",
            "policy 'Oom': parameter 'most': it is 4 bytes wide instead of 8",
            "policy 'Oom': parameter 'for': it is beyond the 48 bytes of the struct",
            "policy 'Oom': parameters 'pressure' and 'for' overlap",
        ]
    );
}

#[test]
fn choice_with_control_character_is_invalid() {
    let choice = |word: &str| {
        let kind = ParamKind::Choice(vec![(word.to_owned(), 0)]);
        validate_schema(&fixture::policy("x", true, vec![("mode", kind, None, None)]))
            .first()
            .map(Diagnostic::to_string)
    };
    assert_eq!(choice("dry-run"), None);
    assert_eq!(choice("2mb"), None);
    let reported = "policy 'x': parameter 'mode': the choice 'a\\u{1b}[2J' is not made of lower-case letters, digits and '-'";
    assert_eq!(choice("a\u{1b}[2J").as_deref(), Some(reported));
    assert!(choice("").is_some(), "it cannot be written in a line");
}

proptest! {
    #[test]
    fn encoded_params_decode_to_same_text(
        limit in 1u64..1 << 63, percent: bool, min: u64, hold in 1_000_000_000u64..3_600_000_000_000,
        most in 1u64..=100, group: bool, dry: bool, ppm in 10_000u32..=1_000_000,
    ) {
        let mode = if dry { "dry-run" } else { "act" };
        let limit = if percent { units_percent(ppm) } else { limit.to_string() };
        for text in [
            format!("deny limit={limit} min={min} mode={mode}"),
            format!("throttle hold={hold}ns mode={mode}"),
            format!("oom pressure={} most={most} group={group} mode={mode}", units_percent(ppm)),
        ] {
            let params = encoded(&text).unwrap();
            let schema = schema(text.split(' ').next().unwrap());
            prop_assert_eq!(params.bytes.len(), schema.size);
            prop_assert_eq!(&to_text(&schema, &params.bytes).unwrap(), &params.parameters);
            let again: Vec<String> = params.parameters.iter().map(|(k, v)| format!("{k}='{v}'")).collect();
            prop_assert_eq!(encoded(&format!("{} {}", schema.name, again.join(" "))).unwrap(), params);
        }
    }

    #[test]
    fn no_bytes_make_decode_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        for schema in fixture::catalog().policies.values() {
            let _ = to_text(schema, &bytes);
            let mut fitting = bytes.clone();
            fitting.resize(schema.size, 0);
            let _ = to_text(schema, &fitting);
        }
    }

    #[test]
    fn no_schema_makes_anything_panic(
        offset: usize, width: usize, size: usize, default in "\\PC{0,12}", range in "[0-9%a-z.-]{0,12}", kind in 0..7,
    ) {
        use ParamKind::{Bool, Bytes, Choice, Count, Duration, Ppm, Size};
        let kinds = [Bytes, Size, Ppm, Duration, Count, Bool, Choice(vec![(default.clone(), i64::MIN)])];
        let mut odd = fixture::policy("odd", true, vec![("x", Count, None, None)]);
        odd.size = size;
        let kind = kinds[usize::try_from(kind).unwrap()].clone();
        odd.params[0] =
            ParamSchema { kind, offset, width, default: Some(default), range: Some(range), ..odd.params[0].clone() };
        validate_schema(&odd);
        let Ok(Line::Clauses(calls)) = line::parse("odd x=1") else { panic!() };
        let _ = from_call(&odd, &calls[0]);
        let _ = to_text(&odd, &[0; 8]);
    }
}

fn units_percent(ppm: u32) -> String {
    crate::text::format_percent(ppm)
}
