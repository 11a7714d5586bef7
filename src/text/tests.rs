use proptest::prelude::*;

use super::*;

fn why<T: std::fmt::Debug>(result: Result<T, UnitError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn sizes_are_base_1024_and_exact() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("64K", 65_536),
        ("64KiB", 65_536),
        ("10MiB", 10 << 20),
        ("4Ki", 4096),
        ("64Mi", 64 << 20),
        ("1.5Gi", 1_610_612_736),
        ("2Ti", 2 << 40),
        ("1Pi", 1 << 50),
        ("15Ei", 15 << 60),
        ("1.5G", 1_610_612_736),
        ("0.1K", 102),
        ("1.0", 1),
        ("15E", 15 << 60),
        ("18446744073709551615", u64::MAX),
        ("0.00000000000000000000000000000001E", 0),
        ("007K", 7168),
    ] {
        assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
    }
}

#[test]
fn invalid_size_is_reported_with_its_reason() {
    let tail = "; valid: sizes such as 4096, 64K or 1.5G";
    for (text, reason) in [
        ("", "it is empty"),
        ("-1", "it is negative"),
        (" 1", "it contains a space"),
        ("1 K", "it contains a space"),
        ("K", "it does not start with a digit"),
        ("NaN", "it does not start with a digit"),
        ("+1", "it does not start with a digit"),
        ("1.", "there is no digit behind the point"),
        ("1.5", "a number of bytes has no fraction"),
        ("1e9", "its suffix 'e9' is unknown"),
        ("0x10", "its suffix 'x10' is unknown"),
        ("1\u{1b}[31m", "its suffix '\\u{1b}[31m' is unknown"),
        ("16E", "it is too large (16E and more do not fit)"),
        ("99999999999999999999999999", "it is too large (16E and more do not fit)"),
        ("1iB", "its suffix 'iB' is unknown"),
        ("1i", "its suffix 'i' is unknown"),
        ("1Bi", "its suffix 'Bi' is unknown"),
    ] {
        assert_eq!(why(parse_bytes(text)), format!("{reason}{tail}"), "{text}");
    }
    for (text, meant) in
        [("64m", "64M"), ("64mb", "64M"), ("64MB", "64M"), ("1.5gib", "1.5G"), ("4kb", "4K"), ("64mi", "64M")]
    {
        assert_eq!(parse_bytes(text).unwrap_err().suggestion.as_deref(), Some(meant), "{text}");
    }
    assert!(why(parse_bytes(&"9".repeat(1 << 20))).len() < 100);
    assert!(why(parse_bytes(&format!("1{}", "x".repeat(1 << 20)))).len() < 120);
}

#[test]
fn percentages_are_parts_per_million() {
    for (text, ppm) in [
        ("90%", 900_000),
        ("0.5%", 5_000),
        ("100%", 1_000_000),
        ("0.0001%", 1),
        ("0%", 0),
        ("1.00000%", 10_000),
    ] {
        assert_eq!(parse_percent(text), Ok(ppm), "{text}");
    }
    assert_eq!(parse_percent_up_to("150%", 2_000_000), Ok(1_500_000));
    let tail = "; valid: percentages such as 0.5% or 90%";
    for (text, reason) in [
        ("90", "the '%' is missing"),
        ("100.0001%", "it is more than 100%"),
        ("99999999999999999999999%", "it is more than 100%"),
        ("0.00001%", "it has more than four digits after the point"),
        ("5%%", "its suffix '%%' is unknown"),
        ("%", "it does not start with a digit"),
    ] {
        assert_eq!(why(parse_percent(text)), format!("{reason}{tail}"), "{text}");
    }
}

#[test]
fn durations_are_systemds_time_spans() {
    for (text, ns) in [
        ("250ms", 250_000_000),
        ("2s", 2_000_000_000),
        ("2", 2_000_000_000),
        ("1min 30s", 90_000_000_000),
        ("1h30min", 5_400_000_000_000),
        ("1.5s", 1_500_000_000),
        ("5m", 300_000_000_000),
        ("10µs", 10_000),
        ("10us 1ns", 10_001),
        ("0", 0),
        ("2d", 172_800_000_000_000),
    ] {
        assert_eq!(parse_duration(text), Ok(ns), "{text}");
    }
    let tail = "; valid: durations such as 250ms, 2s or 1min 30s";
    for (text, reason) in [
        ("", "it is empty"),
        ("   ", "it is empty"),
        ("-2s", "it is negative"),
        ("2 s", "a number in it has no suffix"),
        ("1s 30", "a number in it has no suffix"),
        ("2y", "its suffix 'y' is unknown"),
        ("2s.", "it does not start with a digit"),
        ("0.5ns", "a number of nanoseconds has no fraction"),
        ("600000d", "it is too long (584 years and more do not fit)"),
        ("infinity", "it does not start with a digit"),
    ] {
        assert_eq!(why(parse_duration(text)), format!("{reason}{tail}"), "{text}");
    }
}

#[test]
fn integers_and_booleans_take_nothing_else() {
    assert_eq!(parse_count("100"), Ok(100));
    assert_eq!(why(parse_count("1K")), "an integer has no suffix; valid: integers such as 0 or 100");
    assert_eq!(why(parse_count("1.0")), "an integer has no point; valid: integers such as 0 or 100");
    assert_eq!(why(parse_count("18446744073709551616")), "it is too large; valid: integers such as 0 or 100");
    assert_eq!((parse_bool("Yes"), parse_bool("OFF"), parse_bool("t")), (Ok(true), Ok(false), Ok(true)));
    assert_eq!(
        why(parse_bool("maybe")),
        "it is neither yes nor no; valid: yes, no, true, false, on, off, 1 and 0"
    );
}

#[test]
fn numbers_are_shown_exactly_or_rounded_for_people() {
    for (bytes, exact, human) in [
        (0, "0", "0B"),
        (512, "512", "512B"),
        (1 << 10, "1K", "1K"),
        (64 << 20, "64M", "64M"),
        (1_610_612_736, "1.5G", "1.5G"),
        (1 << 20 | 1, "1048577", "1M"),
        (64_906_854, "64906854", "61.9M"),
        ((1 << 20) - 1, "1048575", "1M"),
        (u64::MAX, "18446744073709551615", "16E"),
    ] {
        assert_eq!((format_bytes(bytes).as_str(), human_bytes(bytes).as_str()), (exact, human));
    }
    assert_eq!([900_000, 5_000, 1, 0].map(format_percent), ["90%", "0.5%", "0.0001%", "0%"]);
    assert_eq!(
        [90_000_000_000, 250_000_000, 0, 86_400_000_000_001].map(format_duration),
        ["1min 30s", "250ms", "0", "1d 1ns"]
    );
}

#[test]
fn long_number_is_not_suggested() {
    let digits = "1".repeat(4000);
    assert_eq!(parse_percent(&digits).unwrap_err().suggestion, None);
    assert_eq!(parse_bytes(&format!("{digits}mb")).unwrap_err().suggestion, None);
    assert_eq!(parse_bytes("64mb").unwrap_err().suggestion.as_deref(), Some("64M"));
    assert_eq!(parse_percent("90").unwrap_err().suggestion.as_deref(), Some("90%"));
}

proptest! {
    #[test]
    fn what_is_formatted_parses_back(number: u64, shift in 0u32..64, ppm in 0..=PPM_ONE, any_ppm: u32) {
        let number = number >> shift;
        let round = number.checked_shl(shift).unwrap_or(0);
        prop_assert_eq!(parse_bytes(&format_bytes(number)), Ok(number));
        prop_assert_eq!(parse_bytes(&format_bytes(round)), Ok(round));
        prop_assert_eq!(parse_duration(&format_duration(number)), Ok(number));
        prop_assert_eq!(parse_count(&number.to_string()), Ok(number));
        prop_assert_eq!(parse_percent(&format_percent(ppm)), Ok(ppm));
        prop_assert_eq!(parse_percent_up_to(&format_percent(any_ppm), u32::MAX), Ok(any_ppm));
        prop_assert!(human_bytes(number).len() <= 7);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "[0-9.]{0,25}\\PC{0,12}") {
        let _ = (parse_bytes(&text), parse_percent(&text), parse_duration(&text));
        let _ = (parse_count(&text), parse_bool(&text));
    }
}
