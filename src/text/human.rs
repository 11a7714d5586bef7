//! Formats numbers: exactly for policy lines and programs, rounded for display.

use super::SIZES;

/// Bytes, exactly, in the shortest notation that parses back to the same number: `64M`, `1.5G`, `4097`.
pub fn format_bytes(bytes: u64) -> String {
    let mut best = bytes.to_string();
    for (name, factor) in SIZES {
        if factor == 1 || bytes < factor {
            continue;
        }
        let (whole, rest) = divide(bytes, factor);
        // At most two decimals; otherwise a smaller unit is used.
        let hundredths = u128::from(rest).saturating_mul(100);
        let text = match (hundredths.checked_div(factor.into()), hundredths.checked_rem(factor.into())) {
            (Some(0), Some(0)) => format!("{whole}{name}"),
            (Some(part), Some(0)) => format!("{whole}.{}{name}", format!("{part:02}").trim_end_matches('0')),
            _ => continue,
        };
        if text.len() < best.len() {
            best = text;
        }
    }
    best
}

/// Bytes for display, rounded to a tenth of the largest fitting unit: `61.9M`, `64M`, `512B`.
pub fn human_bytes(bytes: u64) -> String {
    // From the smallest unit up: 1023.96K is rounded to 1024.0K and displayed as 1M.
    for (name, factor) in SIZES.iter().rev() {
        let half = factor.checked_div(2).unwrap_or(0);
        let tenths = u128::from(bytes)
            .saturating_mul(10)
            .saturating_add(half.into())
            .checked_div((*factor).into())
            .unwrap_or(0);
        if tenths < 10_240 || *name == "E" {
            let (whole, tenth) = (tenths.checked_div(10).unwrap_or(0), tenths.checked_rem(10).unwrap_or(0));
            return if tenth == 0 { format!("{whole}{name}") } else { format!("{whole}.{tenth}{name}") };
        }
    }
    format_bytes(bytes)
}

/// Parts per million as a percentage, exactly: `90%`, `0.5%`.
pub fn format_percent(ppm: u32) -> String {
    let (whole, rest) = divide(ppm.into(), 10_000);
    match rest {
        0 => format!("{whole}%"),
        _ => format!("{whole}.{}%", format!("{rest:04}").trim_end_matches('0')),
    }
}

fn divide(number: u64, by: u64) -> (u64, u64) {
    (number.checked_div(by).unwrap_or(0), number.checked_rem(by).unwrap_or(0))
}
