//! Sizes, percentages, durations, integers and words for yes and no.

use memcg_bpf::text::{
    PPM_ONE, UnitError, format_bytes, format_duration, format_percent, human_bytes, parse_bool, parse_bytes,
    parse_count, parse_duration, parse_percent, parse_percent_up_to,
};

use super::sentence;

pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    again(parse_bytes(&text), parse_bytes, format_bytes);
    again(parse_duration(&text), parse_duration, format_duration);
    again(parse_count(&text), parse_count, |count| count.to_string());
    again(parse_percent(&text), parse_percent, format_percent);
    again(parse_percent_up_to(&text, u32::MAX), |text| parse_percent_up_to(text, u32::MAX), format_percent);
    assert!(parse_percent(&text).is_ok_and(|ppm| ppm <= PPM_ONE) || parse_percent(&text).is_err());
    if let Err(error) = parse_bool(&text) {
        told(&error);
    }
    if let Ok(size) = parse_bytes(&text) {
        assert!(human_bytes(size).len() <= 8, "{}", human_bytes(size));
    }
}

/// What parses prints as a text that parses to the same; what does not is told in one sentence.
fn again<T: Copy + PartialEq + std::fmt::Debug>(
    parsed: Result<T, UnitError>,
    parse: impl Fn(&str) -> Result<T, UnitError>,
    format: impl Fn(T) -> String,
) {
    match parsed {
        Ok(number) => {
            let text = format(number);
            sentence(&text, 64);
            assert_eq!(parse(&text), Ok(number), "{text}");
        }
        Err(error) => {
            told(&error);
            if let Some(suggestion) = &error.suggestion {
                // A number may still be too large; but it is spelled as it should be.
                let again = parse(suggestion);
                assert!(
                    again.is_ok_and(|_| true) || parse(suggestion).is_err_and(|e| e.suggestion.is_none())
                );
            }
        }
    }
}

fn told(error: &UnitError) {
    sentence(&error.to_string(), 512);
    if let Some(suggestion) = &error.suggestion {
        sentence(suggestion, 32);
    }
}
