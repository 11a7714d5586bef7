//! Drop-ins of units, and the limit that results by systemd's order.

use super::{Case, ETC, LIB, LOCAL, RUN};

fn case(unit: &'static str, files: &[(&str, &str, &'static str)], limit: Option<u64>) -> Case {
    let files = files.iter().map(|(base, file, text)| (format!("{base}/{file}"), *text)).collect();
    Case { unit, files, limit }
}

const SAYS_20: &str = "[Service]\nX-MemoryBPFPolicy=deny limit=20M\n";
const SAYS_30: &str = "[Service]\nX-MemoryBPFPolicy=deny limit=30M\n";
const SAYS_40: &str = "[Service]\nX-MemoryBPFPolicy=deny limit=40M\n";
pub const MASK: &str = "->";

/// Systemd's order, case by case. A fragment that is not listed assigns no policy.
pub fn cases() -> Vec<Case> {
    [file_name_cases(), reset_cases(), spelling_cases(), prefix_and_template_cases()].concat()
}

/// The order of drop-ins by file name and directory, and masks.
fn file_name_cases() -> Vec<Case> {
    vec![
        // The fragment and its drop-ins.
        case("mp1.service", &[(RUN, "mp1.service.d/a.conf", SAYS_40)], Some(40)),
        // By file name, whatever the directory …
        case(
            "mp2.service",
            &[(ETC, "mp2.service.d/10.conf", SAYS_20), (ETC, "mp2.service.d/20.conf", SAYS_40)],
            Some(40),
        ),
        case(
            "mp3.service",
            &[(ETC, "mp3.service.d/10.conf", SAYS_20), (LIB, "mp3.service.d/90.conf", SAYS_40)],
            Some(40),
        ),
        // … and the same name in several directories counts once.
        case(
            "mp4.service",
            &[
                (LIB, "mp4.service.d/m.conf", SAYS_20),
                (LOCAL, "mp4.service.d/m.conf", SAYS_20),
                (RUN, "mp4.service.d/m.conf", SAYS_30),
                (ETC, "mp4.service.d/m.conf", SAYS_40),
            ],
            Some(40),
        ),
        case(
            "mp5.service",
            &[(LIB, "mp5.service.d/m.conf", SAYS_20), (RUN, "mp5.service.d/m.conf", SAYS_40)],
            Some(40),
        ),
        // Masks.
        case(
            "mp6.service",
            &[
                (LIB, "mp6.service.d/10.conf", SAYS_40),
                (LIB, "mp6.service.d/90.conf", SAYS_20),
                (ETC, "mp6.service.d/90.conf", MASK),
            ],
            Some(40),
        ),
    ]
}

/// Assignments that reset earlier ones.
fn reset_cases() -> Vec<Case> {
    vec![
        // An empty assignment resets; so does `none`; what follows counts again.
        case(
            "mp7.service",
            &[
                (ETC, "mp7.service.d/10.conf", SAYS_20),
                (ETC, "mp7.service.d/20.conf", "[Service]\nX-MemoryBPFPolicy=\n"),
            ],
            None,
        ),
        case(
            "mp8.service",
            &[
                (ETC, "mp8.service.d/10.conf", SAYS_20),
                (
                    ETC,
                    "mp8.service.d/20.conf",
                    "[Service]\nX-MemoryBPFPolicy=\nX-MemoryBPFPolicy=deny limit=40M\n",
                ),
            ],
            Some(40),
        ),
        case(
            "mp9.service",
            &[
                (ETC, "mp9.service.d/10.conf", SAYS_20),
                (ETC, "mp9.service.d/20.conf", "[Service]\nX-MemoryBPFPolicy=none\n"),
            ],
            None,
        ),
    ]
}

/// Continuation lines, comments, and the other section and key names.
fn spelling_cases() -> Vec<Case> {
    vec![
        // Continuation lines, with a comment between them; comments.
        case(
            "mp10.service",
            &[(
                ETC,
                "mp10.service.d/10.conf",
                "# X-MemoryBPFPolicy=deny limit=20M\n[Service]\nX-MemoryBPFPolicy=deny \\\n# not here\n   limit=40M\n; X-MemoryBPFPolicy=deny limit=20M\n",
            )],
            Some(40),
        ),
        // The other spellings.
        case(
            "mp11.service",
            &[(ETC, "mp11.service.d/10.conf", "[Service]\nMemoryBPFPolicy=deny limit=40M\n")],
            Some(40),
        ),
        case(
            "mp12.service",
            &[(ETC, "mp12.service.d/10.conf", "[X-MemoryBPF]\nPolicy=deny limit=40M\n")],
            Some(40),
        ),
        case(
            "mp13.service",
            &[
                (ETC, "mp13.service.d/10.conf", "[X-MemoryBPF]\nPolicy=deny limit=20M\n"),
                (ETC, "mp13.service.d/20.conf", SAYS_40),
            ],
            Some(40),
        ),
    ]
}

/// Drop-ins of a name prefix, a template or an instance, and specifiers.
fn prefix_and_template_cases() -> Vec<Case> {
    vec![
        // Dash prefixes. For one file name systemd ranks directory trees (/etc before /usr/lib) first, and within a
        // tree the more specific directory.
        case("mp-dash-one.service", &[(ETC, "mp-dash-.service.d/10.conf", SAYS_30)], Some(30)),
        case("mp-dash-two.service", &[(LIB, "mp-dash-two.service.d/10.conf", SAYS_40)], Some(30)),
        case("mp-dash-three.service", &[(ETC, "mp-dash-three.service.d/10.conf", SAYS_40)], Some(40)),
        case("mp-dash-four.service", &[(LIB, "mp-dash-four.service.d/20.conf", SAYS_40)], Some(40)),
        case("mp-dash-five.service", &[(ETC, "mp-dash-five.service.d/05.conf", SAYS_40)], Some(30)),
        // Templates and instances; specifiers.
        case("mpt@x.service", &[(ETC, "mpt@.service.d/10.conf", SAYS_30)], Some(30)),
        case("mpt@y.service", &[(ETC, "mpt@y.service.d/10.conf", SAYS_40)], Some(40)),
        case(
            "mps@40M.service",
            &[(ETC, "mps@.service.d/10.conf", "[Service]\nX-MemoryBPFPolicy=deny limit=%i\n")],
            Some(40),
        ),
    ]
}
